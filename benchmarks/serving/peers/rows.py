"""What the peers that are written by hand share: the model, the check of a row, the three best classes.

The environment says what they serve: BENCH_MODEL is a skops file, BENCH_FIELDS is JSON, for each input in order its type,
string or integer, and whether it may be null.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import skops.io
from pydantic import BaseModel, ConfigDict, create_model

FILE = os.environ["BENCH_MODEL"]  # noqa: TID251  (no setting of ours)
FIELDS: dict[str, tuple[str, bool]] = json.loads(os.environ["BENCH_FIELDS"])  # noqa: TID251


def _type(kind: str, may_be_null: bool) -> Any:
    type_ = str if kind == "string" else int
    return type_ | None if may_be_null else type_


Inputs: Any = create_model(
    "Inputs",
    __config__=ConfigDict(strict=True, extra="forbid"),
    **{name: (_type(*how), ...) for name, how in FIELDS.items()},
)


class Best(BaseModel):
    output: str
    scores: dict[str, float]


class Model:
    """The unmodified pipeline of the file."""

    def __init__(self) -> None:
        self.pipeline = skops.io.load(FILE, trusted=skops.io.get_untrusted_types(file=FILE))
        self.classes = [str(name) for name in self.pipeline.classes_]

    def best(self, rows: list[Any]) -> list[Best]:
        """The class and the three best scores of each of `Inputs`, in one call of the pipeline."""
        values = np.empty((len(rows), len(FIELDS)), dtype=object)
        values[:] = [[getattr(row, name) for name in FIELDS] for row in rows]
        found = []
        for shares in self.pipeline.predict_proba(values):
            order = np.argsort(-shares)[:3]
            scores = {self.classes[index]: float(shares[index]) for index in order}
            found.append(Best(output=self.classes[order[0]], scores=scores))
        return found
