"""Whether the mean of a bounded number is worse in the canary: a pure function of the numbers that both arms had.

For what is no yes or no of every request: a KPI of the user's, or whether the answers in the audit sample are wrong. Each
number is turned into badness, 0 (as good as can be) to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from everloop.rollout.bounded import MeanBounds, Told, mean_bounds, told_by
from everloop.rollout.evidence import Counts

Floats = NDArray[np.float64]

_GRID: Floats = np.unique(
    np.concatenate([[0.0, 1.0], np.geomspace(1e-4, 0.1, 80), np.linspace(0.1, 0.999, 160)])
)
_ALMOST = 1.0 - 1e-9
_HALVINGS = 24


@dataclass(frozen=True)
class Badness:
    """What one arm had, a number a unit: badness, 0 to 1, and the inverse of the chance with which it was looked at."""

    values: Floats  # (n_units,)
    weights: Floats  # (n_units,)

    @property
    def told(self) -> Told:
        return told_by(self.values, self.weights)

    @property
    def mean(self) -> float | None:
        return self.told.mean


Arms = tuple[Badness, Badness]
NOBODY = Badness(np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class MeanEvidence:
    """One metric: canary and control in each stage, and in the stage that is running, where a key may count again.

    A badness of 1 is `span` in the metric's own unit, of 0 is `best`, rising or falling with it. `problem` says why there
    are no numbers.
    """

    metric: str
    stages: tuple[Arms, ...] = ()
    latest: Arms = (NOBODY, NOBODY)
    best: float = 0.0
    span: float = 1.0  # negative where more is better
    problem: str | None = None

    def own(self, badness: float | None) -> float | None:
        """A mean in the metric's own unit."""
        return None if badness is None else self.best + self.span * badness

    @property
    def total(self) -> Counts:
        """Units of the whole rollout, and the badness that they add up to, rounded."""
        return sum((counts_of(arms) for arms in self.stages), Counts())


def counts_of(arms: Arms) -> Counts:
    canary, control = arms
    return Counts(
        round(float(canary.values.sum())),
        len(canary.values),
        round(float(control.values.sum())),
        len(control.values),
    )


def bounds_of(shares: Badness, *, confidence: float) -> MeanBounds:
    """The bounds of one arm's mean, as `bounded.mean_bounds`."""
    told = shares.told
    return mean_bounds(told.numbers, counts=told.often, weights=told.weights, confidence=confidence)


def harm_in_means(stages: Sequence[Arms], *, tolerated_ratio: float = 1.0, tolerated: float = 0.0) -> float:
    """How strongly the numbers say that the canary's mean badness is above what is tolerated: the logarithm of an e-value.

    Null hypothesis: the canary's mean is at most ``ratio * c + tolerated``, where c is the control's. Whatever c is, the bets
    "the canary's mean is above ratio * c + tolerated" and "the control's is below c" (`bounded.refutes_at_least`) are both
    worth nothing at the true one, and so is their product; the smallest product over all c is therefore an e-value. Stages
    multiply, each with a c of its own: what changes with the time of day changes both arms.

    Examples
    --------
    >>> worse, good = Badness(np.full(60, 0.9), np.ones(60)), Badness(np.full(60, 0.1), np.ones(60))
    >>> harm_in_means([(worse, good)]) > log(20), harm_in_means([(good, worse)]) < log(20)
    (True, True)
    """
    return sum(_harm(*arms, ratio=tolerated_ratio, tolerated=tolerated) for arms in stages)


def excess_of_means(arms: Arms, *, confidence: float = 0.95) -> float:
    """The largest difference of the means, canary's minus control's, that the numbers do not refute, at any look.

    As `harm_in_means`, for each difference d: at the true mean c of the control both "the canary's is below c + d" and "the
    control's is above c" are bets worth nothing while the difference is d or more. 1 where an arm is empty; never below 0.

    Examples
    --------
    >>> clean = Badness(np.zeros(700), np.ones(700))
    >>> 0.0 < excess_of_means((clean, clean)) < 0.02
    True
    >>> excess_of_means((clean, NOBODY))
    1.0
    """
    canary, control = (one.told for one in arms)
    if not (len(canary.numbers) and len(control.numbers)):
        return 1.0
    needed = -log(1.0 - confidence)
    possible, refuted = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (possible + refuted) / 2
        if _refutes(canary, control, middle) >= needed:
            refuted = middle
        else:
            possible = middle
    return refuted


def refutes_excess(arms: Arms, difference: float) -> float:
    """How strongly the numbers say that the canary's mean exceeds the control's by less: the logarithm of an e-value.

    Examples
    --------
    >>> clean = Badness(np.zeros(700), np.ones(700))
    >>> refutes_excess((clean, clean), 0.02) > log(20) > refutes_excess((clean, clean), 0.002)
    True
    """
    canary, control = arms
    return _refutes(canary.told, control.told, difference)


def _refutes(canary: Told, control: Told, difference: float) -> float:
    """Between two points of the grid the product is at least that of the smaller of each bet, which is at their ends."""
    means = np.append(_GRID[1.0 - difference > _GRID], 1.0 - difference)  # of the control
    return float((_below(canary, means + difference)[:-1] + _above(control, means)[1:]).min())


def _harm(canary: Badness, control: Badness, *, ratio: float, tolerated: float) -> float:
    above = _above(canary.told, ratio * _GRID + tolerated)
    below = _below(control.told, _GRID)
    return float((above[1:] + below[:-1]).min())


def _below(told: Told, means: Floats) -> Floats:
    """How strongly the numbers say that their mean is below each of `means`; nothing says that it is below 0."""
    found = told.log_e(np.minimum(means, _ALMOST), high=1.0)
    return np.where(means <= 0.0, 0.0, found)


def _above(told: Told, means: Floats) -> Floats:
    """How strongly the numbers say that their mean is above each of `means`; nothing says that it is above 1."""
    found = told.mirrored.log_e(-np.maximum(means, 1.0 - _ALMOST), high=0.0)
    return np.where(means >= 1.0, 0.0, found)
