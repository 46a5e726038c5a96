"""Imports of large sources: processor time, time by the clock and memory, the first time and again.

    python -m benchmarks.imports.large [POINTS]

Makes a source of each kind with so many points (1,000,000): runs of 100 in MLflow's database, made in the tests'
environment of MLflow, one run of wandb, and one of TensorBoard. Each import is a process of its own on a new home.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.adapters.sources import event_file, message, wandb_run, written_by

POINTS_A_RUN = 100
# MLflow makes the file; SQL fills it, since its client would take hours
MLFLOW = """
    import sqlite3, sys
    from mlflow import MlflowClient

    folder, runs, points = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    number = int(MlflowClient(f"sqlite:///{folder}/mlflow.db").create_experiment("large"))
    database = sqlite3.connect(f"{folder}/mlflow.db")
    began, steps = 1_700_000_000_000, points // runs // 4
    put = "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)"
    newest = put.replace("INTO metrics", "INTO latest_metrics")
    for one in range(runs):
        run, at = f"{one + 1:032x}"[::-1], began + one * 1000
        database.execute(
            "INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, end_time, lifecycle_stage, artifact_uri, "
            "experiment_id) VALUES (?, ?, 'LOCAL', 'ana', 'FINISHED', ?, ?, 'active', ?, ?)",
            (run, f"run {one}", at, at + 500, f"{folder}/mlruns/{number}/{run}/artifacts", number),
        )
        database.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", [(f"p{k}", str(one * k), run) for k in range(10)])
        database.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", [("owner", "ana", run), ("team", "a", run)])
        for key in ("a", "b", "c", "d"):
            rows = [(key, 1 / (step + 1), at + step, run, step) for step in range(steps)]
            database.executemany(put, rows)
            database.execute(newest, rows[-1])
    database.commit()
"""


def main() -> None:
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print(f"{points:,} points; load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory() as name:
        # in a process of its own: what it needed would count as memory of each that this one starts
        making = "import sys; from benchmarks.imports.large import make; make(sys.argv[1], int(sys.argv[2]))"
        subprocess.run([sys.executable, "-c", making, name, str(points)], check=True)
        for kind, source in (("mlflow", "mlflow.db"), ("wandb", "wandb"), ("tensorboard", "logs")):
            for when in ("first", "again"):
                print(f"{kind:<12} {when:<6} {_measured(Path(name), kind, source)}", flush=True)


def make(folder: str, points: int) -> None:
    """Write a source of each kind."""
    written_by("trackers", MLFLOW, folder, str(points // POINTS_A_RUN), str(points))
    rows = [{"loss": repr(1 / (step + 1)), "acc": repr(step)} for step in range(points // 2)]
    wandb_run(Path(folder), rows=rows)
    event_file(Path(folder) / "logs" / "tfevents", (_event(step) for step in range(points)))


def _event(step: int) -> bytes:
    value = message((1, "loss"), (8, message((1, 2), (6, 1 / (step + 1)))))
    return message((1, 1_700_000_000.0 + step), (2, step), (5, message((1, value))))


def _measured(folder: Path, kind: str, source: str) -> str:
    command = [
        sys.executable,
        "-m",
        "everloop",
        "--home",
        str(folder / f"home-{kind}"),
        "import",
        kind,
        source,
    ]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    return (
        f"{used.ru_utime + used.ru_stime:6.1f} s of processor time, {time.perf_counter() - began:6.1f} s by the clock, "
        f"{used.ru_maxrss / 1024:4.0f} MB"
    )


if __name__ == "__main__":
    main()
