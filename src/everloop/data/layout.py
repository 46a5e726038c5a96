"""Where the rows of a version are: immutable parts in blobs, and a manifest that names them.

A part is a Parquet file (zstd) with the dataset's columns, `_row_id` and `_digest`; it is never changed. A row that
goes, or is replaced by new content in a later part, is listed in the manifest as deleted from its part. So a
version costs what it changes, and versions share all other parts.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from everloop.data.arrow import arrow_schema
from everloop.data.records import DIGEST, ROW_ID, Schema
from everloop.errors import StorageFailed
from everloop.storage import to_json
from everloop.workspace import Workspace

Positions = NDArray[np.int64]

_PART_ROWS = 131_072
_PART_BYTES = 128 << 20  # of rows in memory: photos come to a few thousand a part
_GROUP_ROWS = 16_384  # what has to be decoded to reach one row
_THREADS = 2  # Arrow lets go of the interpreter while it packs and unpacks


@dataclass(frozen=True)
class Part:
    """One Parquet file. `since` is the version that wrote it; `deleted` lists rows that are not alive any more."""

    digest: str
    rows: int
    size_bytes: int
    since: int
    first_row_id: int
    last_row_id: int
    deleted_count: int = 0
    deleted: str = ""  # positions, ascending: differences as 32-bit words, zstd, base64

    def deleted_positions(self) -> Positions:
        """Where the rows stand that are not alive any more, ascending."""
        if not self.deleted_count:
            return np.empty(0, np.int64)
        packed = base64.b64decode(self.deleted)
        words = pa.decompress(packed, self.deleted_count * 4, codec="zstd", asbytes=True)
        return np.cumsum(np.frombuffer(words, "<u4"), dtype=np.int64)

    def is_alive(self) -> NDArray[np.bool_]:
        """For each row of the part, whether it belongs to the version."""
        alive = np.ones(self.rows, np.bool_)
        alive[self.deleted_positions()] = False
        return alive

    def without(self, positions: Positions) -> Part:
        """The part with further rows deleted."""
        if len(positions) == 0:
            return self
        gone = np.union1d(self.deleted_positions(), positions)
        words = np.diff(gone, prepend=0).astype("<u4").tobytes()
        packed = base64.b64encode(pa.compress(words, codec="zstd", asbytes=True)).decode()
        return dataclasses.replace(self, deleted_count=len(gone), deleted=packed)


@dataclass(frozen=True)
class Manifest:
    """What a version consists of. `total` is the sum of the row digests, `next_row_id` the first id not yet used."""

    parts: tuple[Part, ...] = ()
    rows: int = 0
    next_row_id: int = 0
    total: int = 0


def write_manifest(ws: Workspace, manifest: Manifest) -> str:
    """Store the manifest as a blob and return its digest."""
    value = {
        "everloop": "dataset manifest 1",
        "rows": manifest.rows,
        "next_row_id": manifest.next_row_id,
        "sum": f"{manifest.total:064x}",
        "parts": [vars(part) for part in manifest.parts],
    }
    return ws.blobs.put(to_json(value).encode())


def read_manifest(ws: Workspace, digest: str) -> Manifest:
    """The manifest in a blob. Raises NotFound when the blob is gone."""
    value = json.loads(ws.blobs.get(digest))
    return Manifest(
        parts=tuple(Part(**part) for part in value["parts"]),
        rows=value["rows"],
        next_row_id=value["next_row_id"],
        total=int(value["sum"], 16),
    )


def write_parts(ws: Workspace, rows: pa.Table, *, key: str | None, since: int) -> tuple[Part, ...]:
    """Store rows, which carry `_row_id` ascending and `_digest`, as parts.

    Raises StorageFailed when the disk refuses; what was written until then is garbage that nothing names.
    """
    if rows.num_rows == 0:
        return ()
    per_row = rows.nbytes // rows.num_rows + 1
    step = max(1, min(_PART_ROWS, _PART_BYTES // per_row))
    slices = [rows.slice(start, step) for start in range(0, rows.num_rows, step)]
    if len(slices) == 1:
        return (_write_part(ws, slices[0], key, since),)
    with ThreadPoolExecutor(_THREADS) as pool:
        return tuple(pool.map(lambda one: _write_part(ws, one, key, since), slices))


def _write_part(ws: Workspace, rows: pa.Table, key: str | None, since: int) -> Part:
    ids = np.asarray(rows[ROW_ID])
    # Distinct values gain nothing from a dictionary: without one a key column is read in half the time.
    encodings = {
        name: "DELTA_BINARY_PACKED" if rows[name].type == pa.int64() else "PLAIN"
        for name in rows.column_names
        if name in (ROW_ID, DIGEST, key)
    }
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        compression={**dict.fromkeys(rows.column_names, "zstd"), DIGEST: "none"},
        use_dictionary=[name for name in rows.column_names if name not in encodings],  # type: ignore[arg-type]  # the stubs lack the list
        column_encoding=encodings,
        write_statistics=[ROW_ID],
        row_group_size=_GROUP_ROWS,
    )
    data = memoryview(sink.getvalue())
    return Part(ws.blobs.put(data), rows.num_rows, len(data), since, int(ids[0]), int(ids[-1]))


def read_part(
    ws: Workspace, part: Part, schema: Schema, columns: list[str], *, positions: Positions | None = None
) -> pa.Table:
    """Columns of a part's rows: of all, dead ones included, or of those at the ascending positions.

    A column that the part was written without is missing in all its rows. `_row_id` and `_digest` are columns too.
    """
    path = ws.blobs.path(part.digest)
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            there = [name for name in columns if name in file.schema_arrow.names]
            if positions is None:
                rows = file.read(there)
            else:
                groups = np.unique(positions // _GROUP_ROWS)
                rows = file.read_row_groups(groups.tolist(), there)
                rows = rows.take(_within(positions, groups))
    except (pa.ArrowException, OSError) as error:
        raise StorageFailed(
            f"the part {part.digest[:12]} of a dataset cannot be read: {error}. Its file is {path}; restore it from a "
            "backup, its name is the BLAKE3 digest of its content."
        ) from error
    return _complete(rows, schema, columns)


def read_at(
    ws: Workspace, parts: tuple[Part, ...], schema: Schema, columns: list[str], positions: Positions
) -> pa.Table:
    """The rows at ascending positions, counted through all parts, dead rows included."""
    bounds = _bounds(parts)
    found = [
        read_part(ws, part, schema, columns, positions=here)
        for part, here in zip(parts, _by_part(positions, bounds), strict=True)
        if len(here)
    ]
    return pa.concat_tables(found) if found else _complete(pa.table({}), schema, columns)


def without(parts: tuple[Part, ...], positions: Positions) -> tuple[Part, ...]:
    """The parts with the rows at ascending positions, counted through all of them, deleted."""
    return tuple(
        part.without(here) for part, here in zip(parts, _by_part(positions, _bounds(parts)), strict=True)
    )


def _bounds(parts: tuple[Part, ...]) -> Positions:
    return np.cumsum([0, *(part.rows for part in parts)])


def _by_part(positions: Positions, bounds: Positions) -> list[Positions]:
    cuts = np.searchsorted(positions, bounds)
    return [positions[start:end] - first for start, end, first in zip(cuts, cuts[1:], bounds, strict=False)]


def _within(positions: Positions, groups: Positions) -> Positions:
    """Where the positions are once only these row groups are read, one after the other."""
    order = np.searchsorted(groups, positions // _GROUP_ROWS)
    return order * _GROUP_ROWS + positions % _GROUP_ROWS


def _complete(rows: pa.Table, schema: Schema, columns: list[str]) -> pa.Table:
    kinds = arrow_schema(schema).append(pa.field(DIGEST, pa.binary(32)))
    for name in columns:
        if name not in rows.column_names:
            kind: Any = kinds.field(name).type
            rows = rows.append_column(name, pa.nulls(rows.num_rows, kind))
    return rows.select(columns)
