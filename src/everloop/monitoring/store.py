"""The tables of watches, measures and findings, and all SQL over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.monitoring.records import Finding, Measure
from everloop.storage import Json, Tx, Utc, metadata

watches = sa.Table(
    "watch",
    metadata,
    sa.Column("endpoint", sa.String(60), primary_key=True),
    sa.Column("name", sa.String(60), primary_key=True),
    sa.Column("watch", Json, nullable=False),
    sa.Column("looked_at", Utc, nullable=False),
)

measures = sa.Table(
    "measure",
    metadata,
    sa.Column("endpoint", sa.String(60), primary_key=True),
    sa.Column("name", sa.String(60), primary_key=True),
    sa.Column("variant", sa.String(80), primary_key=True),
    sa.Column("start", Utc, nullable=False),
    sa.Column("end", Utc, primary_key=True),
    sa.Column("value", sa.Float),
    sa.Column("low", sa.Float),
    sa.Column("high", sa.Float),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("detail", Json),
)

findings = sa.Table(
    "finding",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("endpoint", sa.String(60), nullable=False),
    sa.Column("kind", sa.String(30), nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("start", Utc, nullable=False),
    sa.Column("end", Utc, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("detail", Json, nullable=False),
    sa.Column("versions", Json, nullable=False),
    sa.Index("ix_finding_endpoint_at", "endpoint", "at"),
)


references = sa.Table(
    "drift_reference",
    metadata,
    sa.Column("release", sa.String(40), primary_key=True),
    sa.Column("blob", sa.String(64), nullable=False),
    sa.Column("made_at", Utc, nullable=False),
)


def upsert_watch(tx: Tx, endpoint: str, name: str, watch: dict[str, Any], *, looked_at: datetime) -> None:
    """Create or change a watch; a known one goes on from where it last looked."""
    key = (watches.c.endpoint == endpoint, watches.c.name == name)
    if tx.execute(sa.update(watches).where(*key).values(watch=watch)).rowcount == 0:
        values = {"endpoint": endpoint, "name": name, "watch": watch, "looked_at": looked_at}
        tx.execute(sa.insert(watches).values(**values))


def keep_watches(tx: Tx, endpoint: str, names: Sequence[str]) -> None:
    """Remove the endpoint's other watches."""
    tx.execute(sa.delete(watches).where(watches.c.endpoint == endpoint, watches.c.name.not_in(names)))


def all_watches(connection: Connection, endpoint: str | None) -> list[sa.Row[Any]]:
    statement = sa.select(watches).order_by(watches.c.endpoint, watches.c.name)
    if endpoint is not None:
        statement = statement.where(watches.c.endpoint == endpoint)
    return list(connection.execute(statement))


def move_watch(
    tx: Tx,
    endpoint: str,
    name: str,
    *,
    before: datetime,
    after: datetime,
    watch: dict[str, Any] | None = None,
) -> bool:
    """Say that a watch has looked up to `after`, and what it is from now on; False when another process was quicker."""
    values = {"looked_at": after} | ({} if watch is None else {"watch": watch})
    changed = tx.execute(
        sa.update(watches)
        .where(watches.c.endpoint == endpoint, watches.c.name == name, watches.c.looked_at == before)
        .values(**values)
    )
    return changed.rowcount == 1


def put_measures(tx: Tx, new: Sequence[Measure]) -> None:
    """Write measures; one that was taken before of the same window is replaced: outcomes come late."""
    for one in new:
        same = (
            measures.c.endpoint == one.endpoint,
            measures.c.name == one.name,
            measures.c.variant == one.variant,
            measures.c.end == one.end,
        )
        tx.execute(sa.delete(measures).where(*same))
    if new:
        tx.execute(sa.insert(measures), [vars(one) for one in new])  # `asdict` would copy each latency


def remove_measures(tx: Tx, endpoint: str, name: str, *, before: datetime | None = None) -> None:
    """Forget measures of one name: all, or those that end by then."""
    known = (measures.c.endpoint == endpoint, measures.c.name == name)
    ended = () if before is None else (measures.c.end <= before,)
    tx.execute(sa.delete(measures).where(*known, *ended))


def measures_between(
    connection: Connection, endpoint: str, *, names: Sequence[str], start: datetime | None, limit: int
) -> list[Measure]:
    """Measures that end after `start`, oldest first; the newest ones where there are more than `limit`."""
    statement = (
        sa.select(measures)
        .where(measures.c.endpoint == endpoint)
        .order_by(measures.c.end.desc())
        .limit(limit)
    )
    if names:
        families = [measures.c.name.startswith(one) for one in names if one.endswith(":")]
        statement = statement.where(sa.or_(measures.c.name.in_(names), *families))
    else:
        statement = statement.where(
            measures.c.name.not_in(("traffic", "traffic:day")), ~measures.c.name.startswith("piece:")
        )
    if start is not None:
        statement = statement.where(measures.c.end > start)
    return [Measure(**row._mapping) for row in reversed(connection.execute(statement).all())]


def insert_finding(tx: Tx, finding: Finding) -> None:
    tx.execute(sa.insert(findings).values(**asdict(finding)))


def newest_findings(
    connection: Connection,
    *,
    endpoint: str | None,
    kinds: Sequence[str] = (),
    since: datetime | None = None,
    limit: int = 100,
) -> list[Finding]:
    statement = sa.select(findings).order_by(findings.c.at.desc(), findings.c.id.desc()).limit(limit)
    if endpoint is not None:
        statement = statement.where(findings.c.endpoint == endpoint)
    if kinds:
        statement = statement.where(findings.c.kind.in_(kinds))
    if since is not None:
        statement = statement.where(findings.c.at > since)
    return [
        Finding(**{**row._mapping, "versions": tuple(row.versions)}) for row in connection.execute(statement)
    ]


def similar_finding(connection: Connection, endpoint: str, kind: str, *, after: datetime) -> list[Finding]:
    """Findings of a kind whose window reaches beyond `after`: what was said already of overlapping windows."""
    statement = sa.select(findings).where(
        findings.c.endpoint == endpoint, findings.c.kind == kind, findings.c.end > after
    )
    return [
        Finding(**{**row._mapping, "versions": tuple(row.versions)}) for row in connection.execute(statement)
    ]


def reference_blob(connection: Connection, release: str) -> str | None:
    blob: str | None = connection.execute(
        sa.select(references.c.blob).where(references.c.release == release)
    ).scalar()
    return blob


def insert_reference(tx: Tx, release: str, blob: str, made_at: datetime) -> None:
    tx.lock(f"reference:{release}")
    if reference_blob(tx.connection, release) is None:
        tx.execute(sa.insert(references).values(release=release, blob=blob, made_at=made_at))


def finding_by_id(connection: Connection, finding_id: str) -> Finding | None:
    row = connection.execute(sa.select(findings).where(findings.c.id == finding_id)).first()
    return None if row is None else Finding(**{**row._mapping, "versions": tuple(row.versions)})
