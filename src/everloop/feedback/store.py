"""Tables of corrections, outcomes, reported values, review items, audit samples and waiting labels, and all SQL over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.feedback.records import (
    AuditSample,
    Correction,
    Outcome,
    ReportedValue,
    ReviewItem,
    VariantCount,
    WaitingLabel,
)
from everloop.labels import Value
from everloop.storage import Json, Tx, Utc, metadata

_IN = 500  # values in one IN list
_PAGE = 20_000
_MOST_VALUES = 1_000_000


def _prediction_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("endpoint", sa.String(120), nullable=False),
        sa.Column("prediction_id", sa.String(40), nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("answer", Json, nullable=False),
        sa.Column("variant", sa.String(120), nullable=False),
        sa.Column("release", sa.String(40), nullable=False),
        sa.Column("model", sa.String(120), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("predicted_at", Utc, nullable=False),
    ]


corrections = sa.Table(
    "correction",
    metadata,
    *_prediction_columns(),
    sa.Column("value", Json, nullable=False),
    sa.Column("reporter", sa.String(120), nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("recorded_at", Utc, nullable=False),
    sa.Column("contradicts", sa.Boolean, nullable=False),
    sa.Column("label_set", sa.String(120)),
    sa.Column("fate", sa.String(12), nullable=False),
    sa.UniqueConstraint("prediction_id", "reporter", "value", "at"),
    sa.Index("ix_correction_endpoint", "endpoint", "at", "id"),
)

outcomes = sa.Table(
    "outcome",
    metadata,
    *_prediction_columns(),
    sa.Column("value", Json, nullable=False),
    sa.Column("source", sa.String(60), nullable=False),
    sa.Column("is_correct", sa.Boolean, nullable=False),
    sa.Column("inclusion_probability", sa.Double, nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("recorded_at", Utc, nullable=False),
    sa.Index("ix_outcome_endpoint", "endpoint", "predicted_at", "id"),
    sa.Index("ix_outcome_prediction", "prediction_id", "source"),
)

reported_values = sa.Table(
    "reported_value",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("endpoint", sa.String(120), nullable=False),
    sa.Column("prediction_id", sa.String(40), nullable=False),
    sa.Column("key", sa.Text),
    sa.Column("name", sa.String(60), nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("recorded_at", Utc, nullable=False),
    sa.Column("predicted_at", Utc, nullable=False),
    sa.UniqueConstraint("prediction_id", "name", "at"),
    sa.Index("ix_reported_value_endpoint", "endpoint", "predicted_at", "id"),
)

review_items = sa.Table(
    "review_item",
    metadata,
    *_prediction_columns(),
    sa.Column("reason", sa.String(12), nullable=False),
    sa.Column("origin", sa.String(40), nullable=False),
    sa.Column("label_set", sa.String(120)),
    sa.Column("suggested", Json),
    sa.Column("inclusion_probability", sa.Double),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("value", Json),
    sa.Column("reviewer", sa.String(120)),
    sa.Column("answered_at", Utc),
    sa.UniqueConstraint("origin"),
    sa.Index("ix_review_item_queue", "state", "endpoint", "id"),
)

audit_samples = sa.Table(
    "audit_sample",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("endpoint", sa.String(120), nullable=False),
    sa.Column("start_at", Utc, nullable=False),
    sa.Column("end_at", Utc, nullable=False),
    sa.Column("probability", Json, nullable=False),
    sa.Column("considered", Json, nullable=False),
    sa.Column("chosen", Json, nullable=False),
    sa.Column("created", sa.Integer, nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("created_by", sa.String(120), nullable=False),
    sa.Index("ix_audit_sample_endpoint", "endpoint", "end_at"),
)

# A work list and no history: what is done with it is a label event, and the correction or review item stays.
waiting_labels = sa.Table(
    "waiting_label",
    metadata,
    sa.Column("origin", sa.String(40), primary_key=True),
    sa.Column("label_set", sa.String(120), nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("value", Json, nullable=False),
    sa.Column("annotator", sa.String(120), nullable=False),
    sa.Column("source", sa.String(12), nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("prediction_id", sa.String(40), nullable=False),
    sa.Index("ix_waiting_label_set", "label_set", "origin"),
)


def insert_value(tx: Tx, new: ReportedValue) -> None:
    tx.execute(sa.insert(reported_values).values(**vars(new)))


def value_at(connection: Connection, prediction_id: str, *, name: str, at: datetime) -> ReportedValue | None:
    """The number of this name that was reported of a prediction for a moment."""
    table = reported_values.c
    wanted = (table.prediction_id == prediction_id, table.name == name, table.at == at)
    return next(iter(_read(connection, sa.select(reported_values).where(*wanted), ReportedValue)), None)


def read_values(
    connection: Connection, endpoint: str, *, start: datetime, end: datetime
) -> list[ReportedValue]:
    """What was reported of predictions made in [start, end), as it became known; of the first million predictions' values."""
    table = reported_values.c
    wanted = (table.endpoint == endpoint, table.predicted_at >= start, table.predicted_at < end)
    statement = sa.select(reported_values).where(*wanted).order_by(table.predicted_at, table.id)
    found = _read(connection, statement.limit(_MOST_VALUES), ReportedValue)
    return sorted(found, key=lambda one: one.id)


def insert_corrections(tx: Tx, new: Sequence[Correction]) -> None:
    if new:
        tx.execute(sa.insert(corrections), [vars(one) for one in new])


def corrections_of_predictions(connection: Connection, prediction_ids: Sequence[str]) -> list[Correction]:
    """What was said about some predictions, in the order in which it was recorded."""
    found = []
    for start in range(0, len(prediction_ids), _IN):
        wanted = corrections.c.prediction_id.in_(prediction_ids[start : start + _IN])
        found += _read(connection, sa.select(corrections).where(wanted), Correction)
    return sorted(found, key=lambda one: one.id)


def newest_corrections(
    endpoint: str, *, start: datetime | None, end: datetime | None, limit: int
) -> sa.Select[Any]:
    """The newest corrections by the time they were said in [start, end), newest first."""
    statement = sa.select(corrections).where(corrections.c.endpoint == endpoint)
    if start is not None:
        statement = statement.where(corrections.c.at >= start)
    if end is not None:
        statement = statement.where(corrections.c.at < end)
    return statement.order_by(corrections.c.at.desc(), corrections.c.id.desc()).limit(limit)


def corrected_ids(endpoint: str | None, *, only_contradicted: bool, limit: int) -> sa.Select[Any]:
    """The predictions that the newest corrections are about."""
    statement = sa.select(corrections.c.prediction_id)
    if endpoint is not None:
        statement = statement.where(corrections.c.endpoint == endpoint)
    if only_contradicted:
        statement = statement.where(corrections.c.contradicts)
    return statement.order_by(corrections.c.at.desc(), corrections.c.id.desc()).limit(limit)


def read_corrections(connection: Connection, statement: sa.Select[Any]) -> list[Correction]:
    return _read(connection, statement, Correction)


def count_by_variant(endpoint: str, *, start: datetime, end: datetime) -> sa.Select[Any]:
    """How many predictions of each variant and release were corrected, and how many contradicted?"""
    prediction = corrections.c.prediction_id
    contradicted = sa.case((corrections.c.contradicts, prediction))
    by = [corrections.c[name] for name in ("variant", "release", "model", "version")]
    return (
        sa.select(
            *by,
            sa.func.count(prediction.distinct()).label("corrected"),
            sa.func.count(contradicted.distinct()).label("contradicted"),
        )
        .where(*_unrefuted(endpoint, start=start, end=end))
        .group_by(*by)
        .order_by(*by)
    )


def read_variant_counts(connection: Connection, statement: sa.Select[Any]) -> list[VariantCount]:
    return _read(connection, statement, VariantCount)


def count_by_class(endpoint: str, *, start: datetime, end: datetime) -> sa.Select[Any]:
    """How many predictions were contradicted, by answer and correction, the most frequent first?"""
    count = sa.func.count(corrections.c.prediction_id.distinct())
    return (
        sa.select(corrections.c.answer, corrections.c.value, count)
        .where(corrections.c.contradicts, *_unrefuted(endpoint, start=start, end=end))
        .group_by(corrections.c.answer, corrections.c.value)
        .order_by(count.desc(), corrections.c.answer, corrections.c.value)
    )


def read_class_counts(connection: Connection, statement: sa.Select[Any]) -> dict[tuple[Value, Value], int]:
    return {(answer, value): times for answer, value, times in connection.execute(statement)}


def _unrefuted(endpoint: str, *, start: datetime, end: datetime) -> list[sa.ColumnElement[bool]]:
    """Said in [start, end) and not found wrong by a reviewer before its end."""
    refuted = sa.exists().where(
        review_items.c.origin == corrections.c.id,
        review_items.c.state == "answered",
        review_items.c.answered_at < end,
        review_items.c.value != corrections.c.value,
    )
    return [
        corrections.c.endpoint == endpoint,
        corrections.c.at >= start,
        corrections.c.at < end,
        ~refuted,
    ]


def insert_outcomes(tx: Tx, new: Sequence[Outcome]) -> None:
    if new:
        tx.execute(sa.insert(outcomes), [vars(one) for one in new])


def newest_outcome(connection: Connection, prediction_id: str, *, source: str) -> Outcome | None:
    statement = sa.select(outcomes).where(
        outcomes.c.prediction_id == prediction_id, outcomes.c.source == source
    )
    found = _read(
        connection, statement.order_by(outcomes.c.at.desc(), outcomes.c.id.desc()).limit(1), Outcome
    )
    return found[0] if found else None


def outcomes_of_predictions(connection: Connection, prediction_ids: Sequence[str]) -> list[Outcome]:
    """What is known of some predictions, the newest of each last."""
    found = []
    for start in range(0, len(prediction_ids), _IN):
        wanted = outcomes.c.prediction_id.in_(prediction_ids[start : start + _IN])
        found += _read(connection, sa.select(outcomes).where(wanted), Outcome)
    return sorted(found, key=lambda one: (one.at, one.id))


def outcomes_of(
    endpoint: str,
    *,
    start: datetime,
    end: datetime,
    source: str | None,
    after: tuple[datetime, str] | None,
    limit: int = _PAGE,
) -> sa.Select[Any]:
    """Outcomes of predictions made in [start, end), in the order of the predictions, from behind a place."""
    statement = sa.select(outcomes).where(
        outcomes.c.endpoint == endpoint, outcomes.c.predicted_at >= start, outcomes.c.predicted_at < end
    )
    if source is not None:
        statement = statement.where(outcomes.c.source == source)
    if after is not None:
        here = sa.tuple_(outcomes.c.predicted_at, outcomes.c.id)
        statement = statement.where(here > sa.tuple_(sa.literal(after[0], Utc), after[1]))
    return statement.order_by(outcomes.c.predicted_at, outcomes.c.id).limit(limit)


def read_outcomes(
    connection: Connection,
    endpoint: str,
    *,
    start: datetime,
    end: datetime,
    source: str | None,
    page: int = _PAGE,
) -> Iterator[Outcome]:
    """All outcomes of predictions made in [start, end); read in pages."""
    after = None
    while True:
        statement = outcomes_of(endpoint, start=start, end=end, source=source, after=after, limit=page)
        found = _read(connection, statement, Outcome)
        yield from found
        if len(found) < page:
            return
        after = (found[-1].predicted_at, found[-1].id)


def insert_items(tx: Tx, new: Sequence[ReviewItem]) -> None:
    if new:
        tx.execute(sa.insert(review_items), [vars(one) for one in new])


def item_by_id(connection: Connection, item_id: str) -> ReviewItem | None:
    found = _read(connection, sa.select(review_items).where(review_items.c.id == item_id), ReviewItem)
    return found[0] if found else None


def origins_known(connection: Connection, origins: Sequence[str]) -> set[str]:
    """Which of these have a review item already."""
    known: set[str] = set()
    for start in range(0, len(origins), _IN):
        wanted = review_items.c.origin.in_(origins[start : start + _IN])
        known.update(connection.execute(sa.select(review_items.c.origin).where(wanted)).scalars())
    return known


def open_items(endpoint: str | None, *, after: str | None, limit: int) -> sa.Select[Any]:
    """Open review items, oldest first, from behind an item's id."""
    statement = sa.select(review_items).where(review_items.c.state == "open")
    if endpoint is not None:
        statement = statement.where(review_items.c.endpoint == endpoint)
    if after is not None:
        statement = statement.where(review_items.c.id > after)
    return statement.order_by(review_items.c.id).limit(limit)


def count_open_items(connection: Connection, *, most: int) -> dict[str, int]:
    """How many review items are open on each endpoint, `most` of them looked at."""
    some = sa.select(review_items.c.endpoint).where(review_items.c.state == "open").limit(most).subquery()
    statement = (
        sa.select(some.c.endpoint, sa.func.count()).group_by(some.c.endpoint).order_by(some.c.endpoint)
    )
    return {row[0]: row[1] for row in connection.execute(statement)}


def read_items(connection: Connection, statement: sa.Select[Any]) -> list[ReviewItem]:
    return _read(connection, statement, ReviewItem)


def close_item(tx: Tx, answered: ReviewItem) -> bool:
    """Close an open item with its answer; whether it was open."""
    answer = {name: getattr(answered, name) for name in ("state", "value", "reviewer", "answered_at")}
    changed = tx.execute(
        sa.update(review_items)
        .where(review_items.c.id == answered.id, review_items.c.state == "open")
        .values(**answer)
    )
    return changed.rowcount == 1


def insert_sample(tx: Tx, sample: AuditSample) -> None:
    tx.execute(sa.insert(audit_samples).values(**vars(sample)))


def overlapping_samples(
    connection: Connection, endpoint: str, *, start: datetime, end: datetime
) -> list[AuditSample]:
    """Samples that were drawn from some of the same time."""
    statement = sa.select(audit_samples).where(
        audit_samples.c.endpoint == endpoint, audit_samples.c.end_at > start, audit_samples.c.start_at < end
    )
    return _read(connection, statement.order_by(audit_samples.c.end_at), AuditSample)


def newest_samples(endpoint: str, *, limit: int) -> sa.Select[Any]:
    """The newest audit samples of an endpoint by the time they reach to, newest first."""
    return (
        sa.select(audit_samples)
        .where(audit_samples.c.endpoint == endpoint)
        .order_by(audit_samples.c.end_at.desc(), audit_samples.c.id.desc())
        .limit(limit)
    )


def read_samples(connection: Connection, statement: sa.Select[Any]) -> list[AuditSample]:
    return _read(connection, statement, AuditSample)


def insert_waiting(tx: Tx, new: Sequence[WaitingLabel]) -> None:
    if new:
        tx.execute(sa.insert(waiting_labels), [vars(one) for one in new])


def waiting_of(label_set: str, *, after: str, limit: int) -> sa.Select[Any]:
    """Labels that wait for their rows, from behind an origin."""
    return (
        sa.select(waiting_labels)
        .where(waiting_labels.c.label_set == label_set, waiting_labels.c.origin > after)
        .order_by(waiting_labels.c.origin)
        .limit(limit)
    )


def read_waiting(connection: Connection, statement: sa.Select[Any]) -> list[WaitingLabel]:
    return _read(connection, statement, WaitingLabel)


def take_waiting(tx: Tx, origin: str) -> bool:
    """Take a label off the list; whether it was still on it."""
    return tx.execute(sa.delete(waiting_labels).where(waiting_labels.c.origin == origin)).rowcount == 1


def _read(connection: Connection, statement: sa.Select[Any], record: type[Any]) -> list[Any]:
    return [record(**row._mapping) for row in connection.execute(statement)]


def count_with_keys(connection: Connection, names: Sequence[str]) -> int:
    """How many reports and review items have one of these keys, or a key and are of one of these predictions?"""
    return sum(
        connection.execute(sa.select(sa.func.count()).select_from(table).where(is_named)).scalar_one()
        for table, is_named in _named(names)
    )


def forget_keys(tx: Tx, names: Sequence[str]) -> None:
    for table, is_named in _named(names):
        tx.execute(sa.update(table).where(is_named).values(key=None))


def _named(names: Sequence[str]) -> Iterator[tuple[sa.Table, sa.ColumnElement[bool]]]:
    for start in range(0, len(names), _IN):
        some = names[start : start + _IN]
        for table in (corrections, outcomes, reported_values, review_items):
            is_named = table.c.key.in_(some) | table.c.prediction_id.in_(some)
            yield table, table.c.key.is_not(None) & is_named
