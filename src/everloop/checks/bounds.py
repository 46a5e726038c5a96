"""Bounds for shares: how large could the true share be, given what was counted."""

from __future__ import annotations

import math

import numpy as np

_STEPS = 60  # of the bisection: halves the interval below the precision of a float


def share_at_most(bad: int, total: int, *, confidence: float = 0.95) -> float:
    """The largest share that `bad` of `total` is still compatible with, at a one-sided confidence.

    The upper bound of Clopper and Pearson (Biometrika 26, 1934): the p at which P(X <= bad) = 1 - confidence for
    X ~ Binomial(total, p). It is exact: the true share is above it in at most 1 - confidence of all samples.
    Without any observation it is 1.

    >>> round(share_at_most(0, 59), 4)  # 1 - 0.05 ** (1 / 59)
    0.0495
    """
    if total <= 0 or bad >= total:
        return 1.0
    low, high = bad / total, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _at_most(bad, total, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def share_at_least(good: int, total: int, *, confidence: float = 0.95) -> float:
    """The smallest share that `good` of `total` is still compatible with: the other side of `share_at_most`.

    >>> round(share_at_least(8, 8), 4)  # 0.05 ** (1 / 8)
    0.6877
    """
    return 1 - share_at_most(total - good, total, confidence=confidence)


def fewer_by_chance(good: int, rows: int, all_good: int, all_rows: int) -> float:
    """The probability of `good` or fewer among `rows` drawn from `all_rows` of which `all_good` are good.

    Fisher's exact test, one-sided: the lower tail of the hypergeometric distribution. Unlike a z-test it keeps its level
    for few rows and small probabilities, as a correction for many comparisons asks for.

    >>> round(fewer_by_chance(0, 2, 2, 4), 4)  # both of the bad ones: 1 of 6 draws
    0.1667
    """
    bad = all_rows - all_good
    first = max(0, rows - bad)
    if good < first:
        return 0.0
    k = np.arange(first, good)
    ratios = np.log(all_good - k) + np.log(rows - k) - np.log(k + 1) - np.log(bad - rows + k + 1)
    start = _log_choose(all_good, first) + _log_choose(bad, rows - first) - _log_choose(all_rows, rows)
    return min(1.0, float(np.exp(start + np.concatenate([[0.0], np.cumsum(ratios)])).sum()))


def wilson(good: float, total: int, *, z: float = 1.959964) -> tuple[float, float]:
    """The interval of Wilson (JASA 22, 1927) for a share, 95 % two-sided by default.

    Centre (p + z^2/2n) / (1 + z^2/n), half width z / (1 + z^2/n) sqrt(p (1 - p) / n + z^2 / 4n^2).
    Without any observation it is (0, 1).

    >>> [round(bound, 4) for bound in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    if total <= 0:
        return 0.0, 1.0
    share, unit = good / total, z * z / total
    centre = (share + unit / 2) / (1 + unit)
    half = z / (1 + unit) * math.sqrt(share * (1 - share) / total + unit / (4 * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def _at_most(bad: int, total: int, share: float) -> float:
    """P(X <= bad) for X ~ Binomial(total, share), from the terms' logarithms."""
    if share >= 1.0:
        return 0.0
    if bad > total / 2:  # the shorter of the two sums
        return 1 - _at_most(total - bad - 1, total, 1 - share)
    k = np.arange(bad)
    ratios = np.log(total - k) - np.log(k + 1) + math.log(share) - math.log1p(-share)
    terms = total * math.log1p(-share) + np.concatenate([[0.0], np.cumsum(ratios)])
    return float(np.exp(terms).sum())


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
