"""Tables of label sets, their schemas, what was said and what was resolved from it, and all SQL over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.labels.records import LabelClass, LabelEvent, LabelSchema, LabelSnapshot
from everloop.labels.resolve import Statement
from everloop.storage import Json, Tx, Utc, metadata

_PAGE = 20_000  # statements held at a time while a snapshot is resolved
_IN = 500  # values in one IN list: SQLite's limit on parameters is far above, its parser's patience is not
_COUNTED = 1_000  # events that are looked at together when new ones are counted

schemas = sa.Table(
    "label_schema",
    metadata,
    sa.Column("label_set", sa.String(120), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("dataset", sa.String(120), nullable=False),
    sa.Column("kind", sa.String(12), nullable=False),
    sa.Column("classes", Json, nullable=False),
    sa.Column("per_item", sa.Integer, nullable=False),
    sa.Column("reports", Json, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("created_by", sa.String(120), nullable=False),
)

events = sa.Table(
    "label_event",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("label_set", sa.String(120), nullable=False),
    sa.Column("schema_number", sa.Integer, nullable=False),
    sa.Column("row_id", sa.BigInteger, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("value", Json, nullable=False),
    sa.Column("annotator", sa.String(120), nullable=False),
    sa.Column("source", sa.String(12), nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("recorded_at", Utc, nullable=False),
    sa.Column("shown", Json),
    sa.Column("duration_ms", sa.BigInteger),
    sa.Column("prediction_id", sa.String(40)),
    sa.Column("file", sa.String(64)),
    sa.ForeignKeyConstraint(
        ["label_set", "schema_number"], ["label_schema.label_set", "label_schema.number"]
    ),
    sa.Index("ix_label_event_row", "label_set", "row_id", "id"),
    sa.Index("ix_label_event_newest", "label_set", "id"),
    sa.Index("ix_label_event_prediction", "prediction_id"),
)

snapshots = sa.Table(
    "label_snapshot",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("label_set", sa.String(120), nullable=False),
    sa.Column("schema_number", sa.Integer, nullable=False),
    sa.Column("rule", sa.String(16), nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("left_out", sa.Integer, nullable=False),
    sa.Column("per_class", Json, nullable=False),
    sa.Column("annotators", Json, nullable=False),
    sa.Column("blob", sa.String(64), nullable=False),
    sa.Column("created_by", sa.String(120), nullable=False),
    sa.ForeignKeyConstraint(
        ["label_set", "schema_number"], ["label_schema.label_set", "label_schema.number"]
    ),
    sa.Index("ix_label_snapshot_newest", "label_set", "at"),
)

_STATEMENT = [events.c[name] for name in Statement._fields]


def insert_schema(tx: Tx, schema: LabelSchema) -> None:
    values = dataclasses.asdict(schema)
    values["label_set"] = values.pop("name")
    tx.execute(sa.insert(schemas).values(**values))


def newest_schema(connection: Connection, name: str, *, at: datetime | None = None) -> LabelSchema | None:
    """The newest version of a label set, or the newest that existed at a time."""
    statement = sa.select(schemas).where(schemas.c.label_set == name)
    if at is not None:
        statement = statement.where(schemas.c.created_at <= at)
    row = connection.execute(statement.order_by(schemas.c.number.desc()).limit(1)).first()
    return None if row is None else _schema(row)


def schema_by_number(connection: Connection, name: str, number: int) -> LabelSchema | None:
    row = connection.execute(
        sa.select(schemas).where(schemas.c.label_set == name, schemas.c.number == number)
    ).first()
    return None if row is None else _schema(row)


def schemas_of(connection: Connection, name: str) -> list[LabelSchema]:
    """All versions of a label set, oldest first."""
    rows = connection.execute(
        sa.select(schemas).where(schemas.c.label_set == name).order_by(schemas.c.number)
    )
    return [_schema(row) for row in rows]


def names(connection: Connection) -> list[str]:
    """The names of all label sets, in order."""
    return list(connection.execute(sa.select(schemas.c.label_set).distinct().order_by("label_set")).scalars())


def insert_events(tx: Tx, new: Sequence[LabelEvent]) -> None:
    if new:
        tx.execute(sa.insert(events), [vars(one) for one in new])


def page_of_statements(
    name: str, *, at: datetime, after: tuple[int, str] | None, limit: int = _PAGE
) -> sa.Select[Any]:
    """What was said and recorded up to `at`, ordered by row and then by id, from behind the place `after`."""
    statement = sa.select(*_STATEMENT).where(
        events.c.label_set == name, events.c.at <= at, events.c.recorded_at <= at
    )
    if after is not None:
        statement = statement.where(sa.tuple_(events.c.row_id, events.c.id) > sa.tuple_(*after))
    return statement.order_by(events.c.row_id, events.c.id).limit(limit)


def statements(connection: Connection, name: str, *, at: datetime, page: int = _PAGE) -> Iterator[Statement]:
    """All that was said and recorded up to `at`, ordered by row; read in pages."""
    after = None
    while True:
        rows = connection.execute(page_of_statements(name, at=at, after=after, limit=page)).all()
        yield from map(Statement._make, rows)
        if len(rows) < page:
            return
        after = (rows[-1].row_id, rows[-1].id)


def statements_of_rows(connection: Connection, name: str, row_ids: Sequence[int]) -> list[Statement]:
    """What was ever said about some rows, in no order."""
    found: list[Statement] = []
    for start in range(0, len(row_ids), _IN):
        statement = sa.select(*_STATEMENT).where(
            events.c.label_set == name, events.c.row_id.in_(row_ids[start : start + _IN])
        )
        found += map(Statement._make, connection.execute(statement))
    return found


def events_of_row(connection: Connection, name: str, row_id: int) -> list[LabelEvent]:
    """Everything said about a row, in the order in which it was recorded."""
    statement = sa.select(events).where(events.c.label_set == name, events.c.row_id == row_id)
    return [_event(row) for row in connection.execute(statement.order_by(events.c.id))]


def count_labelled(connection: Connection, name: str, *, since: datetime) -> int:
    """How many rows was something said about that was recorded after `since`? Reads the newest events, back to then."""
    rows: set[int] = set()
    before = None
    while True:
        page = sa.select(events.c.id, events.c.row_id, events.c.recorded_at).where(events.c.label_set == name)
        page = page if before is None else page.where(events.c.id < before)
        found = connection.execute(page.order_by(events.c.id.desc()).limit(_COUNTED)).all()
        rows.update(one.row_id for one in found if one.recorded_at > since)
        if len(found) < _COUNTED or found[-1].recorded_at <= since:
            return len(rows)
        before = found[-1].id


def events_by_id(connection: Connection, ids: Sequence[str]) -> list[LabelEvent]:
    found = []
    for start in range(0, len(ids), _IN):
        statement = sa.select(events).where(events.c.id.in_(ids[start : start + _IN]))
        found += [_event(row) for row in connection.execute(statement)]
    return sorted(found, key=lambda one: one.id)


def events_of_prediction(connection: Connection, prediction_id: str) -> list[LabelEvent]:
    """What was said about a row because of one prediction, in the order in which it was recorded."""
    statement = sa.select(events).where(events.c.prediction_id == prediction_id).order_by(events.c.id)
    return [_event(row) for row in connection.execute(statement)]


def newest_events(name: str, *, before: str | None, limit: int) -> sa.Select[Any]:
    """The newest events of a label set, newest first, from before an event's id."""
    statement = sa.select(events).where(events.c.label_set == name)
    if before is not None:
        statement = statement.where(events.c.id < before)
    return statement.order_by(events.c.id.desc()).limit(limit)


def read_events(connection: Connection, statement: sa.Select[Any]) -> list[LabelEvent]:
    return [_event(row) for row in connection.execute(statement)]


def insert_snapshot(tx: Tx, snapshot: LabelSnapshot) -> None:
    values = dataclasses.asdict(snapshot)
    values["label_set"] = values.pop("name")
    tx.execute(sa.insert(snapshots).values(**values))


def snapshot_by_digest(connection: Connection, digest: str) -> LabelSnapshot | None:
    row = connection.execute(sa.select(snapshots).where(snapshots.c.digest == digest)).first()
    return None if row is None else _snapshot(row)


def newest_snapshots(name: str, *, limit: int) -> sa.Select[Any]:
    """The newest snapshots of a label set by the time they show, newest first."""
    return (
        sa.select(snapshots)
        .where(snapshots.c.label_set == name)
        .order_by(snapshots.c.at.desc(), snapshots.c.digest)
        .limit(limit)
    )


def read_snapshots(connection: Connection, statement: sa.Select[Any]) -> list[LabelSnapshot]:
    return [_snapshot(row) for row in connection.execute(statement)]


def _schema(row: sa.Row[Any]) -> LabelSchema:
    values = dict(row._mapping)
    values["name"] = values.pop("label_set")
    values["classes"] = tuple(LabelClass(**one) for one in values["classes"])
    return LabelSchema(**values)


def _event(row: sa.Row[Any]) -> LabelEvent:
    return LabelEvent(**row._mapping)


def _snapshot(row: sa.Row[Any]) -> LabelSnapshot:
    values = dict(row._mapping)
    values["name"] = values.pop("label_set")
    return LabelSnapshot(**values)
