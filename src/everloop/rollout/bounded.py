"""Bounds of a mean that hold at every look, for numbers that lie between two known ends.

They need nothing else: no variance, no shape, no minimum of numbers. Differences between two answers to one request lie
between -1 and 1, so that paired comparisons are means of this kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from everloop.errors import Invalid
from everloop.rollout.eprocess import log_mean_exp

Floats = NDArray[np.float64]

# Parts of the stake that are bet on each number, all side by side. Small ones win where the numbers vary much and the
# mean is near, large ones where they hardly vary: 300 equal answers show that fewer than one in a hundred differs.
_PARTS: Floats = np.concatenate([np.geomspace(5e-4, 0.5, 22), [0.75, 0.999]])
_ON_NO_DIFFERENCE = 0.4  # on the largest part: most versions differ hardly at all from the one before
_LOG_WEIGHTS: Floats = np.log(
    [*np.full(len(_PARTS) - 1, (1.0 - _ON_NO_DIFFERENCE) / (len(_PARTS) - 1)), _ON_NO_DIFFERENCE]
)
_HALVINGS = 60


@dataclass(frozen=True)
class MeanBounds:
    """The mean of `n` numbers, and the means that they do not refute."""

    n: int
    mean: float | None  # None when there are no numbers
    lower: float
    upper: float


def mean_bounds(
    values: ArrayLike,
    *,
    counts: ArrayLike | None = None,
    low: float = 0.0,
    high: float = 1.0,
    confidence: float = 0.95,
) -> MeanBounds:
    """The means that the numbers seen so far do not refute: true at all looks together with this confidence.

    Each end is where the bet against it (`refutes_at_least`, `refutes_at_most`) reaches ``2 / (1 - confidence)``.

    Parameters
    ----------
    values : (n_values,) float64, low to high; their order does not matter
    counts : (n_values,) int, how often each occurred; once, when left out

    Examples
    --------
    >>> bounds = mean_bounds([0.0], counts=[500])
    >>> bounds.lower, round(bounds.upper, 4)
    (0.0, 0.0091)
    >>> mean_bounds([], low=-1.0)
    MeanBounds(n=0, mean=None, lower=-1.0, upper=1.0)
    """
    numbers, often = _columns(values, counts, low=low, high=high)
    n = int(often.sum())
    if not n:
        return MeanBounds(0, None, low, high)
    needed = log(2.0 / (1.0 - confidence))
    upper = _upper(numbers, often, low=low, high=high, needed=needed)
    lower = -_upper(-numbers, often, low=-high, high=-low, needed=needed)
    return MeanBounds(n, float(numbers @ often / n), lower, upper)


def upper_bound(
    values: ArrayLike,
    *,
    counts: ArrayLike | None = None,
    low: float = 0.0,
    high: float = 1.0,
    confidence: float = 0.95,
) -> float:
    """As `mean_bounds`, the upper end alone: all the doubt is spent on one side."""
    numbers, often = _columns(values, counts, low=low, high=high)
    return _upper(numbers, often, low=low, high=high, needed=-log(1.0 - confidence))


def refutes_at_least(
    values: ArrayLike, mean: float, *, counts: ArrayLike | None = None, low: float = 0.0, high: float = 1.0
) -> float:
    """How strongly the numbers say that their mean is below `mean`: the logarithm of an e-value.

    Null hypothesis: at each number, the mean given all before it is `mean` or more. Whoever bets the part f of what he
    has on "lower" is paid ``1 - f (x - m) / (high - m)`` times his stake, which is never negative and on average at most
    1 in the null; so is the product over all numbers, and the average of such products over a fixed grid of f. By Ville's
    inequality it ever reaches 1 / alpha with probability at most alpha. As each factor is
    ``1 - f + f (high - x) / (high - m)``, it rises with m: what refutes a mean refutes every larger one.

    Source: Waudby-Smith, Ramdas, Estimating means of bounded random variables by betting, JRSS B 2024, arXiv 2010.09686,
    section 4 (capital processes) with a fixed grid of bets in the place of one that follows the numbers, which makes the
    order of the numbers indifferent and the bound exact.

    Parameters
    ----------
    mean : above low and below high

    Examples
    --------
    >>> clean = refutes_at_least([0.0], 0.01, counts=[400])
    >>> bool(log(0.99 ** -400) - log(2.5) < clean < log(0.99 ** -400))
    True
    """
    numbers, often = _columns(values, counts, low=low, high=high)
    if not low < mean < high:
        raise Invalid(
            f"the mean {mean} is not between {low} and {high}, the ends of the numbers. Name one that is."
        )
    return _log_e(numbers, often, mean, high=high)


def refutes_at_most(
    values: ArrayLike, mean: float, *, counts: ArrayLike | None = None, low: float = 0.0, high: float = 1.0
) -> float:
    """How strongly the numbers say that their mean is above `mean`: `refutes_at_least`, seen in a mirror.

    Examples
    --------
    >>> refutes_at_most([1.0, 0.0], 0.5) == refutes_at_least([0.0, 1.0], 0.5)
    True
    """
    numbers, often = _columns(values, counts, low=low, high=high)
    return refutes_at_least(-numbers, -mean, counts=often, low=-high, high=-low)


def _log_e(numbers: Floats, often: Floats, mean: float, *, high: float) -> float:
    paid = (high - numbers) / (high - mean)  # (n_values,)
    capital = np.log1p(_PARTS[:, None] * (paid - 1.0)) @ often  # (n_parts,)
    return float(log_mean_exp(capital, _LOG_WEIGHTS))


def _upper(numbers: Floats, often: Floats, *, low: float, high: float, needed: float) -> float:
    """The largest mean that is not refuted, by halving: the evidence rises with the mean."""
    refuted = high - (high - low) * 1e-9
    if not often.sum() or _log_e(numbers, often, refuted, high=high) < needed:
        return high
    possible = low
    for _ in range(_HALVINGS):
        middle = (possible + refuted) / 2
        if _log_e(numbers, often, middle, high=high) < needed:
            possible = middle
        else:
            refuted = middle
    return refuted


def _columns(
    values: ArrayLike, counts: ArrayLike | None, *, low: float, high: float
) -> tuple[Floats, Floats]:
    numbers = np.asarray(values, dtype=np.float64)
    often = np.ones(len(numbers)) if counts is None else np.asarray(counts, dtype=np.float64)
    if numbers.shape != often.shape or (often < 0).any():
        raise Invalid(
            f"{len(numbers)} numbers and {len(often)} counts of them; each number has one, 0 or more. Pass both alike."
        )
    if numbers.size and not low <= numbers.min() <= numbers.max() <= high:
        raise Invalid(
            f"numbers from {numbers.min():g} to {numbers.max():g} where {low:g} to {high:g} was promised; "
            "the bound rests on that. State their ends."
        )
    return numbers, often
