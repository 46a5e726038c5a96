"""An upper bound of how much worse the canary is than the control, valid at every look.

It is what lets a canary advance: the bound is under the margin that the user stated. It starts at 1 (nothing is
known) and falls as requests are counted, so that low traffic never passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from everloop.rollout.eprocess import log_mean_exp
from everloop.rollout.evidence import Counts, MetricEvidence, Split, Stretch

Floats = NDArray[np.float64]

# Alternatives: what the two arms may really do while the canary is as good as the control, or better. The smallest
# rate stands for "never", which is what most healthy services show.
_NEVER = 1e-6
_RATES: Floats = np.concatenate([[_NEVER], np.geomspace(5e-4, 0.9, 24)])
_BETTER: Floats = np.array([1.0, 0.5, 0.2])  # the canary's rate as a part of the control's
_BETTER_WEIGHTS: Floats = np.array([0.8, 0.1, 0.1])
_CONTROL: Floats = np.repeat(_RATES, len(_BETTER))  # (n_alternatives,)
_CANARY: Floats = np.outer(_RATES, _BETTER).ravel()

# What is known of the control sharpens the guess, but counts as at most so many requests: rates change with time.
_KNOWN_AT_MOST = 2_000
_TRUST_IN_KNOWN = 0.8


def excess_upper_bound(evidence: MetricEvidence, *, confidence: float = 0.95) -> float:
    """The largest excess bad rate (canary's minus control's) that the latest stage's counts do not refute.

    The bound is the largest margin d for which the e-value of `excess_log_e` stays under ``1 / (1 - confidence)``;
    by Ville's inequality it is below the true excess at any look of the stage with probability at most
    1 - confidence, however often one looks. Only the latest stage counts, so that a version that fails only under
    more load is judged on that load; earlier stages and the time before the rollout tell which rates to expect.

    Returns
    -------
    An absolute rate, 0 to 1. Never below 0: a canary that does better is not told from an equal one.

    Examples
    --------
    About 300 clean canary requests show that the excess is under one point, when errors were rare before:

    >>> from everloop.rollout.evidence import Counts, Split
    >>> clean = Stretch(Split(0, 0.1), Counts(canary_total=320, control_total=2_880))
    >>> bound = excess_upper_bound(MetricEvidence("errors", (clean,), before_bad=0, before_total=5_000))
    >>> round(bound, 4)
    0.0098
    """
    needed = -log(1.0 - confidence)
    stretches = [stretch for stretch in evidence.latest_stage if 0.0 < stretch.split.canary_share < 1.0]
    if not stretches:
        return 1.0
    weights = log_weights_of_rates(*known_of_control(evidence))
    coarse = np.concatenate([np.geomspace(1e-5, 0.5, 48), np.linspace(0.52, 0.999, 16)])
    possible = _excess_log_e_at(stretches, coarse, log_weights=weights) < needed
    if not possible.any():
        return float(coarse[0])
    last = int(np.flatnonzero(possible)[-1])
    if last == len(coarse) - 1:
        return 1.0
    fine = np.linspace(coarse[last], coarse[last + 1], 33)
    refuted = _excess_log_e_at(stretches, fine, log_weights=weights) >= needed
    # The end of the interval is refuted; the bound is the next point above the last one that is not.
    return float(fine[int(np.flatnonzero(~refuted)[-1]) + 1]) if not refuted.all() else float(fine[0])


def requests_to_show(
    margin: float,
    *,
    canary_share: float,
    rate: float = 0.0,
    confidence: float = 0.95,
    at_most: int = 1_000_000,
) -> int | None:
    """How many canary requests show that the excess is under a margin, when both arms are bad equally often.

    To 2 %, and for counts that are just as expected: chance makes it more or fewer. None when `at_most` do not show it.

    Examples
    --------
    >>> requests_to_show(0.01, canary_share=0.1), requests_to_show(0.001, canary_share=0.1, rate=0.3, at_most=5_000)
    (343, None)
    """

    def is_shown(n: int) -> bool:
        control = round(n * (1.0 - canary_share) / canary_share)
        counts = Counts(round(rate * n), n, round(rate * control), control)
        evidence = MetricEvidence("it", (Stretch(Split(0, canary_share), counts),))
        return excess_upper_bound(evidence, confidence=confidence) < margin

    enough = round(1.0 / margin)
    while not is_shown(enough):
        enough *= 2
        if enough > at_most:
            return None
    short = enough // 2
    while enough - short > max(1, enough // 50):
        middle = (short + enough) // 2
        short, enough = (short, middle) if is_shown(middle) else (middle, enough)
    return enough


def known_of_control(evidence: MetricEvidence) -> tuple[int, int]:
    """Bad and all requests of the control before the latest stage: a guess made before that stage's data."""
    earlier = evidence.stretches[: len(evidence.stretches) - len(evidence.latest_stage)]
    bad = evidence.before_bad + sum(stretch.counts.control_bad for stretch in earlier)
    return bad, evidence.before_total + sum(stretch.counts.control_total for stretch in earlier)


def _excess_log_e_at(stretches: Sequence[Stretch], margins: Floats, *, log_weights: Floats) -> Floats:
    total = np.zeros((len(margins), len(_CONTROL)))
    for stretch in stretches:
        factors = excess_factors(stretch.split.canary_share, margins)  # (n_margins, n_alternatives, 4)
        total += factors @ outcomes(
            stretch.counts.canary_bad,
            stretch.counts.canary_total,
            control_bad=stretch.counts.control_bad,
            control_total=stretch.counts.control_total,
        )
    return log_mean_exp(total, log_weights)


def outcomes(
    canary_bad: ArrayLike, canary_total: ArrayLike, *, control_bad: ArrayLike, control_total: ArrayLike
) -> Floats:
    """Counts as the four kinds of outcome, (..., 4): bad and good in the canary, bad and good in the control."""
    canary_bad, control_bad = np.asarray(canary_bad), np.asarray(control_bad)
    kinds = [
        canary_bad,
        np.asarray(canary_total) - canary_bad,
        control_bad,
        np.asarray(control_total) - control_bad,
    ]
    return np.stack(kinds, axis=-1).astype(np.float64)


def log_weights_of_rates(known_bad: int, known_total: int) -> Floats:
    """Logarithm of the weight of each alternative, (n_alternatives,) float64, from what is known of the control.

    Half on "never" and half on the other rates when nothing is known; otherwise four fifths on the posterior.
    """
    weights = np.where(_RATES <= _NEVER, 0.5, 0.5 / (len(_RATES) - 1))
    if known_total:
        scale = min(1.0, _KNOWN_AT_MOST / known_total)
        bad, good = known_bad * scale, (known_total - known_bad) * scale
        likelihood = bad * np.log(_RATES) + good * np.log1p(-_RATES)
        posterior = np.exp(likelihood - likelihood.max())
        weights = (1.0 - _TRUST_IN_KNOWN) * weights + _TRUST_IN_KNOWN * posterior / posterior.sum()
    return np.asarray(np.log(np.outer(weights, _BETTER_WEIGHTS).ravel()), dtype=np.float64)


def excess_log_e(counts: ArrayLike, *, canary_share: float, margin: float, log_weights: Floats) -> Floats:
    """How strongly counts of one split refute that the canary's bad rate exceeds the control's by the margin or more.

    Null hypothesis: at each request, ``p_canary - p_control >= margin``, whatever the two are. Against one pair of
    rates ``(q_canary, q_control)`` the best bet is the likelihood ratio to the null's nearest point,
    ``(p + margin, p)``, where p minimises ``w KL(q_canary, p + margin) + (1 - w) KL(q_control, p)``. As the null is
    convex, this ratio's expectation is at most 1 everywhere in it, request by request. It is averaged over
    alternatives in which the canary is as good as the control or better.

    Source: Grünwald, de Heide, Koolen, Safe Testing, JRSS B 2024, arXiv 1906.07801, theorem 1 (reverse information
    projection); Turner, Grünwald, Exact Anytime-valid Confidence Intervals for Contingency Tables and Beyond,
    2023, arXiv 2203.09785 (differences of two proportions).

    Parameters
    ----------
    counts : (..., 4) float64, see `outcomes`
    log_weights : (n_alternatives,) float64, see `log_weights_of_rates`

    Returns
    -------
    (...,) float64, the natural logarithm of the e-value.

    Examples
    --------
    Three hundred clean canary requests against a margin of one point: nearly 0.99 to the power of -300 = 20.4, less
    the part that was bet on other rates.

    >>> clean = outcomes(0, 300, control_bad=0, control_total=2_700)
    >>> e = np.exp(excess_log_e(clean, canary_share=0.1, margin=0.01, log_weights=log_weights_of_rates(0, 5_000)))
    >>> bool(0.8 * 20.4 < e < 20.4)
    True
    """
    factors = _factors_at(float(canary_share), float(margin))
    return log_mean_exp(np.asarray(counts, dtype=np.float64) @ factors.T, log_weights)


@lru_cache(maxsize=64)  # a plan's stages and margins, which a simulation asks about at each of its looks
def _factors_at(canary_share: float, margin: float) -> Floats:
    return np.asarray(excess_factors(canary_share, np.array([margin]))[0], dtype=np.float64)


def excess_factors(canary_share: float, margins: Floats) -> Floats:
    """Log factors by which one outcome of each kind multiplies the e-value, (n_margins, n_alternatives, 4)."""
    margin = margins[:, None]
    nearest = _nearest_in_null(canary_share, margin)  # (n_margins, n_alternatives), the control's rate
    is_null = margin <= _CANARY - _CONTROL
    control = np.where(is_null, _CONTROL, nearest)
    canary = np.where(is_null, _CANARY, nearest + margin)
    return np.stack(
        [
            np.log(_CANARY / canary),
            np.log((1.0 - _CANARY) / (1.0 - canary)),
            np.log(_CONTROL / control),
            np.log((1.0 - _CONTROL) / (1.0 - control)),
        ],
        axis=-1,
    )


def _nearest_in_null(share: float, margin: Floats) -> Floats:
    """The control's rate p at the nearest point (p + margin, p): the root of a rising derivative, by bisection."""
    low = np.zeros(np.broadcast_shapes(margin.shape, _CONTROL.shape))
    high = low + 1.0 - margin
    for _ in range(48):  # halves the interval to under 1e-14
        p = (low + high) / 2
        slope_canary = (1.0 - _CANARY) / (1.0 - p - margin) - _CANARY / (p + margin)
        slope_control = (1.0 - _CONTROL) / (1.0 - p) - _CONTROL / p
        is_below = share * slope_canary + (1.0 - share) * slope_control < 0.0
        low, high = np.where(is_below, p, low), np.where(is_below, high, p)
    return (low + high) / 2
