from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from everloop.data.constraints import check_rules, check_schema, repeated
from everloop.data.records import Column, Schema
from everloop.errors import Invalid


def check(values: Any, column: Column, **more: Any) -> None:
    check_rules(pa.table({column.name: values}), Schema((column,), None), **more)


@pytest.mark.parametrize(
    ("column", "values", "found"),
    [
        (
            Column("a", "string", nullable=False),
            ["x", None],
            r"in 1 row \(row 2\): values must not be missing",
        ),
        (
            Column("a", "string", allowed=("x", "y")),
            ["x", "z", None],
            r"\(row 2\): values are among the allowed ones",
        ),
        (Column("a", "integer", allowed=(1,)), [2, 1], r"\(row 1\)"),
        (Column("a", "integer", minimum=0), [0, -1], r"\(row 2\): values are at least 0"),
        (Column("a", "number", maximum=1.5), [1.5, 1.6, None], r"\(row 2\): values are at most 1\.5"),
        (
            Column("a", "string", pattern="[a-z]+|9"),
            ["abc", "9", "a1", "99"],
            r"in 2 rows \(row 3, 4\): values match the pattern",
        ),
        (
            Column("a", "string", max_length=3),
            ["äöü", "abcd"],
            r"\(row 2\): values have at most 3 characters",
        ),
    ],
)
def test_a_broken_rule_names_the_rows_and_not_the_values(column: Column, values: Any, found: str) -> None:
    with pytest.raises(Invalid, match=found) as caught:
        check(values, column)
    assert "abcd" not in str(caught.value)


def test_rules_let_missing_values_pass() -> None:
    column = Column("a", "string", allowed=("x",), pattern="x", max_length=1)
    check(pa.array([None, "x"]), column)


def test_many_broken_rows_are_counted_and_five_are_named() -> None:
    with pytest.raises(Invalid, match=r"in 8 rows \(row 1, 2, 3, 4, 5, \.\.\.\)"):
        check([-1] * 8, Column("a", "integer", minimum=0))


def test_stored_rows_are_named_by_their_ids() -> None:
    with pytest.raises(Invalid, match=r"\(row id 70\)"):
        check([1, -1], Column("a", "integer", minimum=0), row_ids=np.array([3, 70]))


def test_repeated_finds_all_but_the_first() -> None:
    assert repeated(pa.array(["a", None, "b", "a", None, "a"])).tolist() == [3, 5]
    assert repeated(pa.array([], pa.string())).tolist() == []


@pytest.mark.parametrize(
    ("columns", "time", "found"),
    [
        ((Column("a", "string", pattern="("),), None, "no RE2 expression"),
        ((Column("a", "integer", allowed=("x",)),), None, "not of its type integer"),
        ((Column("a", "string"), Column("a", "string")), None, "declared twice"),
        ((Column("a", "string"),), "a", "it is of type time"),
    ],
)
def test_a_schema_may_not_contradict_itself(
    columns: tuple[Column, ...], time: str | None, found: str
) -> None:
    with pytest.raises(Invalid, match=found):
        check_schema(Schema(columns, None, time))
