"""The key, row id and digest of every row that a version's parts hold: what a change is decided on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop.data.arrow import AnyArray, AnyColumn
from everloop.data.identity import Digests
from everloop.data.layout import Manifest, Part, Positions, read_part
from everloop.data.records import DIGEST, ROW_ID, Schema
from everloop.workspace import Workspace

_THREADS = 2  # Arrow lets go of the interpreter while it unpacks


@dataclass(frozen=True)
class Index:
    """All rows that a version's parts hold, one after the other, those not alive any more included.

    A row that was replaced or removed keeps its key and its row id in its part: that is how a key that comes
    back finds its row id again.
    """

    keys: AnyColumn | None  # (n,); None for a dataset without a key
    row_ids: Positions  # (n,)
    digests: Digests  # (n, 32)
    is_alive: NDArray[np.bool_]  # (n,)


def load_index(ws: Workspace, manifest: Manifest, schema: Schema) -> Index:
    """Read the index of a version; it is empty before the first one."""
    parts = manifest.parts
    if not parts:
        return Index(None, np.empty(0, np.int64), np.empty((0, 32), np.uint8), np.empty(0, np.bool_))
    with ThreadPoolExecutor(_THREADS) as pool:
        tables = list(pool.map(lambda part: _index_rows(ws, part, schema), parts))
    rows = pa.concat_tables(tables)
    return Index(
        keys=rows[schema.key] if schema.key is not None else None,
        row_ids=np.asarray(rows[ROW_ID]),
        digests=digests_of(rows[DIGEST]),
        is_alive=np.concatenate([part.is_alive() for part in parts]),
    )


def _index_rows(ws: Workspace, part: Part, schema: Schema) -> pa.Table:
    columns = [name for name in (schema.key, DIGEST) if name is not None]
    if part.last_row_id - part.first_row_id + 1 == part.rows:  # ascending without gaps: no need to read them
        rows = read_part(ws, part, schema, columns)
        return rows.append_column(ROW_ID, pa.array(np.arange(part.first_row_id, part.last_row_id + 1)))
    return read_part(ws, part, schema, [*columns, ROW_ID])


def digest_column(digests: Digests) -> AnyArray:
    """The digests as a column of 32 bytes a row, without a copy."""
    whole = np.ascontiguousarray(digests)
    return pa.Array.from_buffers(pa.binary(32), len(whole), [None, pa.py_buffer(whole.data)])


def digests_of(column: AnyColumn) -> Digests:
    """The digests in such a column."""
    found = []
    for chunk in column.chunks:
        data = chunk.buffers()[1]
        if data is not None and len(chunk):
            whole = np.frombuffer(memoryview(data), np.uint8).reshape(-1, 32)
            found.append(whole[chunk.offset : chunk.offset + len(chunk)])
    return np.concatenate(found) if found else np.empty((0, 32), np.uint8)
