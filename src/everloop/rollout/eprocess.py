"""Evidence that may be looked at as often as one likes: e-values over counts.

An e-value is a number whose expectation is at most 1 while the null hypothesis holds. A *process* of e-values keeps
that promise at every look, so that the chance of its ever reaching 1/alpha is at most alpha (Ville's inequality).
Everything here depends on counts only: within a stretch each event multiplies the evidence by a factor that its kind
alone decides, so the order of events and the times of the looks do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lgamma, log

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Alternatives of the test for harm: how many times the tolerated ratio the canary may really be. The weights are a
# bell around 2.5 on the log scale: against even weights it finds 1 % -> 3 % errors about 100 requests earlier.
_MULTIPLES: Floats = np.geomspace(1.2, 16.0, 12)
_LOG_BELL: Floats = -0.5 * ((np.log(_MULTIPLES) - log(2.5)) / 0.9) ** 2
_LOG_WEIGHTS: Floats = _LOG_BELL - np.log(np.exp(_LOG_BELL).sum())

# Share of the budget that bets on harm since the first stage; the rest bets on harm that begins with a later one.
_FROM_THE_START = 0.7

# Largest log e-value reported: JSON has no infinity.
MAX_LOG_E = 690.0


def harm_log_e(
    canary_bad: ArrayLike,
    control_bad: ArrayLike,
    *,
    canary_share: ArrayLike,
    stage: ArrayLike,
    tolerated_ratio: float,
) -> Floats:
    """How strongly bad requests say that the canary fails more often than tolerated.

    Null hypothesis: at each moment the canary's bad rate is at most `tolerated_ratio` times the control's, whatever
    that is. Given that a request was bad, it then came from the canary with probability at most
    ``t0 = w rho / (w rho + 1 - w)`` (w: the canary's share, rho: the tolerated ratio), and with
    ``t_r = w r / (w r + 1 - w)`` if the canary fails r times as often. One bad request in the canary multiplies the
    likelihood ratio by ``t_r / t0``, one in the control by ``(1 - t_r) / (1 - t0)``; stretches multiply on. Averaged
    over a grid of r above rho, this is a supermartingale under the null. Good requests and the base rate do not
    enter, so an incident that hits both arms moves nothing.

    The average also runs over *since when*: 0.7 bets on harm since the first stage, the rest (halving) on harm that
    begins with a later stage, which good conduct before then must not outweigh.

    Source: Lindon, Sanden, Shirikian, Rapid Regression Detection in Software Deployments through Sequential
    Testing, KDD 2022, arXiv 2205.14762, section 4; the start-stage average is ours (a mean of e-processes is one).

    Parameters
    ----------
    canary_bad, control_bad : (..., n_stretches) int
        Counts of bad requests by stretch.
    canary_share : (n_stretches,) float64
        0 to 1; stretches at 0 or 1 have one arm only and say nothing.
    stage : (n_stretches,) int, never decreasing
    tolerated_ratio : at least 1 in ordinary use, above 0

    Returns
    -------
    (...,) float64, the natural logarithm of the e-value; 0 when nothing was counted.

    Examples
    --------
    Half the traffic each, four bad requests, all in the canary. One alternative, r = 3, gives (0.75 / 0.5)^4 = 5.06,
    and no alternative gives more than 2^4:

    >>> e = np.exp(harm_log_e([4], [0], canary_share=[0.5], stage=[0], tolerated_ratio=1.0))
    >>> bool(4.0 < e < 16.0)
    True
    >>> round(abs(float(harm_log_e([0], [0], canary_share=[0.5], stage=[0], tolerated_ratio=1.0))), 12)
    0.0
    """
    share = np.asarray(canary_share, dtype=np.float64)
    stages = np.asarray(stage, dtype=np.int64)
    compared = (share > 0.0) & (share < 1.0)
    in_canary, in_control = _harm_factors(share[compared], tolerated_ratio)
    canary = np.asarray(canary_bad, dtype=np.float64)[..., compared]  # (..., n_stretches)
    control = np.asarray(control_bad, dtype=np.float64)[..., compared]
    starts = np.unique(stages)
    parts = [
        log_mean_exp(
            canary[..., since] @ in_canary[since] + control[..., since] @ in_control[since], _LOG_WEIGHTS
        )
        for since in (stages[compared] >= start for start in starts)
    ]
    return _log_mean_over_starts(parts, like=canary)


def _harm_factors(share: Floats, tolerated_ratio: float) -> tuple[Floats, Floats]:
    """Log factors of one bad request in the canary and in the control, (n_stretches, n_alternatives) each."""

    def from_canary(ratio: Floats) -> Floats:
        sent = share[:, None] * ratio
        return sent / (sent + 1.0 - share[:, None])

    null = from_canary(np.array([tolerated_ratio]))
    alternative = from_canary(tolerated_ratio * _MULTIPLES)
    return np.log(alternative / null), np.log((1.0 - alternative) / (1.0 - null))


def _log_mean_over_starts(parts: Sequence[Floats], *, like: Floats) -> Floats:
    """Weigh the evidence since each stage; stages still to come hold their weight as evidence of 1."""
    weights = [_FROM_THE_START, *((1.0 - _FROM_THE_START) * 0.5**later for later in range(1, len(parts)))][
        : len(parts)
    ]
    rest = np.zeros(like.shape[:-1])
    return log_mean_exp(np.stack([*parts, rest], axis=-1), np.log([*weights, 1.0 - sum(weights)]))


def log_mean_exp(log_values: Floats, log_weights: Floats) -> Floats:
    """Logarithm of a weighted mean of exponentials over the last axis, without overflow."""
    weighted = log_values + log_weights
    largest = weighted.max(axis=-1)
    return np.asarray(largest + np.log(np.exp(weighted - largest[..., None]).sum(axis=-1)), dtype=np.float64)


def sample_ratio_log_e(
    canary_total: Sequence[int],
    all_total: Sequence[int],
    *,
    canary_share: Sequence[float],
    concentration: float = 100.0,
) -> float:
    """How strongly the counts say that traffic was not split as asked, in either direction.

    Null hypothesis: each request (each key, where assignment is sticky) went to the canary with probability w. The
    likelihood ratio against a share drawn from ``Beta(w k, (1 - w) k)``, k the concentration, has the closed form
    ``B(wk + x, (1-w)k + n - x) / B(wk, (1-w)k) / (w^x (1-w)^(n-x))`` for x of n; stretches multiply.

    Source: Lindon, Malek, Anytime-Valid Inference for Multinomial Count Data, NeurIPS 2022, arXiv 2011.03567.

    Returns
    -------
    The natural logarithm of the e-value.

    Examples
    --------
    With one request the guess is right on average, so that it says nothing:

    >>> abs(sample_ratio_log_e([1], [1], canary_share=[0.1])) < 1e-12
    True
    >>> sample_ratio_log_e([1500], [10_000], canary_share=[0.1]) > log(1000)
    True
    """
    total = 0.0
    for x, n, w in zip(canary_total, all_total, canary_share, strict=True):
        if not 0.0 < w < 1.0:
            continue
        a, b = w * concentration, (1.0 - w) * concentration
        total += _log_beta(a + x, b + n - x) - _log_beta(a, b) - x * log(w) - (n - x) * log(1.0 - w)
    return total


def shares_log_e(totals: Sequence[int], shares: Sequence[float]) -> float:
    """As `sample_ratio_log_e`, for any number of arms: how strongly their totals say that traffic was not dealt so.

    The likelihood ratio against shares drawn from ``Dirichlet(w k)``, k = 100: ``B(w k + x) / B(w k) / prod(w^x)``, where B
    is the multivariate beta function.

    Examples
    --------
    >>> abs(shares_log_e([1, 0, 0], [0.5, 0.3, 0.2])) < 1e-12
    True
    >>> two = shares_log_e([1_500, 8_500], [0.1, 0.9])
    >>> abs(two - sample_ratio_log_e([1_500], [10_000], canary_share=[0.1])) < 1e-6
    True
    """
    concentration = 100.0
    total = lgamma(concentration) - lgamma(concentration + sum(totals))
    for x, w in zip(totals, shares, strict=True):
        total += lgamma(w * concentration + x) - lgamma(w * concentration) - x * log(w)
    return total


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
