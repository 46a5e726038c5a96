"""The table of the parts of prediction logs that were shipped, and all SQL over it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.storage import Json, Tx, Utc, metadata

parts = sa.Table(
    "log_part",
    metadata,
    sa.Column("origin", sa.String(20), primary_key=True),
    sa.Column("writer", sa.Integer, primary_key=True),
    sa.Column("segment", sa.BigInteger, primary_key=True),
    sa.Column("is_sealed", sa.Boolean, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("planned_bytes", sa.BigInteger, nullable=False),
    sa.Column("pieces", Json, nullable=False),
    sa.Column("shipped_at", Utc, nullable=False),
    sa.Index("ix_log_part_shipped_at", "shipped_at"),
)


@dataclass(frozen=True)
class Part:
    """What was shipped of one segment of one process of the home `origin`: its bytes up to `size_bytes`, in pieces.

    A piece is the size of some bytes and the digest of the blob that has them. One that is being sent ends at
    `planned_bytes`. Of a sealed segment there is one, the Parquet file.
    """

    origin: str
    writer: int
    segment: int
    is_sealed: bool
    size_bytes: int
    planned_bytes: int
    pieces: tuple[tuple[int, str], ...]
    shipped_at: datetime

    @property
    def key(self) -> tuple[str, int, int]:
        return self.origin, self.writer, self.segment

    @property
    def digests(self) -> list[str]:
        return [digest for _, digest in self.pieces]


def all_parts(connection: Connection) -> list[Part]:
    rows = connection.execute(sa.select(parts).order_by(parts.c.origin, parts.c.writer, parts.c.segment))
    return [
        Part(**{**row._mapping, "pieces": tuple((size, digest) for size, digest in row.pieces)})
        for row in rows
    ]


def put_part(tx: Tx, part: Part, *, known: Part | None) -> bool:
    """Write a part instead of the one that was read; whether that was still there."""
    tx.lock(f"log_part:{part.origin}/{part.writer}")
    values = {**asdict(part), "pieces": [list(piece) for piece in part.pieces]}
    if known is None:
        if tx.execute(sa.select(parts.c.writer).where(*_is(part))).first() is not None:
            return False
        tx.execute(sa.insert(parts).values(**values))
        return True
    read = (
        parts.c.is_sealed == known.is_sealed,
        parts.c.size_bytes == known.size_bytes,
        parts.c.planned_bytes == known.planned_bytes,
        parts.c.shipped_at == known.shipped_at,
    )
    return tx.execute(sa.update(parts).where(*_is(known), *read).values(**values)).rowcount == 1


def delete_parts(tx: Tx, going: Collection[Part]) -> None:
    for one in going:
        tx.execute(sa.delete(parts).where(*_is(one)))


def _is(part: Part) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        parts.c.origin == part.origin,
        parts.c.writer == part.writer,
        parts.c.segment == part.segment,
    )
