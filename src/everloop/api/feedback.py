"""Routes of corrections, outcomes and the review queue."""

from __future__ import annotations

from typing import Any

from everloop import feedback
from everloop.api.routes import Call, Route
from everloop.clock import parse_time
from everloop.errors import Invalid


def correct(call: Call) -> Any:
    """Say what an answer should have been: {value, reporter?, prediction_id | key, at?}."""
    given = call.fields("value", optional=("reporter", "prediction_id", "key", "at"))
    return feedback.correct(
        call.ws,
        endpoint=call.path["name"],
        value=given["value"],
        reporter=str(given.get("reporter", call.principal.name)),
        prediction_id=given.get("prediction_id"),
        key=given.get("key"),
        at=None if given.get("at") is None else parse_time(str(given["at"])),
    )


def import_corrections(call: Call) -> Any:
    """Keep the corrections in a file; the query names its columns: prediction_id or key, value, reporter, at."""
    with call.file() as path:
        return feedback.import_corrections(
            call.ws,
            path,
            endpoint=call.path["name"],
            prediction_id=call.query.get("prediction_id"),
            key=call.query.get("key"),
            value=call.query.get("value", "value"),
            reporter_column=call.query.get("reporter", "reporter"),
            at=call.query.get("at"),
        )


def list_corrections(call: Call) -> Any:
    """The newest corrections of an endpoint."""
    return feedback.corrections(call.ws, call.path["name"], limit=call.limit())


def show_contradictions(call: Call) -> Any:
    """How many answers corrections contradict, by variant and by class, from `start` to `end`."""
    start, end = call.query.get("start"), call.query.get("end")
    found = feedback.contradictions(
        call.ws,
        call.path["name"],
        start=parse_time(start or "1970-01-01T00:00:00Z"),
        end=parse_time(end) if end else call.ws.now(),
    )
    by_class = [
        {"answer": answer, "correction": correction, "count": count}
        for (answer, correction), count in sorted(found.by_class.items(), key=lambda one: -one[1])
    ]
    return {
        "corrected": found.corrected,
        "contradicted": found.contradicted,
        "by_variant": found.by_variant,
        "by_class": by_class,
    }


def list_review(call: Call) -> Any:
    """What waits for a reviewer, oldest first."""
    return feedback.review_queue(
        call.ws, call.query.get("endpoint"), after=call.query.get("after"), limit=call.limit()
    )


def answer_review(call: Call) -> Any:
    """Settle a review item: {value, at?}."""
    given = call.fields("value", optional=("at",))
    at = None if given.get("at") is None else parse_time(str(given["at"]))
    return feedback.answer_review(
        call.ws, call.path["id"], value=given["value"], reviewer=call.principal.name, at=at
    )


def answer_reviews(call: Call) -> Any:
    """Settle several review items at once, all or none: {answers: {id: value}, at?}."""
    given = call.fields("answers", optional=("at",))
    if not isinstance(given["answers"], dict):
        raise Invalid('answers is not an object; give {"rev_...": value, ...}.')
    at = None if given.get("at") is None else parse_time(str(given["at"]))
    return feedback.answer_reviews(call.ws, given["answers"], reviewer=call.principal.name, at=at)


ROUTES = [
    Route("POST", "/api/endpoints/{name}/corrections", "correct", correct),
    Route("POST", "/api/endpoints/{name}/corrections/import", "correct", import_corrections),
    Route("GET", "/api/endpoints/{name}/corrections", "see", list_corrections),
    Route("GET", "/api/endpoints/{name}/contradictions", "see", show_contradictions),
    Route("GET", "/api/review", "see", list_review),
    Route("POST", "/api/review", "review", answer_reviews),
    Route("POST", "/api/review/{id}", "review", answer_review),
]
