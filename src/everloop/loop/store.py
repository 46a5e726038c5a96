"""The table of applied loop files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.storage import Json, Tx, Utc, metadata

versions = sa.Table(
    "loop_version",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("code", sa.String(64), nullable=False),
    sa.Column("file", sa.String(400), nullable=False),
    sa.Column("declared", Json, nullable=False),
    sa.Column("applied_at", Utc, nullable=False),
    sa.Column("applied_by", sa.String(120), nullable=False),
)


@dataclass(frozen=True)
class LoopVersion:
    """What was declared at one time. `file` is the loop file's path inside the code snapshot `code`."""

    number: int
    code: str
    file: str
    declared: dict[str, dict[str, Any]]
    applied_at: datetime
    applied_by: str


def newest(connection: Connection) -> LoopVersion | None:
    row = connection.execute(sa.select(versions).order_by(versions.c.number.desc()).limit(1)).first()
    return None if row is None else LoopVersion(**row._mapping)


def insert(tx: Tx, values: dict[str, Any]) -> None:
    tx.execute(sa.insert(versions).values(**values))
