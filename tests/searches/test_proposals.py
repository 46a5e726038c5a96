"""What is tried next, and what is stopped: pure functions."""

from __future__ import annotations

import json
import random
import sys
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.errors import Invalid, MissingExtra
from everloop.pipelines import Between, between
from everloop.searches import Plan, Space, Trial, choice, halving, median, searcher_of
from everloop.searches.space import Choice
from everloop.storage.columns import to_json

SPACE: Space = {"c": between(0.01, 100.0, log=True), "n": between(1, 3), "kind": choice("a", "b")}


def plan(method: str = "random", *, trials: int | None = 50, **space: Choice | Between) -> Plan:
    return Plan(space or SPACE, by="score", method=method, trials=trials)


def test_a_grid_is_every_combination_once() -> None:
    grid = searcher_of(plan("grid", trials=None, n=between(1, 3), kind=choice("a", "b")))
    tried = [grid.propose(number, []) for number in range(6)]
    assert tried[:3] == [{"kind": "a", "n": 1}, {"kind": "a", "n": 2}, {"kind": "a", "n": 3}]
    assert len({str(one) for one in tried}) == 6
    assert grid.propose(6, []) is None


@pytest.mark.parametrize("method", ["grid", "random"])
def test_a_plan_that_was_stored_proposes_the_same(method: str) -> None:
    made = Plan({"n": between(1, 3), "kind": choice("a", "b")}, by="score", method=method, trials=6)
    stored = Plan.from_json(json.loads(to_json(made.as_json())))
    one, other = searcher_of(made), searcher_of(stored)
    assert [one.propose(n, []) for n in range(6)] == [other.propose(n, []) for n in range(6)]


def test_a_grid_over_a_range_of_reals_is_refused() -> None:
    with pytest.raises(Invalid, match="a grid needs the values of 'c'"):
        searcher_of(plan("grid"))


def test_the_same_seed_and_number_draw_the_same() -> None:
    one, other = searcher_of(plan()), searcher_of(plan())
    assert [one.propose(n, []) for n in range(5)] == [other.propose(n, []) for n in range(5)]
    reseeded = searcher_of(Plan(SPACE, by="score", trials=5, seed=1))
    assert reseeded.propose(0, []) != one.propose(0, [])


@given(st.integers(-50, 50), st.integers(1, 100), st.integers())
def test_what_is_drawn_lies_between_the_ends(low: int, width: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  (not a secret)
    for one in (Between(low, low + width), Between(float(low), float(low + width))):
        drawn = one.draw(chance)
        assert isinstance(drawn, int if one.is_whole else float)
        assert low <= drawn <= low + width


def test_on_a_logarithmic_scale_each_decade_is_as_likely() -> None:
    chance = random.Random(3)  # noqa: S311  (as above)
    drawn = [between(0.01, 100.0, log=True).draw(chance) for _ in range(4_000)]
    for decade in (0.01, 0.1, 1.0, 10.0):
        share = sum(decade <= float(one or 0) < decade * 10 for one in drawn) / len(drawn)
        assert 0.22 < share < 0.28
    whole = [between(1, 100, log=True).draw(chance) for _ in range(4_000)]
    assert {type(one) for one in whole} == {int}
    assert 1 <= min(map(int, whole)) <= max(map(int, whole)) <= 100


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: between(3, 3), "no numbers in it"),
        (lambda: between(0, 3, log=True), "numbers above 0"),
        (lambda: between(1, float("inf")), "no numbers in it"),
        (choice, "was given no value"),
        (lambda: choice(cast(Any, [1])), "a truth, a number or a text"),
        (lambda: median(trials=0), "1 other or more"),
        (lambda: halving(factor=1), "factor 2 or more"),
        (lambda: Plan({}, by="s", trials=1), "the space of a search is empty"),
        (lambda: Plan(SPACE, by="s"), "has no end of its own"),
        (lambda: Plan(SPACE, by="s", trials=0), "1 to 10,000"),
        (lambda: Plan(SPACE, by="s", trials=1, parallel=0), "1 to 256"),
        (lambda: Plan(SPACE, by="s", trials=1, params={"n": 1}), "searched and given at once"),
        (lambda: searcher_of(plan("genetic")), "there is no searcher 'genetic'"),
        (lambda: searcher_of(plan("grid", n=between(1, 200_000))), "combinations"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(made: Any, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        made()


def test_a_plan_comes_back_from_its_stored_form() -> None:
    for stop in (None, median(from_step=3), halving(least=2)):
        made = Plan(SPACE, by="loss", trials=9, highest=False, parallel=2, seed=4, stop=stop, params={"x": 1})
        assert Plan.from_json(made.as_json()) == made


OTHERS = [{1: 0.2, 2: 0.4}, {1: 0.3, 2: 0.5}, {1: 0.4, 2: 0.6}]


@pytest.mark.parametrize(
    ("own", "stopped"),
    [
        ({1: 0.1, 2: 0.2}, True),  # the others had .3, .4 and .5 on average
        ({1: 0.1, 2: 0.4}, False),
        ({1: 0.9, 2: 0.0}, False),  # its best counts
        ({1: 0.0}, False),  # too early
        ({}, False),
    ],
)
def test_the_median_rule_stops_what_does_worse_than_half(own: dict[int, float], stopped: bool) -> None:
    told = median(from_step=2).verdict(own, OTHERS)
    assert (told is not None) == stopped
    assert median(from_step=2, trials=4).verdict(own, OTHERS) is None
    if told is not None:
        assert told == "at step 2 its best was 0.2, and the median of 3 others 0.4"


@pytest.mark.parametrize(
    ("own", "others", "stopped"),
    [
        ({1: 0.1}, [{1: 0.2}], False),  # too few to halve
        ({1: 0.1}, [{1: 0.2}, {1: 0.3}], True),
        ({1: 0.3}, [{1: 0.2}, {1: 0.1}], False),
        ({2: 0.1}, [{2: 0.2}, {2: 0.3}], True),  # still on the rung of step 1
        ({3: 0.1}, [{2: 0.2}, {2: 0.3}], False),  # the first on the rung of step 3
    ],
)
def test_halving_lets_the_best_of_each_rung_go_on(
    own: dict[int, float], others: list[dict[int, float]], stopped: bool
) -> None:
    assert (halving(factor=3).verdict(own, others) is not None) == stopped


def finished(number: int, params: dict[str, Any], value: float) -> Trial:
    return Trial(number, f"run_{number}", params, "done", value, None, None)


def test_optuna_comes_nearer_to_what_did_well_and_proposes_the_same_again() -> None:
    pytest.importorskip("optuna", reason="the extra optuna is not installed")
    tpe = searcher_of(plan("optuna", x=between(-10.0, 10.0), kind=choice("a", "b")))
    trials: list[Trial] = []
    for number in range(40):
        params = tpe.propose(number, trials)
        assert params == tpe.propose(number, trials)
        assert params is not None
        trials.append(finished(number, params, -((params["x"] - 3) ** 2) - (params["kind"] == "a")))
    late = [one for one in trials if one.number >= 25]
    assert sum(abs(one.params["x"] - 3) for one in late) / len(late) < 3
    assert sum(one.params["kind"] == "b" for one in late) > len(late) / 2


def test_optuna_takes_trials_that_run_were_stopped_or_failed() -> None:
    pytest.importorskip("optuna", reason="the extra optuna is not installed")
    tpe = searcher_of(plan("optuna", n=between(1, 100, log=True)))
    known = [
        Trial(0, "run_0", {"n": 3}, "running", None, None, None),
        Trial(1, "run_1", {"n": 4}, "stopped", 0.5, 3, "stopped early"),
        Trial(2, "run_2", {"n": 5}, "failed", None, None, "a bug"),
        finished(3, {"n": 6}, 0.7),
    ]
    params = tpe.propose(4, known)
    assert params is not None
    assert 1 <= params["n"] <= 100


def test_a_searcher_whose_package_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "everloop.adapters.optuna", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'everloop\[optuna\]'"):
        searcher_of(plan("optuna"))
