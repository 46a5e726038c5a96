"""The rules that a schema puts on values, checked over whole columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop.data.arrow import ARROW_TYPES, AnyArray, one_array
from everloop.data.arrow import compute as pc
from everloop.data.records import Column, Schema
from everloop.errors import Invalid

Positions = NDArray[np.int64]

_SHOWN = 5  # rows named in a message


def check_schema(schema: Schema) -> None:
    """Raises Invalid when the schema contradicts itself: a pattern that is none, a time that is not a time."""
    for column in schema.columns:
        _check_column(column)
        if schema.names.count(column.name) > 1:
            raise Invalid(
                f"the column {column.name!r} is declared twice; names are unique. Remove one of them."
            )
    time = schema.get(schema.time) if schema.time else None
    if time is not None and time.type != "time":
        raise Invalid(
            f"the column {time.name!r} is named as the dataset's time and declared as {time.type}; it is of type time. "
            "Declare it so, or leave its declaration out."
        )


def check_rules(rows: pa.Table, schema: Schema, *, row_ids: Positions | None = None) -> None:
    """Check every row by itself: missing values, allowed values, bounds, patterns, lengths.

    Rows of a file are named by their place in it, rows that are stored by their row ids.

    Raises
    ------
    Invalid
        The first rule that is broken, how often and in which rows, counted from 1; never the values.
    """
    for column in schema.columns:
        if column.name in rows.column_names:
            values = one_array(rows[column.name])
            for rule, broken in _broken(column, values).items():
                positions = np.flatnonzero(np.asarray(pc.fill_null(broken, False)))
                refuse(column, rule, positions, row_ids=row_ids)


def repeated(values: AnyArray) -> Positions:
    """The positions of all values that are there already further up; missing ones are left out."""
    codes = np.asarray(pc.fill_null(values.dictionary_encode().indices, -1), np.int64)
    is_first = np.zeros(len(values), np.bool_)
    is_first[np.unique(codes, return_index=True)[1]] = True
    return np.flatnonzero(~is_first & (codes >= 0))


def refuse(column: Column, rule: str, positions: Positions, *, row_ids: Positions | None = None) -> None:
    """Raise Invalid when there are rows, by their positions, that break a rule."""
    if len(positions) == 0:
        return
    named = positions[:_SHOWN] + 1 if row_ids is None else row_ids[positions[:_SHOWN]]
    what = "row" if row_ids is None else "row id"
    shown = ", ".join(map(str, named.tolist()))
    more = ", ..." if len(positions) > _SHOWN else ""
    rows = "row" if len(positions) == 1 else "rows"
    raise Invalid(
        f"column {column.name!r} breaks a rule in {len(positions)} {rows} ({what} {shown}{more}): {rule}. "
        "Correct the values, or change the rule where the dataset is defined."
    )


def _broken(column: Column, values: AnyArray) -> dict[str, AnyArray]:
    """For each rule of the column, which values break it (missing where the value is)."""
    found: dict[str, AnyArray] = {}
    if not column.nullable:
        found["values must not be missing"] = pc.is_null(values)
    if column.allowed is not None:
        allowed = pa.array(column.allowed, ARROW_TYPES[column.type])
        found["values are among the allowed ones"] = pc.and_(
            pc.is_valid(values), pc.invert(pc.is_in(values, allowed))
        )
    if column.minimum is not None:
        found[f"values are at least {column.minimum}"] = pc.less(values, column.minimum)
    if column.maximum is not None:
        found[f"values are at most {column.maximum}"] = pc.greater(values, column.maximum)
    if column.pattern is not None:
        found[f"values match the pattern {column.pattern}"] = pc.invert(
            pc.match_substring_regex(values, f"^(?:{column.pattern})$")
        )
    if column.max_length is not None:
        found[f"values have at most {column.max_length} characters"] = pc.greater(
            pc.utf8_length(values), column.max_length
        )
    return found


def _check_column(column: Column) -> None:
    if column.pattern is not None:
        try:
            pc.match_substring_regex(pa.array([""]), f"^(?:{column.pattern})$")
        except pa.ArrowInvalid as error:
            raise Invalid(
                f"column {column.name!r} has the pattern {column.pattern!r}, which is no RE2 expression: {error}. "
                "Correct it."
            ) from error
    if column.allowed is not None:
        try:
            pa.array(column.allowed, ARROW_TYPES[column.type])
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise Invalid(
                f"column {column.name!r} allows values that are not of its type {column.type}. Correct the list."
            ) from error
