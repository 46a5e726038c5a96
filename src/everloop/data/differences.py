"""Tells two versions of a dataset apart, row by row."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop.data import store
from everloop.data.arrow import arrow_schema
from everloop.data.definitions import version as version_named
from everloop.data.definitions import versions
from everloop.data.indexing import digests_of
from everloop.data.layout import Part, Positions, read_manifest, read_part
from everloop.data.records import DIGEST, ROW_ID, DatasetVersion, Diff
from everloop.errors import Invalid
from everloop.workspace import Workspace


def count_arrived(ws: Workspace, name: str, *, since: datetime) -> int:
    """How many rows of a dataset's newest version were added or changed after `since`; reads no row.

    Raises NotFound when there is no such dataset.
    """
    newest = next(iter(versions(ws, name, limit=1)), None)
    if newest is None or newest.created_at <= since:
        return 0
    with ws.read() as connection:
        known = store.number_at(connection, name, at=since)
    parts = read_manifest(ws, newest.manifest).parts
    return sum(part.rows - part.deleted_count for part in parts if part.since > known)


def diff(ws: Workspace, before: str, after: str) -> Diff:
    """Which rows were added, removed and changed from one version of a dataset to another, in either direction.

    Parts that both versions have in the same state are not read: the work goes with what changed.

    Raises
    ------
    Invalid
        The versions are of different datasets.
    """
    first, second = version_named(ws, before), version_named(ws, after)
    if first.dataset != second.dataset:
        raise Invalid(
            f"{first.ref} and {second.ref} are versions of different datasets; rows are compared within one. "
            "Name two versions of the same dataset."
        )
    left, right = (read_manifest(ws, one.manifest).parts for one in (first, second))
    gone = _only_in(ws, left, right, first)
    come = _only_in(ws, right, left, second)
    gone_ids, come_ids = np.asarray(gone[ROW_ID]), np.asarray(come[ROW_ID])
    # A row that is in both may have only moved to another part: its digest decides.
    both, at_left, at_right = np.intersect1d(gone_ids, come_ids, assume_unique=True, return_indices=True)
    differs = (digests_of(gone[DIGEST])[at_left] != digests_of(come[DIGEST])[at_right]).any(axis=1)
    return Diff(
        before=first.ref,
        after=second.ref,
        added=_rows(come, ~np.isin(come_ids, both)),
        removed=_rows(gone, ~np.isin(gone_ids, both)),
        changed=_rows(come, np.isin(come_ids, both[differs])),
    )


def _only_in(
    ws: Workspace, parts: tuple[Part, ...], others: tuple[Part, ...], version: DatasetVersion
) -> pa.Table:
    """Row id, key and digest of the rows that are alive in these parts and not in the same place of the others."""
    columns = [name for name in (ROW_ID, version.schema.key, DIGEST) if name is not None]
    elsewhere = {part.digest: part for part in others}
    found = [
        read_part(ws, part, version.schema, columns, positions=positions)
        for part in parts
        if len(positions := _positions_only_in(part, elsewhere.get(part.digest)))
    ]
    if not found:
        kinds = arrow_schema(version.schema).append(pa.field(DIGEST, pa.binary(32)))
        return kinds.empty_table().select(columns)
    return pa.concat_tables(found).combine_chunks()


def _positions_only_in(part: Part, other: Part | None) -> Positions:
    if other is None:
        return np.flatnonzero(part.is_alive())
    # Equal sets of rows are written to equal text, so that unpacking them is not needed to see it.
    if part.deleted == other.deleted:
        return np.empty(0, np.int64)
    return np.flatnonzero(part.is_alive() & ~other.is_alive())


def _rows(rows: pa.Table, mask: NDArray[np.bool_]) -> pa.Table:
    chosen = rows.drop_columns([DIGEST]).filter(pa.array(mask))
    return chosen.take(np.argsort(np.asarray(chosen[ROW_ID]), kind="stable"))
