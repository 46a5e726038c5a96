"""Batch scoring against scikit-learn in a plain script that scores chunks of 50,000 rows.

The same model, the same rows in one Parquet file, one thread in numeric libraries, in turns: the script reads chunks, asks
`predict_proba`, and writes each row's id, class and its probability; `everloop score` reads, checks every row against the
signature, answers from what was kept of the model at its release, and writes id, class, score, the three best scores, error and version, with journal,
lineage and its answers kept. No two rows are the same: titles are halves of two real ones, and a table's columns are drawn each
for itself. Times are of whole processes, imports and all; each measurement of ours begins with a workspace that has scored nothing.
Two processes of ours are measured against the same script in one; up to 500,000 rows the command that may start them does not.

Each cost is split in two: what a start takes, seen on 1,000 rows, and what each further row adds, up to the largest size.

    python benchmarks/serving/batch.py --titles ../shared/data/marketplace/seed_labelled.parquet --rows 200000 1000000
    python benchmarks/serving/batch.py --table ../shared/data/adult/train.parquet --rows 200000 1000000
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
from collections.abc import Sequence
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
START = 1_000  # rows at which nearly all is the start
SCRIPT = "scikit-learn in chunks"
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
    sizes = sorted({START, *options.rows})
    kinds = {
        SCRIPT: [],
        "everloop": ["--executor", "inline"],
        "everloop, 2 processes": ["--processes", "2"],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = _released(folder / "home", task)
        for rows in sizes:
            pq.write_table(_rows(task, rows), folder / f"{rows}.parquet")
        print(
            f"{platform.python_version()}, scikit-learn {version('scikit-learn')}, load {os.getloadavg()[0]:.1f}"
        )
        taken: dict[tuple[str, int], list[Took]] = {}
        for _ in range(options.rounds):
            for rows in sizes:
                for kind, arguments in kinds.items():
                    took = _measured(folder, kind, arguments, rows, model)
                    taken.setdefault((kind, rows), []).append(took)
                _check(folder, rows)
        print(f"load {os.getloadavg()[0]:.1f}\n")
    _print_taken(taken)
    for kind in kinds:
        _print_growth(taken, kind, sizes)


def _print_taken(taken: dict[tuple[str, int], list[Took]]) -> None:
    print(
        "| | rows | wall s | CPU s | memory MB | speed by the clock | by CPU |\n|---|---|---|---|---|---|---|"
    )
    for (kind, rows), found in taken.items():
        wall, cpu, memory = (
            median(getattr(one, what) for one in found) for what in ("wall_s", "cpu_s", "memory_mb")
        )
        pairs = [*zip(found, taken[SCRIPT, rows], strict=True)]
        speed = [theirs.wall_s / ours.wall_s for ours, theirs in pairs]
        by_cpu = [theirs.cpu_s / ours.cpu_s for ours, theirs in pairs]
        print(
            f"| {kind} | {rows:,} | {wall:.2f} | {cpu:.2f} | {memory:.0f} | {_spread(speed)} | {_spread(by_cpu)} |"
        )
    print()


def _spread(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _print_growth(taken: dict[tuple[str, int], list[Took]], kind: str, sizes: Sequence[int]) -> None:
    """What a start and a row cost, and from how many rows on that is less than the script's."""
    told = []
    for what, unit in (("cpu_s", "of CPU"), ("wall_s", "by the clock")):
        start, row = _growth(taken, kind, sizes, what)
        theirs_start, theirs_row = _growth(taken, SCRIPT, sizes, what)
        told.append(f"{start:.2f} s and {row * 1e6:.2f} us a row {unit}")
        if kind != SCRIPT and row < theirs_row:
            told[-1] += (
                f", less than the script from {max(0, start - theirs_start) / (theirs_row - row):,.0f} rows on"
            )
    print(f"{kind}: {'; '.join(told)}")


def _growth(
    taken: dict[tuple[str, int], list[Took]], kind: str, sizes: Sequence[int], what: str
) -> tuple[float, float]:
    first, last = (median(getattr(one, what) for one in taken[kind, rows]) for rows in (sizes[0], sizes[-1]))
    row = (last - first) / (sizes[-1] - sizes[0])
    return first - row * sizes[0], row


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--titles", type=Path, help="a Parquet file with `title` and `category`")
    data.add_argument("--table", type=Path, help="the Adult table")
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000, 1_000_000])
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
    """So many rows, each with a number: what the task has, put together anew, so that hardly two are the same."""
    random = np.random.default_rng(1)
    columns = [
        task.rows[random.integers(0, len(task.rows), rows), place] for place in range(len(task.fields))
    ]
    if [field.type for field in task.fields] == ["string"]:
        others = task.rows[random.integers(0, len(task.rows), rows), 0]
        columns = [[_halves(*two) for two in zip(columns[0], others, strict=True)]]
    table = {"id": pa.array(np.arange(rows))}
    for field, column in zip(task.fields, columns, strict=True):
        table[field.name] = pa.array([*column], pa.int64() if field.type == "integer" else pa.string())
    return pa.table(table)


def _halves(one: str, other: str) -> str:
    begin, end = one.split(), other.split()
    return " ".join([*begin[: (len(begin) + 1) // 2], *end[(len(end) + 1) // 2 :]])


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


def _check(folder: Path, rows: int) -> None:
    """All said the same of each row."""
    first, *others = [
        pq.read_table(path, columns=["id", "output", "score"])
        for path in sorted(folder.glob("*.parquet"))
        if not path.stem.isdigit()
    ]
    assert first.num_rows == rows
    for other in others:
        assert other["id"].equals(first["id"])
        assert other["output"].equals(first["output"])
        assert np.allclose(other["score"], first["score"], atol=1e-9)


if __name__ == "__main__":
    main()
