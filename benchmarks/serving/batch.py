"""Batch scoring against scikit-learn in a plain script that scores chunks of 50,000 rows.

The same model, the same rows in one Parquet file, one process each, one thread in numeric libraries, in turns: the script
reads chunks, asks `predict_proba`, and writes each row's class and its probability; `everloop score` reads, checks every
row against the signature, asks the predictor that serves, and writes class, score, the three best scores, errors and the
version, with journal, lineage and its answers kept. Times are of whole processes, imports and all; each measurement of
ours begins with a workspace that has scored nothing. Two processes are measured, too.

    python benchmarks/serving/batch.py --titles ../shared/data/marketplace/seed_labelled.parquet --rows 200000
    python benchmarks/serving/batch.py --table ../shared/data/adult/train.parquet --rows 200000
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tasks import Task, census, listings

from everloop import checks, registry, serving
from everloop.checks import CheckInput, Evidence
from everloop.settings import child_environment, load_settings
from everloop.workspace import open_workspace

CHUNK = 50_000
PLAIN = f"""
import sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, skops.io
source, model, out = sys.argv[1:]
content = open(model, "rb").read()
model = skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
writer = None
for batch in pq.ParquetFile(source).iter_batches({CHUNK}):
    x = np.empty((batch.num_rows, batch.num_columns - 1), dtype=object)
    for place, column in enumerate(batch.columns[1:]):
        x[:, place] = column.to_pylist()
    shares = model.predict_proba(x)
    best = shares.argmax(axis=1)
    table = pa.table({{"id": batch["id"], "output": model.classes_[best], "score": shares.max(axis=1)}})
    writer = writer or pq.ParquetWriter(out, table.schema)
    writer.write_table(table)
writer.close()
"""


@dataclass(frozen=True)
class Took:
    wall_s: float
    cpu_s: float
    memory_mb: float


def main() -> None:
    options = _options()
    task = census(options.table) if options.table else listings(options.titles)
    sizes = sorted({options.rows // 10, options.rows})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = _released(folder / "home", task)
        for rows in sizes:
            pq.write_table(_rows(task, rows), folder / f"{rows}.parquet")
        print(
            f"{platform.python_version()}, scikit-learn {version('scikit-learn')}, load {os.getloadavg()[0]:.1f}"
        )
        kinds = {
            "scikit-learn in chunks": [],
            "everloop": ["--executor", "inline"],
            "everloop, 2 processes": ["--processes", "2"],
        }
        taken: dict[tuple[str, int], list[Took]] = {}
        for _ in range(options.rounds):
            for rows in sizes:
                for kind, arguments in kinds.items():
                    took = _measured(folder, kind, arguments, rows, model)
                    taken.setdefault((kind, rows), []).append(took)
        _check(folder)
        print("| | rows | wall s | CPU s | rows/s | memory MB |\n|---|---|---|---|---|---|")
        for (kind, rows), found in taken.items():
            wall, cpu, memory = (
                median(getattr(one, what) for one in found) for what in ("wall_s", "cpu_s", "memory_mb")
            )
            print(f"| {kind} | {rows:,} | {wall:.2f} | {cpu:.2f} | {rows / wall:,.0f} | {memory:.0f} |")
        for kind in [*kinds][1:]:
            for rows in sizes:
                pairs = zip(taken[kind, rows], taken["scikit-learn in chunks", rows], strict=True)
                ratios = [(theirs.wall_s / ours.wall_s, theirs.cpu_s / ours.cpu_s) for ours, theirs in pairs]
                walls, cpus = zip(*ratios, strict=True)
                print(
                    f"{kind}, {rows:,} rows: {median(walls):.2f} times scikit-learn's speed by the clock "
                    f"({min(walls):.2f} to {max(walls):.2f}), {median(cpus):.2f} by CPU"
                )
        print(f"load {os.getloadavg()[0]:.1f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--titles", type=Path, help="a Parquet file with `title` and `category`")
    data.add_argument("--table", type=Path, help="the Adult table")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _released(home: Path, task: Task) -> Path:
    """The model as a released version of a new workspace; returns its file for the script."""
    import skops.io

    content = skops.io.dumps(task.model)
    model = home.parent / "model.skops"
    model.write_bytes(content)
    signature = serving.Signature(task.fields, "class", tuple(str(name) for name in task.model.classes_))
    with open_workspace(settings=load_settings(home), actor="benchmark") as ws:
        files = {"model.skops": ws.blobs.put(content)}
        made = registry.register(ws, "category", run=None, files=files, signature=signature, metrics={})
        evidence = Evidence(made.digest, None, None, None, None)
        assert checks.evaluate(ws, made.ref, _honest_rows(), gates=(), evidence=evidence).verdict == "passed"
        registry.release(ws, made.ref, real_rows=task.rows[:512].tolist)
    return model


def _honest_rows() -> CheckInput:
    """What a version's gates have to see before it may be released: rows in which nothing gives the answer away."""
    random = np.random.default_rng(0)
    table = pa.table(
        {
            "_row_id": np.arange(400),
            "text": [" ".join(f"w{one}" for one in random.integers(0, 9_999, 6)) for _ in range(400)],
            "label": random.choice(["over", "under"], 400),
        }
    )
    return CheckInput(table.slice(0, 300), table.slice(300), ("text",))


def _rows(task: Task, rows: int) -> pa.Table:
    """The task's rows over and over, with a number each."""
    table = {"id": np.arange(rows)}
    for place, field in enumerate(task.fields):
        kind = pa.int64() if field.type == "integer" else pa.string()
        table[field.name] = pa.array(np.resize(task.rows[:, place], rows).tolist(), kind)
    return pa.table(table)


def _measured(folder: Path, kind: str, arguments: list[str], rows: int, model: Path) -> Took:
    source, home = folder / f"{rows}.parquet", folder / "used"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(folder / "home", home)
    out = folder / f"{kind}.parquet"
    command = [sys.executable, "-m", "everloop", "--home", home, "score", "category@1", source]
    command = [*command, "--output", out, "--part-rows", str(CHUNK), *arguments]
    if not arguments:
        command = [sys.executable, "-c", PLAIN, source, model, out]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", _MEASURED, *map(str, command)],
        env=child_environment(load_settings(home), **threads),
        check=True,
        stderr=subprocess.DEVNULL,
        stdout=(folder / "peak").open("wb"),
    )
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(wall, cpu, int((folder / "peak").read_text().splitlines()[-1]) / 1_024)


# a process between, whose children's peak of memory is that of this one command
_MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def _check(folder: Path) -> None:
    """All said the same of each row."""
    found = [pq.read_table(path) for path in folder.glob("*e*.parquet")]
    first = found[0].sort_by("id")
    for other in found[1:]:
        assert other.num_rows == first.num_rows
        assert other["output"].to_pylist() == first["output"].to_pylist()
        assert np.allclose(other["score"], first["score"], atol=1e-9)


if __name__ == "__main__":
    main()
