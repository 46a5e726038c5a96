"""Routes of measures, findings and events."""

from __future__ import annotations

from typing import Annotated

import msgspec

from everloop import events, monitoring, retraining
from everloop.api.routes import Call, Limited, Route, Time, moment
from everloop.events import Event
from everloop.monitoring import Finding, Measure
from everloop.retraining import Decision


class Measured(Limited, frozen=True):
    name: str | None = None
    start: Time | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000


class OfEndpoint(Limited, frozen=True):
    endpoint: str | None = None


class OfKind(Limited, frozen=True):
    kind: str | None = None
    before: str | None = None


class OfModel(Limited, frozen=True):
    model: str | None = None


def list_measures(call: Call, asked: Measured) -> list[Measure]:
    """What was measured on an endpoint, oldest first; `name` narrows, `start` leaves out what is older."""
    return monitoring.measures(
        call.ws,
        call.path["name"],
        names=(asked.name,) if asked.name else (),
        start=moment(asked.start),
        limit=asked.limit,
    )


def list_findings(call: Call, asked: OfEndpoint) -> list[Finding]:
    """What was found, newest first."""
    return monitoring.findings(call.ws, asked.endpoint, limit=asked.limit)


def list_events(call: Call, asked: OfKind) -> list[Event]:
    """What happened, newest first; `kind` may be a family such as `rollout.`."""
    return events.newest(call.ws, kind=asked.kind, before=asked.before, limit=asked.limit)


def list_retrainings(call: Call, asked: OfModel) -> list[Decision]:
    """Decisions to train again, with the numbers they were made on."""
    return retraining.decisions(call.ws, model=asked.model, limit=asked.limit)


ROUTES = [
    Route("GET", "/api/endpoints/{name}/measures", "see", list_measures),
    Route("GET", "/api/findings", "see", list_findings),
    Route("GET", "/api/events", "see", list_events),
    Route("GET", "/api/retrainings", "see", list_retrainings),
]
