"""An example of a model's input that is nobody's row: a model's files are copied and kept, and no erasure reaches them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import pyarrow as pa

from everloop.data import personal_kinds
from everloop.pipelines.values import Split, facts
from everloop.serving import Field

_FEWEST = 5  # rows that share a text, before it says nothing of one of them
_ANY_TEXT = "text"


def example_of(data: Split, fields: tuple[Field, ...]) -> dict[str, Any] | None:
    """One input by column, in the order of the fields; None for models of photos or bytes.

    Numbers and times are the lower median of the training rows, texts and truth values the most frequent one: a text only
    if five rows or more have it and it holds no personal data, else "text". A column that the schema marks as personal is
    left empty; where it may not be empty there is no example.
    """
    personal = set(facts(data.train).get("personal", ()))
    if any(one.type in ("image", "binary") or (one.name in personal and not one.nullable) for one in fields):
        return None
    return {one.name: None if one.name in personal else _typical(data.train, one) for one in fields}


def _typical(train: pa.Table, field: Field) -> Any:
    values = [
        one for one in train[field.name].to_pylist() if one is not None and one == one
    ]  # NaN is not itself
    if not values:
        return None
    if field.type in ("string", "boolean"):
        ((value, rows),) = Counter(values).most_common(1)
        is_shown = field.type == "boolean" or (rows >= _FEWEST and not personal_kinds(pa.array([value])))
        return value if is_shown else _ANY_TEXT
    middle = sorted(values)[(len(values) - 1) // 2]
    return middle.isoformat() if isinstance(middle, datetime) else middle
