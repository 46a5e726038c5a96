"""What a change does to a model: two models' answers on the same rows, metric by metric and slice by slice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from everloop.checks.bootstrap import bootstrap_all
from everloop.checks.columns import Floats
from everloop.checks.metrics import CLASS_METRICS, LESS_IS_BETTER, NUMBER_METRICS, score
from everloop.checks.records import CheckInput
from everloop.checks.scored import paired_rows, places, qualities, with_test_columns
from everloop.checks.segments import MIN_ROWS, Cut, cuts_of, pairs_of

_FALSE_ALARMS = (
    0.005  # in which share of comparisons of two equal models a slice may be named; as many of pairs
)

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

    Slices are those of `slices`, and the labels: there quality is the class's recall. Of pairs of columns those are given
    that moved although neither of their two slices did.
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
    left_out = {
        "predicted",
        "score",
        *({given.label} - {"label"}),
    }  # the predictions carry the label, as "label"
    cuts = cuts_of(table, left_out=left_out, uncut=(given.key, given.group))
    single = _settled([one for cut in cuts for one in _slices(cut, old, new)])
    has_moved = {(one.column, one.value) for one in single if one.moved != "same"}
    pairs = _settled(
        [
            one
            for pair in pairs_of(cuts)
            for one in _slices(pair, old, new)
            if not has_moved & {(cut.column, cut.names[part]) for cut, part in one.of}
        ]
    )
    found = [*single, *(one for one in pairs if one.moved != "same")]
    return tuple(sorted(found, key=lambda one: (one.difference, one.column, one.value)))


@dataclass(frozen=True)
class _Candidate:
    """A slice before it is settled, with the probability of so large a difference by chance."""

    change: SliceChange
    p: float
    of: tuple[tuple[Cut, int], ...]


def _slices(cut: Cut, old: Floats, new: Floats) -> Iterator[_Candidate]:
    gained = new - old
    sums = [
        np.bincount(cut.group + 1, one, minlength=len(cut.names) + 1)[1:]
        for one in (np.ones(len(old)), old, new, gained, gained**2)
    ]
    for number, (rows, *own) in enumerate(np.stack(sums, axis=1)):
        if rows >= MIN_ROWS:
            was, now, difference, square = (float(one) / float(rows) for one in own)
            reach = 1.959964 * math.sqrt(max(0.0, square - difference**2) / float(rows))
            yield _Candidate(
                SliceChange(
                    cut.column,
                    cut.names[number],
                    int(rows),
                    was,
                    now,
                    difference,
                    difference - reach,
                    difference + reach,
                    "same",
                ),
                _by_chance(difference, square, int(rows)),
                tuple(zip(cut.within, cut.parts[number], strict=True)) if cut.within else (),
            )


def _by_chance(difference: float, square: float, rows: int) -> float:
    """The probability of so large a mean of paired differences by chance: z = sum / sqrt(sum of squares).

    For right and wrong answers it is McNemar's test (1947), which keeps its level for few rows, as a correction for many
    slices asks for; a deviation around the mean found would not.
    """
    return 1.0 if square == 0 else math.erfc(abs(difference) * math.sqrt(rows / square / 2))


def _settled(found: list[_Candidate]) -> list[SliceChange]:
    limit = _FALSE_ALARMS / max(1, len(found))  # Bonferroni
    return [
        replace(one.change, moved="better" if one.change.difference > 0 else "worse")
        if one.p <= limit
        else one.change
        for one in found
    ]


def _moved(low: float, high: float) -> Moved:
    """Which way the interval of a gain lies."""
    return "better" if low > 0 else "worse" if high < 0 else "same"
