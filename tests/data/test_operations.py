from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everloop.data.operations import (
    DropConflicts,
    DropDuplicates,
    DropNull,
    Normalise,
    Operation,
    Trim,
    applied,
    as_json,
    check_operation,
    from_json,
    group_codes,
)
from everloop.data.records import Column, Schema
from everloop.errors import Invalid


def table(**columns: list[Any]) -> pa.Table:
    rows = len(next(iter(columns.values())))
    return pa.table({"_row_id": range(rows), **columns})


def left(operation: Operation, **columns: list[Any]) -> list[int]:
    """Row ids that stay."""
    kept: list[int] = applied(operation, table(**columns)).rows["_row_id"].to_pylist()  # type: ignore[assignment]
    return kept


@pytest.mark.parametrize(
    ("before", "trimmed", "normalised"),
    [
        ("  a b ", "a b", "a b"),
        ("a \t\n b", "a \t\n b", "a b"),
        ("a\u00a0b", "a\u00a0b", "a b"),
        ("\u2003a\u2028b", "a\u2028b", "a b"),
        ("\ufb01ne", "\ufb01ne", "fine"),
        ("e\u0301", "e\u0301", "\u00e9"),
        ("\uff21\u2460", "\uff21\u2460", "A1"),
        ("", "", ""),
        (None, None, None),
    ],
)
def test_text_is_trimmed_and_normalised(before: Any, trimmed: Any, normalised: Any) -> None:
    for operation, after in ((Trim(("a",)), trimmed), (Normalise(("a",)), normalised)):
        outcome = applied(operation, table(a=[before, "x"]))
        assert outcome.rows["a"].to_pylist() == [after, "x"]
        assert outcome.changed.tolist() == [before != after, False]
        assert not outcome.dropped.any()


@given(st.lists(st.none() | st.text(), min_size=1, max_size=5))
@settings(deadline=None)
def test_normalising_again_changes_nothing(texts: list[str | None]) -> None:
    rows = table(a=[*texts, "x"])
    once = applied(Normalise(("a",)), rows).rows
    assert not applied(Normalise(("a",)), once).changed.any()


def test_of_duplicates_the_first_stays() -> None:
    assert left(DropDuplicates(("a",)), a=["x", "y", "x", None, None]) == [0, 1, 3, 4]
    assert left(DropDuplicates(("a", "b")), a=["x", "x", "x"], b=[1, 2, 1]) == [0, 1]


def test_of_conflicts_none_stays() -> None:
    rows: dict[str, list[Any]] = {"a": ["x", "x", "y", "y", "z", None], "b": [1, 2, 1, 1, None, 3]}
    assert left(DropConflicts(("a",), "b"), **rows) == [2, 3, 4, 5]


def test_a_missing_side_is_no_conflict() -> None:
    assert left(DropConflicts(("a",), "b"), a=["x", "x"], b=[1, None]) == [0, 1]


def test_rows_with_missing_values_are_dropped() -> None:
    assert left(DropNull(("a", "b")), a=["x", None, ""], b=[1, 1, None]) == [0]


@given(
    st.lists(st.tuples(*[st.none() | st.sampled_from("ab")] * 3), min_size=1, max_size=12),
)
@settings(deadline=None)
def test_groups_are_those_of_a_dictionary(rows: list[tuple[str | None, ...]]) -> None:
    codes = group_codes(
        table(a=[r[0] for r in rows], b=[r[1] for r in rows], c=[r[2] for r in rows]), ("a", "b", "c")
    )
    for at, one in enumerate(rows):
        for other_at, other in enumerate(rows):
            same = one == other and None not in one
            assert (codes[at] == codes[other_at] and codes[at] >= 0) == same


@pytest.mark.parametrize(
    "operation",
    [
        Trim(("a",)),
        Normalise(("a", "b")),
        DropDuplicates(("a",)),
        DropConflicts(("a",), "b"),
        DropNull(("a",)),
    ],
)
def test_an_operation_survives_json(operation: Operation) -> None:
    assert from_json(as_json(operation)) == operation


@pytest.mark.parametrize(
    ("operation", "found"),
    [
        (Trim(()), "names no columns"),
        (Trim(("titel",)), "Did you mean 'title'"),
        (Trim(("id",)), "'id' is the key"),
        (Normalise(("price",)), "'price' is of type number"),
        (DropConflicts(("title",), "categry"), "no column 'categry'"),
    ],
)
def test_an_operation_must_fit_the_schema(operation: Operation, found: str) -> None:
    schema = Schema((Column("id", "string"), Column("title", "string"), Column("price", "number")), "id")
    with pytest.raises(Invalid, match=found):
        check_operation(operation, schema)
