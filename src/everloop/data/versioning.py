"""Commits a change as the next version of its dataset: compare-and-set on what the change was made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from everloop.data import store
from everloop.data.identity import Digests, changed_sum, version_digest
from everloop.data.indexing import Index, digest_column
from everloop.data.layout import Manifest, read_manifest, without, write_manifest, write_parts
from everloop.data.merging import Decision
from everloop.data.personal import personal_data
from everloop.data.records import DIGEST, ROW_ID, Dataset, DatasetVersion, Schema
from everloop.errors import Conflict, NotFound
from everloop.events import emit
from everloop.ledger import Node, audit, link
from everloop.storage import Tx
from everloop.workspace import Workspace

_ATTEMPTS = 10


@dataclass(frozen=True)
class State:
    """What a change starts from: the dataset as defined, its newest version and where that one's rows are."""

    dataset: Dataset
    version: DatasetVersion | None
    manifest: Manifest

    @property
    def next_number(self) -> int:
        return self.version.number + 1 if self.version else 1


@dataclass(frozen=True)
class Proposal:
    """A version as it would be, its blobs already written."""

    schema: Schema
    manifest: Manifest
    operation: dict[str, Any]
    personal: dict[str, dict[str, int]] = field(default_factory=dict)
    sources: tuple[Node, ...] = ()


def change(ws: Workspace, name: str, propose: Callable[[State], Proposal | None]) -> DatasetVersion:
    """Make a version out of what `propose` makes of the current state, again when another writer was first.

    Where it proposes nothing, because the data would be that of the current version, that one is returned.

    Raises
    ------
    NotFound
        There is no dataset of that name.
    Conflict
        Other writers were first ten times in a row.
    """
    for _ in range(_ATTEMPTS):
        state = current(ws, name)
        proposed = propose(state)
        if proposed is None and state.version is not None:
            return state.version
        if proposed is not None and (version := _commit(ws, state, proposed)) is not None:
            return version
    raise Conflict(
        f"dataset {name!r} was changed by others {_ATTEMPTS} times while this change was made; each starts from the "
        "newest version. Nothing was kept of it: run the same command again."
    )


def current(ws: Workspace, name: str) -> State:
    """The state that the next change starts from."""
    with ws.read() as connection:
        dataset = store.dataset_named(connection, name)
        version = store.newest_version(connection, name)
    if dataset is None:
        raise NotFound(f"there is no dataset {name!r}. Define it first, or see the list of datasets.")
    return State(dataset, version, read_manifest(ws, version.manifest) if version else Manifest())


def proposal(
    ws: Workspace,
    state: State,
    schema: Schema,
    rows: pa.Table,
    *,
    index: Index,
    decision: Decision,
    digests: Digests,
    operation: dict[str, Any],
    sources: tuple[Node, ...] = (),
) -> Proposal | None:
    """The version that a decision leads to, its new parts written; None when its data is the current version's.

    `rows` are the rows to be written, in the columns of `schema`, and `digests` theirs; both in the order of the
    decision's row ids.
    """
    before = state.manifest
    manifest = Manifest(
        rows=before.rows + len(decision.row_ids) - len(decision.deleted),
        next_row_id=decision.next_row_id,
        total=changed_sum(before.total, added=digests, removed=index.digests[decision.deleted]),
    )
    if state.version is not None and _digest(schema, manifest) == state.version.digest:
        return None
    # Only now are blobs written: a proposal that changes nothing leaves none behind.
    new = rows.add_column(0, ROW_ID, pa.array(decision.row_ids)).append_column(DIGEST, digest_column(digests))
    kept = without(before.parts, decision.deleted)
    manifest = dataclasses.replace(
        manifest, parts=(*kept, *write_parts(ws, new, key=schema.key, since=state.next_number))
    )
    counts = {"added": decision.added, "changed": decision.changed, "removed": decision.removed}
    return Proposal(schema, manifest, {**operation, **counts}, personal_data(rows, schema), sources)


def _commit(ws: Workspace, state: State, proposed: Proposal) -> DatasetVersion | None:
    """Write the version unless the state is not the current one any more: then None, and nothing is written."""
    parent = state.version
    version = DatasetVersion(
        dataset=state.dataset.name,
        number=state.next_number,
        digest=_digest(proposed.schema, proposed.manifest),
        parent=parent.number if parent else None,
        rows=proposed.manifest.rows,
        schema=proposed.schema,
        manifest=write_manifest(ws, proposed.manifest),
        operation=proposed.operation,
        personal=proposed.personal,
        created_at=ws.now(),
        created_by=ws.actor,
    )
    return ws.write(lambda tx: _record(ws, tx, state, proposed, version))


def _record(
    ws: Workspace, tx: Tx, state: State, proposed: Proposal, version: DatasetVersion
) -> DatasetVersion | None:
    # The definition is compared too: a file checked against rules that have changed since must be checked again.
    tx.lock(f"dataset:{version.dataset}")
    if (
        store.newest_version(tx.connection, version.dataset) != state.version
        or store.dataset_named(tx.connection, version.dataset) != state.dataset
    ):
        return None
    if proposed.schema != state.dataset.schema:
        store.set_schema(tx, version.dataset, proposed.schema)
    store.insert_version(tx, version)
    made, kind = Node("dataset_version", version.ref), proposed.operation["kind"]
    if state.version is not None:
        link(
            tx,
            Node("dataset_version", state.version.ref),
            made,
            role="earlier version",
            at=version.created_at,
        )
    for source in proposed.sources:
        link(tx, source, made, role="source", at=version.created_at)
    audit(
        ws,
        tx,
        f"data.{kind}",
        made,
        before=state.version.digest if state.version else None,
        after=version.digest,
        operation=proposed.operation,
    )
    emit(ws, tx, "data.version", made, message=_told(version), payload={"digest": version.digest})
    return version


def _told(version: DatasetVersion) -> str:
    done = version.operation
    return (
        f"{version.ref} has {version.rows} rows: {done.get('added', 0)} added, {done.get('changed', 0)} changed, "
        f"{done.get('removed', 0)} removed by {done['kind']}."
    )


def _digest(schema: Schema, manifest: Manifest) -> str:
    return version_digest(schema, rows=manifest.rows, total=manifest.total)
