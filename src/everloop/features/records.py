"""What a feature view is, and how its function is called, offline and online alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import blake3
import numpy as np
import pyarrow as pa

from everloop.errors import Invalid

ColumnType = Literal["string", "integer", "number", "boolean", "time"]
FeatureFunction = Callable[[pa.Table], Any]

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "time": pa.timestamp("us", tz="UTC"),
}


@dataclass(frozen=True)
class FeatureView:
    """Which rows a feature's function sees: those of one entity in `[t - window, t)`, by event time.

    `columns` are the columns of the function's table, in order: the dataset's inputs, its key and its time.
    Images and other binary columns are left out, since the prediction log keeps only their digests.
    """

    name: str
    dataset: str
    entity: str
    time: str
    window_s: float
    columns: dict[str, ColumnType]
    module: str
    function: str
    source_digest: str
    dtype: Literal["integer", "number", "string"]
    key: str | None = None

    def __post_init__(self) -> None:
        if self.window_s <= 0:
            raise Invalid(
                f"feature {self.name!r} has a window of {self.window_s} s; a window is longer than 0 s."
            )
        for role, column in (("entity", self.entity), ("time", self.time), ("key", self.key)):
            if column is not None and column not in self.columns:
                raise Invalid(
                    f"feature {self.name!r} uses {column!r} as its {role}, which is not among its columns "
                    f"({', '.join(self.columns)}). Name a column of the dataset's inputs, its key or its time."
                )
        if self.columns[self.time] != "time":
            raise Invalid(
                f"feature {self.name!r} has the time column {self.time!r} of type {self.columns[self.time]!r}; "
                "a window needs a column of type 'time'."
            )

    @property
    def window(self) -> timedelta:
        return timedelta(seconds=self.window_s)

    @property
    def history_id(self) -> str:
        """Names the past rows that the view looks at: views that differ only in their function share them."""
        kept = (self.dataset, self.entity, self.time, self.window_s, self.key, list(self.columns.items()))
        return f"{self.name}-{blake3.blake3(repr(kept).encode()).hexdigest(length=6)}"

    @property
    def schema(self) -> pa.Schema:
        """The schema of the table that the function gets, the same offline and online."""
        return pa.schema([pa.field(name, ARROW_TYPES[kind]) for name, kind in self.columns.items()])


@dataclass(frozen=True, slots=True)
class FeatureValue:
    """A feature's value, and the event time of the newest row that it was computed from (None: no row)."""

    value: int | float | str | None
    as_of_at: datetime | None


def evaluate(view: FeatureView, function: FeatureFunction, past: pa.Table) -> int | float | str | None:
    """The value of the view's function over `past`, as a plain Python value of the view's dtype.

    Raises
    ------
    Invalid
        The function raised, or returned something else than its dtype or None.
    """
    try:
        value = function(past)
    except Exception as error:  # a user's function may raise anything; the caller learns which one and why
        raise Invalid(
            f"feature {view.name!r} ({view.module}:{view.function}) raised {type(error).__name__}: {error} "
            f"on {past.num_rows} past rows. Mend the function; it must answer for an entity without a past too."
        ) from error
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    elif isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return None
    if view.dtype == "number" and type(value) in (int, float):
        return float(value)
    if type(value) is (int if view.dtype == "integer" else str) and view.dtype != "number":
        return value
    raise Invalid(
        f"feature {view.name!r} ({view.module}:{view.function}) returned {value!r}; it is declared to return "
        f"{view.dtype} or None. Change the function or its return annotation."
    )
