"""How right the predictions were, from the few whose truth is known, with an honest interval.

Truths must come from outcomes whose chance of being looked at is known: a random audit sample, or facts that arrive
for every prediction. Corrections are sent by whoever saw a mistake and estimate nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from everloop.errors import Invalid

Floats = NDArray[np.float64]

_ROWS_OF_A_CLASS = 10  # below this the interval of a macro average does not hold what it promises


@dataclass(frozen=True)
class Estimate:
    """A share with its interval; None where nothing was counted or no honest interval is known.

    `n_effective` is how many rows of an equal-chance sample would tell as much.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_effective: float


def estimate_accuracy(
    is_right: ArrayLike, *, probability: ArrayLike | None = None, confidence: float = 0.95
) -> Estimate:
    """Estimate the share of right predictions among all predictions, judged and unjudged.

    Each judged prediction stands for ``w = 1 / probability`` predictions (Horvitz and Thompson 1952); the estimate is
    ``sum w y / sum w`` (Hájek 1971), which needs no count of all predictions. The interval is Wilson's (1927) with
    ``n_effective = p (1 - p) / V`` rows, ``V = n / (n - 1) * sum (w (y - p))^2 / (sum w)^2`` (Korn and Graubard 1998),
    never more than n; where all or none are right, ``(sum w)^2 / sum w^2`` (Kish). With equal probabilities that is
    Wilson's interval on n rows.

    Parameters
    ----------
    is_right : (n,) bool
    probability : (n,) float64, above 0 and at most 1
        The chance that this prediction was going to be looked at. None: the same for all.

    Raises
    ------
    Invalid
        A probability is not above 0, or the columns differ in length.

    Examples
    --------
    Three of four right, each with the same chance:

    >>> equal = estimate_accuracy([True, True, True, False])
    >>> equal.value, round(equal.low, 4), round(equal.high, 4)
    (0.75, 0.3006, 0.9544)

    A wrong one that stands for ten, two right ones that stand for twenty each:

    >>> estimate_accuracy([False, True, True], probability=[0.1, 0.05, 0.05]).value
    0.8
    """
    right = np.asarray(is_right, dtype=np.float64)
    weight = _weights(probability, len(right))
    if not right.size:
        return Estimate(None, None, None, 0, 0.0)
    value = float((weight * right).sum() / weight.sum())
    n_effective = _effective_rows(right, weight, value)
    low, high = wilson_interval(value, n_effective, confidence=confidence)
    return Estimate(value, low, high, right.size, n_effective)


def _weights(probability: ArrayLike | None, n: int) -> Floats:
    if probability is None:
        return np.ones(n)
    chance = np.asarray(probability, dtype=np.float64)
    if chance.shape != (n,):
        raise Invalid(
            f"{chance.size} probabilities for {n} outcomes; each outcome has one. Pass both from the same rows."
        )
    if not ((chance > 0.0) & (chance <= 1.0)).all():
        raise Invalid(
            "an outcome's inclusion probability is not above 0 and at most 1; without it the outcome stands for an "
            "unknown number of predictions. Leave out outcomes that were not sampled."
        )
    return np.asarray(1.0 / chance, dtype=np.float64)


def _effective_rows(right: Floats, weight: Floats, value: float) -> float:
    n = float(right.size)
    variance = n / max(n - 1.0, 1.0) * ((weight * (right - value)) ** 2).sum() / weight.sum() ** 2
    if np.ptp(weight) == 0.0:
        return n
    if variance <= 0.0:
        return float(weight.sum() ** 2 / (weight**2).sum())
    return min(n, float(value * (1.0 - value) / variance))


def wilson_interval(share: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share of n rows; within 0 and 1, and not empty when all or none are right.

    ``(p + z^2/2n ± z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2/n)``. Source: Wilson, JASA 1927.

    Examples
    --------
    >>> low, high = wilson_interval(1.0, 10)
    >>> round(low, 4), high
    (0.7225, 1.0)
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    centre = share + z * z / (2.0 * n)
    half = z * sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    scale = 1.0 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def estimate_by(
    group: Sequence[str],
    is_right: ArrayLike,
    *,
    probability: ArrayLike | None = None,
    confidence: float = 0.95,
) -> dict[str, Estimate]:
    """Estimate accuracy in each group apart: windows, model versions, classes, slices; in the order of their names.

    Examples
    --------
    >>> by_week = estimate_by(["w1", "w1", "w2"], [True, True, False])
    >>> {week: one.value for week, one in by_week.items()}
    {'w1': 1.0, 'w2': 0.0}
    """
    right = np.asarray(is_right, dtype=bool)
    chance = None if probability is None else np.asarray(probability, dtype=np.float64)
    names, of = np.unique(np.asarray(group, dtype=np.str_), return_inverse=True)
    if len(of) != right.size:
        raise Invalid(
            f"{len(of)} groups for {right.size} outcomes; each outcome has one. Pass both from the same rows."
        )
    return {
        str(name): estimate_accuracy(
            right[of == i], probability=None if chance is None else chance[of == i], confidence=confidence
        )
        for i, name in enumerate(names)
    }


@dataclass(frozen=True)
class MacroF1:
    """The mean of the classes' F1, and each of them; `thin` are classes with too few known truths for an interval."""

    estimate: Estimate
    by_class: dict[str, float]
    thin: tuple[str, ...]


def estimate_macro_f1(
    truth: Sequence[str],
    predicted: Sequence[str],
    *,
    probability: ArrayLike | None = None,
    confidence: float = 0.95,
) -> MacroF1:
    """Estimate macro-averaged F1 over all predictions from those whose truth is known.

    ``F1_k = 2 TP / (2 TP + FP + FN)`` with each row counted ``1 / probability`` times, averaged over the classes that
    occur as truth or as prediction. The interval is by linearisation: row i moves the mean by
    ``z_i = w_i * (its part of the derivative)``, ``V = n / (n - 1) * sum z_i^2``, on the logit scale. It is None when a
    class has fewer than 10 known truths, or when there is no error to learn the variance from: an interval there would
    claim too much.

    Source: Takahashi, Yamamoto, Kuchiba, Koyama, Applied Intelligence 2022, for the unweighted variance; Särndal,
    Swensson, Wretman, Model Assisted Survey Sampling, 1992, chapter 5, for weights.

    Examples
    --------
    >>> found = estimate_macro_f1(["a", "a", "b", "b"], ["a", "b", "b", "b"])
    >>> round(found.estimate.value, 4), found.thin
    (0.7333, ('a', 'b'))
    """
    if len(truth) != len(predicted):
        raise Invalid(
            f"{len(truth)} truths for {len(predicted)} predictions; each row has both. Pass both from the same rows."
        )
    weight = _weights(probability, len(truth))
    if not weight.size:
        return MacroF1(Estimate(None, None, None, 0, 0.0), {}, ())
    names, codes = np.unique(
        np.concatenate([np.asarray(truth, np.str_), np.asarray(predicted, np.str_)]), return_inverse=True
    )
    true, said = codes[: len(truth)], codes[len(truth) :]
    k = len(names)
    hits = np.bincount(true, weights=weight * (true == said), minlength=k)  # (n_classes,)
    size = np.bincount(true, weights=weight, minlength=k) + np.bincount(said, weights=weight, minlength=k)
    f1 = 2.0 * hits / size
    value = float(f1.mean())
    # F1 = 2 TP / (truths + predictions): a hit adds to the numerator once and to the denominator twice.
    moves = weight / k * (2.0 * (true == said) / size[true] - f1[true] / size[true] - f1[said] / size[said])
    n = len(truth)
    variance = n / max(n - 1, 1) * float((moves**2).sum())
    thin = tuple(
        str(name)
        for name, known in zip(names, np.bincount(true, minlength=k), strict=True)
        if known < _ROWS_OF_A_CLASS
    )
    low, high = (
        (None, None)
        if thin or variance <= 0.0
        else _logit_interval(value, sqrt(variance), confidence=confidence)
    )
    n_effective = float(weight.sum() ** 2 / (weight**2).sum())
    return MacroF1(
        Estimate(value, low, high, n, n_effective), dict(zip(map(str, names), f1.tolist(), strict=True)), thin
    )


def _logit_interval(value: float, error: float, *, confidence: float) -> tuple[float, float]:
    half = NormalDist().inv_cdf(0.5 + confidence / 2.0) * error / (value * (1.0 - value))
    logit = log(value / (1.0 - value))
    return 1.0 / (1.0 + exp(half - logit)), 1.0 / (1.0 + exp(-half - logit))
