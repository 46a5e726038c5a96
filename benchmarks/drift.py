"""Drift reports: how fast, in how much memory, how often wrong, how often right.

    python benchmarks/drift.py speed [ROWS]     a table of 20 columns in Parquet against the same and a drifted one
    python benchmarks/drift.py errors           false flags of clean reports, and power, over 1,000 windows a case

Speed is measured in a process of its own, which reads the files column by column and keeps nothing but counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from everloop.monitoring.comparison import compare
from everloop.monitoring.reference import Bins, Profile, Reference, learn_bins, learn_reference, profile_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["speed", "errors", "one"])
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    verbs: dict[str, Callable[..., None]] = {"speed": speed, "errors": errors, "one": one}
    verbs[options.what](*options.arguments)


# --- speed and memory


def speed(rows: str = "1000000") -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.parquet" for name in ("reference", "same", "drifted")}
        for seed, (name, path) in enumerate(paths.items()):
            write_table(path, int(rows), seed=seed, is_drifted=name == "drifted")
        stored = Path(folder) / "reference.json"
        print(f"{int(rows):,} rows x 20 columns, median of 5 processes")
        for name, arguments in {
            "against the same": [paths["reference"], paths["same"]],
            "against a drifted one": [paths["reference"], paths["drifted"]],
            "with a stored reference": [stored, paths["same"]],
        }.items():
            if stored in arguments:
                stored.write_text(json.dumps(read_reference(paths["reference"]).as_dict()))
            runs = [run_alone(arguments) for _ in range(5)]
            seconds, processor = (
                np.median([run[figure] for run in runs]) for figure in ("seconds", "processor")
            )
            largest, before = (max(run[figure] for run in runs) for figure in ("megabytes", "before"))
            print(
                f"{name}: {seconds:.2f} s, {processor:.2f} s of processor, {largest:.0f} MB ({before:.0f} before)"
            )
            print(f"  drifted: {', '.join(runs[0]['columns']) or 'nothing'}")


def run_alone(arguments: list[Path]) -> dict[str, Any]:
    command = [sys.executable, __file__, "one", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def one(reference: str, current: str) -> None:
    """Measure one report in this process; what was imported is not measured as time, but as memory."""
    pa.set_memory_pool(pa.jemalloc_memory_pool())  # gives memory back, where the default keeps 40 MB of it
    before, started, started_processor = largest_memory_mb(), time.perf_counter(), time.process_time()
    path = Path(reference)
    stored = (
        Reference.from_dict(json.loads(path.read_text())) if path.suffix == ".json" else read_reference(path)
    )
    report = compare(stored, read_profile(Path(current), stored.bins))
    result = {
        "seconds": time.perf_counter() - started,
        "processor": time.process_time() - started_processor,
        "megabytes": largest_memory_mb(),
        "before": before,
        "columns": report.columns,
    }
    print(json.dumps(result))


def largest_memory_mb() -> float:
    """Of this process since it began; getrusage would tell its parent's as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1_024


def read_reference(path: Path) -> Reference:
    """Column by column (two at a time need 15 MB more): learn from three row groups spread over the file, then count all."""
    groups = pq.ParquetFile(path).metadata.num_row_groups
    chosen = sorted({0, groups // 2, groups - 1})

    def learn(name: str) -> tuple[str, Bins, Profile]:
        file = opened(path)
        sample = file.read_row_groups(chosen, columns=[name], use_threads=False)
        bins = learn_bins(sample)
        profile = profile_of(sample, bins, own=True)
        for group in range(groups):
            if group not in chosen:
                profile += profile_of(file.read_row_group(group, columns=[name], use_threads=False), bins)
        return name, bins, profile

    with ThreadPoolExecutor(1) as pool:
        learned = list(pool.map(learn, pq.read_schema(path).names))
    bins = Bins({name: one.columns[name] for name, one, _ in learned}, {})
    counts = {name: profile.columns[name] for name, _, profile in learned}
    return Reference(bins, Profile(bins.id, learned[0][2].n_rows, counts))


def read_profile(path: Path, bins: Bins) -> Profile:
    def count(name: str) -> tuple[str, Profile]:
        file, of = opened(path), Bins({name: bins.columns[name]}, {})
        groups = range(file.metadata.num_row_groups)
        profiles = (profile_of(file.read_row_group(g, columns=[name], use_threads=False), of) for g in groups)
        return name, reduce(add, profiles)

    with ThreadPoolExecutor(1) as pool:
        counted = list(pool.map(count, bins.columns))
    return Profile(bins.id, counted[0][1].n_rows, {name: profile.columns[name] for name, profile in counted})


def opened(path: Path) -> pq.ParquetFile:
    """Strings stay encoded, as they are in the file; nothing is read ahead."""
    strings = [field.name for field in pq.read_schema(path) if pa.types.is_string(field.type)]
    return pq.ParquetFile(path, read_dictionary=strings, pre_buffer=False)


def write_table(path: Path, rows: int, *, seed: int, is_drifted: bool) -> None:
    """Fourteen columns of numbers of several shapes and six of categories; four drift where asked."""
    random = np.random.default_rng(seed)
    shift = 0.2 if is_drifted else 0.0
    skewed = 1.0 / np.arange(1, 5_001)
    with pq.ParquetWriter(path, make_table(2, random, shift, skewed).schema, compression="zstd") as writer:
        for start in range(0, rows, 1_000_000):
            writer.write_table(
                make_table(min(1_000_000, rows - start), random, shift, skewed), row_group_size=131_072
            )


def make_table(n: int, random: np.random.Generator, shift: float, skewed: np.ndarray) -> pa.Table:
    columns: dict[str, Any] = {f"normal{i}": random.normal(shift if i < 2 else 0.0, 1.0, n) for i in range(6)}
    columns |= {f"lognormal{i}": random.lognormal(shift if i < 1 else 0.0, 1.0, n) for i in range(4)}
    columns |= {f"count{i}": random.poisson(3.0, n) for i in range(2)}
    columns["uniform"] = random.random(n).astype(np.float32)
    columns["missing"] = pa.array(random.exponential(size=n), mask=random.random(n) < 0.1)
    few = np.array(["Berlin", "Bonn", "Ulm", "Trier", "Jena"])
    for i in range(4):
        moved = np.array([0.4 - shift * (i == 0), 0.3 + shift * (i == 0), 0.15, 0.1, 0.05])
        columns[f"town{i}"] = pa.array(few[random.choice(5, n, p=moved)])
    products = np.array([f"product {i}" for i in range(len(skewed))])
    columns |= {
        f"product{i}": pa.array(products[random.choice(len(skewed), n, p=skewed / skewed.sum())])
        for i in range(2)
    }
    return pa.table(columns)


# --- errors


def errors(windows: str = "1000") -> None:
    """Twenty windows against each of many references."""
    n = int(windows) // 20
    print(
        "| rows of the reference, of the window | clean reports with a flag | power, one of 20 columns | four of 20 |"
    )
    print("| --- | --: | --: | --: |")
    for n_reference, n_current in [(500, 500), (5_000, 500), (50_000, 500), (5_000, 5_000), (50_000, 50_000)]:
        times = n if n_current < 50_000 else max(1, n // 10)
        clean = np.mean([flagged(n_reference, n_current, seed=seed) for seed in range(times)])
        power = [
            np.mean([found(n_reference, n_current, shifted=k, seed=seed) for seed in range(times)])
            for k in (1, 4)
        ]
        figures = f"{100 * clean:.1f} % | {100 * power[0]:.0f} % | {100 * power[1]:.0f} %"
        print(f"| {n_reference:,}, {n_current:,} | {figures} |", flush=True)


def flagged(n_reference: int, n_current: int, *, seed: int) -> float:
    """The share of windows from the reference's own source, twenty columns of all shapes, that carry any flag."""
    random = np.random.default_rng(seed)
    reference = learn_reference(all_shapes(n_reference, random))
    return float(
        np.mean([bool(compare(reference, all_shapes(n_current, random)).drifted) for _ in range(20)])
    )


def all_shapes(n: int, random: np.random.Generator) -> pa.Table:
    skewed = 1.0 / np.arange(1, 201)
    columns: dict[str, Any] = {f"normal{i}": random.normal(size=n) for i in range(6)}
    columns |= {f"lognormal{i}": random.lognormal(sigma=1.5, size=n) for i in range(3)}
    columns |= {f"count{i}": random.poisson(2.0, n) for i in range(3)}
    columns |= {f"few{i}": random.choice(["a", "b", "c"], n, p=[0.7, 0.2, 0.1]) for i in range(3)}
    columns |= {f"many{i}": random.choice(200, n, p=skewed / skewed.sum()).astype(str) for i in range(3)}
    columns |= {f"even{i}": random.choice(60, n).astype(str) for i in range(2)}
    return pa.table(
        {name: pa.array(values, mask=random.random(n) < 0.03) for name, values in columns.items()}
    )


def found(n_reference: int, n_current: int, *, shifted: int, seed: int) -> float:
    """The share of shifted columns (0.2 standard deviations) that are reported, of twenty normal ones."""
    random = np.random.default_rng(10_000 + seed)
    names = [f"c{i}" for i in range(20)]
    reference = learn_reference(pa.table({name: random.normal(size=n_reference) for name in names}))
    moved = dict.fromkeys(names[:shifted], 0.2)
    reported = 0
    for _ in range(20):
        now = pa.table({name: random.normal(moved.get(name, 0.0), 1.0, n_current) for name in names})
        reported += len(moved.keys() & set(compare(reference, now).columns))
    return reported / (20 * shifted)


if __name__ == "__main__":
    main()
