"""Routes of corrections, outcomes and the review queue."""

from __future__ import annotations

from typing import Any

import msgspec

from everloop import feedback
from everloop.api.routes import Body, Call, File, Limited, Query, Route, Time, moment
from everloop.clock import parse_time
from everloop.feedback import Correction, ImportReport, ReportedValue, ReviewItem, VariantCount


class NewCorrection(Body, frozen=True):
    value: Any
    reporter: str | None = None
    prediction_id: str | None = None
    key: str | None = None
    at: Time | None = None


class NewValue(Body, frozen=True):
    name: str
    value: float
    prediction_id: str | None = None
    key: str | None = None
    at: Time | None = None


class Columns(File, frozen=True, kw_only=True):
    prediction_id: str | None = None
    key: str | None = None
    value: str = "value"
    reporter: str = "reporter"
    at: str | None = None


class Span(Query, frozen=True):
    start: Time = "1970-01-01T00:00:00Z"
    end: Time | None = None


class Pair(msgspec.Struct, frozen=True):
    answer: str | float
    correction: str | float
    count: int


class Contradicted(msgspec.Struct, frozen=True):
    corrected: int
    contradicted: int
    by_variant: tuple[VariantCount, ...]
    by_class: list[Pair]


class Waiting(Limited, frozen=True):
    endpoint: str | None = None
    after: str | None = None


class Settled(Body, frozen=True):
    value: Any
    at: Time | None = None


class SettledAll(Body, frozen=True):
    answers: dict[str, Any]
    at: Time | None = None


def correct(call: Call, asked: NewCorrection) -> Correction:
    """Say what an answer should have been: {value, reporter?, prediction_id | key, at?}."""
    return feedback.correct(
        call.ws,
        endpoint=call.path["name"],
        value=asked.value,
        reporter=call.principal.name if asked.reporter is None else asked.reporter,
        prediction_id=asked.prediction_id,
        key=asked.key,
        at=moment(asked.at),
    )


def report_value(call: Call, asked: NewValue) -> ReportedValue:
    """Keep a number about a prediction, for KPIs: {name, value, prediction_id | key, at?}."""
    return feedback.report_value(
        call.ws,
        endpoint=call.path["name"],
        name=asked.name,
        value=asked.value,
        prediction_id=asked.prediction_id,
        key=asked.key,
        at=moment(asked.at),
    )


def import_corrections(call: Call, asked: Columns) -> ImportReport:
    """Keep the corrections in a file; the query names its columns: prediction_id or key, value, reporter, at."""
    with call.file(asked.format) as path:
        return feedback.import_corrections(
            call.ws,
            path,
            endpoint=call.path["name"],
            prediction_id=asked.prediction_id,
            key=asked.key,
            value=asked.value,
            reporter_column=asked.reporter,
            at=asked.at,
        )


def list_corrections(call: Call, asked: Limited) -> list[Correction]:
    """The newest corrections of an endpoint."""
    return feedback.corrections(call.ws, call.path["name"], limit=asked.limit)


def show_contradictions(call: Call, asked: Span) -> Contradicted:
    """How many answers corrections contradict, by variant and by class, from `start` to `end`."""
    found = feedback.contradictions(
        call.ws,
        call.path["name"],
        start=parse_time(asked.start),
        end=moment(asked.end) or call.ws.now(),
    )
    by_class = [
        Pair(answer, correction, count)
        for (answer, correction), count in sorted(found.by_class.items(), key=lambda one: -one[1])
    ]
    return Contradicted(found.corrected, found.contradicted, found.by_variant, by_class)


def list_review(call: Call, asked: Waiting) -> list[ReviewItem]:
    """What waits for a reviewer, oldest first."""
    return feedback.review_queue(call.ws, asked.endpoint, after=asked.after, limit=asked.limit)


def answer_review(call: Call, asked: Settled) -> ReviewItem:
    """Settle a review item: {value, at?}."""
    return feedback.answer_review(
        call.ws, call.path["id"], value=asked.value, reviewer=call.principal.name, at=moment(asked.at)
    )


def answer_reviews(call: Call, asked: SettledAll) -> list[ReviewItem]:
    """Settle several review items at once, all or none: {answers: {id: value}, at?}."""
    return feedback.answer_reviews(call.ws, asked.answers, reviewer=call.principal.name, at=moment(asked.at))


ROUTES = [
    Route("POST", "/api/endpoints/{name}/corrections", "correct", correct),
    Route("POST", "/api/endpoints/{name}/corrections/import", "correct", import_corrections),
    Route("GET", "/api/endpoints/{name}/corrections", "see", list_corrections),
    Route("POST", "/api/endpoints/{name}/values", "correct", report_value),
    Route("GET", "/api/endpoints/{name}/contradictions", "see", show_contradictions),
    Route("GET", "/api/review", "see", list_review),
    Route("POST", "/api/review", "review", answer_reviews),
    Route("POST", "/api/review/{id}", "review", answer_review),
]
