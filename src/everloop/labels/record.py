"""Saying what a row is, and looking up what was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from everloop import data
from everloop.errors import Invalid, NotFound
from everloop.ids import new_id
from everloop.labels import store
from everloop.labels.define import schema
from everloop.labels.records import LabelEvent, LabelSchema, NewLabel
from everloop.labels.taxonomy import checked_value
from everloop.storage import Tx
from everloop.workspace import Workspace

_SKEW = timedelta(minutes=5)  # how far the clock of whoever says it may be ahead of ours
_SHOWN = 5


@dataclass(frozen=True)
class Prepared:
    """Checked labels: for each the event to be written, or None where the dataset has no row of this key."""

    schema: LabelSchema
    labels: tuple[NewLabel, ...]
    events: tuple[LabelEvent | None, ...]

    @property
    def found(self) -> list[LabelEvent]:
        return [event for event in self.events if event is not None]

    @property
    def unknown(self) -> list[NewLabel]:
        """The labels without a row."""
        return [label for label, event in zip(self.labels, self.events, strict=True) if event is None]


def record(ws: Workspace, name: str, labels: Sequence[NewLabel]) -> list[str]:
    """Append what was said about rows of the newest dataset version; all of it or nothing. The events' ids.

    Writes `label_event` in one transaction.

    Raises
    ------
    Invalid
        A label that the schema does not have (the message names near ones), or a time in the future.
    NotFound
        There is no such label set, or a key is in no row.
    """
    prepared = prepare(ws, name, labels)
    if prepared.unknown:
        first = ", ".join(repr(one.key) for one in prepared.unknown[:_SHOWN])
        raise NotFound(
            f"{len(prepared.unknown)} of {len(labels)} labels name a key that {prepared.schema.dataset!r} does not "
            f"have: {first}. Ingest these rows first. Nothing was recorded."
        )
    return ws.write(lambda tx: append(ws, tx, prepared.found))


def prepare(ws: Workspace, name: str, labels: Sequence[NewLabel]) -> Prepared:
    """Check labels and find their rows; for rooms that append them in a transaction of their own.

    Raises Invalid and NotFound as `record`, but for unknown keys, which it hands back.
    """
    current = schema(ws, name)
    rows = row_ids(ws, current.dataset, [one.key for one in labels])
    now = ws.now()
    events = tuple(_event(current, one, row_id=rows.get(str(one.key)), now=now) for one in labels)
    return Prepared(current, tuple(labels), events)


def append(ws: Workspace, tx: Tx, events: Sequence[LabelEvent]) -> list[str]:
    """Write prepared events in the caller's transaction; they are recorded at the domain time of this moment."""
    recorded_at = ws.now()
    store.insert_events(tx, [replace(one, recorded_at=recorded_at) for one in events])
    return [one.id for one in events]


def row_ids(ws: Workspace, dataset: str, keys: Sequence[str | int]) -> dict[str, int]:
    """The row ids of the newest version's rows with these keys, by the key as text; unknown keys are missing."""
    key = data.dataset(ws, dataset).key
    if key is None:
        raise Invalid(
            f"the dataset {dataset!r} has no key, and labels name rows by their key. Define it with one."
        )
    return data.row_ids_by_key(ws, dataset, keys)


def said_at(ws: Workspace, at: datetime | None) -> datetime:
    """When something was said: now if nobody tells. Raises Invalid for a time without a zone or in the future."""
    now = ws.now()
    if at is None:
        return now
    _check_time(at, now)
    return at.astimezone(UTC)


def check_annotator(name: str) -> None:
    """Raises Invalid when `name` cannot name who says something."""
    if not 1 <= len(name) <= 120 or not name.isprintable():
        raise Invalid(
            f"{name[:120]!r} cannot name who says something: 1 to 120 printable characters. Give a name."
        )


def events_of(ws: Workspace, name: str, row_id: int) -> list[LabelEvent]:
    """Everything that was ever said about a row, in the order in which it was recorded."""
    with ws.read() as connection:
        return store.events_of_row(connection, name, row_id)


def count_labelled(ws: Workspace, name: str, *, since: datetime) -> int:
    """How many rows got a label that was recorded after `since` (domain time), relabelled ones included.

    Raises NotFound when there is no such label set.
    """
    schema(ws, name)
    with ws.read() as connection:
        return store.count_labelled(connection, name, since=since)


def events_of_prediction(ws: Workspace, prediction_id: str) -> list[LabelEvent]:
    """What was said because of a prediction (corrections, reviews), in the order in which it was recorded."""
    with ws.read() as connection:
        return store.events_of_prediction(connection, prediction_id)


def history(ws: Workspace, name: str, *, before: str | None = None, limit: int = 100) -> list[LabelEvent]:
    """The newest events of a label set, newest first; page on with the last one's id as `before`."""
    with ws.read() as connection:
        return store.read_events(connection, store.newest_events(name, before=before, limit=limit))


def _event(current: LabelSchema, new: NewLabel, *, row_id: int | None, now: datetime) -> LabelEvent | None:
    if new.at is not None:
        _check_time(new.at, now)
    check_annotator(new.annotator)
    value = checked_value(current, new.value)
    if row_id is None:
        return None
    return LabelEvent(
        id=new_id("le"),
        label_set=current.name,
        schema_number=current.number,
        row_id=row_id,
        key=str(new.key),
        value=value,
        annotator=new.annotator,
        source=new.source,
        at=now if new.at is None else new.at,
        recorded_at=now,
        shown=new.shown,
        duration_ms=new.duration_ms,
        prediction_id=new.prediction_id,
        file=new.file,
    )


def _check_time(at: datetime, now: datetime) -> None:
    if at.tzinfo is None:
        raise Invalid(f"{at.isoformat()} has no time zone. Attach one, for example .replace(tzinfo=UTC).")
    if at > now + _SKEW:
        raise Invalid(
            f"{at.isoformat()} is in the future (it is {now.isoformat()} now); nobody can have said it yet. "
            "Record it when it has been said. Nothing was recorded."
        )
