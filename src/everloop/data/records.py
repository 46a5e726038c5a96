"""What the room stores and hands out."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

import pyarrow as pa

from everloop.errors import Invalid

ColumnType = Literal["string", "integer", "number", "boolean", "time", "image", "binary"]
Mode = Literal["merge", "append", "replace"]
Format = Literal["csv", "jsonl", "parquet", "images"]

COLUMN_TYPES: tuple[ColumnType, ...] = get_args(ColumnType)
ROW_ID = "_row_id"
DIGEST = "_digest"  # of each row, kept in the parts only; never seen outside the room

_DATASET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,79}")
_COLUMN_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,120}")
_RULES_OF: dict[str, tuple[ColumnType, ...]] = {
    "allowed": ("string", "integer"),
    "minimum": ("integer", "number"),
    "maximum": ("integer", "number"),
    "pattern": ("string",),
    "max_length": ("string",),
}


@dataclass(frozen=True)
class Column:
    """One column and its rules. Rules speak of values; a missing value breaks only `nullable=False`.

    `pattern` is an RE2 expression that the whole value must match; `max_length` counts characters; `minimum`
    and `maximum` are themselves allowed. `unique` holds over all rows of a version. `personal` marks values
    that are never shown in profiles, and says how the prediction log keeps them: `hash` (which True means, too), `mask` or
    `drop`.
    """

    name: str
    type: ColumnType
    nullable: bool = True
    unique: bool = False
    allowed: tuple[str | int, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    max_length: int | None = None
    personal: bool | Literal["hash", "mask", "drop"] = False

    def __post_init__(self) -> None:
        if self.personal not in (True, False, "hash", "mask", "drop"):
            raise Invalid(
                f"column {self.name!r} has personal={self.personal!r}; it is False, True, 'hash', 'mask' or 'drop'. Choose one."
            )
        if not _COLUMN_NAME.fullmatch(self.name) or self.name in (ROW_ID, DIGEST):
            raise Invalid(
                f"{self.name!r} cannot name a column: 1 to 120 characters without control characters, and neither "
                f"{ROW_ID} nor {DIGEST}, which are everloop's own. Rename the column."
            )
        if self.type not in COLUMN_TYPES:
            raise Invalid(
                f"column {self.name!r} has the type {self.type!r}; a type is one of {', '.join(COLUMN_TYPES)}."
            )
        for rule, types in _RULES_OF.items():
            if getattr(self, rule) is not None and self.type not in types:
                raise Invalid(
                    f"column {self.name!r} of type {self.type} has the rule {rule!r}, which is for {' and '.join(types)} "
                    "columns. Leave the rule out or change the type."
                )

    def as_json(self) -> dict[str, Any]:
        """The column without the rules that are at their default."""
        defaults = {one.name: one.default for one in dataclasses.fields(self)}
        values = {**vars(self), "allowed": None if self.allowed is None else list(self.allowed)}
        return {name: value for name, value in values.items() if value != defaults[name]}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Column:
        allowed = value.get("allowed")
        return Column(**{**value, "allowed": None if allowed is None else tuple(allowed)})


@dataclass(frozen=True)
class Schema:
    """The columns of a dataset in order, and what they mean: which is the key, which the time, which the inputs.

    Before the first ingest `columns` holds only what was declared.
    """

    columns: tuple[Column, ...]
    key: str | None
    time: str | None = None
    inputs: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def get(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    def as_json(self) -> dict[str, Any]:
        return {
            "columns": [column.as_json() for column in self.columns],
            "key": self.key,
            "time": self.time,
            "inputs": list(self.inputs),
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Schema:
        return Schema(
            columns=tuple(map(Column.from_json, value["columns"])),
            key=value["key"],
            time=value["time"],
            inputs=tuple(value["inputs"]),
        )


@dataclass(frozen=True)
class Dataset:
    """A named table that has versions. `schema` is what the next ingest is checked against."""

    name: str
    schema: Schema
    created_at: datetime
    created_by: str

    @property
    def key(self) -> str | None:
        return self.schema.key

    @property
    def time(self) -> str | None:
        return self.schema.time

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.schema.inputs


@dataclass(frozen=True)
class DatasetVersion:
    """One state of a dataset, never changed.

    `digest` says what the data is, whatever the layout; `manifest` is the blob that says where the rows are.
    `operation` tells what made it: its `kind` (ingest, clean, define), the file, how many rows were added,
    changed, removed. `personal` counts, per column and kind, the values that look like personal data among
    the rows that this version wrote.
    """

    dataset: str
    number: int
    digest: str
    parent: int | None
    rows: int
    schema: Schema
    manifest: str
    operation: dict[str, Any]
    personal: dict[str, dict[str, int]]
    created_at: datetime
    created_by: str

    @property
    def ref(self) -> str:
        """How users and lineage name it, such as `listings@3`."""
        return f"{self.dataset}@{self.number}"


@dataclass(frozen=True)
class Diff:
    """What changed from one version to another: three tables of `_row_id` and the key, in order of row id."""

    before: str
    after: str
    added: pa.Table
    removed: pa.Table
    changed: pa.Table

    @property
    def is_empty(self) -> bool:
        return not (self.added.num_rows or self.removed.num_rows or self.changed.num_rows)


@dataclass(frozen=True)
class ColumnProfile:
    """What one column holds. Figures that make no sense for its type are left out of `figures`.

    Numbers and times: minimum, maximum, mean, standard_deviation (numbers only), quantiles {"0.05": ...}.
    Text: length_minimum, length_mean, length_maximum (characters), top [[value, count], ...].
    Integers and booleans have `top` too; binaries size_bytes_*; images also width_*, height_* and formats.
    """

    name: str
    type: ColumnType
    count: int
    nulls: int
    distinct: int | None
    figures: dict[str, Any] = field(default_factory=dict)
    personal: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """The column profiles of a version; `rows` counts the rows they were taken over, which is all of them."""

    ref: str
    digest: str
    rows: int
    columns: tuple[ColumnProfile, ...]

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class CleaningStep:
    """What one operation did. `row_ids` are the first 100 rows that it changed or dropped."""

    operation: dict[str, Any]
    changed: int
    dropped: int
    row_ids: tuple[int, ...]


@dataclass(frozen=True)
class CleaningReport:
    """`version` is the one that the cleaning made, or the one it started from when there was nothing to do."""

    version: DatasetVersion
    steps: tuple[CleaningStep, ...]

    @property
    def changed(self) -> int:
        return sum(step.changed for step in self.steps)

    @property
    def dropped(self) -> int:
        return sum(step.dropped for step in self.steps)


def check_dataset_name(name: str) -> None:
    """Raises Invalid when `name` cannot name a dataset."""
    if not _DATASET_NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} cannot name a dataset: a letter, then letters, digits, '_', '.' or '-', 80 characters at most. "
            "Choose another name."
        )
