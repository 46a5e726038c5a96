"""The tables of versions' signatures and of marks of trust, and all SQL over them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.registry.records import ModelVersion, Seal, Trust
from everloop.registry.store import versions
from everloop.serving import Signed
from everloop.storage import Tx, Utc, metadata

# The newest of a version counts: one is added when another key is to vouch for it.
signatures = sa.Table(
    "version_signature",
    metadata,
    sa.Column("model", sa.String(120), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("statement", sa.Text, nullable=False),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("signature", sa.String(128), nullable=False),
    sa.Column("by", sa.String(120), nullable=False),
    sa.Column("at", Utc, nullable=False),
)

trusts = sa.Table(
    "version_trust",
    metadata,
    sa.Column("model", sa.String(120), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("by", sa.String(120), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("key", sa.String(64)),  # these two are missing of marks that were made before marks were signed
    sa.Column("signature", sa.String(128)),
)


def newest_seal(connection: Connection, version: ModelVersion) -> Seal | None:
    """The signature of a version that counts."""
    statement = (
        sa.select(signatures).where(_of(signatures, version)).order_by(signatures.c.position.desc()).limit(1)
    )
    row = connection.execute(statement).first()
    return None if row is None else Seal(row.statement, row.key, row.signature, row.by, row.at)


def insert_seal(tx: Tx, version: ModelVersion, seal: Seal) -> None:
    """Append a signature; the caller holds the lock of signing or of the model."""
    last = sa.select(sa.func.coalesce(sa.func.max(signatures.c.position), 0)).where(_of(signatures, version))
    position = int(tx.execute(last).scalar_one()) + 1
    values: dict[str, Any] = {"model": version.model, "number": version.number, "position": position}
    tx.execute(sa.insert(signatures).values(**values, **asdict(seal)))


def unsigned(connection: Connection) -> list[tuple[str, int]]:
    """Model and number of every version that nobody signed."""
    known = sa.exists().where(
        signatures.c.model == versions.c.model, signatures.c.number == versions.c.number
    )
    statement = (
        sa.select(versions.c.model, versions.c.number)
        .where(~known)
        .order_by(versions.c.model, versions.c.number)
    )
    return [(row.model, row.number) for row in connection.execute(statement)]


def trust_of(connection: Connection, version: ModelVersion) -> Trust | None:
    """Who allowed this very version to run code of its own."""
    statement = sa.select(trusts).where(_of(trusts, version), trusts.c.digest == version.digest)
    row = connection.execute(statement).first()
    if row is None:
        return None
    signed = None if row.key is None else Signed(row.key, row.signature)
    return Trust(version.ref, row.by, row.reason, row.at, signed)


def insert_trust(tx: Tx, version: ModelVersion, trust: Trust) -> None:
    """Keep a mark; the caller holds the model's lock. One that the number had before is replaced."""
    tx.execute(sa.delete(trusts).where(_of(trusts, version)))
    values = {"by": trust.by, "reason": trust.reason, "at": trust.at, "digest": version.digest}
    if trust.signed is not None:
        values |= {"key": trust.signed.key, "signature": trust.signed.signature}
    tx.execute(sa.insert(trusts).values(model=version.model, number=version.number, **values))


def _of(table: sa.Table, version: ModelVersion) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.model == version.model, table.c.number == version.number)
