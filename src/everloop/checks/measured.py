"""A metric of a model's own predictions: its value, the rows that it rests on, and what it could be with other rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from everloop.checks.bootstrap import Estimate, bootstrap
from everloop.checks.bounds import share_at_least, share_at_most
from everloop.checks.columns import NULL, Codes
from everloop.checks.metrics import Scored, is_known, score
from everloop.checks.records import CheckInput
from everloop.checks.scored import scored_rows


@dataclass(frozen=True)
class Measured:
    """`rows` are those that the metric rests on: of recall:CLASS the rows of the class. `at` gives its quantiles."""

    value: float
    rows: int
    at: Callable[[float], float] | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 %, two-sided; None when there are too few rows for one."""
        return None if self.at is None else (self.at(0.025), self.at(0.975))


@dataclass(frozen=True)
class _Part:
    """A share that the metric is, or is a mean of: so many good of so many rows, `weight` in that mean."""

    good: int
    rows: int
    weight: float


def measured(given: CheckInput, metric: str) -> Measured | None:
    """The metric with its bounds; None when it cannot be computed from the predictions.

    Accuracy, recall, precision and f1 of a class on independent rows have exact bounds (Clopper and Pearson, 1934; f1 is
    2 J / (1 + J) of the share J of rows that are right among those labelled or answered with the class). The others have
    those of a bootstrap; where that does not vary, since all rows are right or all wrong, the exact ones of their classes
    at confidences that hold together (Bonferroni), with groups as of as many rows as there are groups.
    """
    found = scored_rows(given)
    if found is None or not is_known(metric, found.models[0]):
        return None
    model = found.models[0]
    estimate = bootstrap(
        lambda weights: score(metric, model, weights), rows=found.counts, groups=found.groups
    )
    parts = [] if model.classes is None else _parts(metric, model, found.counts, found.groups)
    rests_on = (
        [one.rows for one in _parts(metric, model, found.counts, None)] if len(parts) == 1 else [found.rows]
    )
    is_exact = parts and (_is_even(estimate) or (len(parts) == 1 and found.groups is None))
    if is_exact:
        return Measured(estimate.value, rests_on[0], lambda quantile: _exact_at(metric, parts, quantile))
    return Measured(estimate.value, rests_on[0], estimate.at if len(estimate.samples) else None)


def _is_even(estimate: Estimate) -> bool:
    return len(estimate.samples) == 0 or bool(estimate.samples[0] == estimate.samples[-1])


def _parts(metric: str, model: Scored, counts: npt.NDArray[np.int64], groups: Codes | None) -> list[_Part]:
    name, _, one = metric.partition(":")
    hit = model.labels == model.predicted
    if name == "accuracy":
        return [_part(hit, np.ones(len(hit), np.bool_), counts, groups, 1.0)]
    classes = [(model.classes or ()).index(one)] if one else model.average
    parts = []
    for place in classes:
        labelled, answered = model.labels == place, model.predicted == place
        rows = {"recall": labelled, "precision": answered}.get(name, labelled | answered)
        weight = float(counts[labelled].sum()) if name == "weighted_f1" else 1.0
        parts.append(_part(hit & rows, rows, counts, groups, weight))
    return parts


def _part(
    good: npt.NDArray[np.bool_],
    rows: npt.NDArray[np.bool_],
    counts: npt.NDArray[np.int64],
    groups: Codes | None,
    weight: float,
) -> _Part:
    if groups is None:
        return _Part(int(counts[good].sum()), int(counts[rows].sum()), weight)
    number = len(np.unique(groups[rows & (groups != NULL)])) + int((rows & (groups == NULL)).sum())
    return _Part(round(number * float(good[rows].mean())) if number else 0, number, weight)


def _exact_at(metric: str, parts: list[_Part], quantile: float) -> float:
    tail = min(quantile, 1 - quantile) / len(parts)
    bound = share_at_least if quantile < 0.5 else share_at_most
    values = np.array([bound(one.good, one.rows, confidence=1 - tail) for one in parts])
    if "f1" in metric:
        values = 2 * values / (1 + values)
    return float(np.average(values, weights=[one.weight for one in parts]))
