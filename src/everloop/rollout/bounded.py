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
_LATTICE = 128


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
    weights: ArrayLike | None = None,
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
    weights : (n_values,) float64, the inverse of the chance with which each was looked at; alike, when left out

    Notes
    -----
    With weights ``w`` the mean is that of all numbers, looked at or not (Horvitz and Thompson 1952): ``sum w x / sum w``.
    The part that is bet on a number is ``f w / max w``; a number that nobody looked at is a bet of nothing, so that the
    expected pay is ``1 - f / max w * (mean - m) / (high - m)`` for each number of the population: at most 1 in the null.

    Examples
    --------
    >>> bounds = mean_bounds([0.0], counts=[500])
    >>> bounds.lower, round(bounds.upper, 4)
    (0.0, 0.0091)
    >>> mean_bounds([], low=-1.0)
    MeanBounds(n=0, mean=None, lower=-1.0, upper=1.0)
    """
    told = _columns(values, counts, weights, low=low, high=high)
    n = round(told.often.sum())
    if not n:
        return MeanBounds(0, None, low, high)
    needed = log(2.0 / (1.0 - confidence))
    upper = _upper(told, low=low, high=high, needed=needed)
    lower = -_upper(told.mirrored, low=-high, high=-low, needed=needed)
    return MeanBounds(n, told.mean, lower, upper)


def upper_bound(
    values: ArrayLike,
    *,
    counts: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    low: float = 0.0,
    high: float = 1.0,
    confidence: float = 0.95,
) -> float:
    """As `mean_bounds`, the upper end alone: all the doubt is spent on one side."""
    told = _columns(values, counts, weights, low=low, high=high)
    return _upper(told, low=low, high=high, needed=-log(1.0 - confidence))


def refutes_at_least(
    values: ArrayLike,
    mean: float,
    *,
    counts: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    low: float = 0.0,
    high: float = 1.0,
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
    told = _columns(values, counts, weights, low=low, high=high)
    if not low < mean < high:
        raise Invalid(
            f"the mean {mean} is not between {low} and {high}, the ends of the numbers. Name one that is."
        )
    return float(told.log_e(np.array([mean]), high=high)[0])


def refutes_at_most(
    values: ArrayLike,
    mean: float,
    *,
    counts: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> float:
    """How strongly the numbers say that their mean is above `mean`: `refutes_at_least`, seen in a mirror.

    Examples
    --------
    >>> refutes_at_most([1.0, 0.0], 0.5) == refutes_at_least([0.0, 1.0], 0.5)
    True
    """
    told = _columns(values, counts, weights, low=low, high=high).mirrored
    return refutes_at_least(
        told.numbers, -mean, counts=told.often, weights=told.weights, low=-high, high=-low
    )


@dataclass(frozen=True)
class Told:
    """Distinct numbers, how often each was seen, and the weight of each; (n_values,) float64 all."""

    numbers: Floats
    often: Floats
    weights: Floats

    @property
    def mean(self) -> float | None:
        total = float(self.often @ self.weights)
        return float(self.numbers * self.weights @ self.often / total) if total else None

    @property
    def mirrored(self) -> Told:
        return Told(-self.numbers, self.often, self.weights)

    def log_e(self, means: Floats, *, high: float) -> Floats:
        """The logarithm of the evidence that the mean is below each of `means`, which rise; (n_means,)."""
        if not len(self.numbers):
            return np.zeros(len(means))
        paid = (high - self.numbers) / (high - means[:, None]) - 1.0  # (n_means, n_values)
        paid *= self.weights / self.weights.max()
        capital = np.stack(
            [np.log1p(part * paid) @ self.often for part in _PARTS], axis=1
        )  # (n_means, n_parts)
        return log_mean_exp(capital, _LOG_WEIGHTS)


def told_by(values: ArrayLike, weights: ArrayLike | None = None) -> Told:
    """Numbers from 0 to 1 as `refutes_at_least` takes them, at most some hundred distinct ones, and as many weights.

    Where there are more, each is divided between its two neighbours on a lattice so that the mean stays: as the evidence is
    concave in a number, and in a weight, that never adds to it.

    Examples
    --------
    >>> told = told_by(np.linspace(0, 1, 10_001))
    >>> len(told.numbers), round(told.often.sum()), round(told.mean, 9)
    (129, 10001, 0.5)
    """
    numbers = np.asarray(values, dtype=np.float64)
    scale = np.ones(len(numbers)) if weights is None else np.asarray(weights, dtype=np.float64)
    often = np.ones(len(numbers))
    if len(np.unique(numbers)) > _LATTICE + 1:
        numbers, parts = divided(numbers, np.linspace(0.0, 1.0, _LATTICE + 1))
        scale, often = np.tile(scale, 2), np.tile(often, 2) * parts
    if len(np.unique(scale)) > _LATTICE + 1:
        scale, parts = divided(scale, np.geomspace(scale.min(), scale.max(), _LATTICE + 1))
        numbers, often = np.tile(numbers, 2), np.tile(often, 2) * parts
    pairs, of = np.unique(np.stack([numbers, scale], axis=1), axis=0, return_inverse=True)
    times = np.bincount(of.ravel(), weights=often, minlength=len(pairs)).astype(np.float64)
    return Told(pairs[:, 0], times, pairs[:, 1])


def divided(values: Floats, places: Floats) -> tuple[Floats, Floats]:
    """Each value's neighbours below, then above, and the part of it that each gets; (2 n_values,) each."""
    below = np.clip(np.searchsorted(places, values, side="right") - 1, 0, len(places) - 2)
    above = np.clip((values - places[below]) / (places[below + 1] - places[below]), 0.0, 1.0)
    return places[np.concatenate([below, below + 1])], np.concatenate([1.0 - above, above])


def _upper(told: Told, *, low: float, high: float, needed: float) -> float:
    """The largest mean that is not refuted, by halving: the evidence rises with the mean."""

    def log_e(mean: float) -> float:
        return float(told.log_e(np.array([mean]), high=high)[0])

    refuted = high - (high - low) * 1e-9
    if not told.often.sum() or log_e(refuted) < needed:
        return high
    possible = low
    for _ in range(_HALVINGS):
        middle = (possible + refuted) / 2
        if log_e(middle) < needed:
            possible = middle
        else:
            refuted = middle
    return refuted


def _columns(
    values: ArrayLike, counts: ArrayLike | None, weights: ArrayLike | None, *, low: float, high: float
) -> Told:
    numbers = np.asarray(values, dtype=np.float64)
    often = np.ones(len(numbers)) if counts is None else np.asarray(counts, dtype=np.float64)
    scale = np.ones(len(numbers)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not numbers.shape == often.shape == scale.shape or (often < 0).any() or (scale <= 0).any():
        raise Invalid(
            f"{len(numbers)} numbers, {len(often)} counts and {len(scale)} weights of them; each number has one of both, counts "
            "0 or more, weights above 0. Pass all alike."
        )
    if numbers.size and not low <= numbers.min() <= numbers.max() <= high:
        raise Invalid(
            f"numbers from {numbers.min():g} to {numbers.max():g} where {low:g} to {high:g} was promised; "
            "the bound rests on that. State their ends."
        )
    return Told(numbers, often, scale)
