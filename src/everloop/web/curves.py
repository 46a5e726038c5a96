"""The metrics of runs over their steps, as the plots of a run and of a comparison draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from everloop import tracking
from everloop.clock import to_micros
from everloop.errors import Invalid
from everloop.tracking import Axis, RawPoint, Run
from everloop.web.visits import Visit
from everloop.workspace import Workspace

_POINTS = 1_000  # of a curve; more are told by zooming in
_LAST_STEP = (1 << 63) - 1
_MICRO = 1_000_000


@dataclass(frozen=True)
class Curve:
    """A metric over the steps of a run, or over its time; `times_s` are seconds since the run began.

    One that `is_thinned` gives of each stretch of `over` the lowest and the highest of its `count` points, and in `means`
    the mean of each stretch, at `means_at`, which is what smoothing takes.
    """

    name: str
    run: str
    over: Literal["steps", "times_s"]
    steps: list[int]
    times_s: list[float]
    values: list[float | None]
    means_at: list[float]
    means: list[float]
    is_thinned: bool
    count: int


@dataclass(frozen=True)
class Part:
    """The axis that is asked for and, when somebody zoomed in, the part of it: steps, or seconds since the run began."""

    over: Axis = "step"
    between: tuple[float, float] | None = None


def curves_of(ws: Workspace, runs: Sequence[Run], names: Sequence[str], part: Part) -> list[Curve]:
    """For each metric the curve of each run that has it there."""
    found = [_curve(ws, run, name, part) for name in names for run in runs if name in run.metrics]
    return [one for one in found if one is not None]


def asked_names(visit: Visit, names: Sequence[str]) -> list[str]:
    """Of a run's metrics the one that `metric` names, else those whose name holds what `find` says."""
    if (metric := visit.query.get("metric")) is not None:
        return [metric] if metric in names else []
    find = visit.query.get("find", "").strip().lower()
    return [name for name in names if find in name.lower()]


def asked_part(visit: Visit) -> Part:
    """What zooming into a curve asks for. Raises Invalid."""
    over: Axis = "time" if visit.query.get("over") == "time" else "step"
    first, last = visit.query.get("from", ""), visit.query.get("to", "")
    if not first and not last:
        return Part(over)
    read = int if over == "step" else float
    try:
        found = read(first or 0), read(last or _LAST_STEP)
    except ValueError as error:
        raise Invalid(
            f"from {first!r} to {last!r} are no places on the axis; they are whole numbers of steps, or seconds."
        ) from error
    if not all(abs(one) <= _LAST_STEP for one in found):
        raise Invalid(f"from {first!r} to {last!r} are no places on the axis; a step has 64 bits.")
    return Part(over, found)


def seconds_between(start: datetime, end: datetime) -> float:
    return (end - start) / timedelta(seconds=1)


def _curve(ws: Workspace, run: Run, name: str, part: Part) -> Curve | None:
    began_us = to_micros(run.started_at)

    def seconds(point: RawPoint) -> float:
        return (point.at_us - began_us) / _MICRO

    between = None
    if part.between is not None:
        scale, zero = (_MICRO, began_us) if part.over == "time" else (1, 0)
        first, last = (max(-_LAST_STEP, min(_LAST_STEP, int(one * scale) + zero)) for one in part.between)
        between = first, last
    found = tracking.curve(ws, run.id, name, over=part.over, between=between, at_most=_POINTS)
    if found is None:
        return None
    means = found.means or ()
    return Curve(
        name,
        run.id,
        "steps" if found.over == "step" else "times_s",
        [point.step for point in found.points],
        [seconds(point) for point in found.points],
        [_drawable(point) for point in found.points],
        [point.step if found.over == "step" else seconds(point) for point in means],
        [point.value for point in means],
        is_thinned=found.means is not None,
        count=found.count,
    )


def _drawable(point: RawPoint) -> float | None:
    """The value as a plot takes it: what is not finite is a gap."""
    return point.value if abs(point.value) < float("inf") else None
