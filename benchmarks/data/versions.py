"""What dataset versions cost: ingest, a 1 % change and a diff of 1,000,000 rows by 10 columns.

python benchmarks/data/versions.py                     everloop alone
python benchmarks/data/versions.py --peer PYTHON       also delta-rs, in an environment that has deltalake and pyarrow

Each figure is the median of the repeated runs; the peer does the same on the same rows, in turn with everloop.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

T = TypeVar("T")
ROWS, CHANGED, REPEATS = 1_000_000, 10_000, 5
WORDS = [
    "steel",
    "blue",
    "compact",
    "wireless",
    "digital",
    "classic",
    "frost",
    "free",
    "camera",
    "phone",
    "washer",
    "oven",
    "16gb",
    "32gb",
    "black",
    "white",
]


def table(rng: np.random.Generator) -> pa.Table:
    """A key, three whole numbers, three numbers, two texts and a category."""
    words = rng.choice(WORDS, size=(ROWS, 4))
    return pa.table(
        {
            "id": np.arange(ROWS),
            "merchant": rng.integers(0, 5_000, ROWS),
            "product": rng.integers(0, 200_000, ROWS),
            "stock": rng.integers(0, 100, ROWS),
            "price": rng.lognormal(3, 1, ROWS),
            "weight": rng.normal(10, 3, ROWS),
            "score": rng.random(ROWS),
            "title": [" ".join(row) for row in words],
            "sku": [f"SKU-{number:08x}" for number in rng.integers(0, 2**32, ROWS)],
            "category": rng.choice(["fridge", "tv", "phone", "oven"], ROWS),
        }
    )


def changed_rows(rows: pa.Table, rng: np.random.Generator) -> pa.Table:
    """One row in a hundred, from anywhere, with another price."""
    some = rows.take(np.sort(rng.choice(ROWS, CHANGED, replace=False)))
    return some.set_column(some.column_names.index("price"), "price", pa.array(rng.lognormal(3, 1, CHANGED)))


def timed(act: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    return act(), time.perf_counter() - start


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def everloop_run(folder: Path, base: Path, change: Path) -> dict[str, float]:
    from everloop import data
    from everloop.settings import load_settings
    from everloop.workspace import open_workspace

    home = folder / "home"
    with open_workspace(settings=load_settings(home, environ={}, actor="bench")) as ws:
        data.define(ws, "rows", key="id")
        _, ingest_s = timed(lambda: data.ingest(ws, "rows", base))
        before = folder_bytes(home / "blobs")
        changed = pq.read_table(change)
        _, commit_s = timed(lambda: data.ingest(ws, "rows", changed))
        grown = folder_bytes(home / "blobs") - before
        found, diff_s = timed(lambda: data.diff(ws, "rows@1", "rows@2"))
        assert found.changed.num_rows == CHANGED
        _, again_s = timed(lambda: data.ingest(ws, "rows", changed))
        data.define(ws, "csv", key="id")
        same, csv_s = timed(lambda: data.ingest(ws, "csv", base.with_suffix(".csv")))
        assert same.digest == data.version(ws, "rows@1").digest
        _, read_s = timed(lambda: data.read(ws, "rows"))
        _, keys_s = timed(lambda: data.rows_by_key(ws, "rows", [5, 500_000]))
    return {
        "ingest_s": ingest_s,
        "ingest_csv_s": csv_s,
        "size_mb": before / 1e6,
        "commit_s": commit_s,
        "growth_percent": 100 * grown / before,
        "diff_s": diff_s,
        "no_change_s": again_s,
        "read_s": read_s,
        "two_keys_s": keys_s,
    }


def peer_run(python: str, folder: Path, base: Path, change: Path) -> dict[str, float]:
    script = Path(__file__).with_name("delta_peer.py")
    done = subprocess.run(
        [python, str(script), str(folder / "delta"), str(base), str(change)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="the Python of an environment with deltalake and pyarrow")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {"everloop": [], "delta-rs": []}
    with tempfile.TemporaryDirectory() as scratch:
        rng = np.random.default_rng(7)
        rows = table(rng)
        base, change = Path(scratch) / "base.parquet", Path(scratch) / "change.parquet"
        pq.write_table(rows, base)
        pyarrow.csv.write_csv(rows, base.with_suffix(".csv"))
        pq.write_table(changed_rows(rows, rng), change)
        for number in range(options.repeats):
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                runs["everloop"].append(everloop_run(Path(folder), base, change))
                if options.peer:
                    runs["delta-rs"].append(peer_run(options.peer, Path(folder), base, change))
            print(f"run {number + 1} of {options.repeats}", flush=True)
    for system, figures in runs.items():
        if figures:
            print(system)
            for name in figures[0]:
                print(f"  {name:16s}{statistics.median(run[name] for run in figures):10.3f}")


if __name__ == "__main__":
    main()
