"""The table of events."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.errors import NotFound
from everloop.ids import new_id
from everloop.ledger import Node
from everloop.storage import Json, Tx, Utc, metadata
from everloop.workspace import Workspace

Level = Literal["info", "attention", "failed"]

events = sa.Table(
    "event",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("kind", sa.String(60), nullable=False),
    sa.Column("level", sa.String(12), nullable=False),
    sa.Column("subject_kind", sa.String(24), nullable=False),
    sa.Column("subject_id", sa.String(200), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("payload", Json, nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", Utc, nullable=False),
    sa.Column("delivered_at", Utc),
    sa.Column("failure", sa.Text),
    sa.Column("topic", sa.String(120)),
    sa.Index("ix_event_undelivered", "delivered_at", "due_at"),
    sa.Index("ix_event_subject", "subject_kind", "subject_id"),
    sa.Index("ix_event_topic", "kind", "topic", "at"),
)


@dataclass(frozen=True)
class Event:
    """Something that happened. `kind` is stable, such as `rollout.rolled_back`; `at` is domain time."""

    id: str
    kind: str
    level: Level
    subject: Node
    message: str
    payload: dict[str, Any]
    at: datetime
    attempts: int
    delivered_at: datetime | None
    failure: str | None


def emit(
    ws: Workspace,
    tx: Tx,
    kind: str,
    subject: Node,
    *,
    message: str,
    level: Level = "info",
    payload: dict[str, Any] | None = None,
    topic: str | None = None,
) -> str:
    """Write an event in the transaction of what it tells; `message` is one sentence for a person.

    `topic` is the name of the model, pipeline or endpoint that it is about, for those who wait for such events.
    """
    event_id = new_id("ev")
    tx.execute(
        sa.insert(
            events
        ),  # beside it, what is written need not become part of a statement that is built anew
        {
            "id": event_id,
            "kind": kind,
            "level": level,
            "subject_kind": subject.kind,
            "subject_id": subject.id,
            "message": message,
            "payload": payload or {},
            "at": ws.now(),
            "attempts": 0,
            "due_at": tx.wall(),
            "topic": topic,
        },
    )
    return event_id


def event(ws: Workspace, event_id: str) -> Event:
    """One event. Raises NotFound."""
    with ws.read() as connection:
        row = connection.execute(sa.select(events).where(events.c.id == event_id)).first()
    if row is None:
        raise NotFound(
            f"there is no event {event_id}; an event's id is in the webhook and log line that told it."
        )
    return _event(row)


def newest(
    ws: Workspace,
    *,
    kind: str | None = None,
    subject: Node | None = None,
    levels: tuple[Level, ...] = (),
    before: str | None = None,
    limit: int = 50,
) -> list[Event]:
    """The newest events, newest first; `kind` may end with a dot to mean all kinds that begin so."""
    statement = sa.select(events).order_by(events.c.id.desc()).limit(limit)
    if kind is not None:
        matches = (
            events.c.kind.startswith(kind, autoescape=True) if kind.endswith(".") else events.c.kind == kind
        )
        statement = statement.where(matches)
    if subject is not None:
        statement = statement.where(events.c.subject_kind == subject.kind, events.c.subject_id == subject.id)
    if levels:
        statement = statement.where(events.c.level.in_(levels))
    if before is not None:
        statement = statement.where(events.c.id < before)
    with ws.read() as connection:
        return [_event(row) for row in connection.execute(statement)]


# Built once: it is asked for every trigger that waits for events, twice a second.
_SINCE = (
    sa.select(events)
    .where(
        events.c.kind.in_(sa.bindparam("kinds", expanding=True)),
        events.c.topic == sa.bindparam("topic"),
        events.c.at >= sa.bindparam("start"),
    )
    .order_by(events.c.id)
)


def since(
    ws: Workspace,
    kinds: Sequence[str],
    topic: str,
    start: datetime,
    *,
    payload: Mapping[str, Any] | None = None,
    limit: int = 1_000,
) -> list[Event]:
    """Events of some kinds on a topic from a time on, oldest first, those whose payload says so."""
    wanted = (payload or {}).items()
    with ws.read() as connection:
        rows = connection.execute(_SINCE, {"kinds": list(kinds), "topic": topic, "start": start})
        found = (_event(row) for row in rows)
        return list(itertools.islice((one for one in found if wanted <= one.payload.items()), limit))


def undelivered(connection: Connection, now: datetime, *, limit: int) -> list[Event]:
    """Events that nobody was told yet and whose next attempt is due (machine time), oldest first."""
    statement = (
        sa.select(events)
        .where(events.c.delivered_at.is_(None), events.c.due_at <= now)
        .order_by(events.c.id)
        .limit(limit)
    )
    return [_event(row) for row in connection.execute(statement)]


def mark(tx: Tx, event_id: str, values: dict[str, Any]) -> None:
    tx.execute(sa.update(events).where(events.c.id == event_id).values(**values))


def _event(row: sa.Row[Any]) -> Event:
    return Event(
        id=row.id,
        kind=row.kind,
        level=row.level,
        subject=Node(row.subject_kind, row.subject_id),
        message=row.message,
        payload=row.payload,
        at=row.at,
        attempts=row.attempts,
        delivered_at=row.delivered_at,
        failure=row.failure,
    )
