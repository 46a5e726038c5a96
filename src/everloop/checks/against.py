"""What a change does to a model: two models' answers on the same rows, metric by metric and slice by slice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from everloop.checks.bootstrap import bootstrap_all
from everloop.checks.columns import Floats, codes
from everloop.checks.metrics import CLASS_METRICS, LESS_IS_BETTER, NUMBER_METRICS, score
from everloop.checks.records import CheckInput
from everloop.checks.scored import paired_rows, places, qualities, with_test_columns

MIN_ROWS = 30  # of a slice
_VALUES = 20  # distinct values, up to which a column is sliced
_FALSE_ALARMS = 0.01  # in which share of comparisons of two equal models a slice may be named

Moved = Literal["better", "worse", "same"]


@dataclass(frozen=True)
class MetricChange:
    """A metric of two models on the rows that both were tested on.

    `low` to `high` is the 95 % interval of `difference`, which is after - before; None where the rows are too few for
    one. `moved` is `same` while it holds 0.
    """

    metric: str
    before: float
    after: float
    difference: float
    low: float | None
    high: float | None
    rows: int
    moved: Moved


@dataclass(frozen=True)
class SliceChange:
    """The quality (see `slices`) of two models on the shared rows where `column` is `value`.

    `low` to `high` is the 95 % interval of `difference`; `moved` is `same` unless chance explains it in 1 % of
    comparisons only, all slices together.
    """

    column: str
    value: str
    rows: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    moved: Moved


def metric_changes(given: CheckInput, before: pa.Table) -> tuple[MetricChange, ...]:
    """The metrics of a model's predictions beside those of another's (`_row_id`, `predicted`), paired by row.

    Empty when no row was tested by both. Intervals are a paired bootstrap, by group where the split has groups.
    """
    paired = paired_rows(given, before)
    if paired is None or paired.rows == 0:
        return ()
    after_, before_ = paired.models
    metrics = NUMBER_METRICS if given.task == "number" else CLASS_METRICS

    def differences(weights: npt.NDArray[np.float64]) -> Floats:
        return np.stack(
            [score(one, after_, weights) - score(one, before_, weights) for one in metrics], axis=1
        )

    once = paired.counts[None, :].astype(np.float64)
    estimates = bootstrap_all(differences, rows=paired.counts, groups=paired.groups)
    found = []
    for metric, estimate in zip(metrics, estimates, strict=True):
        if not math.isfinite(estimate.value):
            continue
        low, high = estimate.interval or (None, None)
        sign = -1 if metric in LESS_IS_BETTER else 1
        found.append(
            MetricChange(
                metric,
                float(score(metric, before_, once)[0]),
                float(score(metric, after_, once)[0]),
                estimate.value,
                low,
                high,
                paired.rows,
                "same" if low is None or high is None else _moved(sign * low, sign * high),
            )
        )
    return tuple(found)


def slice_changes(given: CheckInput, before: pa.Table) -> tuple[SliceChange, ...]:
    """The quality of both models on each slice of the rows that both were tested on; what lost most comes first.

    Slices are the values of columns with 2 to 20 of them, and the labels: there quality is the class's recall.
    """
    if given.predictions is None:
        return ()
    at = places(given.predictions, before)
    after = given.predictions.filter(pa.array(at >= 0))
    if after.num_rows == 0:
        return ()
    rows: Any = pa.array(at[at >= 0])
    answered = before["predicted"].take(rows)
    known, new = qualities(after, given.task)
    known_before, old = qualities(pa.table({"label": after["label"], "predicted": answered}), given.task)
    both = known & known_before
    table = with_test_columns(after, given.test).filter(pa.array(both))
    new, old = new[both], old[both]
    if len(new) == 0 or not (np.isfinite(new).all() and np.isfinite(old).all()):
        return ()
    found = list(_slices(table, old, new, given.label))
    limit = _FALSE_ALARMS / max(1, len(found))  # Bonferroni
    settled = [_settled(one, p, limit) for one, p in found]
    return tuple(sorted(settled, key=lambda one: (one.difference, one.column, one.value)))


def _slices(rows: pa.Table, old: Floats, new: Floats, label: str) -> Iterator[tuple[SliceChange, float]]:
    labels = codes(rows["label"])[0]
    for name in rows.column_names:
        if name in ("predicted", "score") or name.startswith("_"):
            continue
        if name == label and label != "label":  # the predictions carry it, as "label"
            continue
        found, values = codes(rows[name])
        if name != "label" and np.array_equal(found, labels):  # the column that the labels were taken from
            continue
        if not 2 <= len(values) <= _VALUES:
            continue
        for number, value in enumerate(values.to_pylist()):
            inside = found == number
            if int(inside.sum()) >= MIN_ROWS:
                yield _slice(name, str(value), old[inside], new[inside])


def _slice(column: str, value: str, old: Floats, new: Floats) -> tuple[SliceChange, float]:
    """A slice, and the probability of so large a difference by chance (the z-test of paired differences)."""
    gained = new - old
    difference, deviation = float(gained.mean()), float(gained.std()) / math.sqrt(len(gained))
    p = 1.0 if deviation == 0 else math.erfc(abs(difference) / deviation / math.sqrt(2))
    if deviation == 0 and difference != 0:
        p = 0.0
    reach = 1.959964 * deviation
    one = SliceChange(
        column,
        value,
        len(gained),
        float(old.mean()),
        float(new.mean()),
        difference,
        difference - reach,
        difference + reach,
        "same",
    )
    return one, p


def _settled(one: SliceChange, p: float, limit: float) -> SliceChange:
    if p > limit:
        return one
    values = {**vars(one), "moved": "better" if one.difference > 0 else "worse"}
    return SliceChange(**values)


def _moved(low: float, high: float) -> Moved:
    """Which way the interval of a gain lies."""
    return "better" if low > 0 else "worse" if high < 0 else "same"
