"""How a model must behave: changes that must not change its answer, and changes that must move its score one way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from everloop.checks import CHECKS, CheckInput, CheckResult, direction, gate, invariance, run_checks
from everloop.checks.bounds import wilson
from everloop.errors import Conflict, Invalid
from tests.checks.tables import shop


@pytest.fixture(autouse=True)
def _only_built_in() -> Iterator[None]:
    before = dict(CHECKS)
    yield
    CHECKS.clear()
    CHECKS.update(before)


def by_words(rows: pa.Table) -> list[str]:
    return ["drink" if "tea" in str(one).split() else "other" for one in rows["text"].to_pylist()]


def by_price(rows: pa.Table) -> dict[str, list[float]]:
    drink = 1 / (1 + np.exp(-rows["price"].to_numpy()))
    return {"drink": drink.tolist(), "other": (1 - drink).tolist()}


SHOP = replace(shop(400), answer=by_words, chances=by_price)
Change = Callable[[pa.Table], Any]


def shouted(rows: pa.Table) -> pa.Table:
    """Capitals mean nothing."""
    return rows.set_column(rows.column_names.index("text"), "text", pc.utf8_upper(rows["text"]))


def another_shade(rows: pa.Table) -> pa.Table:
    """The shade does not decide."""
    return rows.set_column(rows.column_names.index("shade"), "shade", pa.array(["white"] * rows.num_rows))


def dearer(rows: pa.Table) -> pa.Table:
    """What costs more is rather a drink."""
    return rows.set_column(rows.column_names.index("price"), "price", pc.add(rows["price"], 1.0))


def judged(change: Change, given: CheckInput = SHOP, **options: Any) -> CheckResult:
    return run_checks(given, [gate(invariance(change), **options)])[-1]


def moved(
    change: Change, moves: Any, given: CheckInput = SHOP, *, of: str | None = "drink", **options: Any
) -> CheckResult:
    return run_checks(given, [gate(direction(moves, of=of)(change), **options)])[-1]


def test_a_change_that_the_model_does_not_mind_passes() -> None:
    result = judged(another_shade)
    assert (result.name, result.verdict, result.numbers["value"]) == ("another_shade", "passed", 1.0)


def test_a_change_that_it_minds_fails_with_the_rows_and_what_was_answered() -> None:
    result = judged(shouted)
    teas = [one for one in SHOP.test.to_pylist() if "tea" in one["text"].split()]
    assert result.verdict == "failed"
    assert result.numbers["broken"] == len(teas)
    assert result.numbers["value"] == pytest.approx(1 - len(teas) / 100)
    assert set(result.evidence) <= {one["_row_id"] for one in teas}
    assert result.details[0] == {"row": result.evidence[0], "before": "drink", "after": "other"}


def test_the_interval_is_wilsons_and_with_confidence_its_bound_decides() -> None:
    rate = judged(shouted).numbers["value"] or 0
    assert (judged(shouted).numbers["low"], judged(shouted).numbers["high"]) == wilson(rate * 100, 100)
    assert judged(shouted, at_least=rate - 0.01).verdict == "passed"
    assert judged(shouted, at_least=rate - 0.01, confidence=0.95).verdict == "failed"


def test_rows_of_one_group_count_as_one_for_the_interval() -> None:
    wide, narrow = judged(another_shade, replace(SHOP, group="shade")), judged(another_shade)
    assert (wide.numbers["low"] or 0) < (narrow.numbers["low"] or 0)


def test_only_rows_that_the_change_changes_are_counted() -> None:
    def red_is_pink(rows: pa.Table) -> pa.Table:
        shades = ["pink" if one == "red" else one for one in rows["shade"].to_pylist()]
        return rows.set_column(rows.column_names.index("shade"), "shade", pa.array(shades))

    assert judged(red_is_pink).numbers["rows"] == SHOP.test["shade"].to_pylist().count("red")


def test_a_direction_holds_where_the_score_moves_that_way() -> None:
    assert moved(dearer, "up").verdict == "passed"
    assert moved(dearer, "down").numbers["value"] == 0.0
    assert moved(dearer, "down", of="other").verdict == "passed"


def test_a_score_that_does_not_move_breaks_a_direction_unless_it_is_at_its_end() -> None:
    still = replace(SHOP, chances=lambda rows: {"drink": [0.5] * rows.num_rows})
    full = replace(SHOP, chances=lambda rows: {"drink": [1.0] * rows.num_rows})
    assert moved(dearer, "up", still).numbers["value"] == 0.0
    assert moved(dearer, "up", full).numbers["value"] == 1.0


def test_numbers_may_move_a_little_and_have_directions_of_their_own() -> None:
    train, test = (side.set_column(4, "label", side["price"]) for side in (SHOP.train, SHOP.test))
    given = replace(SHOP, train=train, test=test, answer=lambda rows: (rows["price"].to_numpy() * 2).tolist())
    assert judged(dearer, given).verdict == "failed"
    assert judged(dearer, given, at_most=2.1).verdict == "passed"
    assert moved(dearer, "up", given, of=None).verdict == "passed"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda rows: rows, "changes 0 of the test rows"),
        (lambda rows: rows.slice(1), "made 99 rows"),
        (lambda rows: None, "made a NoneType"),
        (lambda rows: rows.drop_columns(["price"]), "took the column 'price' away"),
        (lambda rows: rows["gone"], "It raised KeyError"),
    ],
)
def test_a_change_that_makes_no_sense_has_failed_and_says_why(change: Change, found: str) -> None:
    def strange(rows: pa.Table) -> Any:
        return change(rows)

    result = judged(strange)
    assert result.verdict == "failed"
    assert found in result.found


def test_without_a_model_or_its_class_nothing_passes() -> None:
    assert "not at hand" in judged(another_shade, replace(SHOP, answer=None)).found
    assert "no probabilities" in moved(dearer, "up", replace(SHOP, chances=None)).found
    assert "knows no class 'tea'" in moved(dearer, "up", of="tea").found
    assert "names none" in moved(dearer, "up", of=None).found


def test_what_cannot_be_declared_is_refused() -> None:
    with pytest.raises(Invalid, match="moves 'up' or 'down'"):
        direction("left")  # type: ignore[arg-type]  # a user's mistake
    with pytest.raises(Invalid, match="has no option at_most"):
        gate(direction("up", of="drink")(dearer), at_most=1.0)

    def leakage(rows: pa.Table) -> pa.Table:
        return rows

    with pytest.raises(Conflict):
        invariance(leakage)
