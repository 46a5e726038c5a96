"""Routes of endpoints and rollouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from everloop import rollout
from everloop.api.routes import Body, Call, Limited, Query, Reason, Route, Time, moment
from everloop.rollout import (
    Endpoint,
    LiveVariant,
    Plan,
    Rollout,
    RolloutEvent,
    RoutingRule,
    SplitResults,
    State,
    TrafficSplit,
)
from everloop.serving import Limits


class At(Query, frozen=True):
    at: Time | None = None


class Listed(Limited, frozen=True):
    endpoint: str | None = None
    state: State | None = None


class Events(Limited, frozen=True):
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 200


class Planned(Body, frozen=True):
    version: str
    again: bool = False


class Started(Reason, frozen=True, kw_only=True):
    version: str
    again: bool = False


class Ruled(Reason, frozen=True, kw_only=True):
    to: str
    header: str | None = None
    input: str | None = None
    values: list[str | int | float | bool] = []


class Shared(Reason, frozen=True, kw_only=True):
    shares: dict[str, float]
    sticky: bool = False
    again: bool = False


class Allowed(Limits, frozen=True, forbid_unknown_fields=True):
    """What models may take; what is left out is not limited, or as the settings say."""


class Ended(Reason, frozen=True, kw_only=True):
    keep: str | None = None


class Shown(msgspec.Struct, frozen=True):
    rollout: Rollout
    events: list[RolloutEvent]


def list_endpoints(call: Call) -> list[Endpoint]:
    """All endpoints and what answers on them."""
    return rollout.endpoints(call.ws)


def show_endpoint(call: Call) -> Endpoint:
    """One endpoint."""
    return rollout.endpoint(call.ws, call.path["name"])


def show_live(call: Call, asked: At) -> tuple[LiveVariant, ...]:
    """What answers now, or answered at `at`."""
    return rollout.live(call.ws, call.path["name"], at=moment(asked.at))


def put_limits(call: Call, asked: Allowed) -> Endpoint:
    """Say what the endpoint's models may take, all of it: {deadline_ms?, memory_mb?, cores?, ...}; {} takes the limits off."""
    limits = rollout.limits(**msgspec.structs.asdict(asked))
    return rollout.set_limits(call.ws, call.path["name"], limits)


def put_rule(call: Call, asked: Ruled) -> Endpoint:
    """Send requests with a header or an input to a version: a new rule is the last, one of that name is replaced."""
    made = RoutingRule(call.path["rule"], asked.to, asked.header, asked.input, tuple(asked.values))
    return rollout.put_rule(call.ws, call.path["name"], made, reason=asked.reason)


def drop_rule(call: Call, asked: Reason) -> Endpoint:
    """Take a rule away: {reason}."""
    return rollout.drop_rule(call.ws, call.path["name"], call.path["rule"], reason=asked.reason)


def plan_split(call: Call, asked: Shared) -> TrafficSplit:
    """What a split would do; nothing changes."""
    return rollout.plan_split(
        call.ws, call.path["name"], asked.shares, sticky=asked.sticky, reason=asked.reason, again=asked.again
    )


def split_traffic(call: Call, asked: Shared) -> TrafficSplit:
    """Share the traffic between versions until somebody ends it; what answers now is one of them."""
    return rollout.split_traffic(
        call.ws, call.path["name"], asked.shares, sticky=asked.sticky, reason=asked.reason, again=asked.again
    )


def show_split(call: Call) -> SplitResults:
    """What the arms of the endpoint's newest split or holdback did so far, with bounds that hold at every look."""
    return rollout.split_results(call.ws, rollout.split_of(call.ws, call.path["name"]))


def end_split(call: Call, asked: Ended) -> TrafficSplit:
    """Give all traffic to one of the arms: {reason, keep?}."""
    return rollout.end_split(call.ws, call.path["name"], keep=asked.keep, reason=asked.reason)


def list_rollouts(call: Call, asked: Listed) -> list[Rollout]:
    """Rollouts, newest first; `endpoint` and `state` narrow the list."""
    return rollout.rollouts(
        call.ws,
        endpoint_name=asked.endpoint,
        states=(asked.state,) if asked.state else (),
        limit=asked.limit,
    )


def show_rollout(call: Call, asked: Events) -> Shown:
    """One rollout and everything it did, each look of the judge included."""
    found = rollout.rollout_of(call.ws, call.path["id"])
    return Shown(found, rollout.history(call.ws, rollout=found.id, limit=asked.limit))


def plan(call: Call, asked: Planned) -> Plan:
    """What a rollout of a version would do."""
    return rollout.plan(call.ws, call.path["name"], asked.version, again=asked.again)


def start(call: Call, asked: Started) -> Rollout:
    """Start a rollout: {version, reason, again?}."""
    return rollout.start(call.ws, call.path["name"], asked.version, reason=asked.reason, again=asked.again)


def _turned(call: Call, asked: Reason, verb: Callable[..., None]) -> Rollout:
    verb(call.ws, call.path["id"], reason=asked.reason)
    return rollout.rollout_of(call.ws, call.path["id"])


def pause(call: Call, asked: Reason) -> Rollout:
    """Stop judging and moving: {reason}."""
    return _turned(call, asked, rollout.pause)


def resume(call: Call, asked: Reason) -> Rollout:
    """Go on with a paused rollout: {reason}."""
    return _turned(call, asked, rollout.resume)


def promote_now(call: Call, asked: Reason) -> Rollout:
    """Give all traffic to the new version now: {reason}."""
    return _turned(call, asked, rollout.promote_now)


def roll_back(call: Call, asked: Reason) -> Rollout:
    """Take the new version off now: {reason}."""
    return _turned(call, asked, rollout.roll_back)


ROUTES = [
    Route("GET", "/api/endpoints", "see", list_endpoints),
    Route("GET", "/api/endpoints/{name}", "see", show_endpoint),
    Route("GET", "/api/endpoints/{name}/live", "see", show_live),
    Route("POST", "/api/endpoints/{name}/plan", "see", plan),
    Route("POST", "/api/endpoints/{name}/rollouts", "release", start),
    Route("PUT", "/api/endpoints/{name}/limits", "release", put_limits),
    Route("PUT", "/api/endpoints/{name}/rules/{rule}", "release", put_rule),
    Route("DELETE", "/api/endpoints/{name}/rules/{rule}", "release", drop_rule),
    Route("POST", "/api/endpoints/{name}/split/plan", "see", plan_split),
    Route("POST", "/api/endpoints/{name}/split", "release", split_traffic),
    Route("GET", "/api/endpoints/{name}/split", "see", show_split),
    Route("POST", "/api/endpoints/{name}/split/end", "release", end_split),
    Route("GET", "/api/rollouts", "see", list_rollouts),
    Route("GET", "/api/rollouts/{id}", "see", show_rollout),
    Route("POST", "/api/rollouts/{id}/pause", "release", pause),
    Route("POST", "/api/rollouts/{id}/resume", "release", resume),
    Route("POST", "/api/rollouts/{id}/promote", "release", promote_now),
    Route("POST", "/api/rollouts/{id}/rollback", "release", roll_back),
]
