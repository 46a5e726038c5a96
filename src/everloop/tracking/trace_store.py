"""The tables of traces, and all SQL over them. Their spans are files, in `file_store`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.storage import Tx, Utc, inserting, metadata
from everloop.tracking.filters import Condition, Key, Order
from everloop.tracking.queries import in_parts, number_compared, text_compared, time_compared
from everloop.tracking.records import TRACE_NAME_TAG, TRACE_RUN, Trace
from everloop.tracking.store import experiments

TextKind = Literal["tag", "metadata"]

traces = sa.Table(
    "trace",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("experiment", sa.ForeignKey(experiments.c.id), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("started_at", Utc, nullable=False),
    sa.Column("duration_ms", sa.BigInteger),
    sa.Column("request", sa.Text),
    sa.Column("response", sa.Text),
    sa.Column("client_request_id", sa.String(250)),
    sa.Column("artifact_uri", sa.Text),
    sa.Column("actor", sa.String(120), nullable=False),
    sa.Column("deleted_at", Utc),
    sa.Index("ix_trace_experiment_started_at", "experiment", "started_at", "id"),
)
texts = sa.Table(
    "trace_text",
    metadata,
    sa.Column("trace", sa.ForeignKey(traces.c.id), primary_key=True),
    sa.Column("kind", sa.String(8), primary_key=True),
    sa.Column("name", sa.String(250), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


def put(tx: Tx, told: Trace) -> None:
    """Write down a trace and what is said of it, in the place of what was said before."""
    values = {name: value for name, value in vars(told).items() if name in traces.c}
    statement = inserting(tx.connection.dialect.name, traces)
    said_again = ("state", "started_at", "duration_ms", "request", "response", "client_request_id")
    replacing = statement.on_conflict_do_update(
        index_elements=["id"], set_={name: statement.excluded[name] for name in said_again}
    )
    tx.execute(replacing, {**values, "experiment": told.experiment_id})
    put_texts(tx, told.id, "tag", told.tags)
    put_texts(tx, told.id, "metadata", told.metadata)


def put_texts(tx: Tx, trace_id: str, kind: TextKind, values: Mapping[str, str]) -> None:
    if not values:
        return
    statement = inserting(tx.connection.dialect.name, texts)
    replacing = statement.on_conflict_do_update(
        index_elements=list(texts.primary_key), set_={"value": statement.excluded.value}
    )
    rows = [{"trace": trace_id, "kind": kind, "name": name, "value": values[name]} for name in sorted(values)]
    tx.execute(replacing, rows)


def remove_tag(tx: Tx, trace_id: str, name: str) -> bool:
    """Remove a tag; whether it was there."""
    which = (texts.c.trace == trace_id, texts.c.kind == "tag", texts.c.name == name)
    return tx.execute(sa.delete(texts).where(*which)).rowcount == 1


def state_of(tx: Tx, trace_id: str) -> tuple[int, datetime | None] | None:
    """A trace's experiment and since when it is deleted, None where there is none; it stays so until the transaction ends."""
    statement = sa.select(traces.c.experiment, traces.c.deleted_at).where(traces.c.id == trace_id)
    row = tx.execute(statement.with_for_update(read=True, key_share=True)).first()
    return None if row is None else (row.experiment, row.deleted_at)


def traces_by_id(connection: Connection, ids: Sequence[str]) -> list[Trace]:
    """Those of the traces that are there and not deleted, newest first."""
    statement = sa.select(traces).where(traces.c.id.in_(ids), traces.c.deleted_at.is_(None))
    return _traces(connection, statement.order_by(traces.c.started_at.desc(), traces.c.id))


def traces_marked(connection: Connection) -> list[Trace]:
    """The traces that are deleted, oldest first."""
    statement = sa.select(traces).where(traces.c.deleted_at.is_not(None))
    return _traces(connection, statement.order_by(traces.c.started_at, traces.c.id))


def mark(
    tx: Tx,
    experiment: int,
    *,
    deleted_at: datetime,
    ids: Sequence[str] = (),
    until: datetime | None = None,
    most: int,
) -> int:
    """Delete traces of an experiment: those of these ids, or the oldest that began until a moment; how many it were."""
    which = traces.c.id.in_(ids) if until is None else traces.c.started_at <= until
    chosen = (
        sa.select(traces.c.id)
        .where(traces.c.experiment == experiment, traces.c.deleted_at.is_(None), which)
        .order_by(traces.c.started_at, traces.c.id)
        .limit(most)
    )
    return tx.execute(sa.update(traces).where(traces.c.id.in_(chosen)).values(deleted_at=deleted_at)).rowcount


def mark_all(tx: Tx, experiment: int, *, deleted_at: datetime | None, before: datetime | None = None) -> None:
    """Delete an experiment's traces that are not, or restore those that were deleted at the moment `before`."""
    is_old = traces.c.deleted_at.is_(None) if before is None else traces.c.deleted_at == before
    tx.execute(
        sa.update(traces).where(traces.c.experiment == experiment, is_old).values(deleted_at=deleted_at)
    )


def lock_marked(tx: Tx, ids: Sequence[str]) -> list[str]:
    """Those of the traces that are deleted; nobody writes to them until the transaction ends."""
    statement = sa.select(traces.c.id).where(traces.c.deleted_at.is_not(None)).order_by(traces.c.id)
    return [
        one
        for part in in_parts(sorted(ids))
        for one in tx.execute(statement.where(traces.c.id.in_(part)).with_for_update()).scalars()
    ]


def remove(tx: Tx, ids: Sequence[str]) -> None:
    """Remove traces and what is said of them; their files are forgotten before."""
    for part in in_parts(ids):
        tx.execute(sa.delete(texts).where(texts.c.trace.in_(part)))
        tx.execute(sa.delete(traces).where(traces.c.id.in_(part)))


def experiments_in_use() -> sa.Select[tuple[int]]:
    """The numbers of the experiments that hold traces."""
    return sa.select(traces.c.experiment)


def found_traces(
    connection: Connection,
    conditions: Sequence[Condition],
    orders: Sequence[Order],
    *,
    experiment_ids: Sequence[int],
    offset: int,
    limit: int,
) -> list[Trace]:
    """The traces that meet all conditions, in order, then newest first."""
    dialect = connection.dialect.name
    statement = (
        sa.select(traces)
        .where(
            traces.c.experiment.in_(experiment_ids),
            traces.c.deleted_at.is_(None),
            *(_holds(condition, dialect) for condition in conditions),
        )
        .order_by(*(term for order in orders for term in _ordered(order)))
        .order_by(traces.c.started_at.desc(), traces.c.id)
    )
    return _traces(connection, statement.offset(offset).limit(limit))


def _said(kind: TextKind, name: str) -> sa.ColumnElement[Any]:
    which = (texts.c.trace == traces.c.id, texts.c.kind == kind, texts.c.name == name)
    return sa.select(texts.c.value).where(*which).correlate(traces).scalar_subquery()


ATTRIBUTES: dict[str, sa.ColumnElement[Any]] = {
    "request_id": traces.c.id,
    "timestamp_ms": traces.c.started_at,
    "execution_time_ms": traces.c.duration_ms,
    "end_time_ms": sa.type_coerce(
        sa.type_coerce(traces.c.started_at, sa.BigInteger) + traces.c.duration_ms * 1_000, Utc
    ),
    "status": traces.c.state,
    "client_request_id": traces.c.client_request_id,
    "name": _said("tag", TRACE_NAME_TAG),
    "run_id": _said("metadata", TRACE_RUN),
}


def _value(key: Key) -> sa.ColumnElement[Any]:
    if key.kind == "attribute":
        return ATTRIBUTES[key.name]
    return _said("tag" if key.kind == "tag" else "metadata", key.name)


def _holds(condition: Condition, dialect: str) -> sa.ColumnElement[bool]:
    value = _value(condition.key)
    if condition.operator in ("IS NULL", "IS NOT NULL"):
        return value.is_(None) if condition.operator == "IS NULL" else value.is_not(None)
    if isinstance(value.type, Utc):
        return time_compared(value, condition)
    if isinstance(value.type, sa.BigInteger):
        return number_compared(value, condition)
    return text_compared(value, condition, dialect)


def _ordered(order: Order) -> list[sa.ColumnElement[Any]]:
    """Traces with a value before those without, whatever the direction."""
    value = _value(order.key)
    return [sa.case((value.is_(None), 1), else_=0), value.desc() if order.is_descending else value.asc()]


def _traces(connection: Connection, statement: sa.Select[Any]) -> list[Trace]:
    """The traces of a selection, whole, in its order: a fixed number of queries for each 500."""
    rows = connection.execute(statement).all()
    said: dict[str, dict[str, dict[str, str]]] = {"tag": defaultdict(dict), "metadata": defaultdict(dict)}
    for part in in_parts([row.id for row in rows]):
        for one in connection.execute(sa.select(texts).where(texts.c.trace.in_(part)).order_by(texts.c.name)):
            said[one.kind][one.trace][one.name] = one.value
    found = []
    for row in rows:
        values = dict(row._mapping)
        values["experiment_id"] = values.pop("experiment")
        found.append(Trace(**values, tags=said["tag"][row.id], metadata=said["metadata"][row.id]))
    return found
