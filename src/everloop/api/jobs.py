"""Routes of background work, and of a simulation's clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from everloop import background, jobs, retraining
from everloop.api.routes import Call, Route
from everloop.clock import SimulatedClock, parse_time
from everloop.errors import Conflict


def list_jobs(call: Call) -> Any:
    """Jobs, newest first, those that wait with the reason why; `kind` and `state` narrow the list."""
    state = call.query.get("state")
    states = (state,) if state else ()
    found = jobs.jobs_of(call.ws, kind=call.query.get("kind"), states=states, limit=call.limit())  # type: ignore[arg-type]  # an unknown state matches none
    why = jobs.why_waiting(call.ws, found)
    return [{**vars(one), "waits": why.get(one.id)} for one in found]


def show_job(call: Call) -> Any:
    """One job, and why it waits if it does."""
    found = jobs.job(call.ws, call.path["id"])
    return {**vars(found), "waits": jobs.why_waiting(call.ws, [found]).get(found.id)}


def cancel_job(call: Call) -> Any:
    """End a job that has not ended: {reason}. A run that it began is cancelled within seconds."""
    jobs.cancel(call.ws, call.path["id"], reason=str(call.fields("reason")["reason"]))
    return {"cancelled": call.path["id"]}


def list_schedules(call: Call) -> Any:
    """Schedules and when each fires next."""
    return jobs.list_schedules(call.ws)


def pause_schedule(call: Call) -> Any:
    """Let a schedule fire no more until it is resumed: {reason}."""
    jobs.pause_schedule(call.ws, call.path["name"], reason=str(call.fields("reason")["reason"]))
    return {"paused": call.path["name"]}


def resume_schedule(call: Call) -> Any:
    """Let a paused schedule go on with its next instant."""
    jobs.resume_schedule(call.ws, call.path["name"])
    return {"resumed": call.path["name"]}


def list_limits(call: Call) -> Any:
    """How many jobs of one sort may run at once, and the pools that they share."""
    return {"lanes": jobs.all_lanes(call.ws), "pools": jobs.pools(call.ws)}


def show_agenda(call: Call) -> Any:
    """What fired and what will from `since` to `until` (a week from now by default), and how far conditions are."""
    since, until = (call.query.get(name) for name in ("since", "until"))
    start = parse_time(since) if since else call.ws.now()
    end = parse_time(until) if until else start + timedelta(days=7)
    limit = call.limit(default=500)
    coming = max(start, call.ws.now())
    return {
        "fired": jobs.jobs_between(call.ws, start, end, limit=limit),
        "coming": {
            one.name: jobs.instants_of(one, coming, end, limit=limit) for one in jobs.list_schedules(call.ws)
        },
        "waiting": retraining.outlook(call.ws),
    }


def show_background(call: Call) -> Any:
    """Whether a look is due, and whether jobs wait or run; neither means that everything known was dealt with."""
    running = jobs.jobs_of(call.ws, states=["running"], limit=1)
    return {"is_due": background.is_due(call.ws), "has_jobs": jobs.is_waiting(call.ws) or bool(running)}


def move_clock(call: Call) -> Any:
    """Move a simulation's time forward: {to}."""
    clock = call.ws.clock
    if not isinstance(clock, SimulatedClock):
        raise Conflict("this workspace is not a simulation; its time is real and cannot be moved.")
    clock.set(parse_time(str(call.fields("to")["to"])))
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
