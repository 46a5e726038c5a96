"""Are the rows what the model was declared to take?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from everloop.checks.columns import Column, Kind, compute, floats, kind_of, plain
from everloop.checks.plots import Point, plot
from everloop.checks.records import CheckInput, CheckResult
from everloop.serving import Field, FieldType, Signature

RULE = (
    "Both sides of the split must have rows with a label and every input, of one type, with some values in it, and "
    "as the model's signature says."
)
_KINDS: dict[FieldType, tuple[Kind, ...]] = {
    "string": ("text",),
    "integer": ("number",),
    "number": ("number", "boolean"),
    "boolean": ("boolean",),
    "time": ("time",),
    "image": ("binary",),
    "binary": ("binary",),
}


def schema(given: CheckInput) -> CheckResult:
    """Whether rows, inputs, types and the signature fit together."""
    problems = [*_problems(given)]
    return CheckResult(
        name="schema",
        verdict="failed" if problems else "passed",
        found=" ".join(problems)
        or f"{given.train.num_rows} training and {given.test.num_rows} test rows have all {len(given.columns)} inputs.",
        rule=RULE,
        remedy="Mend the step that makes the split, or the declaration of inputs; then train again."
        if problems
        else "Nothing to do.",
        numbers={
            "train_rows": given.train.num_rows,
            "test_rows": given.test.num_rows,
            "inputs": len(given.columns),
            "problems": len(problems),
        },
        details=tuple({"problem": problem} for problem in problems[:50]),
        plot=plot("bars", _filled(given), at="column", value="share of rows that are filled"),
    )


def _filled(given: CheckInput) -> Iterator[Point]:
    for name in dict.fromkeys((given.label, *given.columns)):
        for side, table in (("train", given.train), ("test", given.test)):
            if name in table.column_names and table.num_rows:
                share = 1 - plain(table[name]).null_count / table.num_rows
                yield Point(name, share, rows=table.num_rows, series=side, is_marked=share == 0)


def _problems(given: CheckInput) -> Iterator[str]:
    if not given.inputs:
        yield "There is no input."
    for side, table in (("training", given.train), ("test", given.test)):
        yield from _problems_of_side(given, side, table)
    for name in given.columns:
        yield from _problems_between(given, name)
    if given.signature is not None:
        yield from _problems_of_signature(given, given.signature)


def _problems_of_side(given: CheckInput, side: str, table: pa.Table) -> Iterator[str]:
    if table.num_rows == 0:
        yield f"There are no {side} rows."
        return
    for name in given.columns:
        if name not in table.column_names:
            yield f"The {side} rows lack the input {name!r}."
        elif table[name].null_count == table.num_rows:
            yield f"Input {name!r} is empty in all {table.num_rows} {side} rows."
    if given.label not in table.column_names:
        yield f"The {side} rows lack the label {given.label!r}."
    elif unlabelled := plain(table[given.label]).null_count:
        yield f"{unlabelled} of {table.num_rows} {side} rows have no label."


def _problems_between(given: CheckInput, name: str) -> Iterator[str]:
    if name not in given.train.column_names or name not in given.test.column_names:
        return
    types = [table.schema.field(name).type for table in (given.train, given.test)]
    if kind_of(types[0]) != kind_of(types[1]) and not any(pa.types.is_null(one) for one in types):
        yield f"Input {name!r} is {types[0]} in the training rows and {types[1]} in the test rows."


def _problems_of_signature(given: CheckInput, signature: Signature) -> Iterator[str]:
    fields = {field.name: field for field in signature.inputs}
    for name in given.inputs:
        if name not in fields:
            yield f"The signature does not name the input {name!r}."
    for name, field in fields.items():
        if name not in given.inputs:
            yield f"The signature names {name!r}, which is not an input."
        elif name in given.train.column_names:
            yield from _problems_of_field(field, plain(given.train[name]))


def _problems_of_field(field: Field, column: Column) -> Iterator[str]:
    if not pa.types.is_null(column.type) and kind_of(column.type) not in _KINDS[field.type]:
        yield f"Input {field.name!r} is {column.type} where the signature says {field.type}."
        return
    if not field.nullable and column.null_count:
        yield f"Input {field.name!r} is empty in {column.null_count} training rows where the signature says never."
    filled = column.drop_null()
    if field.allowed is not None and kind_of(filled.type) in ("text", "number", "boolean"):
        values: list[Any] = list(field.allowed)
        allowed = pa.array(values).cast(filled.type)
        if (
            others := len(filled)
            - compute.sum(compute.is_in(filled, value_set=allowed).cast(pa.int64())).as_py()
        ):
            yield f"Input {field.name!r} has {others} training rows outside the values that the signature allows."
    if outside := _outside(field, filled):
        yield f"Input {field.name!r} has {outside} training rows outside the signature's limits."


def _outside(field: Field, filled: Column) -> int:
    if kind_of(filled.type) != "number" or (field.minimum is None and field.maximum is None):
        return 0
    values = floats(filled)
    is_low = values < (-np.inf if field.minimum is None else field.minimum)
    is_high = values > (np.inf if field.maximum is None else field.maximum)
    return int((is_low | is_high).sum())
