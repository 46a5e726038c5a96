"""Cleaning operations: what each one does to a table, as pure functions of the operation and the rows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop.data.arrow import AnyArray, one_array
from everloop.data.arrow import compute as pc
from everloop.data.reading import check_column
from everloop.data.records import Schema
from everloop.errors import Invalid

Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

# \s of RE2 is ASCII only; NFKC has already turned the no-break and typographic spaces into plain ones.
_SPACES = r"[\s\x{85}\x{1680}\x{2028}\x{2029}]+"


@dataclass(frozen=True)
class Trim:
    """Remove white space at the ends of text."""

    columns: tuple[str, ...]


@dataclass(frozen=True)
class Normalise:
    """Bring text into Unicode's form NFKC, turn each run of white space into one space, and trim."""

    columns: tuple[str, ...]


@dataclass(frozen=True)
class DropDuplicates:
    """Of rows that agree in all of the columns, keep the one that came first (the lowest row id).

    A row in which one of the columns is missing is nobody's duplicate.
    """

    columns: tuple[str, ...]


@dataclass(frozen=True)
class DropConflicts:
    """Drop all rows that agree in `columns` and do not agree in `against`; a missing `against` takes no side."""

    columns: tuple[str, ...]
    against: str


@dataclass(frozen=True)
class DropNull:
    """Drop rows in which one of the columns is missing. An empty text is not missing."""

    columns: tuple[str, ...]


Operation: TypeAlias = Trim | Normalise | DropDuplicates | DropConflicts | DropNull

_OPERATIONS: dict[str, type[Operation]] = {
    "trim": Trim,
    "normalise": Normalise,
    "drop_duplicates": DropDuplicates,
    "drop_conflicts": DropConflicts,
    "drop_null": DropNull,
}
_NAMES = {kind: name for name, kind in _OPERATIONS.items()}


@dataclass(frozen=True)
class Outcome:
    """The rows after an operation, those dropped left out, and which of the rows before it it touched."""

    rows: pa.Table
    changed: Mask  # (n_rows before,)
    dropped: Mask  # (n_rows before,)


def columns_of(operation: Operation) -> tuple[str, ...]:
    """All columns that the operation looks at."""
    against = (operation.against,) if isinstance(operation, DropConflicts) else ()
    return (*operation.columns, *against)


def check_operation(operation: Operation, schema: Schema) -> None:
    """Raises Invalid when the operation does not fit the schema."""
    if not operation.columns:
        raise Invalid(
            f"the cleaning operation {_NAMES[type(operation)]!r} names no columns; name at least one."
        )
    for name in columns_of(operation):
        check_column(schema, name)
    if not isinstance(operation, Trim | Normalise):
        return
    for name in operation.columns:
        column = schema.get(name)
        if column is None or column.type != "string" or name == schema.key:
            what = "is the key" if name == schema.key else f"is of type {column.type if column else None}"
            raise Invalid(
                f"column {name!r} {what}; {_NAMES[type(operation)]} changes text that is not the key, which identifies "
                "rows. Leave the column out."
            )


def applied(operation: Operation, rows: pa.Table) -> Outcome:
    """What the operation does to rows, which are in order of row id."""
    nothing = np.zeros(rows.num_rows, np.bool_)
    match operation:
        case Trim() | Normalise():
            return _rewritten(operation, rows)
        case DropDuplicates():
            codes = group_codes(rows, operation.columns)
            is_first = np.zeros(rows.num_rows, np.bool_)
            is_first[np.unique(codes, return_index=True)[1]] = True
            dropped = (codes >= 0) & ~is_first
        case DropConflicts():
            dropped = _in_conflict(rows, operation)
        case DropNull():
            dropped = np.any(_codes_of_each(rows, operation.columns) < 0, axis=0)
    return Outcome(rows.filter(pa.array(~dropped)), nothing, dropped)


def group_codes(rows: pa.Table, columns: tuple[str, ...]) -> Codes:
    """A number for each row, equal where all the columns are equal; -1 where one of them is missing."""
    each = _codes_of_each(rows, columns)
    codes = np.zeros(rows.num_rows, np.int64)
    for one in each:
        # compressed after each column, so that the product of the numbers of values cannot overflow
        codes = np.unique(codes * (one.max(initial=0) + 1) + one, return_inverse=True)[1]
    return np.where((each < 0).any(axis=0), -1, codes)


def as_json(operation: Operation) -> dict[str, Any]:
    values = dataclasses.asdict(operation)
    return {"operation": _NAMES[type(operation)], **values, "columns": list(operation.columns)}


def from_json(value: dict[str, Any]) -> Operation:
    """The operation that a version recorded."""
    fields = {name: one for name, one in value.items() if name != "operation"}
    return _OPERATIONS[value["operation"]](**{**fields, "columns": tuple(fields["columns"])})


def _rewritten(operation: Trim | Normalise, rows: pa.Table) -> Outcome:
    changed = np.zeros(rows.num_rows, np.bool_)
    for name in operation.columns:
        before = one_array(rows[name])
        after = _normalised(before) if isinstance(operation, Normalise) else pc.utf8_trim_whitespace(before)
        changed |= np.asarray(pc.fill_null(pc.not_equal(before, after), False))
        rows = rows.set_column(rows.column_names.index(name), name, after)
    return Outcome(rows, changed, np.zeros(rows.num_rows, np.bool_))


def _normalised(text: AnyArray) -> AnyArray:
    folded = pc.replace_substring_regex(pc.utf8_normalize(text, form="NFKC"), _SPACES, " ")
    trimmed: AnyArray = pc.utf8_trim_whitespace(folded)
    return trimmed


def _in_conflict(rows: pa.Table, operation: DropConflicts) -> Mask:
    codes = group_codes(rows, operation.columns)
    sides = group_codes(rows, (operation.against,))
    takes_side = (codes >= 0) & (sides >= 0)
    pairs = np.unique(np.stack([codes[takes_side], sides[takes_side]]), axis=1)
    groups, opinions = np.unique(pairs[0], return_counts=True)
    return np.isin(codes, groups[opinions > 1])


def _codes_of_each(rows: pa.Table, columns: tuple[str, ...]) -> Codes:
    """(n_columns, n_rows): a number for each value of each column, -1 where it is missing."""
    encoded = [one_array(rows[name]).dictionary_encode().indices for name in columns]
    return np.array([np.asarray(pc.fill_null(one, -1), np.int64) for one in encoded], np.int64)
