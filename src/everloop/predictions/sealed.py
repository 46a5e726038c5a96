"""Sealed segments: Parquet files of some hundred thousand records, in which one is found without reading the others.

Records lie in the order they were written, which is nearly that of their ids: each group of rows says the smallest and the
largest id in it, so that a look for one id reads a group or two. The footer says of each endpoint how many records there
are and of what time, so that a look for old ones reads footers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from everloop.clock import from_micros
from everloop.storage import replacing, sync_folder

GROUP_ROWS = 4_096  # finding one takes 4 ms of processor time; with 8,192 or 1,024 it takes 5 and 8
_SPANS = b"everloop.endpoints"


@dataclass(frozen=True)
class Span:
    """The records of one endpoint in one file: how many, and the first and last moment of domain time."""

    rows: int
    first: datetime
    last: datetime


def write(path: Path, schema: pa.Schema, found: Iterable[pa.RecordBatch]) -> int:
    """Put the batches into a file that appears whole and is on disk, instead of an older one; how many rows it has.

    Without any row there is no file, nor the older one.
    """
    full = (batch for batch in found if batch.num_rows)
    first = next(full, None)
    if first is None:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
        return 0
    # the dictionary of an id would be as long as the ids
    names: Any = [name for name in schema.names if name not in ("id", "inputs", "key")]
    spans: dict[str, list[int]] = {}
    with (
        replacing(path) as file,
        pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=names) as writer,
    ):
        for batch in chain((first,), full):
            writer.write_batch(batch, row_group_size=GROUP_ROWS)
            _widen(spans, batch)
        writer.add_key_value_metadata({_SPANS.decode(): msgspec.json.encode(spans).decode()})
    return sum(rows for rows, _, _ in spans.values())


def spans(path: Path) -> dict[str, Span]:
    """What a file holds, by endpoint. Raises FileNotFoundError."""
    found = path.stat()
    return _spans(path, found.st_ino, found.st_mtime_ns)


@lru_cache(maxsize=4_096)  # a look at the newest hour asks it of the files of a year
def _spans(path: Path, _inode: int, _changed_ns: int) -> dict[str, Span]:
    found = (pq.read_metadata(path).metadata or {}).get(_SPANS)
    if found is not None:
        known = msgspec.json.decode(found, type=dict[str, tuple[int, int, int]])
    else:  # sealed before footers said it
        counted: dict[str, list[int]] = {}
        for batch in pq.ParquetFile(path).iter_batches(columns=["endpoint", "at"]):
            _widen(counted, batch)
        known = {name: (rows, first, last) for name, (rows, first, last) in counted.items()}
    return {
        name: Span(rows, from_micros(first), from_micros(last)) for name, (rows, first, last) in known.items()
    }


def find(path: Path, prediction_id: str) -> dict[str, Any] | None:
    """The row of one prediction. Raises FileNotFoundError."""
    with pq.ParquetFile(path) as file:
        place = file.schema_arrow.get_field_index("id")
        for group in range(file.num_row_groups):
            bounds = file.metadata.row_group(group).column(place).statistics
            if bounds is not None and not str(bounds.min) <= prediction_id <= str(bounds.max):
                continue
            # threads cost more than they save on so little
            ids = file.read_row_group(group, columns=["id"], use_threads=False)["id"]
            row = pc.index(ids, pa.scalar(prediction_id)).as_py()
            if row >= 0:
                table = file.read_row_group(group, use_threads=False)
                found: dict[str, Any] = table.slice(row, 1).to_pylist()[0]
                return found
    return None


def hits(batch: pa.RecordBatch | pa.Table, names: pa.Array[Any]) -> Any:
    """Which rows have one of these as id or as key."""
    return pc.or_(pc.is_in(batch["id"], names), pc.is_in(batch["key"], names))


def count(path: Path, names: pa.Array[Any]) -> int:
    """How many rows have one of these as id or as key. Raises FileNotFoundError."""
    with pq.ParquetFile(path) as file:
        batches = file.iter_batches(batch_size=GROUP_ROWS, columns=["id", "key"])
        return sum(pc.sum(hits(batch, names)).as_py() or 0 for batch in batches)


def put(batch: pa.RecordBatch, name: str, where: Any, value: str | None) -> pa.RecordBatch:
    """The batch with a value in some rows of a column of texts."""
    place = batch.schema.get_field_index(name)
    filled = pc.if_else(where, pa.scalar(value, pa.string()), batch.column(place))
    return batch.set_column(place, batch.schema.field(place), filled)


def rewrite(path: Path, schema: pa.Schema, change: Callable[[pa.RecordBatch], pa.RecordBatch]) -> int:
    """Write a file again with its batches changed; how many rows it has then. Raises FileNotFoundError."""
    with pq.ParquetFile(path) as file:
        return write(path, schema, map(change, _in(schema, file)))


def _in(schema: pa.Schema, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """A file's batches with the columns that files have now: older ones lack the chances."""
    for batch in file.iter_batches(batch_size=GROUP_ROWS):
        columns = [
            batch.column(name) if name in batch.schema.names else whole(batch.num_rows)
            for name in schema.names
        ]
        yield pa.record_batch(columns, schema=schema)


def whole(rows: int) -> pa.Array[Any]:
    """The chances of what was sealed before there was sampling: all was kept."""
    return pa.array([1.0] * rows, pa.float64())


def _widen(spans: dict[str, list[int]], batch: pa.RecordBatch) -> None:
    at = batch["at"].cast(pa.int64())
    counted = pa.table({"endpoint": batch["endpoint"], "at": at}).group_by("endpoint")
    for row in counted.aggregate([("at", "count"), ("at", "min"), ("at", "max")]).to_pylist():
        known = spans.setdefault(row["endpoint"], [0, row["at_min"], row["at_max"]])
        known[0] += row["at_count"]
        known[1], known[2] = min(known[1], row["at_min"]), max(known[2], row["at_max"])
