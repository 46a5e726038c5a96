"""`/pipelines` and `/pipelines/runs`: what runs here, how it went, when it runs next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any, get_args
from urllib.parse import quote

from everloop import jobs, loop, pipelines, retraining
from everloop.errors import Invalid
from everloop.jobs import Schedule
from everloop.pipelines import RunLine, RunOrder, RunState
from everloop.web.visits import Moved, Shown, Visit
from everloop.workspace import Workspace

_STRIP = 30  # runs of a pipeline that are drawn
_PAGE = 50


@dataclass(frozen=True)
class PipelineLine:
    """A pipeline with its last runs, oldest first; `done` of `ended` of these went well.

    `typical_s` is the middle of how long those that are done took. `next_at` is its next firing by a schedule.
    """

    name: str
    models: tuple[str, ...]
    runs: tuple[RunLine, ...]
    done: int
    ended: int
    typical_s: float | None
    next_at: datetime | None
    schedule: str | None


def view(visit: Visit) -> Shown:
    """Every pipeline that a model is declared on or that ever ran."""
    ws = visit.ws
    models = _models(ws)
    schedules = jobs.list_schedules(ws)
    names = sorted({*models, *pipelines.pipeline_names(ws)})
    return {
        "pipelines": [_line(ws, name, tuple(models.get(name, ())), schedules) for name in names],
        "most": _STRIP,
    }


def view_one(visit: Visit) -> Moved:
    """A pipeline by its name: its runs."""
    return Moved(f"/pipelines/runs?pipeline={quote(visit.path['name'], safe='')}")


def view_runs(visit: Visit) -> Shown:
    """Runs with filters that live in the address."""
    asked = {
        name: visit.query.get(name, "").strip()
        for name in ("pipeline", "state", "since", "until", "order", "after")
    }
    order: Any = asked["order"] or "newest"
    if order not in get_args(RunOrder):
        raise Invalid(f"order is {order!r}; it is one of {', '.join(get_args(RunOrder))}.")
    if asked["state"] and asked["state"] not in get_args(RunState):
        raise Invalid(f"state is {asked['state']!r}; it is one of {', '.join(get_args(RunState))}.")
    states: Any = (asked["state"],) if asked["state"] else ()
    until = _day(asked["until"])
    found = pipelines.run_lines(
        visit.ws,
        pipeline=asked["pipeline"] or None,
        states=states,
        since=_day(asked["since"]),
        until=None if until is None else until + timedelta(days=1),
        order=order,
        after=asked["after"] or None,
        limit=_PAGE + 1,
    )
    return {
        "found": found[:_PAGE],
        "next": found[_PAGE - 1].id if len(found) > _PAGE else None,
        "asked": asked,
        "order": order,
        "names": pipelines.pipeline_names(visit.ws),
        "states": get_args(RunState),
        "longest": max((one.seconds or 0.0 for one in found[:_PAGE]), default=0.0),
    }


def _models(ws: Workspace) -> dict[str, list[str]]:
    """By pipeline, the models that are declared on it in the applied loop file."""
    applied = loop.newest(ws)
    found: dict[str, list[str]] = {}
    for key, one in ({} if applied is None else applied.declared).items():
        kind, _, name = key.partition(":")
        if kind == "model":
            found.setdefault(one["pipeline"], []).append(name)
    return found


def _line(ws: Workspace, name: str, models: tuple[str, ...], schedules: list[Schedule]) -> PipelineLine:
    runs = pipelines.run_lines(ws, pipeline=name, limit=_STRIP)[::-1]
    ended = [one for one in runs if one.state in ("done", "failed")]
    times = [one.seconds for one in ended if one.state == "done" and one.seconds is not None]
    coming = min(
        (one for one in schedules if one.kind == retraining.TRAIN and one.payload.get("model") in models),
        key=lambda one: one.next_at,
        default=None,
    )
    return PipelineLine(
        name=name,
        models=models,
        runs=tuple(runs),
        done=sum(one.state == "done" for one in ended),
        ended=len(ended),
        typical_s=median(times) if times else None,
        next_at=None if coming is None else coming.next_at,
        schedule=None if coming is None else f"{coming.cron} {coming.time_zone}",
    )


def _day(text: str) -> datetime | None:
    """Midnight of a day as a browser's date field writes it, UTC."""
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
    except ValueError as error:
        raise Invalid(f"{text!r} is not a day; one is written 2026-10-28.") from error
