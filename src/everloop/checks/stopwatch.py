"""The process that loads one model as serving does and times it: `python -m everloop.checks.stopwatch MANIFEST BLOBS ROWS`.

It measures the loading first and prints it, then one round for each line on its input, each as one line of JSON. Ends with
its input.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from everloop.serving import Manifest, Predictor
from everloop.storage import FileBlobs

LOADS = 6
BATCH = 64
_ROWS_S, _BATCHES_S = 0.4, 0.4  # of a round
_MOST, _LEAST = 400, 20  # measurements of a round
_WARM_UP_S = 0.3
_STATM = Path("/proc/self/statm")


def main(manifest_file: str, folder: str, rows_file: str) -> None:
    import sklearn.pipeline  # noqa: F401
    import skops.io  # noqa: F401  (libraries are no part of the model's memory)

    manifest = msgspec.json.decode(Path(manifest_file).read_bytes(), type=Manifest)
    with pa.OSFile(rows_file, "rb") as file, pa.ipc.open_file(file) as reader:
        table = reader.read_all()
    rows = [list(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
    blobs = FileBlobs(Path(folder))
    before = _resident_mb()
    predictor, seconds = _timed(lambda: _loaded(manifest, blobs))
    memory_mb = _resident_mb() - before
    loads = [seconds, *(_timed(lambda: _loaded(manifest, blobs))[1] for _ in range(LOADS - 1))]
    batch = [rows[number % len(rows)] for number in range(BATCH)]
    _warm_up(predictor, rows, batch)
    _say({"load_s": loads, "memory_mb": max(0.0, memory_mb)})
    for _ in sys.stdin:
        gc.collect()
        gc.disable()
        one = _round(lambda number: predictor.answer([rows[number % len(rows)]]), _ROWS_S)
        many = _round(lambda number: predictor.answer(batch), _BATCHES_S)
        gc.enable()
        _say({**_percentiles("row", one), **_percentiles("batch", many)})


def _loaded(manifest: Manifest, blobs: FileBlobs) -> Predictor:
    """By the model's own library: only what is released has a compiled plan, and like is compared with like."""
    return Predictor.load(manifest, blobs, is_compiled=False)


def _warm_up(predictor: Predictor, rows: list[list[Any]], batch: list[list[Any]]) -> None:
    end = time.perf_counter() + _WARM_UP_S
    predictor.answer(batch)
    for row in rows:
        predictor.answer([row])
        if time.perf_counter() > end:
            return


def _round(work: Callable[[int], Any], seconds: float) -> list[float]:
    """Times in milliseconds: as many as fit into the seconds, within limits."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _LEAST or (len(times) < _MOST and time.perf_counter() < end):
        begun = time.perf_counter_ns()
        work(len(times))
        times.append((time.perf_counter_ns() - begun) / 1e6)
    return times


def _percentiles(name: str, times: list[float]) -> dict[str, float]:
    values = np.quantile(times, [0.5, 0.95, 0.99]).tolist()
    return {f"{name}_p{percent}_ms": value for percent, value in zip((50, 95, 99), values, strict=True)}


def _timed(work: Callable[[], Predictor]) -> tuple[Predictor, float]:
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun


def _resident_mb() -> float:
    """Resident memory, once what is free was given back to the system; 0 where the system does not tell (not Linux)."""
    if not _STATM.exists():
        return 0.0
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _say(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
