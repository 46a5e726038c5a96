"""What can be seen of a table's columns before anything is known of their meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from everloop import data
from everloop.data import ColumnType

_SAMPLE = 20_000  # rows that the shape of text is told from
_ID_NAME = re.compile(r"(^|_)(id|ids|uuid|guid|key|sku|ean|upc|isbn|code|zip|zipcode|postcode|ref)$")

# pyarrow's stubs ask for the type of the elements, which nobody knows of the columns of a user's table.
_compute: Any = pc


@dataclass(frozen=True)
class ColumnFacts:
    """One column. `words` are the mean words a text value, `is_code` says that no value has a space in it.

    `personal` names the kind of personal data that at least one row in twenty holds.
    """

    name: str
    type: ColumnType
    rows: int
    nulls: int
    distinct: int
    words: float = 0.0
    is_code: bool = False
    is_run: bool = False  # whole numbers that count the rows without a gap
    is_whole: bool = False  # numbers without a fraction
    personal: str | None = None

    @property
    def filled(self) -> int:
        return self.rows - self.nulls

    @property
    def has_id_name(self) -> bool:
        return _ID_NAME.search(plain_name(self.name)) is not None

    @property
    def is_unique(self) -> bool:
        return self.nulls == 0 and self.distinct == self.rows > 1


def facts_of(rows: pa.Table, schema: data.Schema) -> list[ColumnFacts]:
    """The facts of every column, in the order of the table."""
    return [_facts(rows[column.name], column) for column in schema.columns]


def plain_name(name: str) -> str:
    """A column's name in small letters with single underscores: `productId` and `Product ID` are `product_id`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


def _facts(values: pa.ChunkedArray[Any], column: data.Column) -> ColumnFacts:
    there: pa.ChunkedArray[Any] = values.drop_null()
    known: dict[str, Any] = {}
    if column.type == "string" and len(there):
        known = _of_text(there)
    elif column.type == "integer" and len(there):
        known = {"is_whole": True, "is_run": _is_run(there)}
    elif column.type == "number" and len(there):
        known = {"is_whole": bool(_compute.all(_compute.equal(there, _compute.floor(there))).as_py())}
    # photos are not compared: their bytes are most of the table, and two equal ones say nothing here
    is_blob = column.type in ("image", "binary")
    distinct = len(there) if is_blob else int(_compute.count_distinct(there).as_py())
    return ColumnFacts(column.name, column.type, len(values), values.null_count, distinct, **known)


def _of_text(there: pa.ChunkedArray[Any]) -> dict[str, Any]:
    sample = there.slice(0, _SAMPLE).combine_chunks()
    spaces = _compute.count_substring_regex(_compute.utf8_trim_whitespace(sample), r"\s+")
    kinds = data.personal_kinds(sample)
    often = [kind for kind, count in kinds.items() if count >= max(1, len(sample) // 20)]
    return {
        "words": float(_compute.mean(spaces).as_py()) + 1,
        "is_code": _compute.max(spaces).as_py() == 0,
        "personal": often[0] if often else None,
    }


def _is_run(there: pa.ChunkedArray[Any]) -> bool:
    bounds = _compute.min_max(there)
    return int(bounds["max"].as_py()) - int(bounds["min"].as_py()) == len(there) - 1
