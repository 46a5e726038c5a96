"""Shapley values of models that are only asked: by hand, exactly, and by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from everloop.explaining import NotExplainedError, by_asking


def product(rows: Any) -> Any:
    return np.array([row[0] * row[1] + row[2] for row in rows.tolist()], dtype=float)


def test_what_two_inputs_do_together_is_shared_between_them() -> None:
    found = by_asking(product, [3, 4, 5], [1, 1, 1], names=["a", "b", "c"], of="the number")
    # a first: 2, then b: 9; b first: 3, then a: 8
    assert {one.input: one.contribution for one in found.contributions} == pytest.approx(
        {"a": 5, "b": 6, "c": 4}
    )
    assert (found.method, found.base, found.score) == ("shapley", 2.0, 17.0)
    assert found.compared_with == {"a": 1, "b": 1, "c": 1}


def test_inputs_that_do_not_differ_are_not_asked_about() -> None:
    asked = []

    def score(rows: Any) -> Any:
        asked.append(len(rows))
        return product(rows)

    found = by_asking(score, [3, 1, 1], [1, 1, 1], names=["a", "b", "c"], of="the number")
    assert asked == [2]
    assert [one.input for one in found.contributions if one.contribution] == ["a"]


def test_many_inputs_are_sampled_and_still_add_up() -> None:
    weights = np.arange(20.0)

    def score(rows: Any) -> Any:
        return rows.astype(float) @ weights + rows[:, 0].astype(float) * rows[:, 19].astype(float)

    names = [f"x{number}" for number in range(20)]
    found = by_asking(score, [1] * 20, [0] * 20, names=names, of="the number")
    assert found.method == "sampled shapley"
    amounts = {one.input: one.contribution for one in found.contributions}
    assert found.base + sum(amounts.values()) == pytest.approx(found.score)
    assert amounts["x5"] == pytest.approx(5.0)
    # an order and its reverse share what two inputs do together
    assert (amounts["x0"], amounts["x19"]) == pytest.approx((0.5, 19.5))


def test_a_row_with_too_many_inputs_is_refused() -> None:
    with pytest.raises(NotExplainedError, match="600 inputs differ"):
        by_asking(product, [1] * 600, [0] * 600, names=["x"] * 600, of="the number")
