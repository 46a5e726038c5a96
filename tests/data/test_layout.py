from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everloop.data.indexing import digest_column, digests_of
from everloop.data.layout import (
    Manifest,
    Part,
    read_at,
    read_manifest,
    read_part,
    without,
    write_manifest,
    write_parts,
)
from everloop.data.records import Column, Schema
from everloop.errors import NotFound, StorageFailed
from everloop.workspace import Workspace

SCHEMA = Schema((Column("id", "integer"), Column("later", "string")), "id")


def parts_of(ws: Workspace, n: int, *, pad_bytes: int = 0) -> tuple[Part, ...]:
    """Rows 0 to n-1, whose id is ten times their row id; padding makes them heavy enough for several parts."""
    rows: dict[str, Any] = {"_row_id": np.arange(n), "id": np.arange(n) * 10}
    if pad_bytes:
        rows["pad"] = pa.array([b"x" * pad_bytes] * n)
    digests = digest_column(np.zeros((n, 32), np.uint8))
    return write_parts(ws, pa.table({**rows, "_digest": digests}), key="id", since=1)


@settings(deadline=None)
@given(st.sets(st.integers(0, 199)), st.sets(st.integers(0, 199)))
def test_deleted_rows_add_up(first: set[int], second: set[int]) -> None:
    part = Part("0" * 64, rows=200, size_bytes=1, since=1, first_row_id=0, last_row_id=199)
    for positions in (first, second):
        part = part.without(np.array(sorted(positions), np.int64))
    assert set(part.deleted_positions().tolist()) == first | second
    assert part.deleted_count == len(first | second)
    assert np.flatnonzero(~part.is_alive()).tolist() == sorted(first | second)


def test_a_manifest_survives_its_blob(ws: Workspace) -> None:
    part = Part("a" * 64, 3, 100, 1, 0, 2).without(np.array([1]))
    manifest = Manifest((part,), rows=2, next_row_id=3, total=2**255 + 1)
    assert read_manifest(ws, write_manifest(ws, manifest)) == manifest


def test_heavy_rows_make_more_parts(ws: Workspace) -> None:
    parts = parts_of(ws, 130, pad_bytes=1 << 20)
    assert [(part.first_row_id, part.last_row_id) for part in parts] == [(0, 126), (127, 129)]


def test_rows_are_read_at_positions_through_all_parts(ws: Workspace) -> None:
    parts = parts_of(ws, 40_000) + parts_of(ws, 10)
    positions = np.array([0, 16_383, 16_384, 39_999, 40_000, 40_009])
    rows = read_at(ws, parts, SCHEMA, ["id", "later"], positions)
    assert rows["id"].to_pylist() == [0, 163_830, 163_840, 399_990, 0, 90]
    assert rows["later"].null_count == 6


def test_row_groups_in_between_are_left_out(ws: Workspace) -> None:
    rows = read_at(ws, parts_of(ws, 60_000), SCHEMA, ["id"], np.array([3, 40_000, 59_999]))
    assert rows["id"].to_pylist() == [30, 400_000, 599_990]


def test_rows_are_deleted_at_positions_through_all_parts(ws: Workspace) -> None:
    first, second = without(parts_of(ws, 5) + parts_of(ws, 5), np.array([0, 4, 5, 9]))
    assert first.deleted_positions().tolist() == [0, 4]
    assert second.deleted_positions().tolist() == [0, 4]


def test_nothing_to_read_has_the_right_columns(ws: Workspace) -> None:
    rows = read_at(ws, (), SCHEMA, ["_row_id", "later", "_digest"], np.empty(0, np.int64))
    assert (rows.num_rows, rows.column_names) == (0, ["_row_id", "later", "_digest"])


def test_digests_come_back_out_of_their_column() -> None:
    digests = np.arange(320, dtype=np.uint8).reshape(10, 32)
    column = pa.chunked_array([digest_column(digests).slice(2, 3), digest_column(digests[:1])])
    assert (digests_of(column) == digests[[2, 3, 4, 0]]).all()


def test_a_damaged_part_says_which_file(ws: Workspace) -> None:
    (part,) = parts_of(ws, 5)
    ws.blobs.path(part.digest).write_bytes(b"PAR1 no more")
    with pytest.raises(StorageFailed, match="cannot be read"):
        read_part(ws, part, SCHEMA, ["id"])


def test_a_part_that_is_gone_is_not_found(ws: Workspace) -> None:
    (part,) = parts_of(ws, 5)
    ws.blobs.delete(part.digest)
    with pytest.raises(NotFound):
        read_part(ws, part, SCHEMA, ["id"])
