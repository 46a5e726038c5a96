"""The tables of policies and decisions, and all SQL over them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.storage import Json, Tx, Utc, metadata

policies = sa.Table(
    "retraining_policy",
    metadata,
    sa.Column("model", sa.String(60), primary_key=True),
    sa.Column("condition", Json),
    sa.Column("cooldown_s", sa.BigInteger, nullable=False),
    sa.Column("since", Utc, nullable=False),
    sa.Column("lane", sa.String(120), nullable=False, server_default=""),
)

decisions = sa.Table(
    "retraining_decision",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("model", sa.String(60), nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("evidence", Json, nullable=False),
    sa.Column("job", sa.String(40), nullable=False),
    sa.Index("ix_retraining_decision_model", "model", "at"),
)


def upsert_policy(tx: Tx, values: dict[str, Any]) -> None:
    """Create or change a policy; `since` stays that of its creation."""
    changed = tx.execute(
        sa.update(policies)
        .where(policies.c.model == values["model"])
        .values({name: value for name, value in values.items() if name != "since"})
    )
    if changed.rowcount == 0:
        tx.execute(sa.insert(policies).values(**values))


def all_policies(connection: Connection) -> list[sa.Row[Any]]:
    return list(connection.execute(sa.select(policies).order_by(policies.c.model)))


def insert_decision(tx: Tx, values: dict[str, Any]) -> None:
    tx.execute(sa.insert(decisions).values(**values))


def newest_decisions(connection: Connection, *, model: str | None, limit: int) -> list[sa.Row[Any]]:
    statement = sa.select(decisions).order_by(decisions.c.id.desc()).limit(limit)
    if model is not None:
        statement = statement.where(decisions.c.model == model)
    return list(connection.execute(statement))


def decision_by_id(connection: Connection, decision_id: str) -> sa.Row[Any] | None:
    return connection.execute(sa.select(decisions).where(decisions.c.id == decision_id)).first()


def last_decision_at(connection: Connection, model: str) -> datetime | None:
    at: datetime | None = connection.execute(
        sa.select(decisions.c.at).where(decisions.c.model == model).order_by(decisions.c.at.desc()).limit(1)
    ).scalar()
    return at


def evidence_since(connection: Connection, model: str, start: datetime) -> list[dict[str, Any]]:
    """What a model's decisions from a time on were made on."""
    statement = sa.select(decisions.c.evidence).where(decisions.c.model == model, decisions.c.at >= start)
    return list(connection.execute(statement).scalars())


def drop_policies(tx: Tx, *, but: Sequence[str]) -> list[str]:
    """Forget the policies of all models but these and return the names of those; their decisions stay."""
    gone = list(tx.execute(sa.select(policies.c.model).where(policies.c.model.not_in(but))).scalars())
    tx.execute(sa.delete(policies).where(policies.c.model.in_(gone)))
    return gone
