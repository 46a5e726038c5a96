"""Routes of measures, findings and events."""

from __future__ import annotations

from typing import Any

from everloop import events, monitoring, retraining
from everloop.api.routes import Call, Route
from everloop.clock import parse_time


def list_measures(call: Call) -> Any:
    """What was measured on an endpoint, oldest first; `name` narrows, `start` leaves out what is older."""
    name, start = call.query.get("name"), call.query.get("start")
    return monitoring.measures(
        call.ws,
        call.path["name"],
        names=(name,) if name else (),
        start=parse_time(start) if start else None,
        limit=call.limit(default=1_000, most=10_000),
    )


def list_findings(call: Call) -> Any:
    """What was found, newest first."""
    return monitoring.findings(call.ws, call.query.get("endpoint"), limit=call.limit())


def list_events(call: Call) -> Any:
    """What happened, newest first; `kind` may be a family such as `rollout.`."""
    return events.newest(
        call.ws, kind=call.query.get("kind"), before=call.query.get("before"), limit=call.limit()
    )


def list_retrainings(call: Call) -> Any:
    """Decisions to train again, with the numbers they were made on."""
    return retraining.decisions(call.ws, model=call.query.get("model"), limit=call.limit())


ROUTES = [
    Route("GET", "/api/endpoints/{name}/measures", "see", list_measures),
    Route("GET", "/api/findings", "see", list_findings),
    Route("GET", "/api/events", "see", list_events),
    Route("GET", "/api/retrainings", "see", list_retrainings),
]
