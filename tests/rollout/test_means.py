from __future__ import annotations

from math import log

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from everloop.rollout.bounded import mean_bounds, refutes_at_least, refutes_at_most, told_by
from everloop.rollout.means import NOBODY, Badness, excess_of_means, harm_in_means, refutes_excess

Floats = NDArray[np.float64]


def arm(values: Floats, weights: Floats | None = None) -> Badness:
    return Badness(values, np.ones(len(values)) if weights is None else weights)


def both(bad: int, of: int, control_bad: int, control_of: int) -> tuple[Badness, Badness]:
    return tuple(  # type: ignore[return-value]  # two arms
        arm(np.repeat([1.0, 0.0], [one, n - one])) for one, n in ((bad, of), (control_bad, control_of))
    )


def test_the_smallest_product_over_the_controls_mean_is_the_evidence() -> None:
    """Three ones against three zeros: by hand, at the mean 1/2 the largest part, on which .4 was bet, gives 1.999^3 each."""
    found = harm_in_means([both(3, 3, 0, 3)])
    at_a_half = 2 * refutes_at_least([0.0, 0.0, 0.0], 0.5)
    assert 0.9 * at_a_half < found <= at_a_half
    assert 2 * log(0.4 * 1.999**3) < at_a_half < 2 * log(1.999**3)


def test_it_is_told_which_arm_is_worse() -> None:
    assert harm_in_means([both(80, 200, 20, 200)]) > log(20)
    assert harm_in_means([both(20, 200, 80, 200)]) < 0
    assert harm_in_means([both(20, 200, 20, 200)]) < 0
    assert harm_in_means([(arm(np.ones(50)), NOBODY)]) < log(20)


def test_what_is_tolerated_is_no_harm() -> None:
    arms = [both(300, 1_000, 200, 1_000)]
    assert harm_in_means(arms) > log(20)
    assert harm_in_means(arms, tolerated_ratio=1.5) < 0
    assert harm_in_means(arms, tolerated=0.1) < 0


def test_the_bound_of_the_difference_holds_what_an_exact_interval_holds_and_is_not_much_wider() -> None:
    """Referee: the ends of scipy's exact intervals of each arm at one look (Clopper and Pearson), at half the doubt each."""
    for bad, of, control_bad, control_of in ((5, 400, 5, 400), (60, 300, 55, 300), (10, 100, 90, 900)):
        upper = excess_of_means(both(bad, of, control_bad, control_of))
        high = stats.binomtest(bad, of).proportion_ci(0.95).high
        low = stats.binomtest(control_bad, control_of).proportion_ci(0.95).low
        assert bad / of - control_bad / control_of < upper
        assert 0.7 * (high - low) < upper < 2 * (high - low)


def test_more_numbers_than_the_lattice_has_places_lose_next_to_nothing() -> None:
    values = np.random.default_rng(3).beta(2, 5, 2_000)
    told = told_by(values)
    exact = refutes_at_least(values, 0.35)
    found = float(told.log_e(np.array([0.35]), high=1.0)[0])
    assert told.mean == pytest.approx(values.mean())
    assert 0.999 * exact < found <= exact + 1e-9


def test_numbers_that_were_looked_at_with_different_chances_stand_for_all() -> None:
    """Bad ones are looked at ten times as often: alike they would be 10/11 of all, by their weights they are half."""
    values, weights = np.repeat([1.0, 0.0], [1_000, 100]), np.repeat([2.0, 20.0], [1_000, 100])
    bounds = mean_bounds(values, weights=weights)
    assert bounds.mean == pytest.approx(0.5)
    assert bounds.lower < 0.5 < bounds.upper < 0.7
    assert mean_bounds(values).lower > 0.85


def test_the_mean_of_all_is_ever_refuted_by_a_weighted_sample_in_at_most_five_in_a_hundred() -> None:
    random = np.random.default_rng(5)
    missed = 0
    for _ in range(200):
        bad = random.random(2_000) < 0.2
        chance = np.where(bad, 0.5, 0.1)
        seen = random.random(2_000) < chance
        values, weights = bad[seen].astype(float), 1 / chance[seen]
        missed += any(
            max(
                refutes_at_least(values[:n], 0.2, weights=weights[:n]),
                refutes_at_most(values[:n], 0.2, weights=weights[:n]),
            )
            >= log(2 / 0.05)
            for n in range(20, len(values), 40)
        )
    assert missed <= 10


@pytest.mark.parametrize("drifts", [False, True])
def test_equal_arms_are_ever_taken_for_worse_in_at_most_five_in_a_hundred(drifts: bool) -> None:
    """Also where what both arms do changes with the time of day."""
    random = np.random.default_rng(7)
    rolled_back = 0
    for _ in range(150):
        level = 0.3 + 0.2 * np.sin(np.arange(1_500) / 240) if drifts else np.full(1_500, 0.3)
        values = random.binomial(4, level) / 4
        in_canary = random.random(1_500) < 0.2
        rolled_back += any(
            harm_in_means([(arm(values[:n][in_canary[:n]]), arm(values[:n][~in_canary[:n]]))]) >= log(20)
            for n in range(100, 1_501, 200)
        )
    assert rolled_back <= 7


def test_a_difference_at_the_margin_is_passed_in_at_most_five_in_a_hundred() -> None:
    random = np.random.default_rng(9)
    passed = 0
    for _ in range(150):
        canary, control = random.random(600) < 0.15, random.random(1_200) < 0.1
        passed += any(
            refutes_excess((arm(canary[:n].astype(float)), arm(control[: 2 * n].astype(float))), 0.05)
            >= log(20)
            for n in range(100, 601, 100)
        )
    assert passed <= 7
