"""The runs of both sides beside each other, in a home that holds both."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from everloop import checks, loop, pipelines
from everloop.ci.records import (
    AnswersMoved,
    Compared,
    DataMoved,
    DataSeen,
    LabelsMoved,
    Metric,
    Outcome,
    SliceMoved,
)
from everloop.pipelines import Comparison
from everloop.workspace import Workspace

_SLICES = 20  # those that lost most, and those that gained most


def compared(ws: Workspace, before: Outcome | None, after: Outcome) -> Compared:
    """What differs between two outcomes; nothing is said without a base, or where one side failed."""
    if before is None or before.run is None or after.run is None or before.failure or after.failure:
        return Compared()
    # no rows and no keys: what a report shows is read by more people than the data are
    beside = pipelines.compare(ws, before.run, after.run, limit=0)
    metrics, slices = _measured(ws, before, after)
    return Compared(
        metrics=metrics,
        slices=slices,
        data=tuple(_data(before, after, beside)),
        labels=tuple(LabelsMoved(one.name, one.added, one.removed, one.changed) for one in beside.labels),
        answers=None
        if beside.answers is None
        else AnswersMoved(
            beside.answers.shared,
            beside.answers.differing,
            beside.answers.right_before,
            beside.answers.right_after,
        ),
        environment=tuple(one.sentence for one in beside.environment),
    )


def _measured(
    ws: Workspace, before: Outcome, after: Outcome
) -> tuple[tuple[Metric, ...], tuple[SliceMoved, ...]]:
    """Metrics on the rows that both were tested on, with intervals, then those that were logged and nothing more is known of."""
    given = None if after.run is None else loop.judged_rows(ws, after.run)
    answers = None if before.run is None else pipelines.held_out_answers(ws, before.run)
    metrics: list[Metric] = []
    slices: tuple[SliceMoved, ...] = ()
    if given is not None and answers is not None:
        metrics = [
            Metric(one.metric, one.before, one.after, one.difference, one.low, one.high, one.rows, one.moved)
            for one in checks.metric_changes(given, answers)
        ]
        slices = _shown([SliceMoved(**vars(one)) for one in checks.slice_changes(given, answers)])
    measured = {one.name for one in metrics}
    logged = sorted((before.metrics.keys() | after.metrics.keys()) - measured)
    return (*metrics, *(_logged(name, before.metrics, after.metrics) for name in logged)), slices


def _logged(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> Metric:
    old, new = before.get(name), after.get(name)
    return Metric(name, old, new, None if old is None or new is None else new - old)


def _shown(slices: list[SliceMoved]) -> tuple[SliceMoved, ...]:
    """The slices that lost and that gained most: what did not move is in no list."""
    moved = [one for one in slices if one.difference != 0]
    lost = [one for one in moved if one.difference < 0][:_SLICES]
    gained = [one for one in moved if one.difference > 0][-_SLICES:]
    return tuple(itertools.chain(lost, gained))


def _data(before: Outcome, after: Outcome, beside: Comparison) -> Iterator[DataMoved]:
    old, new = ({one.name: one for one in side.data} for side in (before, after))
    rows = {str(one.after or one.before).partition("@")[0]: one for one in beside.data}
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        moved = rows.get(name)
        columns = tuple(_columns(was, now))
        if moved is None and not columns:
            continue
        yield DataMoved(
            name,
            None if was is None else was.rows,
            None if now is None else now.rows,
            None if moved is None else moved.added,
            None if moved is None else moved.removed,
            None if moved is None else moved.changed,
            columns,
        )


def _columns(before: DataSeen | None, after: DataSeen | None) -> Iterator[str]:
    old, new = (one.columns if one is not None else {} for one in (before, after))
    for name in (*old, *(one for one in new if one not in old)):
        was, now = old.get(name), new.get(name)
        if was is None or now is None:
            yield f"{name} is {'new' if was is None else 'gone'}"
        elif was != now:
            yield f"{name} was {was} and is {now}"
