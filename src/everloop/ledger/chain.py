"""The audit log: governed acts in an append-only chain of signed hashes."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy.engine import Connection

from everloop.clock import to_micros
from everloop.errors import Invalid, StorageFailed
from everloop.ledger.lineage import Node
from everloop.storage import Json, Tx, Utc, metadata, to_json
from everloop.workspace import Workspace

_START = "0" * 64  # what stands before the first entry
_PAGE = 5_000  # entries read at a time while verifying

log = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("actor", sa.String(120), nullable=False),
    sa.Column("act", sa.String(60), nullable=False),
    sa.Column("object_kind", sa.String(24), nullable=False),
    sa.Column("object_id", sa.String(200), nullable=False),
    sa.Column("before_hash", sa.String(64)),
    sa.Column("after_hash", sa.String(64)),
    sa.Column("detail", Json, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("signature", sa.String(128), nullable=False),
    sa.Index("ix_audit_object", "object_kind", "object_id"),
)


@dataclass(frozen=True)
class AuditEntry:
    """One act. `before` and `after` are digests of the object's state, None where there was none."""

    seq: int
    at: datetime
    actor: str
    act: str
    subject: Node
    before: str | None
    after: str | None
    detail: dict[str, Any]
    previous: str
    hash: str
    signature: str


@dataclass(frozen=True)
class Verdict:
    """What verifying the chain found; `problems` is empty when every entry is as it was written."""

    entries: int
    head: str
    problems: tuple[str, ...]

    @property
    def is_intact(self) -> bool:
        return not self.problems


def audit(
    ws: Workspace, tx: Tx, act: str, subject: Node, *, before: Any = None, after: Any = None, **detail: Any
) -> None:
    """Append an act to the chain in the transaction of the act itself.

    `before` and `after` are the object's states as JSON values; the chain keeps their digests. The chain's head,
    for which all writers contend, is taken by the transaction's last statements. The time is domain time.
    """
    pending = {
        "at": ws.now(),
        "actor": ws.actor,
        "act": act,
        "object_kind": subject.kind,
        "object_id": subject.id,
        "before_hash": None if before is None else _digest(before),
        "after_hash": None if after is None else _digest(after),
        "detail": detail,
    }
    tx.finally_do(f"audit:{id(pending)}", lambda: _append(ws, tx, pending))


def entries(
    ws: Workspace,
    *,
    subject: Node | None = None,
    actor: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    before_seq: int | None = None,
    limit: int = 100,
) -> list[AuditEntry]:
    """The newest entries that match, newest first; page on with `before_seq`."""
    statement = sa.select(log).order_by(log.c.seq.desc()).limit(limit)
    if subject is not None:
        statement = statement.where(log.c.object_kind == subject.kind, log.c.object_id == subject.id)
    if actor is not None:
        statement = statement.where(log.c.actor == actor)
    if start is not None:
        statement = statement.where(log.c.at >= start)
    if end is not None:
        statement = statement.where(log.c.at < end)
    if before_seq is not None:
        statement = statement.where(log.c.seq < before_seq)
    with ws.read() as connection:
        return [_entry(row) for row in connection.execute(statement)]


def head(ws: Workspace) -> str:
    """The chain's newest hash, to be noted somewhere else as an anchor: `SEQ:HASH`."""
    with ws.read() as connection:
        seq, newest = _head(connection)
    return f"{seq}:{newest}"


def derived_key(ws: Workspace, purpose: str) -> bytes:
    """A secret of 32 bytes for one purpose, the same on all machines that have the workspace's signing key."""
    secret = _private_key(ws).private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return blake3(secret, derive_key_context=f"everloop {purpose}").digest()


def verify(ws: Workspace, *, anchor: str | None = None) -> Verdict:
    """Recompute the whole chain and check each signature.

    `anchor` is a head noted earlier (`SEQ:HASH`): the chain must still contain it. The newest head that this
    home has seen is kept beside the key and checked in the same way, so that a cut-off end shows.

    Raises
    ------
    Invalid
        The anchor is not of the form SEQ:HASH.
    """
    anchors = [_parse_anchor(text) for text in (anchor, _noted_head(ws)) if text]
    public = _public_key(ws)
    problems: list[str] = []
    previous, expected_seq = _START, 1
    wanted = dict(anchors)
    for entry in _all(ws):
        problems += _problems_of(entry, previous, expected_seq, public)
        if entry.seq in wanted and wanted.pop(entry.seq) != entry.hash:
            problems.append(
                f"entry {entry.seq} is not the one that was noted as anchor: the chain was rewritten"
            )
        previous, expected_seq = entry.hash, entry.seq + 1
    problems += [f"entry {seq}, noted earlier, is missing: the end was cut off" for seq in wanted if seq > 0]
    return Verdict(expected_seq - 1, f"{expected_seq - 1}:{previous}", tuple(problems))


def _problems_of(
    entry: AuditEntry, previous: str, expected_seq: int, public: Ed25519PublicKey
) -> Iterator[str]:
    if entry.seq != expected_seq:
        yield f"entry {expected_seq} is missing: the next one found is {entry.seq}"
    if entry.previous != previous:
        yield f"entry {entry.seq} does not follow the one before it: an entry was removed, inserted or changed"
    if _hash_of(_content(entry), entry.previous) != entry.hash:
        yield f"entry {entry.seq} was changed: its content does not have its hash"
    try:
        public.verify(bytes.fromhex(entry.signature), bytes.fromhex(entry.hash))
    except (InvalidSignature, ValueError):
        yield f"entry {entry.seq} is not signed by this workspace's key: the chain was recomputed"


def _append(ws: Workspace, tx: Tx, pending: dict[str, Any]) -> None:
    tx.lock("audit")
    seq, previous = _head(tx.connection)
    row = {**pending, "seq": seq + 1}
    digest = _hash_of(row, previous)
    signature = _private_key(ws).sign(bytes.fromhex(digest)).hex()
    tx.execute(sa.insert(log).values(**row, previous=previous, hash=digest, signature=signature))
    tx.afterwards("audit", lambda: _note_head(ws, f"{seq + 1}:{digest}"))


def _head(connection: Connection) -> tuple[int, str]:
    row = connection.execute(sa.select(log.c.seq, log.c.hash).order_by(log.c.seq.desc()).limit(1)).first()
    return (row.seq, row.hash) if row else (0, _START)


def _hash_of(content: dict[str, Any], previous: str) -> str:
    return _digest({**content, "at": to_micros(content["at"]), "previous": previous})


def _content(entry: AuditEntry) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "at": entry.at,
        "actor": entry.actor,
        "act": entry.act,
        "object_kind": entry.subject.kind,
        "object_id": entry.subject.id,
        "before_hash": entry.before,
        "after_hash": entry.after,
        "detail": entry.detail,
    }


def _digest(value: Any) -> str:
    return blake3(to_json(value).encode()).hexdigest()


def _all(ws: Workspace) -> Iterator[AuditEntry]:
    reached = 0
    while True:
        with ws.read() as connection:
            page = connection.execute(
                sa.select(log).where(log.c.seq > reached).order_by(log.c.seq).limit(_PAGE)
            ).all()
        yield from map(_entry, page)
        if len(page) < _PAGE:
            return
        reached = page[-1].seq


def _parse_anchor(text: str) -> tuple[int, str]:
    seq, separator, digest = text.strip().partition(":")
    if not separator or not seq.isdigit() or len(digest) != 64:
        raise Invalid(f"{text!r} is not an anchor; it is what 'everloop audit head' prints, SEQ:HASH.")
    return int(seq), digest


def _noted_head(ws: Workspace) -> str | None:
    path = _keys(ws) / "audit.head"
    return path.read_text() if path.exists() else None


def _note_head(ws: Workspace, newest: str) -> None:
    """Keep the head outside the database. Another process may have noted a later one: an older anchor also holds."""
    (_keys(ws) / "audit.head").write_text(newest)


def _public_key(ws: Workspace) -> Ed25519PublicKey:
    return _private_key(ws).public_key()


def _private_key(ws: Workspace) -> Ed25519PrivateKey:
    """The signing key. One is made where nothing was signed yet: another machine's entries would not verify by it."""
    path = _keys(ws) / "audit.key"
    if not path.exists():
        with ws.read() as connection:
            signed, _ = _head(connection)
        if signed:
            raise Invalid(
                f"the audit log has {signed:,} entries signed with a key that this home does not have. Machines that share a "
                f"database sign with the same key: copy the folder keys of the first one's home to {path.parent}. If the key is "
                f"lost for good, write 64 random hex digits to {path}; then the earlier entries do not verify any more."
            )
    return _load_key(path)


@functools.lru_cache(maxsize=8)
def _load_key(path: Path) -> Ed25519PrivateKey:
    """The signing key; made at the first governed act, readable by its owner alone."""
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text()))
        key = Ed25519PrivateKey.generate()
        with os.fdopen(descriptor, "w") as file:
            file.write(key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()).hex())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageFailed(
            f"the audit key {path} cannot be read or made: {error.strerror}. Make the workspace's home writable."
        ) from error
    except ValueError as error:
        raise Invalid(
            f"the audit key {path} is damaged: it is 64 hex digits. Put the original back; without it no entry verifies."
        ) from error
    return key


def _keys(ws: Workspace) -> Path:
    return ws.home.absolute() / "keys"


def _entry(row: sa.Row[Any]) -> AuditEntry:
    return AuditEntry(
        seq=row.seq,
        at=row.at,
        actor=row.actor,
        act=row.act,
        subject=Node(row.object_kind, row.object_id),
        before=row.before_hash,
        after=row.after_hash,
        detail=row.detail,
        previous=row.previous,
        hash=row.hash,
        signature=row.signature,
    )
