"""Label snapshots: what was known to be true at a time, by a stated rule, under a name that says the content."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3
from sqlalchemy.engine import Connection

from everloop.errors import Invalid, NotFound
from everloop.events import emit
from everloop.labels import store
from everloop.labels.define import schema
from everloop.labels.records import LabelEvent, LabelSchema, LabelSnapshot, Rule
from everloop.labels.resolve import Resolved, Translate, resolve
from everloop.labels.taxonomy import translation
from everloop.ledger import Node, link
from everloop.storage import Tx
from everloop.workspace import Workspace

_HASHED_AT_ONCE = 1_000


@dataclass(frozen=True)
class Resolution:
    """The labelled rows of a label set as known at a time, and how many rows were left out (see LabelSnapshot)."""

    schema: LabelSchema
    rows: tuple[Resolved, ...]
    left_out: int


def snapshot(ws: Workspace, name: str, *, rule: Rule = "latest", at: datetime | None = None) -> LabelSnapshot:
    """Freeze the labels as they were known at a time; the same content is the same snapshot.

    Only events count that were said at or before `at` and had been recorded by then. The digest covers the schema,
    the rule and, for each row, its key, label and deciding events, but not `at`: when nothing new was said, a later
    call gives the earlier snapshot. Writes a Parquet blob, then `label_snapshot` and lineage in one transaction.

    Parameters
    ----------
    rule
        See `resolve.resolve`.
    at
        Domain time, None for now.

    Raises
    ------
    NotFound
        There is no such label set.
    Invalid
        `at` has no zone, is in the future, or is before the label set was defined; or the rule is unknown.
    """
    at = known_at(ws, at)
    with ws.read() as connection:
        resolution = resolved_at(connection, schema(ws, name), rule=rule, at=at)
    digest = _digest(resolution, rule)
    if (known := _find(ws, digest)) is not None:
        return known
    wanted = LabelSnapshot(
        digest=digest,
        name=name,
        schema_number=resolution.schema.number,
        rule=rule,
        at=at,
        count=len(resolution.rows),
        left_out=resolution.left_out,
        per_class=_per_class(resolution),
        annotators=dict(
            Counter(by for row in resolution.rows for by in {one.annotator for one in row.decided_by})
        ),
        blob=ws.blobs.put(_parquet(resolution)),
        created_by=ws.actor,
    )
    files = sorted({one.file for row in resolution.rows for one in row.decided_by if one.file is not None})
    return ws.write(lambda tx: _keep(ws, tx, wanted, resolution.schema, files))


def find_snapshot(ws: Workspace, digest: str) -> LabelSnapshot:
    """The snapshot of this digest. Raises NotFound."""
    found = _find(ws, digest)
    if found is None:
        raise NotFound(
            f"there is no label snapshot {digest!r}. 'everloop labels snapshots NAME' lists those of a label set."
        )
    return found


def read_snapshot(ws: Workspace, digest: str) -> pa.Table:
    """The snapshot's rows by row id: `_row_id` int64, `key` string, `label` string or float64, `events` and
    `annotators` lists of strings (the events that decided the label and who said them, in the same order).

    Raises NotFound.
    """
    return pq.read_table(ws.blobs.path(find_snapshot(ws, digest).blob))


def snapshots(ws: Workspace, name: str, *, limit: int = 100) -> list[LabelSnapshot]:
    """The snapshots of a label set, newest first."""
    with ws.read() as connection:
        return store.read_snapshots(connection, store.newest_snapshots(name, limit=limit))


def snapshot_events(ws: Workspace, digest: str, row_id: int) -> list[LabelEvent]:
    """The events that decided a row's label in a snapshot, empty when the row is not in it. Raises NotFound."""
    ids = _events_in(ws, find_snapshot(ws, digest), row_id)
    with ws.read() as connection:
        return store.events_by_id(connection, ids)


def snapshots_with_row(ws: Workspace, name: str, row_id: int, *, limit: int = 100) -> list[LabelSnapshot]:
    """Which of the newest `limit` snapshots hold a label of this row: what depends on it. Newest first."""
    return [one for one in snapshots(ws, name, limit=limit) if _events_in(ws, one, row_id)]


def resolved_at(connection: Connection, newest: LabelSchema, *, rule: Rule, at: datetime) -> Resolution:
    """The label set as known at `at`, in the words of the schema of that time. Raises Invalid."""
    current = store.newest_schema(connection, newest.name, at=at)
    if current is None:
        raise Invalid(
            f"the label set {newest.name!r} did not exist at {at.isoformat()}. Name a time after it was defined."
        )
    said = store.statements(connection, newest.name, at=at)
    resolved = list(resolve(said, rule=rule, translate=translations(connection, current)))
    labelled = tuple(row for row in resolved if row.label is not None)
    return Resolution(current, labelled, len(resolved) - len(labelled))


def translations(connection: Connection, current: LabelSchema) -> Translate:
    """How labels given under each version of the schema are called in `current`."""
    if current.kind == "number":
        return {one.number: None for one in store.schemas_of(connection, current.name)}
    return {
        one.number: None if one.number == current.number else translation(one, current)
        for one in store.schemas_of(connection, current.name)
    }


def _keep(
    ws: Workspace, tx: Tx, wanted: LabelSnapshot, of: LabelSchema, files: Sequence[str]
) -> LabelSnapshot:
    tx.lock(f"labels:{wanted.name}")
    if (known := store.snapshot_by_digest(tx.connection, wanted.digest)) is not None:
        return known
    store.insert_snapshot(tx, wanted)
    node = Node("label_snapshot", wanted.digest)
    link(tx, Node("label_schema", of.ref), node, role="label schema", at=wanted.at)
    for file in files:
        link(tx, Node("file", file), node, role="imported labels", at=wanted.at)
    told = f"{wanted.count} labels of {of.ref} resolved by {wanted.rule} as known at {wanted.at.isoformat()}"
    emit(ws, tx, "labels.snapshot", node, message=told)
    return wanted


def _events_in(ws: Workspace, snapshot: LabelSnapshot, row_id: int) -> list[str]:
    """The ids of the events that decided a row's label; a label always has one."""
    path = ws.blobs.path(snapshot.blob)
    rows = pq.read_table(path, columns=["events"], filters=[("_row_id", "=", row_id)])
    events: dict[str, list[list[str]]] = rows.to_pydict()
    return [one for ids in events["events"] for one in ids]


def _find(ws: Workspace, digest: str) -> LabelSnapshot | None:
    with ws.read() as connection:
        return store.snapshot_by_digest(connection, digest)


def known_at(ws: Workspace, at: datetime | None) -> datetime:
    """The time at which knowledge is looked at: now if none is named. Raises Invalid for a time to come."""
    now = ws.now()
    if at is None:
        return now
    if at.tzinfo is None:
        raise Invalid(f"{at.isoformat()} has no time zone. Attach one, for example .replace(tzinfo=UTC).")
    if at > now:
        raise Invalid(
            f"{at.isoformat()} is in the future (it is {now.isoformat()} now): what is known then cannot be frozen "
            "yet. Name a time up to now."
        )
    return at.astimezone(UTC)


def _digest(resolution: Resolution, rule: Rule) -> str:
    hasher = blake3(json.dumps([resolution.schema.name, resolution.schema.digest, rule]).encode())
    for start in range(0, len(resolution.rows), _HASHED_AT_ONCE):
        lines = [
            [row.row_id, row.key, row.label, [[one.id, one.annotator] for one in row.decided_by]]
            for row in resolution.rows[start : start + _HASHED_AT_ONCE]
        ]
        hasher.update(json.dumps(lines, ensure_ascii=False, separators=(",", ":")).encode())
    return hasher.hexdigest()


def _per_class(resolution: Resolution) -> dict[str, int]:
    if resolution.schema.kind == "number":
        return {}
    counts = Counter(str(row.label) for row in resolution.rows)
    return {name: counts[name] for name in resolution.schema.labels}


def _parquet(resolution: Resolution) -> bytes:
    rows = resolution.rows
    label = pa.string() if resolution.schema.kind == "class" else pa.float64()
    table = pa.table(
        {
            "_row_id": pa.array([row.row_id for row in rows], pa.int64()),
            "key": pa.array([row.key for row in rows], pa.string()),
            "label": pa.array([row.label for row in rows], label),
            "events": pa.array([[one.id for one in row.decided_by] for row in rows], pa.list_(pa.string())),
            "annotators": pa.array(
                [[one.annotator for one in row.decided_by] for row in rows], pa.list_(pa.string())
            ),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
