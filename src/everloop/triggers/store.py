"""The tables of triggers, their firings and calls, and all SQL over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.retraining import from_value, to_value
from everloop.storage import Json, Tx, Utc, metadata
from everloop.triggers.records import Call, Firing, Stored, Trigger, Waiting, lane_of

triggers = sa.Table(
    "trigger",
    metadata,
    sa.Column("name", sa.String(60), primary_key=True),
    sa.Column("pipeline", sa.String(120), nullable=False),
    sa.Column("params", Json, nullable=False),
    sa.Column("takes", Json, nullable=False),
    sa.Column("condition", Json),
    sa.Column("quiet_s", sa.BigInteger, nullable=False),
    sa.Column("longest_wait_s", sa.BigInteger),
    sa.Column("cooldown_s", sa.BigInteger, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("lane", sa.String(120), nullable=False),
    sa.Column("since", Utc, nullable=False),
    sa.Column("holds_since", Utc),
    sa.Column("changed_at", Utc),
    sa.Column("seen", Json),
    sa.Column("paused_at", Utc),
    sa.Column("paused_by", sa.String(120)),
    sa.Column("pause_reason", sa.Text),
    sa.Column("secret", sa.Integer, nullable=False),
)

firings = sa.Table(
    "trigger_firing",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("trigger", sa.String(60), nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("by", sa.String(120), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("evidence", Json, nullable=False),
    sa.Column("params", Json, nullable=False),
    sa.Column("job", sa.String(40)),
    sa.Column("refused", sa.Text),
    sa.Index("ix_trigger_firing_trigger", "trigger", "at", "id"),
)

calls = sa.Table(
    "trigger_call",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("trigger", sa.String(60), nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("by", sa.String(120), nullable=False),
    sa.Column("once_key", sa.String(200)),
    sa.Column("signature", sa.String(64)),
    sa.Column("params", Json, nullable=False),
    sa.Column("firing", sa.String(40)),
    sa.UniqueConstraint("trigger", "once_key"),
    sa.UniqueConstraint("trigger", "signature"),
    sa.Index("ix_trigger_call_pending", "firing", "trigger", "id"),
)


def upsert_trigger(tx: Tx, trigger: Trigger, *, now: datetime) -> None:
    """Create or change a trigger; what it has seen, and whether it is paused, stays."""
    condition = None if trigger.condition is None else to_value(trigger.condition)
    longest = trigger.longest_wait
    values = {
        "pipeline": trigger.pipeline,
        "params": dict(trigger.params),
        "takes": {name: dict(one) for name, one in trigger.takes.items()},
        "condition": condition,
        "quiet_s": int(trigger.quiet.total_seconds()),
        "longest_wait_s": None if longest is None else int(longest.total_seconds()),
        "cooldown_s": int(trigger.cooldown.total_seconds()),
        "priority": trigger.priority,
        "lane": lane_of(trigger.pipeline),
    }
    changed = tx.execute(sa.update(triggers).where(triggers.c.name == trigger.name).values(**values))
    if changed.rowcount == 0:
        tx.execute(sa.insert(triggers).values(name=trigger.name, since=now, secret=1, **values))


def drop_triggers(tx: Tx, *, but: Sequence[str]) -> list[str]:
    """Forget all triggers but these and return the names of those; their firings stay."""
    gone = list(tx.execute(sa.select(triggers.c.name).where(triggers.c.name.not_in(but))).scalars())
    tx.execute(sa.delete(triggers).where(triggers.c.name.in_(gone)))
    return gone


def update_trigger(tx: Tx, name: str, values: Mapping[str, Any]) -> None:
    tx.execute(sa.update(triggers).where(triggers.c.name == name).values(**values))


def trigger_by_name(connection: Connection, name: str) -> Stored | None:
    row = connection.execute(sa.select(triggers).where(triggers.c.name == name)).first()
    return None if row is None else _stored(row)


def all_triggers(connection: Connection) -> list[Stored]:
    return [_stored(row) for row in connection.execute(sa.select(triggers).order_by(triggers.c.name))]


def watching(connection: Connection) -> list[Stored]:
    """The triggers that wait for a condition."""
    statement = sa.select(triggers).where(triggers.c.condition.is_not(None), triggers.c.paused_at.is_(None))
    return [_stored(row) for row in connection.execute(statement.order_by(triggers.c.name))]


def insert_firing(tx: Tx, firing: Firing) -> None:
    tx.execute(sa.insert(firings).values(**asdict(firing)))


def firing_by_id(connection: Connection, firing_id: str) -> Firing | None:
    row = connection.execute(sa.select(firings).where(firings.c.id == firing_id)).first()
    return None if row is None else Firing(**row._mapping)


# Built once: they are asked for every trigger twice a second, and building a statement takes longer than running it.
_LAST = (
    sa.select(firings)
    .where(firings.c.trigger == sa.bindparam("name"))
    .order_by(firings.c.at.desc(), firings.c.id.desc())
    .limit(1)
)
_USED = sa.select(firings.c.evidence).where(
    firings.c.trigger == sa.bindparam("name"), firings.c.at >= sa.bindparam("start")
)
_PENDING = (
    sa.select(calls)
    .where(calls.c.firing.is_(None), calls.c.trigger == sa.bindparam("name"))
    .order_by(calls.c.id)
)


def last_firing(connection: Connection, trigger: str) -> Firing | None:
    row = connection.execute(_LAST, {"name": trigger}).first()
    return None if row is None else Firing(**row._mapping)


def newest_firings(connection: Connection, *, trigger: str | None, limit: int) -> list[Firing]:
    statement = sa.select(firings).order_by(firings.c.id.desc()).limit(limit)
    if trigger is not None:
        statement = (
            sa.select(firings)
            .where(firings.c.trigger == trigger)
            .order_by(firings.c.at.desc(), firings.c.id.desc())
            .limit(limit)
        )
    return [Firing(**row._mapping) for row in connection.execute(statement)]


def evidence_since(connection: Connection, trigger: str, start: datetime) -> list[dict[str, Any]]:
    """What a trigger's firings from a time on were made on."""
    return list(connection.execute(_USED, {"name": trigger, "start": start}).scalars())


def insert_call(tx: Tx, call: Call) -> None:
    tx.execute(sa.insert(calls).values(**asdict(call)))


def call_by_key(connection: Connection, trigger: str, once_key: str) -> Call | None:
    statement = sa.select(calls).where(calls.c.trigger == trigger, calls.c.once_key == once_key)
    row = connection.execute(statement).first()
    return None if row is None else Call(**row._mapping)


def call_by_signature(connection: Connection, trigger: str, signature: str) -> Call | None:
    statement = sa.select(calls).where(calls.c.trigger == trigger, calls.c.signature == signature)
    row = connection.execute(statement).first()
    return None if row is None else Call(**row._mapping)


def call_by_id(connection: Connection, call_id: str) -> Call:
    return Call(**connection.execute(sa.select(calls).where(calls.c.id == call_id)).one()._mapping)


def pending_calls(connection: Connection, trigger: str) -> list[Call]:
    """The calls that nothing came of yet, oldest first."""
    return [Call(**row._mapping) for row in connection.execute(_PENDING, {"name": trigger})]


def answer_calls(tx: Tx, ids: Sequence[str], firing: str) -> None:
    tx.execute(sa.update(calls).where(calls.c.id.in_(ids)).values(firing=firing))


def _stored(row: sa.Row[Any]) -> Stored:
    trigger = Trigger(
        row.name,
        row.pipeline,
        row.params,
        row.takes,
        None if row.condition is None else from_value(row.condition),
        timedelta(seconds=row.quiet_s),
        None if row.longest_wait_s is None else timedelta(seconds=row.longest_wait_s),
        timedelta(seconds=row.cooldown_s),
        row.priority,
    )
    waiting = None if row.holds_since is None else Waiting(row.holds_since, row.changed_at, row.seen)
    return Stored(trigger, row.since, waiting, row.paused_at, row.paused_by, row.pause_reason, row.secret)
