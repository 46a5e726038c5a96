"""Routes of endpoints and rollouts."""

from __future__ import annotations

from typing import Any

from everloop import rollout
from everloop.api.routes import Call, Route
from everloop.clock import parse_time


def list_endpoints(call: Call) -> Any:
    """All endpoints and what answers on them."""
    return rollout.endpoints(call.ws)


def show_endpoint(call: Call) -> Any:
    """One endpoint."""
    return rollout.endpoint(call.ws, call.path["name"])


def show_live(call: Call) -> Any:
    """What answers now, or answered at `at`."""
    at = call.query.get("at")
    return rollout.live(call.ws, call.path["name"], at=parse_time(at) if at else None)


def list_rollouts(call: Call) -> Any:
    """Rollouts, newest first; `endpoint` and `state` narrow the list."""
    state = call.query.get("state")
    return rollout.rollouts(
        call.ws,
        endpoint_name=call.query.get("endpoint"),
        states=(state,) if state else (),  # type: ignore[arg-type]  # an unknown state matches none
        limit=call.limit(),
    )


def show_rollout(call: Call) -> Any:
    """One rollout and everything it did, each look of the judge included."""
    found = rollout.rollout_of(call.ws, call.path["id"])
    return {
        "rollout": found,
        "events": rollout.history(call.ws, rollout=found.id, limit=call.limit(default=200)),
    }


def plan(call: Call) -> Any:
    """What a rollout of a version would do."""
    given = call.fields("version", optional=("again",))
    return rollout.plan(call.ws, call.path["name"], str(given["version"]), again=bool(given.get("again")))


def start(call: Call) -> Any:
    """Start a rollout: {version, reason, again?}."""
    given = call.fields("version", "reason", optional=("again",))
    return rollout.start(
        call.ws,
        call.path["name"],
        str(given["version"]),
        reason=str(given["reason"]),
        again=bool(given.get("again")),
    )


def _turned(call: Call, verb: Any) -> Any:
    verb(call.ws, call.path["id"], reason=str(call.fields("reason")["reason"]))
    return rollout.rollout_of(call.ws, call.path["id"])


def pause(call: Call) -> Any:
    """Stop judging and moving: {reason}."""
    return _turned(call, rollout.pause)


def resume(call: Call) -> Any:
    """Go on with a paused rollout: {reason}."""
    return _turned(call, rollout.resume)


def promote_now(call: Call) -> Any:
    """Give all traffic to the new version now: {reason}."""
    return _turned(call, rollout.promote_now)


def roll_back(call: Call) -> Any:
    """Take the new version off now: {reason}."""
    return _turned(call, rollout.roll_back)


ROUTES = [
    Route("GET", "/api/endpoints", "see", list_endpoints),
    Route("GET", "/api/endpoints/{name}", "see", show_endpoint),
    Route("GET", "/api/endpoints/{name}/live", "see", show_live),
    Route("POST", "/api/endpoints/{name}/plan", "see", plan),
    Route("POST", "/api/endpoints/{name}/rollouts", "release", start),
    Route("GET", "/api/rollouts", "see", list_rollouts),
    Route("GET", "/api/rollouts/{id}", "see", show_rollout),
    Route("POST", "/api/rollouts/{id}/pause", "release", pause),
    Route("POST", "/api/rollouts/{id}/resume", "release", resume),
    Route("POST", "/api/rollouts/{id}/promote", "release", promote_now),
    Route("POST", "/api/rollouts/{id}/rollback", "release", roll_back),
]
