"""Routes of label sets."""

from __future__ import annotations

from typing import Any

from everloop import labels
from everloop.api.routes import Call, Route
from everloop.clock import parse_time
from everloop.errors import Invalid


def list_label_sets(call: Call) -> Any:
    """All label sets with their newest schema."""
    return labels.label_sets(call.ws)


def show_quality(call: Call) -> Any:
    """Coverage, conflicts, duplicates, thin classes and agreement; `content` names the columns that make two rows equal."""
    content = call.query.get("content")
    return labels.quality(call.ws, call.path["name"], content=content.split(",") if content else None)


def list_snapshots(call: Call) -> Any:
    """The snapshots of a label set, newest first."""
    return labels.snapshots(call.ws, call.path["name"], limit=call.limit())


def list_events(call: Call) -> Any:
    """The newest label events of a label set."""
    return labels.history(call.ws, call.path["name"], before=call.query.get("before"), limit=call.limit())


def record(call: Call) -> Any:
    """Give labels: a list of {key, value, annotator?, at?, duration_ms?}; all or none is kept."""
    given = call.fields("labels")["labels"]
    if not isinstance(given, list):
        raise Invalid('labels is not a list; give [{"key": ..., "value": ...}, ...].')
    return {"events": labels.record(call.ws, call.path["name"], [_label(call, one) for one in given])}


def import_labels(call: Call) -> Any:
    """Import labels from a Parquet or CSV file in the body; the query names the columns: key, value, annotator."""
    wanted = {name: call.query.get(name, "") for name in ("key", "value", "annotator")}
    if empty := [name for name, value in wanted.items() if not value]:
        raise Invalid(
            f"the query lacks {', '.join(empty)}; it names the key and value columns and the annotator."
        )
    with call.file() as path:
        return labels.import_labels(
            call.ws,
            call.path["name"],
            path,
            key=wanted["key"],
            value=wanted["value"],
            annotator=wanted["annotator"],
        )


def _label(call: Call, one: Any) -> labels.NewLabel:
    known = ("key", "value", "annotator", "at", "duration_ms")
    if not isinstance(one, dict) or "key" not in one or "value" not in one or set(one) - set(known):
        raise Invalid(
            f"{str(one)[:80]!r} is not a label; it is an object with key, value and perhaps annotator, at, duration_ms."
        )
    at = None if one.get("at") is None else parse_time(str(one["at"]))
    return labels.NewLabel(
        key=one["key"],
        value=one["value"],
        annotator=str(one.get("annotator", call.principal.name)),
        at=at,
        duration_ms=one.get("duration_ms"),
    )


ROUTES = [
    Route("GET", "/api/labels", "see", list_label_sets),
    Route("GET", "/api/labels/{name}/quality", "see", show_quality),
    Route("GET", "/api/labels/{name}/snapshots", "see", list_snapshots),
    Route("GET", "/api/labels/{name}/events", "see", list_events),
    Route("POST", "/api/labels/{name}/events", "label", record),
    Route("POST", "/api/labels/{name}/import", "run", import_labels),
]
