from __future__ import annotations

from dataclasses import replace
from math import exp, inf, log

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from everloop.rollout.bounded import mean_bounds, refutes_at_least, refutes_at_most, told_by
from everloop.rollout.eprocess import harm_log_e
from everloop.rollout.means import (
    NOBODY,
    Arms,
    Badness,
    excess_of_means,
    harm_in_means,
    log_weights_of_bets,
    refutes_excess,
)

Floats = NDArray[np.float64]


def arm(values: Floats, weights: Floats | None = None) -> Badness:
    return Badness(values, np.ones(len(values)) if weights is None else weights)


def both(bad: int, of: int, control_bad: int, control_of: int) -> Arms:
    canary, control = (
        arm(np.repeat([1.0, 0.0], [one, n - one])) for one, n in ((bad, of), (control_bad, control_of))
    )
    return Arms(canary, control, of / (of + control_of))


def test_the_smallest_product_over_the_controls_mean_is_the_evidence() -> None:
    """Three ones against three zeros: by symmetry at 1/2, where a stake s on each pays 1 + s / 2, and at most nearly all is bet."""
    paid = [
        (1 + min(stake, 1.998) / 2) ** 3 * (1 + min(stake * lean, 1.998) / 2) ** 3 * part / 15
        for stake in np.geomspace(0.02, 64, 15)
        for lean, part in ((0.5, 0.25), (1.0, 0.5), (2.0, 0.25))
    ]
    assert harm_in_means([both(3, 3, 0, 3)]) == pytest.approx(log(sum(paid)), abs=0.02)


@pytest.mark.parametrize(
    ("bad", "of", "control_bad", "control_of"),
    [(5, 40, 20, 360), (30, 200, 30, 200), (90, 100, 160, 200), (1, 30, 0, 40), (50, 85, 3, 77)],
)
def test_no_mean_of_the_control_gives_less_than_what_is_found(
    bad: int, of: int, control_bad: int, control_of: int
) -> None:
    """Referee: the product of the bets at each of 20,000 means."""
    means = np.linspace(1e-5, 1.0 - 1e-5, 20_000)
    paid = np.zeros(len(means))
    for stake in np.geomspace(0.02, 64, 15):
        for lean, part in ((0.5, 0.25), (1.0, 0.5), (2.0, 0.25)):
            above = np.minimum(stake, 0.999 / means)
            below = np.minimum(stake * lean * of / control_of, 0.999 / (1 - means))
            log_paid = (
                bad * np.log1p(above * (1 - means))
                + (of - bad) * np.log1p(-above * means)
                + control_bad * np.log1p(-below * (1 - means))
                + (control_of - control_bad) * np.log1p(below * means)
            )
            paid += np.exp(log_paid) * part / 15
    found = harm_in_means([both(bad, of, control_bad, control_of)])
    least = float(np.log(paid.min()))
    assert least - max(0.05, 0.05 * least) < found <= least


def test_what_stands_for_fewer_answers_is_bet_on_with_as_much_less() -> None:
    """As above with two ones against two zeros, of which one in each arm stands for a third as many: a third is bet on it."""
    paid = [
        (1 + one / 2) * (1 + one / 6) * (1 + other / 2) * (1 + other / 6) * part / 15
        for stake in np.geomspace(0.02, 64, 15)
        for lean, part in ((0.5, 0.25), (1.0, 0.5), (2.0, 0.25))
        for one, other in [(min(stake, 1.998), min(stake * lean, 1.998))]
    ]
    weights = np.array([1.0, 3.0])
    found = harm_in_means([Arms(arm(np.ones(2), weights), arm(np.zeros(2), weights), 0.5)])
    assert found == pytest.approx(log(sum(paid)), abs=0.02)


def test_by_the_odds_badness_is_counted_as_bad_requests_are() -> None:
    """Referee: the e-process of errors, and the rest of the stake, which bets. Halves count as halves."""
    counted = both(30, 200, 90, 1_800)
    by_odds = float(harm_log_e([30], [90], canary_share=[0.1], stage=[0], tolerated_ratio=1.0))
    both_ways = log(0.9 * exp(by_odds) + 0.1 * exp(harm_in_means([counted])))
    assert harm_in_means([counted], on_odds=0.9) == pytest.approx(both_ways)
    halves = Arms(arm(np.repeat([0.5, 0.0], [60, 140])), counted.control, 0.1)
    assert harm_in_means([halves], on_odds=1.0) == pytest.approx(by_odds)


def test_versions_that_were_looked_at_with_different_chances_have_other_odds() -> None:
    """The canary's answers are drawn five times as often: of 9 to 1 requests come 9 to 5 truths, and nobody is worse."""
    canary, control = (arm(np.repeat([1.0, 0.0], [n // 10, n - n // 10])) for n in (500, 900))
    seen = replace(canary, weights=canary.weights * 2), replace(control, weights=control.weights * 10)
    assert Arms(*seen, 0.1).sampled_share == pytest.approx(5 / 14)
    assert Arms(NOBODY, seen[1], 0.1).sampled_share == 0.1, "nothing is known yet of the other arm's chance"
    assert harm_in_means([Arms(*seen, 0.1)], on_odds=1.0) < 0
    assert harm_in_means([Arms(canary, control, 0.1)], on_odds=1.0) == -inf
    alike = Arms(canary, control, 5 / 14)
    assert harm_in_means([Arms(*seen, 0.1)]) == pytest.approx(harm_in_means([alike]))
    assert refutes_excess(Arms(*seen, 0.1), 0.05) == pytest.approx(refutes_excess(alike, 0.05))


def test_odds_that_the_samples_own_totals_contradict_are_not_trusted() -> None:
    """Reviewers did the canary first: 40 of 400 wrong there, 20 of 200 in the control, and 9 requests in 10 were the control's."""
    arms = replace(both(40, 400, 20, 200), share=0.1)
    assert harm_in_means([arms], on_odds=0.9) < 0
    assert refutes_excess(arms, 0.05, on_odds=0.9) < refutes_excess(
        replace(arms, share=2 / 3), 0.05, on_odds=0.9
    )


def test_what_is_known_of_the_control_shows_a_margin_sooner() -> None:
    arms = both(12, 250, 112, 2_250)
    assert excess_of_means(arms, on_odds=0.9, known=(100, 2_000)) < 0.05 < excess_of_means(arms, on_odds=0.9)
    assert excess_of_means(arms, known=(100, 2_000)) < 0.055 < excess_of_means(arms)


def test_bets_on_a_margin_lean_on_what_pays_best_where_both_arms_do_what_was_known() -> None:
    """Referee: seven tenths of the stake lie about 0.05 / (0.1 * 0.9) of what one has, as a normal curve of the logarithm."""
    weights = np.exp(log_weights_of_bets(0.05, (99, 1_998))).reshape(15, 3)
    curve = stats.norm.pdf(np.log(np.geomspace(0.02, 64, 15)), log(0.05 / 0.09), 0.5)
    assert weights.sum(axis=1) == pytest.approx(0.3 / 15 + 0.7 * curve / curve.sum())
    assert weights.sum(axis=0) == pytest.approx([0.25, 0.5, 0.25])


def test_where_most_are_bad_in_both_arms_a_margin_is_no_sooner_shown() -> None:
    assert refutes_excess(both(160, 200, 160, 200), 0.05) < 0


def test_it_is_told_which_arm_is_worse() -> None:
    assert harm_in_means([both(80, 200, 20, 200)]) > log(20)
    assert harm_in_means([both(20, 200, 80, 200)]) < 0
    assert harm_in_means([both(20, 200, 20, 200)]) < 0
    assert harm_in_means([Arms(arm(np.ones(50)), NOBODY)]) < log(20)


def test_what_is_tolerated_is_no_harm() -> None:
    arms = [both(300, 1_000, 200, 1_000)]
    assert harm_in_means(arms) > log(20)
    assert harm_in_means(arms, tolerated_ratio=1.5) < 0
    assert harm_in_means(arms, tolerated=0.1) < 0
    assert harm_in_means(arms, tolerated=0.1, on_odds=0.9) == harm_in_means(arms, tolerated=0.1), (
        "no odds know it"
    )


def test_stages_multiply_each_with_a_mean_of_the_control_of_its_own() -> None:
    quiet, busy = both(30, 200, 10, 200), both(160, 200, 120, 200)
    assert harm_in_means([quiet, busy]) == pytest.approx(harm_in_means([quiet]) + harm_in_means([busy]))


def test_the_bound_of_the_difference_holds_what_an_exact_interval_holds_and_is_not_much_wider() -> None:
    """Referee: the ends of scipy's exact intervals of each arm at one look (Clopper and Pearson), at half the doubt each."""
    for bad, of, control_bad, control_of in ((5, 400, 5, 400), (60, 300, 55, 300), (10, 100, 90, 900)):
        arms = both(bad, of, control_bad, control_of)
        upper = excess_of_means(arms)
        assert refutes_excess(arms, upper) >= log(20)
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


def test_more_weights_than_the_lattice_has_places_lose_next_to_nothing() -> None:
    random = np.random.default_rng(3)
    values, weights = random.binomial(1, 0.3, 1_500).astype(float), random.uniform(1.0, 20.0, 1_500)
    told = told_by(values, weights)
    exact = refutes_at_least(values, 0.4, weights=weights)
    found = float(told.log_e(np.array([0.4]), high=1.0)[0])
    assert len(told.numbers) <= 2 * 129
    assert told.mean == pytest.approx(np.average(values, weights=weights))
    assert 0.99 * exact < found <= exact + 1e-9


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


@pytest.mark.parametrize("on_odds", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("drifts", [False, True])
def test_equal_arms_are_ever_taken_for_worse_in_at_most_five_in_a_hundred(
    drifts: bool, on_odds: float
) -> None:
    """Also where what both arms do changes with the time of day."""
    random = np.random.default_rng(7)
    rolled_back = 0
    for _ in range(150):
        level = 0.3 + 0.2 * np.sin(np.arange(1_500) / 240) if drifts else np.full(1_500, 0.3)
        values = random.binomial(4, level) / 4
        in_canary = random.random(1_500) < 0.2
        rolled_back += any(
            harm_in_means(
                [Arms(arm(values[:n][in_canary[:n]]), arm(values[:n][~in_canary[:n]]), 0.2)], on_odds=on_odds
            )
            >= log(20)
            for n in range(100, 1_501, 200)
        )
    assert rolled_back <= 7


@pytest.mark.parametrize("on_odds", [0.0, 0.9])
def test_a_difference_at_the_margin_is_passed_in_at_most_five_in_a_hundred(on_odds: float) -> None:
    random = np.random.default_rng(9)
    passed = 0
    for _ in range(150):
        canary, control = random.random(600) < 0.15, random.random(1_200) < 0.1
        passed += any(
            refutes_excess(
                Arms(arm(canary[:n].astype(float)), arm(control[: 2 * n].astype(float)), 1 / 3),
                0.05,
                on_odds=on_odds,
                known=(200, 2_000),
            )
            >= log(20)
            for n in range(100, 601, 100)
        )
    assert passed <= 7
