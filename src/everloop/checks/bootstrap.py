"""How far a metric, or a difference of two on the same rows, could be another with other rows: the bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from everloop.checks.columns import NULL, Codes, Floats

SAMPLES = 2000
_CELLS = 4_000_000  # weights held in memory at a time


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample, and what it was on resampled rows, sorted, (n_samples,) float64."""

    value: float
    samples: Floats

    @property
    def interval(self) -> tuple[float, float] | None:
        """The central 95 % of the samples; None without any."""
        return (self.at(0.025), self.at(0.975)) if len(self.samples) else None

    def at(self, quantile: float) -> float:
        return float(np.quantile(self.samples, quantile))


def bootstrap(
    statistic: Callable[[npt.NDArray[np.float64]], Floats],
    *,
    rows: npt.NDArray[np.int64],
    groups: Codes | None = None,
    seed: int = 0,
) -> Estimate:
    """A statistic of weighted rows, with what it becomes when the rows are drawn anew with replacement.

    The percentile bootstrap (Efron and Tibshirani, 1993, chapter 13). Two models compared on the same drawn rows
    make it a paired one. With groups, whole groups are drawn (Davison and Hinkley, 1997, section 3.8): rows of one
    product are not independent evidence. The same seed gives the same interval.

    Parameters
    ----------
    statistic
        From weights (n_samples, n_distinct) to values (n_samples,).
    rows
        (n_distinct,) how many rows each of the statistic's rows stands for: rows that are alike can be given once.
    groups
        (n_distinct,) the group of each; -1 is a group of its own. `rows` are then all 1.
    """
    (estimate,) = bootstrap_all(
        lambda weights: statistic(weights)[:, None], rows=rows, groups=groups, seed=seed
    )
    return estimate


def bootstrap_all(
    statistics: Callable[[npt.NDArray[np.float64]], Floats],
    *,
    rows: npt.NDArray[np.int64],
    groups: Codes | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """As `bootstrap`, for several statistics of the same drawn rows: values are (n_samples, n_statistics)."""
    values = statistics(rows[None, :].astype(np.float64))[0]
    random = np.random.default_rng(seed)
    draw = _rows_drawn(rows, random) if groups is None else _groups_drawn(groups, random)
    samples = (
        np.concatenate([statistics(weights) for weights in draw])
        if rows.sum() > 1
        else np.empty((0, len(values)))
    )
    return [
        Estimate(float(value), np.sort(own[np.isfinite(own)]))
        for value, own in zip(values, samples.T, strict=True)
    ]


def _rows_drawn(
    rows: npt.NDArray[np.int64], random: np.random.Generator
) -> Iterator[npt.NDArray[np.float64]]:
    """Counts of a draw of n rows with replacement; alike rows share a count, which changes nothing."""
    total = int(rows.sum())
    for size in _portions(len(rows)):
        yield random.multinomial(total, rows / total, size=size).astype(np.float64)


def _groups_drawn(groups: Codes, random: np.random.Generator) -> Iterator[npt.NDArray[np.float64]]:
    alone = np.flatnonzero(groups == NULL)
    groups = groups.copy()
    groups[alone] = groups.max(initial=0) + 1 + np.arange(len(alone))
    groups = np.unique(groups, return_inverse=True)[1]
    number = int(groups.max()) + 1
    for size in _portions(len(groups)):
        yield random.multinomial(number, np.full(number, 1 / number), size=size).astype(np.float64)[:, groups]


def _portions(width: int) -> Iterator[int]:
    left = SAMPLES
    while left > 0:
        size = min(left, max(1, _CELLS // max(1, width)))
        yield size
        left -= size
