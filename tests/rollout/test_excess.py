from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from everloop.rollout import Counts, MetricEvidence, Split, Stretch, excess
from everloop.rollout.excess import (
    excess_factors,
    excess_log_e,
    excess_upper_bound,
    known_of_control,
    log_weights_of_rates,
    outcomes,
)


def bound(
    counts: Counts, *, share: float = 0.1, before: tuple[int, int] = (0, 0), confidence: float = 0.95
) -> float:
    evidence = MetricEvidence("errors", (Stretch(Split(0, share), counts),), *before)
    return excess_upper_bound(evidence, confidence=confidence)


def nearest_by_scipy(q_canary: float, q_control: float, *, share: float, margin: float) -> float:
    def divergence(p: float) -> float:
        canary = -q_canary * np.log(p + margin) - (1 - q_canary) * np.log(1 - p - margin)
        control = -q_control * np.log(p) - (1 - q_control) * np.log(1 - p)
        return float(share * canary + (1 - share) * control)

    found = optimize.minimize_scalar(
        divergence, bounds=(0, 1 - margin), method="bounded", options={"xatol": 1e-12}
    )
    return float(found.x)


def test_clean_requests_by_hand() -> None:
    """The alternative "never" bets 1 / 0.99 on each clean canary request and next to nothing on the control's."""
    _, clean_canary, _, clean_control = excess_factors(0.1, np.array([0.01]))[0, 0]
    assert clean_canary == pytest.approx(-np.log(0.99), abs=2e-6)
    assert clean_control == pytest.approx(0.0, abs=2e-6)


@settings(max_examples=50)
@given(share=st.floats(0.02, 0.98), margin=st.floats(0.001, 0.5), alternative=st.integers(0, 74))
def test_the_nearest_null_agrees_with_scipy(share: float, margin: float, alternative: int) -> None:
    q_canary, q_control = excess._CANARY[alternative], excess._CONTROL[alternative]
    if q_canary - q_control >= margin:
        return

    theirs = nearest_by_scipy(q_canary, q_control, share=share, margin=margin)
    ours = excess._nearest_in_null(share, np.array([[margin]]))[0, alternative]
    assert float(ours) == pytest.approx(theirs, rel=1e-4, abs=1e-8)


@settings(max_examples=50)
@given(
    share=st.floats(0.02, 0.98),
    margin=st.floats(0.001, 0.9),
    beyond=st.floats(0.0, 1.0),
    control=st.floats(0.0, 1.0),
)
def test_each_request_is_expected_to_add_nothing_in_the_null(
    share: float, margin: float, beyond: float, control: float
) -> None:
    """For every pair of rates whose excess is the margin or more, and for every alternative."""
    p_control = control * (1 - margin)
    p_canary = p_control + margin + beyond * (1 - margin - p_control)
    chances = [
        share * p_canary,
        share * (1 - p_canary),
        (1 - share) * p_control,
        (1 - share) * (1 - p_control),
    ]
    expected = np.exp(excess_factors(share, np.array([margin]))[0]) @ np.array(chances)
    # the nearest point is found to about 1e-8: over 100,000 requests that moves the e-value by less than 1 %
    assert expected.max() <= 1.0 + 1e-7


def test_nothing_counted_bounds_nothing() -> None:
    assert excess_upper_bound(MetricEvidence("errors", ())) == 1.0
    assert bound(Counts()) == 1.0
    assert bound(Counts(canary_total=500), share=1.0) == 1.0


def slow_log_e(counts: Counts, *, share: float, margin: float) -> float:
    """The definition, one alternative after the other, the nearest null point found by scipy."""
    total = 0.0
    for q_canary, q_control, log_weight in zip(
        excess._CANARY, excess._CONTROL, log_weights_of_rates(0, 0), strict=True
    ):
        p_canary, p_control = q_canary, q_control
        if q_canary - q_control < margin:
            p_control = nearest_by_scipy(q_canary, q_control, share=share, margin=margin)
            p_canary = p_control + margin
        log_ratio = (
            counts.canary_bad * np.log(q_canary / p_canary)
            + (counts.canary_total - counts.canary_bad) * np.log((1 - q_canary) / (1 - p_canary))
            + counts.control_bad * np.log(q_control / p_control)
            + (counts.control_total - counts.control_bad) * np.log((1 - q_control) / (1 - p_control))
        )
        total += np.exp(log_weight + log_ratio)
    return float(np.log(total))


@pytest.mark.parametrize(
    ("counts", "share"),
    [
        (Counts(0, 300, 0, 2_700), 0.1),
        (Counts(10, 1_000, 90, 9_000), 0.1),
        (Counts(30, 1_000, 90, 9_000), 0.1),
        (Counts(60, 500, 20, 500), 0.5),
    ],
)
def test_the_bound_is_where_the_evidence_reaches_twenty(counts: Counts, share: float) -> None:
    upper = bound(counts, share=share)
    assert slow_log_e(counts, share=share, margin=upper) >= np.log(20)
    assert slow_log_e(counts, share=share, margin=0.98 * upper) < np.log(20)


def test_more_confidence_and_fewer_requests_are_wider() -> None:
    wide = [bound(Counts(0, n, 0, 9 * n)) for n in (3_000, 300, 30, 3)]
    assert all(a < b for a, b in pairwise(wide))
    assert bound(Counts(3, 300, 27, 2_700), confidence=0.99) > bound(
        Counts(3, 300, 27, 2_700), confidence=0.9
    )


def test_the_bound_and_the_evidence_at_a_margin_agree() -> None:
    random = np.random.default_rng(2)
    for _ in range(40):
        canary, control = int(random.integers(50, 2_000)), int(random.integers(500, 9_000))
        counts = Counts(
            int(random.binomial(canary, 0.01)), canary, int(random.binomial(control, 0.01)), control
        )
        of = outcomes(counts.canary_bad, canary, control_bad=counts.control_bad, control_total=control)
        log_e = excess_log_e(of, canary_share=0.1, margin=0.01, log_weights=log_weights_of_rates(0, 0))
        # The bound is rounded up to its grid, so that it may be just above a margin that is just refuted.
        assert (bound(counts) < 0.01) <= (log_e >= np.log(20))
        assert (bound(counts) < 0.01 * 1.02) >= (log_e >= np.log(20))


def test_earlier_stages_only_tell_which_rates_to_expect() -> None:
    quiet = Stretch(Split(0, 0.1), Counts(0, 10_000, 900, 90_000))
    now = Stretch(Split(1, 0.25), Counts(5, 20, 1, 60))
    evidence = MetricEvidence("errors", (quiet, now), before_bad=7, before_total=700)
    assert known_of_control(evidence) == (907, 90_700)
    assert excess_upper_bound(evidence) > 0.2


@pytest.mark.parametrize(("known_bad", "known_total"), [(0, 0), (0, 5_000), (50, 5_000), (5_000, 5_000)])
def test_weights_of_rates_add_up_to_one(known_bad: int, known_total: int) -> None:
    assert np.exp(log_weights_of_rates(known_bad, known_total)).sum() == pytest.approx(1.0)
