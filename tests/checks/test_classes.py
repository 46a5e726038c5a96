from __future__ import annotations

import pyarrow as pa
import pytest

from everloop.checks import CheckInput
from everloop.checks.classes import classes


def rows(train: dict[str, int], test: dict[str, int], classes: tuple[str, ...] | None = None) -> CheckInput:
    sides = [
        pa.table(
            {"label": pa.array([name for name, count in side.items() for _ in range(count)], pa.string())}
        )
        for side in (train, test)
    ]
    return CheckInput(sides[0], sides[1], (), classes=classes)


@pytest.mark.parametrize(
    ("train", "test", "known", "verdict"),
    [
        ({"a": 10, "b": 10}, {"a": 10, "b": 10}, None, "passed"),
        ({"a": 10, "b": 9}, {"a": 10, "b": 10}, None, "warned"),
        ({"a": 10, "b": 10}, {"a": 10}, None, "warned"),
        ({"a": 10, "b": 10}, {"a": 10, "c": 1}, None, "failed"),
        ({"a": 10, "b": 10}, {"a": 10, "b": 10}, ("a", "b", "c"), "failed"),
        ({"a": 10}, {"a": 10}, None, "failed"),
        ({}, {}, None, "skipped"),
    ],
)
def test_verdicts(
    train: dict[str, int], test: dict[str, int], known: tuple[str, ...] | None, verdict: str
) -> None:
    assert classes(rows(train, test, known)).verdict == verdict


def test_the_rarest_class_comes_first_and_absent_ones_are_named() -> None:
    result = classes(rows({"a": 30, "b": 3}, {"a": 5, "new": 1}))
    assert [row["class"] for row in result.details] == ["new", "b", "a"]
    assert "no training row: new." in result.found
    assert "2 classes have fewer than 10 rows on a side: a, b." in result.found
    assert result.numbers["absent"] == 1


def test_numbers_have_no_classes() -> None:
    table = pa.table({"label": [1.0, 2.0]})
    assert classes(CheckInput(table, table, ())).verdict == "skipped"
