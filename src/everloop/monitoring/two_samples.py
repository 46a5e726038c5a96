"""Tests of whether two samples come from the same source, from their counts in shared bins.

All take two arrays of counts over the same bins (in order for numbers, in any order for categories) and need nothing
else, so that a stored reference of 2 KB a column stands for any number of rows.
"""

from __future__ import annotations

from math import erfc, exp, lgamma, log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# A p-value of a column is its better test's, corrected for having two: four fifths of the error go to ranks, which see
# a shift best, one fifth to Kolmogorov-Smirnov, which sees any change of shape.
_TO_RANKS = 0.8


def ks_distance(reference: ArrayLike, current: ArrayLike) -> float:
    """Kolmogorov-Smirnov distance: the largest difference of the two distribution functions at the bins' edges.

    Examples
    --------
    >>> ks_distance([5, 5], [2, 8])
    0.3
    """
    r, c = _counts(reference, current)
    if not (r.sum() and c.sum()):
        return 0.0
    return round(float(np.abs(r.cumsum() / r.sum() - c.cumsum() / c.sum()).max()), 12)


def ks_p_value(distance: float, *, n_reference: int, n_current: int) -> float:
    """Chance of so large a distance when nothing changed.

    ``Q(sqrt(n m / (n + m)) D)`` with Kolmogorov's limit ``Q(x) = 2 sum (-1)^(k-1) exp(-2 k^2 x^2)``; on binned or
    tied data and at small n it errs on the safe side.

    Source: Smirnov 1948, Table for estimating the goodness of fit of empirical distributions.

    Examples
    --------
    >>> round(ks_p_value(0.1, n_reference=500, n_current=500), 4)
    0.0135
    """
    if not (n_reference and n_current):
        return 1.0
    x = sqrt(n_reference * n_current / (n_reference + n_current)) * distance
    if x < 0.2:  # 1 - Q is below 1e-12 here, and the series converges slowly
        return 1.0
    series = sum((-1.0) ** (k - 1) * exp(-2.0 * k * k * x * x) for k in range(1, 101))
    return min(1.0, max(0.0, 2.0 * series))


def rank_p_value(reference: ArrayLike, current: ArrayLike) -> float:
    """Chance of so large a shift of ranks when nothing changed: van der Waerden's test, two-sided.

    Each bin has the score ``a = inverse normal of (midrank / (N + 1))``. The sum of the current sample's scores has
    mean ``m * mean(a)`` and variance ``n m / (N (N - 1)) * sum (a - mean(a))^2`` under all ways to draw m of N; ties
    are in the midranks. Never less powerful than the t-test for a shift, asymptotically, and indifferent to outliers.

    Source: van der Waerden 1952; Chernoff, Savage 1958; Hajek, Sidak, Theory of Rank Tests, 1967, section III.1.

    Examples
    --------
    >>> round(rank_p_value([30, 40, 30], [20, 40, 40]), 4)
    0.0666
    """
    r, c = _counts(reference, current)
    together = r + c
    n, m, total = r.sum(), c.sum(), together.sum()
    if not (n and m) or total < 3:
        return 1.0
    midrank = together.cumsum() - together + (together + 1.0) / 2.0
    inverse = NormalDist().inv_cdf
    score = np.array(
        [inverse(rank / (total + 1.0)) if t else 0.0 for rank, t in zip(midrank, together, strict=True)]
    )
    mean = (together * score).sum() / total
    variance = n * m / (total * (total - 1.0)) * (together * (score - mean) ** 2).sum()
    if variance <= 0.0:
        return 1.0
    z = ((c * score).sum() - m * mean) / sqrt(variance)
    return erfc(abs(z) / sqrt(2.0))


def number_p_value(reference: ArrayLike, current: ArrayLike) -> float:
    """Ranks and Kolmogorov-Smirnov together, by weighted Bonferroni: ``min(p_rank / 0.8, p_ks / 0.2)``.

    Examples
    --------
    >>> number_p_value([5, 5], [5, 5])
    1.0
    """
    r, c = _counts(reference, current)
    distance = ks_distance(r, c)
    by_ks = ks_p_value(distance, n_reference=int(r.sum()), n_current=int(c.sum()))
    return min(1.0, rank_p_value(r, c) / _TO_RANKS, by_ks / (1.0 - _TO_RANKS))


def total_variation(reference: ArrayLike, current: ArrayLike) -> float:
    """Half the sum of absolute differences of shares: the share of rows that would have to change category.

    Examples
    --------
    >>> total_variation([50, 50, 0], [40, 40, 20])
    0.2
    """
    r, c = _counts(reference, current)
    if not (r.sum() and c.sum()):
        return 0.0
    return round(float(np.abs(r / r.sum() - c / c.sum()).sum() / 2.0), 12)


def category_p_value(reference: ArrayLike, current: ArrayLike) -> float:
    """Chance of so large a change of shares when nothing changed: Pearson's chi-square, right for rare values, too.

    ``X^2 = N^2 / (n m) sum (c_j - m t_j / N)^2 / t_j`` over K values with t_j rows in both samples together. The
    chi-square distribution holds only where each value is common (Cochran's rule of five), and joining the others
    would hide that one thousand products were replaced by another thousand. So the distribution over all ways to draw
    the m current rows is taken instead: exact mean ``N (K - 1) / (N - 1)`` and variance, the third cumulant of K
    independent binomials times ``(K - 1) / K``, and the tail of the gamma distribution that has these three. With many
    rows of each value that is the chi-square distribution with K - 1 degrees of freedom.

    Source: Pearson 1900; Haldane 1940 and Dawson, Biometrika 1954, for mean and variance.

    Examples
    --------
    >>> round(category_p_value([5_000, 5_000], [460, 540]), 4)
    0.0159
    >>> round(category_p_value([20, 30, 0], [20, 20, 10]), 4)
    0.0019
    """
    r, c = _counts(reference, current)
    together = r + c
    kept = together > 0
    total, n, m, k = together.sum(), r.sum(), c.sum(), int(kept.sum())
    if k < 2 or not (n and m) or total < 4:
        return 1.0
    t = together[kept]
    statistic = total**2 / (n * m) * ((c[kept] - m * t / total) ** 2 / t).sum()
    variance = _chi_square_variance(t, n=n, m=m)
    if variance < 1e-9:  # no draw differs from another, such as when each value came once
        return 1.0
    z = float((statistic - total * (k - 1) / (total - 1)) / sqrt(variance))
    skewness = float((k - 1) / k * _binomial_third_cumulants(t, m / total).sum() / variance**1.5)
    if skewness < 1e-3:
        return erfc(z / sqrt(2.0)) / 2.0
    shape = 4.0 / skewness**2
    return gamma_tail(shape, shape + z * sqrt(shape))


def _chi_square_variance(t: Floats, *, n: float, m: float) -> float:
    """Variance of chi-square over all tables of two rows with these margins (Dawson 1954)."""
    total, k = n + m, len(t)
    v_rows, w_rows = (total - 2.0) / (total - 1.0), (total * (1.0 / n + 1.0 / m) - 4.0) / (total - 2.0)
    v_values, w_values = (
        (k - 1.0) * (total - k) / (total - 1.0),
        (total * (1.0 / t).sum() - k * k) / (total - 2.0),
    )
    spread = 2.0 * total / (total - 3.0) * (v_rows - w_rows) * (v_values - w_values)
    return float(spread + total**2 / (total - 1.0) * w_rows * w_values)


def _binomial_third_cumulants(t: Floats, share: float) -> Floats:
    """Third cumulant of ``(c - t p)^2 / (t p q)`` where c is binomial(t, p), for each t."""
    pq = share * (1.0 - share)
    k2, k3 = t * pq, t * pq * (1.0 - 2.0 * share)
    k4, k6 = t * pq * (1.0 - 6.0 * pq), t * pq * (1.0 - 30.0 * pq + 120.0 * pq**2)
    fourth = (k4 + 3.0 * k2**2) / k2**2
    sixth = (k6 + 15.0 * k4 * k2 + 10.0 * k3**2 + 15.0 * k2**3) / k2**3
    return np.asarray(sixth - 3.0 * fourth + 2.0, dtype=np.float64)


def gamma_tail(shape: float, x: float) -> float:
    """Chance that a gamma variable with this shape and scale 1 is above x.

    By the series of the lower tail where x is below shape + 1, by Lentz's continued fraction of the upper tail above,
    and by the Wilson-Hilferty cube root beyond a shape of 1,000, where it is right to 1e-5. Here rather than from scipy
    because importing that takes longer than comparing a table of 20 columns.

    Source: Abramowitz, Stegun 6.5.29 and 6.5.31; Wilson, Hilferty 1931.

    Examples
    --------
    >>> gamma_tail(1.0, 2.0) == exp(-2.0)
    True
    """
    if x <= 0.0:
        return 1.0
    if shape > 1_000.0:
        root = (x / shape) ** (1.0 / 3.0)
        return erfc((root - 1.0 + 1.0 / (9.0 * shape)) * 3.0 * sqrt(shape) / sqrt(2.0)) / 2.0
    scale = exp(shape * log(x) - x - lgamma(shape))
    if x < shape + 1.0:
        term = total = 1.0 / shape
        at = shape
        while term > total * 1e-16:
            at += 1.0
            term *= x / at
            total += term
        return max(0.0, 1.0 - scale * total)
    return scale * _upper_fraction(shape, x)


def _upper_fraction(shape: float, x: float) -> float:
    """``1 / (x + 1 - a - 1 (1 - a) / (x + 3 - a - 2 (2 - a) / ...))``, from the front."""
    b = x + 1.0 - shape
    c, d = 1e300, 1.0 / b
    fraction = d
    for i in range(1, 10_000):
        step = -i * (i - shape)
        b += 2.0
        d = 1.0 / (step * d + b)
        c = b + step / c
        fraction *= d * c
        if abs(d * c - 1.0) < 1e-15:
            break
    return fraction


def pool_rare(reference: ArrayLike, current: ArrayLike, *, at_least: float = 5.0) -> NDArray[np.bool_]:
    """Which bins are too rare to be looked at alone: fewer than 5 expected in the smaller sample.

    Expectations come from both samples together. Choosing by the reference's counts alone would choose bins that are
    full there by chance, and find them emptier in every later sample.

    Examples
    --------
    >>> pool_rare([90, 9, 1], [95, 4, 1]).tolist()
    [False, False, True]
    """
    r, c = _counts(reference, current)
    total = r.sum() + c.sum()
    if not total:
        return np.ones(len(r), dtype=bool)
    return np.asarray((r + c) / total * min(r.sum(), c.sum()) < at_least, dtype=np.bool_)


def corrected_psi(reference: ArrayLike, current: ArrayLike) -> float:
    """Population stability index less the value that chance alone gives it; never below 0.

    ``sum (c - r) ln(c / r)`` over K bins of shares, half a count added to each bin, less ``(K - 1) (1/n + 1/m)``.
    The usual marks are 0.1 (some change) and 0.25 (much).

    Source: Yurdakul, Statistical Properties of Population Stability Index, 2018, for the expectation.

    Examples
    --------
    >>> round(corrected_psi([5_000, 5_000], [4_000, 6_000]), 3)
    0.04
    >>> corrected_psi([50, 50], [45, 55])
    0.0
    """
    r, c = _counts(reference, current)
    n, m, k = r.sum(), c.sum(), len(r)
    if not (n and m):
        return 0.0
    share_r, share_c = (r + 0.5) / (n + 0.5 * k), (c + 0.5) / (m + 0.5 * k)
    psi = float(((share_c - share_r) * np.log(share_c / share_r)).sum())
    return max(0.0, float(psi - (k - 1) * (1.0 / n + 1.0 / m)))


def adjusted(p_values: ArrayLike) -> Floats:
    """Benjamini-Hochberg q-values: calling all with q <= 0.01 drifted keeps false ones at 1 % of those called.

    ``q_(i) = min over j >= i of (p_(j) * n / j)``. When nothing drifted, a report with any false call comes with
    probability at most q.

    Source: Benjamini, Hochberg, JRSS B 1995.

    Examples
    --------
    >>> adjusted([0.01, 0.5, 0.02]).round(3).tolist()
    [0.03, 0.5, 0.03]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty_like(p)
    q[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(q, 1.0)


def _counts(reference: ArrayLike, current: ArrayLike) -> tuple[Floats, Floats]:
    return np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
