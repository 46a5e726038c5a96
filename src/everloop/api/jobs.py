"""Routes of background work, and of a simulation's clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec

from everloop import background, jobs, retraining
from everloop.api.routes import Body, Call, Limited, Reason, Route, Time, moment
from everloop.clock import SimulatedClock, parse_time
from everloop.errors import Conflict, Invalid
from everloop.jobs import Job, Lane, Schedule, State
from everloop.retraining import Outlook


class Listed(Limited, frozen=True):
    kind: str | None = None
    state: State | None = None


class Limits(msgspec.Struct, frozen=True):
    lanes: list[Lane]
    pools: dict[str, int]


class Span(Limited, frozen=True):
    since: Time | None = None
    until: Time | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 500


class Agenda(msgspec.Struct, frozen=True):
    fired: list[Job]
    coming: dict[str, list[datetime]]
    waiting: list[Outlook]


class Moved(Body, frozen=True):
    to: Time


def list_jobs(call: Call, asked: Listed) -> list[dict[str, Any]]:
    """Jobs, newest first, those that wait with the reason why; `kind` and `state` narrow the list."""
    states = (asked.state,) if asked.state else ()
    found = jobs.jobs_of(call.ws, kind=asked.kind, states=states, limit=asked.limit)
    why = jobs.why_waiting(call.ws, found)
    return [{**vars(one), "waits": why.get(one.id)} for one in found]


def show_job(call: Call) -> dict[str, Any]:
    """One job, and why it waits if it does."""
    found = jobs.job(call.ws, call.path["id"])
    return {**vars(found), "waits": jobs.why_waiting(call.ws, [found]).get(found.id)}


def cancel_job(call: Call, asked: Reason) -> dict[str, str]:
    """End a job that has not ended: {reason}. A run that it began is cancelled within seconds."""
    jobs.cancel(call.ws, call.path["id"], reason=asked.reason)
    return {"cancelled": call.path["id"]}


def list_schedules(call: Call) -> list[Schedule]:
    """Schedules and when each fires next."""
    return jobs.list_schedules(call.ws)


def pause_schedule(call: Call, asked: Reason) -> dict[str, str]:
    """Let a schedule fire no more until it is resumed: {reason}."""
    jobs.pause_schedule(call.ws, call.path["name"], reason=asked.reason)
    return {"paused": call.path["name"]}


def resume_schedule(call: Call) -> dict[str, str]:
    """Let a paused schedule go on with its next instant."""
    jobs.resume_schedule(call.ws, call.path["name"])
    return {"resumed": call.path["name"]}


def list_limits(call: Call) -> Limits:
    """How many jobs of one sort may run at once, and the pools that they share."""
    return Limits(jobs.all_lanes(call.ws), jobs.pools(call.ws))


def show_agenda(call: Call, asked: Span) -> Agenda:
    """What fired and what will from `since` to `until` (a week from now by default), and how far conditions are."""
    start = moment(asked.since) or call.ws.now()
    end = moment(asked.until) or _a_week_from(start)
    begin = max(start, call.ws.now())
    coming = {
        one.name: jobs.instants_of(one, begin, end, limit=asked.limit) for one in jobs.list_schedules(call.ws)
    }
    return Agenda(
        jobs.jobs_between(call.ws, start, end, limit=asked.limit), coming, retraining.outlook(call.ws)
    )


def _a_week_from(start: datetime) -> datetime:
    try:
        return start + timedelta(days=7)
    except OverflowError as error:
        raise Invalid(
            f"a week from {start:%Y-%m-%d} is after the year 9999. Give an earlier time."
        ) from error


def show_background(call: Call) -> dict[str, bool]:
    """Whether a look is due, and whether jobs wait or run; neither means that everything known was dealt with."""
    running = jobs.jobs_of(call.ws, states=["running"], limit=1)
    return {"is_due": background.is_due(call.ws), "has_jobs": jobs.is_waiting(call.ws) or bool(running)}


def move_clock(call: Call, asked: Moved) -> dict[str, datetime]:
    """Move a simulation's time forward: {to}."""
    clock = call.ws.clock
    if not isinstance(clock, SimulatedClock):
        raise Conflict("this workspace is not a simulation; its time is real and cannot be moved.")
    clock.set(parse_time(asked.to))
    return {"now": clock.now()}


ROUTES = [
    Route("GET", "/api/jobs", "see", list_jobs),
    Route("GET", "/api/jobs/{id}", "see", show_job),
    Route("POST", "/api/jobs/{id}/cancel", "run", cancel_job),
    Route("GET", "/api/limits", "see", list_limits),
    Route("GET", "/api/schedules", "see", list_schedules),
    Route("POST", "/api/schedules/{name}/pause", "run", pause_schedule),
    Route("POST", "/api/schedules/{name}/resume", "run", resume_schedule),
    Route("GET", "/api/agenda", "see", show_agenda),
    Route("GET", "/api/background", "see", show_background),
    Route("POST", "/api/simulation/clock", "administer", move_clock),
]
