"""The metrics of runs over their steps, as the plots of a run and of a comparison draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from everloop import tracking
from everloop.errors import Invalid
from everloop.tracking import MetricPoint, Run
from everloop.web.visits import Visit
from everloop.workspace import Workspace

_POINTS = 1_000  # of a curve; more are told by zooming in
_LAST_STEP = (1 << 63) - 1


@dataclass(frozen=True)
class Curve:
    """A metric over the steps of a run; `times_s` are seconds since the run began. `is_thinned`: not every step is there."""

    name: str
    run: str
    steps: list[int]
    times_s: list[float]
    values: list[float | None]
    is_thinned: bool


def curves_of(
    ws: Workspace, runs: Sequence[Run], names: Sequence[str], steps: tuple[int, int] | None
) -> list[Curve]:
    """For each metric the curve of each run that has it."""
    found = [_curve(ws, run, name, steps) for name in names for run in runs if name in run.metrics]
    return [one for one in found if one.steps]


def asked_names(visit: Visit, names: Sequence[str]) -> list[str]:
    """Of a run's metrics the one that `metric` names, else those whose name holds what `find` says."""
    if (metric := visit.query.get("metric")) is not None:
        return [metric] if metric in names else []
    find = visit.query.get("find", "").strip().lower()
    return [name for name in names if find in name.lower()]


def asked_steps(visit: Visit) -> tuple[int, int] | None:
    """The steps to look at, as zooming into a curve asks for them. Raises Invalid."""
    first, last = visit.query.get("from", ""), visit.query.get("to", "")
    if not first and not last:
        return None
    try:
        found = int(first or 0), int(last or _LAST_STEP)
    except ValueError as error:
        raise Invalid(f"from {first!r} to {last!r} are no steps; a step is a whole number.") from error
    if not all(abs(step) <= _LAST_STEP for step in found):
        raise Invalid(f"from {first!r} to {last!r} are no steps; a step has 64 bits.")
    return found


def seconds_between(start: datetime, end: datetime) -> float:
    return (end - start) / timedelta(seconds=1)


def _curve(ws: Workspace, run: Run, name: str, steps: tuple[int, int] | None) -> Curve:
    points = [
        point
        for _, point in tracking.metric_histories(
            ws, [run.id], name, steps=steps, at_most=_POINTS, limit=4 * _POINTS
        )
    ]
    return Curve(
        name,
        run.id,
        [point.step for point in points],
        [seconds_between(run.started_at, point.at) for point in points],
        [_drawable(point) for point in points],
        is_thinned=len(points) >= _POINTS,
    )


def _drawable(point: MetricPoint) -> float | None:
    """The value as a plot takes it: what is not finite is a gap."""
    return point.value if abs(point.value) < float("inf") else None
