"""How long it takes to find one prediction by its id, and to trace it, in a log of up to 100 million sealed records.

    PYTHONPATH=. python benchmarks/serving/lookup.py [--records 100000000] [--distinct 4000000] [--folder DIR]

The log is that of a small shop with a live model. Its sealed segments have 270,000 records each, as one of 64 MB has. So many as
`--distinct` says are made with ids of their own; the others are hard links to those under names and writers of their own, so that
folders, names and footers are as many as there would be, while the disk holds the distinct ones alone. One segment of
180,000 records is not sealed. Looked for are
records of the distinct segments and ids that nobody has, in a process that has read none of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from everloop import governance
from everloop.ids import milliseconds_of, new_prediction_id, writer_of
from everloop.predictions import log, sealed, tables
from everloop.workspace import Workspace, open_workspace
from tests.conftest import START, simulation
from tests.loop import living

ROWS = 270_000
FIRST_WRITER, WRITERS = 100, 8
LIVE_ROWS = 180_000  # a segment of 64 MB that is being written
HOUR_MS = 3_600_000
TURNS = 25


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--records", type=int, default=100_000_000)
    options.add_argument("--distinct", type=int, default=4_000_000)
    options.add_argument("--folder", type=Path)
    options.add_argument("--look", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--live", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.look:
        look(given.look, given.live)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        home = Path(folder) / "home"
        with simulation(home) as ws:
            living.begin(ws, Path(folder))
            with living.opened(ws) as shop:
                (asked,) = shop.ask(1, key="7")
                template = tables.to_batch([asked])
                live = [msgspec.structs.replace(asked, id=new_prediction_id(1)) for _ in range(LIVE_ROWS)]
                shop.log.write(live)
        wanted = 1_000_000
        made: list[Path] = []
        while wanted <= given.records:
            grow(home / "serving", template, made, wanted, given.distinct)
            files = {path.stat().st_ino: path.stat().st_size for path in made}
            told = (
                f"{len(files)} of them distinct, {sum(files.values()) / len(files) / ROWS:.0f} bytes a record"
            )
            print(f"{len(made) * ROWS:>12,} records in {len(made)} segments, {told}", flush=True)
            looking = [sys.executable, __file__, "--look", str(home), "--live", live[LIVE_ROWS // 2].id]
            subprocess.run(looking, check=True)
            wanted *= 10


def grow(folder: Path, template: pa.RecordBatch, made: list[Path], wanted: int, distinct: int) -> None:
    """Bring the log to so many records."""
    while len(made) * ROWS < wanted:
        number = len(made)
        writer, hour = FIRST_WRITER + number % WRITERS, number // WRITERS
        begun_ms = int(START.timestamp() * 1_000) + hour * HOUR_MS
        path = folder / "log" / f"{writer:05d}" / f"{begun_ms}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        if (number + 1) * ROWS <= distinct:
            sealed.write(path, tables.SCHEMA, batches(template, writer, begun_ms, number))
        else:
            os.link(made[number % max(1, distinct // ROWS)], path)
        made.append(path)


def batches(template: pa.RecordBatch, writer: int, begun_ms: int, seed: int) -> list[pa.RecordBatch]:
    """A segment's records, in the order of their ids, each with a title, scores and a latency of its own."""
    chance = np.random.default_rng(seed)
    found = []
    ms = np.sort(chance.integers(begun_ms + 1, begun_ms + HOUR_MS, ROWS))
    for start in range(0, ROWS, log.BATCH_ROWS):
        part = ms[start : start + log.BATCH_ROWS]
        n = len(part)
        ids = ids_of(part, writer, chance)
        replaced = {
            "id": pa.array(ids, pa.string()),
            "key": pa.array([str(one) for one in chance.integers(0, 1 << 30, n)], pa.string()),
            "inputs": pa.array(
                [
                    f'{{"title":"a listing of a {a:x} leaf with {b:x} spots","seller":{c}}}'
                    for a, b, c in zip(*chance.integers(0, 1 << 20, (3, n)), strict=True)
                ],
                pa.string(),
            ),
            "scores": pa.array([f'{{"Tea":{one:.16f}}}' for one in chance.random(n)], pa.string()),
            "latency_us": pa.array(chance.integers(200, 2_000, n)),
        }
        columns = [
            replaced[field.name] if field.name in replaced else pa.repeat(template[field.name][0], n)
            for field in tables.SCHEMA
        ]
        found.append(pa.record_batch(columns, schema=tables.SCHEMA))
    return found


def ids_of(ms: np.ndarray, writer: int, chance: np.random.Generator) -> list[str]:
    """Ids as `new_prediction_id` makes them, of these milliseconds."""
    n = len(ms)
    first = (
        (ms.astype(np.uint64) << np.uint64(16)) | np.uint64(0x7000) | chance.integers(0, 4_096, n, np.uint64)
    )
    tail = np.uint64(writer << 42) | chance.integers(0, 1 << 42, n, np.uint64)
    second = np.uint64(2 << 62) | tail
    text = np.stack([first, second], axis=1).astype(">u8").tobytes().hex()
    return [f"pred_{text[place : place + 32]}" for place in range(0, len(text), 32)]


def look(home: Path, live: str) -> None:
    """In a process of its own: the first look, the median of others, misses, and whole traces."""
    with open_workspace(home) as ws:
        folder = ws.home / "serving"
        made = [path for path in log.parts(folder) if int(path.parent.name) >= FIRST_WRITER]
        ids = [id_ for path in made if (id_ := own_id(path)) is not None][: 2 * TURNS]
        nobody = [one[:-4] + "ffff" for one in ids]
        cold = timed(partial(need, folder, ids[0]))
        found = [timed(partial(need, folder, one)) for one in ids[1:TURNS]]
        missed = [timed(partial(log.find, folder, one)) for one in nobody[:TURNS]]
        unsealed = [timed(partial(need, folder, live)) for _ in range(5)]
        traced = [timed(partial(trace, ws, one)) for one in ids[:TURNS]]
    said = {"find": [cold, *found], "find nobody's": missed, "find unsealed": unsealed, "trace": traced}
    for what, times in said.items():
        wall = [one for one, _ in times]
        middle = [statistics.median(of) for of in zip(*times, strict=True)]
        told = f"first {wall[0]:6.1f} ms, median {middle[0]:6.1f}, worst {max(wall[1:]):6.1f}; of the processor {middle[1]:5.1f}"
        print(f"             {what:<14} {told}", flush=True)


def own_id(path: Path) -> str | None:
    """An id from the middle of a segment, None if it is a link to one of another name."""
    with pq.ParquetFile(path) as file:
        ids = file.read_row_group(file.num_row_groups // 2, columns=["id"])["id"]
    found = str(ids[len(ids) // 2])
    begun_ms = int(path.stem)
    is_own = begun_ms < milliseconds_of(found) <= begun_ms + HOUR_MS and writer_of(found) == int(
        path.parent.name
    )
    return found if is_own else None


def need(folder: Path, prediction_id: str) -> None:
    assert log.find(folder, prediction_id) is not None, prediction_id


def trace(ws: Workspace, prediction_id: str) -> None:
    assert governance.trace(ws, prediction_id).steps


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds on the wall and of the processor."""
    began, worked = time.perf_counter(), time.process_time()
    act()
    return (time.perf_counter() - began) * 1_000, (time.process_time() - worked) * 1_000


if __name__ == "__main__":
    main()
