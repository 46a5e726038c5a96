"""Decides what an ingest does to each row: pure functions over what is there and what comes in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everloop.data.arrow import AnyArray
from everloop.data.arrow import compute as pc
from everloop.data.identity import Digests
from everloop.data.indexing import Index
from everloop.data.records import Mode

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Matches:
    """For each incoming row: its row id (-1 when its key was never seen) and the position of its alive row (or -1)."""

    row_ids: Positions
    positions: Positions


@dataclass(frozen=True)
class Decision:
    """What happens: which incoming rows are written under which row ids, and which rows that are there go."""

    written: Positions  # positions in the incoming rows, in order of row id
    row_ids: Positions  # of the written rows, ascending
    deleted: Positions  # positions in the index, ascending
    next_row_id: int
    added: int
    changed: int
    removed: int


def match(index: Index, keys: AnyArray | None, *, incoming: int) -> Matches:
    """Find the incoming keys, which are unique, among those that are there."""
    matches = Matches(np.full(incoming, -1, np.int64), np.full(incoming, -1, np.int64))
    if index.keys is None or keys is None or len(index.row_ids) == 0:
        return matches
    found = np.asarray(pc.fill_null(pc.index_in(index.keys, value_set=keys), -1))
    known = np.flatnonzero(found >= 0)
    which = found[known]
    matches.row_ids[which] = index.row_ids[known]  # a key's rows all have the same row id
    alive = index.is_alive[known]
    matches.positions[which[alive]] = known[alive]
    return matches


def decide(index: Index, matches: Matches, digests: Digests, *, mode: Mode, next_row_id: int) -> Decision:
    """What to write and what to delete so that the incoming rows are merged in or, for `replace`, are all there is.

    Rows whose digest is the stored one stay as they are; changed rows keep their row id; new ones get the next
    ids in the order in which they come in.
    """
    is_there = matches.positions >= 0
    old = matches.positions[is_there]
    is_changed = is_there.copy()
    is_changed[is_there] = (index.digests[old] != digests[is_there]).any(axis=1)
    # New to this version: a key that was removed earlier is new too, and has a row id all the same.
    is_new = ~is_there
    row_ids = matches.row_ids.copy()
    unseen = np.flatnonzero(row_ids < 0)
    row_ids[unseen] = next_row_id + np.arange(len(unseen))
    deleted = matches.positions[is_changed]
    removed = np.empty(0, np.int64)
    if mode == "replace":
        stays = np.zeros(len(index.row_ids), np.bool_)
        stays[old] = True
        removed = np.flatnonzero(index.is_alive & ~stays)
    # Ascending row ids let a part say by its first and last one which rows it may have.
    written = np.flatnonzero(is_changed | is_new)
    written = written[np.argsort(row_ids[written], kind="stable")]
    return Decision(
        written=written,
        row_ids=row_ids[written],
        deleted=np.sort(np.concatenate([deleted, removed])),
        next_row_id=next_row_id + len(unseen),
        added=int(is_new.sum()),
        changed=int(is_changed.sum()),
        removed=len(removed),
    )
