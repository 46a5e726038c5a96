"""Routes of corrections, outcomes and the review queue."""

from __future__ import annotations

from typing import Any

from everloop import feedback
from everloop.api.routes import Call, Route
from everloop.clock import parse_time


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


ROUTES = [
    Route("POST", "/api/endpoints/{name}/corrections", "correct", correct),
    Route("GET", "/api/endpoints/{name}/corrections", "see", list_corrections),
    Route("GET", "/api/endpoints/{name}/contradictions", "see", show_contradictions),
    Route("GET", "/api/review", "see", list_review),
    Route("POST", "/api/review/{id}", "review", answer_review),
]
