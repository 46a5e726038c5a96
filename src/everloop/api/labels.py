"""Routes of label sets."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from everloop import labels
from everloop.api.routes import Body, Call, File, Limited, Query, Route, Time, moment
from everloop.labels import ImportReport, LabelEvent, LabelSchema, LabelSnapshot, QualityReport


class Content(Query, frozen=True):
    content: str | None = None


class Before(Limited, frozen=True):
    before: str | None = None


class NewLabel(Body, frozen=True):
    key: str | int
    value: Any
    annotator: str | None = None
    at: Time | None = None
    duration_ms: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None


class NewLabels(Body, frozen=True):
    labels: list[NewLabel]


class Columns(File, frozen=True, kw_only=True):
    key: str
    value: str
    annotator: str


def list_label_sets(call: Call) -> list[LabelSchema]:
    """All label sets with their newest schema."""
    return labels.label_sets(call.ws)


def show_quality(call: Call, asked: Content) -> QualityReport:
    """Coverage, conflicts, duplicates, thin classes and agreement; `content` names the columns that make two rows equal."""
    columns = asked.content.split(",") if asked.content else None
    return labels.quality(call.ws, call.path["name"], content=columns)


def list_snapshots(call: Call, asked: Limited) -> list[LabelSnapshot]:
    """The snapshots of a label set, newest first."""
    return labels.snapshots(call.ws, call.path["name"], limit=asked.limit)


def list_events(call: Call, asked: Before) -> list[LabelEvent]:
    """The newest label events of a label set."""
    return labels.history(call.ws, call.path["name"], before=asked.before, limit=asked.limit)


def record(call: Call, asked: NewLabels) -> dict[str, list[str]]:
    """Give labels: a list of {key, value, annotator?, at?, duration_ms?}; all or none is kept."""
    return {"events": labels.record(call.ws, call.path["name"], [_label(call, one) for one in asked.labels])}


def import_labels(call: Call, asked: Columns) -> ImportReport:
    """Import labels from a Parquet or CSV file in the body; the query names the columns: key, value, annotator."""
    with call.file(asked.format) as path:
        return labels.import_labels(
            call.ws,
            call.path["name"],
            path,
            key=asked.key,
            value=asked.value,
            annotator=asked.annotator,
        )


def _label(call: Call, one: NewLabel) -> labels.NewLabel:
    return labels.NewLabel(
        key=one.key,
        value=one.value,
        annotator=call.principal.name if one.annotator is None else one.annotator,
        at=moment(one.at),
        duration_ms=one.duration_ms,
    )


ROUTES = [
    Route("GET", "/api/labels", "see", list_label_sets),
    Route("GET", "/api/labels/{name}/quality", "see", show_quality),
    Route("GET", "/api/labels/{name}/snapshots", "see", list_snapshots),
    Route("GET", "/api/labels/{name}/events", "see", list_events),
    Route("POST", "/api/labels/{name}/events", "label", record),
    Route("POST", "/api/labels/{name}/import", "run", import_labels),
]
