from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from everloop.rollout import eprocess
from everloop.rollout.eprocess import harm_log_e, log_mean_exp, sample_ratio_log_e

counts = st.integers(0, 200)
shares = st.floats(0.02, 0.98)
ratios = st.floats(1.0, 3.0)


def of_one_stage(canary_bad: int, control_bad: int, *, share: float, ratio: float = 1.0) -> float:
    return float(
        harm_log_e([canary_bad], [control_bad], canary_share=[share], stage=[0], tolerated_ratio=ratio)
    )


def test_harm_by_hand() -> None:
    """Two bad requests in the canary, one in the control, a quarter of the traffic, tolerated ratio 1.2."""
    weights = [math.exp(-0.5 * ((math.log(m) - math.log(2.5)) / 0.9) ** 2) for m in eprocess._MULTIPLES]
    null = 0.25 * 1.2 / (0.25 * 1.2 + 0.75)
    e = 0.0
    for multiple, weight in zip(eprocess._MULTIPLES, weights, strict=True):
        from_canary = 0.25 * 1.2 * multiple / (0.25 * 1.2 * multiple + 0.75)
        e += weight / sum(weights) * (from_canary / null) ** 2 * ((1 - from_canary) / (1 - null))
    assert of_one_stage(2, 1, share=0.25, ratio=1.2) == pytest.approx(math.log(0.7 * e + 0.3))


@given(n=st.integers(1, 40), share=shares, ratio=ratios)
def test_harm_is_expected_to_be_one_at_the_edge_of_the_null(n: int, share: float, ratio: float) -> None:
    """Summed over all outcomes of n bad requests, with the binomial probabilities of scipy."""
    null = share * ratio / (share * ratio + 1 - share)
    canary = np.arange(n + 1)
    log_e = harm_log_e(
        canary[:, None], (n - canary)[:, None], canary_share=[share], stage=[0], tolerated_ratio=ratio
    )
    assert float((stats.binom.pmf(canary, n, null) * np.exp(log_e)).sum()) == pytest.approx(1.0)


# no smaller part than 1e-9 but none: near the least float, scipy's binomial overflows
@given(n=st.integers(1, 40), share=shares, ratio=ratios, part=st.just(0.0) | st.floats(1e-9, 0.999))
def test_harm_is_expected_to_be_less_inside_the_null(n: int, share: float, ratio: float, part: float) -> None:
    inside = part * share * ratio / (share * ratio + 1 - share)
    canary = np.arange(n + 1)
    log_e = harm_log_e(
        canary[:, None], (n - canary)[:, None], canary_share=[share], stage=[0], tolerated_ratio=ratio
    )
    assert float((stats.binom.pmf(canary, n, inside) * np.exp(log_e)).sum()) <= 1.0 + 1e-9


@given(bad=counts, good_control=counts, share=shares)
def test_more_bad_requests_in_the_canary_are_more_evidence(bad: int, good_control: int, share: float) -> None:
    assert (
        of_one_stage(bad + 1, good_control, share=share)
        > of_one_stage(bad, good_control, share=share) - 1e-12
    )


@given(bad=counts, control=counts, share=shares, first=st.floats(0, 1))
def test_a_pause_within_a_stage_changes_nothing(bad: int, control: int, share: float, first: float) -> None:
    early, early_control = int(bad * first), int(control * first)
    cut = harm_log_e(
        [early, bad - early],
        [early_control, control - early_control],
        canary_share=[share, share],
        stage=[0, 0],
        tolerated_ratio=1.0,
    )
    assert float(cut) == pytest.approx(of_one_stage(bad, control, share=share), abs=1e-9)


def test_an_incident_that_hits_both_arms_is_no_evidence() -> None:
    calm = of_one_stage(10, 90, share=0.1)
    incident = of_one_stage(10 + 300, 90 + 2_700, share=0.1)
    assert incident < calm < 0.5


def test_a_stage_without_control_says_nothing() -> None:
    alone = harm_log_e([3, 50], [9, 0], canary_share=[0.1, 1.0], stage=[0, 1], tolerated_ratio=1.0)
    assert float(alone) == pytest.approx(of_one_stage(3, 9, share=0.1), abs=0.2)


def test_good_conduct_in_an_early_stage_does_not_hide_harm_in_a_later_one() -> None:
    """Five hundred bad requests in the expected ratio, then sixty of which half come from a quarter of the traffic."""
    seen = harm_log_e([50, 30], [450, 30], canary_share=[0.1, 0.25], stage=[0, 1], tolerated_ratio=1.0)
    alone = of_one_stage(30, 30, share=0.25)
    assert float(seen) > alone - 2.0
    assert float(seen) > math.log(20)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8))
def test_the_mean_of_exponentials_agrees_with_scipy(values: list[float]) -> None:
    weights = np.log(np.full(len(values), 1 / len(values)))
    assert float(log_mean_exp(np.array(values), weights)) == pytest.approx(
        special.logsumexp(values, b=1 / len(values))
    )


@given(n=st.integers(0, 300), share=shares, part=st.floats(0, 1))
def test_the_sample_ratio_agrees_with_scipy(n: int, share: float, part: float) -> None:
    x = int(part * n)
    expected = stats.betabinom.logpmf(x, n, 100 * share, 100 * (1 - share)) - stats.binom.logpmf(x, n, share)
    assert sample_ratio_log_e([x], [n], canary_share=[share]) == pytest.approx(expected, abs=1e-7)


def test_the_sample_ratio_says_little_when_it_is_right_and_more_the_farther_off() -> None:
    evidence = [sample_ratio_log_e([x], [10_000], canary_share=[0.1]) for x in (1_000, 1_100, 1_200, 1_300)]
    assert evidence[0] < 0
    assert all(a < b for a, b in pairwise(evidence))
    assert sample_ratio_log_e([50], [50], canary_share=[1.0]) == 0.0


def test_a_right_split_is_seldom_called_off() -> None:
    random = np.random.default_rng(1)
    looks = random.binomial(100, 0.1, (400, 100)).cumsum(axis=1)
    totals = range(100, 10_001, 100)
    called_off = [
        any(
            sample_ratio_log_e([x], [n], canary_share=[0.1]) > math.log(20)
            for x, n in zip(row, totals, strict=True)
        )
        for row in looks.tolist()
    ]
    assert np.mean(called_off) <= 0.05
