"""Routes of predictions as they stand in the log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from everloop import feedback, rollout
from everloop.api.routes import Call, Limited, Route, Time, moment
from everloop.clock import from_micros
from everloop.errors import Invalid
from everloop.feedback import Correction, Exchange, Exchanges, Outcome
from everloop.predictions import PredictionKind, PredictionSearch, kind_of
from everloop.workspace import Workspace


class Asked(Limited, frozen=True):
    """What is looked for: each field narrows, and `before` goes on where an earlier page ended."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50
    endpoint: str | None = None
    version: str | None = None
    variant: str | None = None
    status: Literal["ok", "failed", "refused"] | None = None
    output: str | None = None
    start: Time | None = None
    end: Time | None = None
    key: str | None = None
    text: str | None = None
    slower_than_ms: Annotated[float, msgspec.Meta(ge=0)] | None = None
    score_below: Annotated[float, msgspec.Meta(gt=0)] | None = None
    kind: PredictionKind | None = None
    said: feedback.Said | None = None
    before: str | None = None


class Logged(msgspec.Struct, frozen=True):
    """A prediction as it was logged, with what was said of it; `version` is empty where none was chosen, `assigned` says
    what chose it."""

    id: str
    endpoint: str
    at: datetime
    version: str
    variant: str
    assigned: str
    key: str | None
    inputs: dict[str, Any]
    features: dict[str, Any]
    output: str | float | None
    scores: dict[str, float]
    status: Literal["ok", "failed", "refused"]
    error: str | None
    latency_ms: float
    kind: PredictionKind
    shadow_of: str | None
    corrections: tuple[Correction, ...]
    outcome: Outcome | None

    @classmethod
    def of(cls, one: Exchange) -> Logged:
        record = one.prediction
        return cls(
            record.id,
            record.endpoint,
            from_micros(record.at),
            f"{record.model}@{record.version}" if record.model else "",
            record.variant,
            record.assigned,
            record.key,
            record.inputs,
            {name: value for name, (value, _as_of) in record.features.items()},
            record.output,
            record.scores,
            record.status,
            record.error,
            record.latency_us / 1_000,
            kind_of(record),
            record.shadow_of,
            one.corrections,
            one.outcome,
        )


class Listed(msgspec.Struct, frozen=True):
    """Newest first. `before`, given back, asks for earlier ones; null: there are none. `looked_at` of the log were read."""

    predictions: list[Logged]
    looked_at: int
    before: str | None


def found_predictions(ws: Workspace, asked: Asked) -> Exchanges:
    """The newest predictions that fit. Raises Invalid for a version that is none, and NotFound for an endpoint."""
    if asked.endpoint is not None:
        rollout.endpoint(ws, asked.endpoint)
    search = PredictionSearch(
        endpoint=asked.endpoint,
        version=None if asked.version is None else _number_of(asked.version),
        variant=asked.variant,
        status=asked.status,
        output=asked.output,
        start=moment(asked.start),
        end=moment(asked.end),
        key=asked.key,
        text=asked.text,
        slower_than_ms=asked.slower_than_ms,
        score_below=asked.score_below,
        kind=asked.kind,
    )
    return feedback.exchanges(ws, search, said=asked.said, limit=asked.limit, before=asked.before)


def _number_of(version: str) -> int:
    number = version.rpartition("@")[2]
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise Invalid(f"version is {version!r}; it is a model's version such as category@2, or its number.")
    return int(number)


def list_predictions(call: Call, asked: Asked) -> Listed:
    """Predictions from the log, newest first, with what was said of them; a look takes a third of a second at most."""
    page = found_predictions(call.ws, asked)
    return Listed([Logged.of(one) for one in page.found], page.looked_at, page.before)


ROUTES = [Route("GET", "/api/predictions", "see", list_predictions)]
