"""A workspace in which pipelines ran: one whose steps ended in every way, and one of 500 steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from everloop.errors import LostLease, NotReady, StepFailed
from everloop.ids import new_id
from everloop.pipelines import Inline, Pipeline, Processes, attempts_at, pipeline, run_pipeline, step, when
from everloop.storage import Tx, metadata
from everloop.workspace import Workspace

_TABLES = metadata.tables
NASTY = "<script>document.title='owned'</script>"


@step
def load(n: int) -> list[int]:
    print(f"reading {n} rows {NASTY}")  # noqa: T201  (what a step prints is kept)
    return list(range(n))


@step
def fit(rows: list[int], c: float) -> float:
    return c * len(rows)


@step
def best(scores: list[float]) -> float:
    return max(scores)


@step
def square(number: int) -> int:
    if number == 13:
        raise ValueError(f"13 is unlucky {NASTY}")
    return number**2


@step(retries=1, optional=True)
def preview(score: float) -> None:
    raise RuntimeError("there is no display")


@step(always=True)
def clean(score: float) -> None:
    pass


@step
def is_good(score: float) -> bool:
    return score > 10


@step
def publish(score: float) -> str:
    return f"published {score}"


@step
def discard(score: float) -> str:
    return "discarded"


@pipeline
def branching() -> str:
    rows = load(10)
    score = best([fit(rows, c=c) for c in (0.1, 10.0)])
    preview(score)
    square.map(rows)
    return when(is_good(score), then=lambda: publish(score), otherwise=lambda: discard(score))


@pipeline
def failing() -> float:
    rows = load(20)
    squares = square.map(rows)
    clean(fit(squares, c=1.0))
    return fit(squares, c=2.0)


@pipeline
def wide() -> float:
    rows = load(5)
    return best([fit(rows, c=i / 10) for i in range(498)])


def ran(ws: Workspace, one: Pipeline[..., Any], *, in_processes: bool = False) -> str:
    """Run a pipeline, be it to its failure, and return the run's id. Only processes keep what is printed."""
    try:
        return run_pipeline(ws, one, reason="a test", executor=Processes() if in_processes else Inline()).id
    except StepFailed as error:
        return error.run_id


def many_runs(ws: Workspace, like: str, n: int) -> None:
    """`n` more runs like one that is there, an hour apart, each third failed; the newest first began last."""

    def change(tx: Tx) -> None:
        table = _TABLES["pipeline_run"]
        row = dict(tx.execute(sa.select(table).where(table.c.id == like)).mappings().one())
        rows = [
            {
                **row,
                "id": new_id("run"),
                "state": "failed" if i % 3 == 0 else "done",
                "pipeline": f"{row['pipeline']}-{i % 2}",
                "started_at": row["started_at"] - timedelta(hours=n - i),
                "ended_at": row["started_at"] - timedelta(hours=n - i) + timedelta(seconds=i % 100 + 1),
            }
            for i in range(n)
        ]
        tx.execute(sa.insert(_TABLES["pipeline_run"]), rows)

    ws.write(change)


def left(ws: Workspace, run: str) -> None:
    """As if the process that ran it had died."""
    table = _TABLES["pipeline_run"]
    values = {"state": "running", "ended_at": None, "lease_until": None}
    ws.write(lambda tx: tx.execute(sa.update(table).where(table.c.id == run).values(**values)))


def many_calls(ws: Workspace, run: str, node: str, n: int) -> None:
    """`n` more calls of a map, done, as the journal writes them."""

    def change(tx: Tx) -> None:
        table = _TABLES["step_run"]
        first = sa.select(table).where(table.c.run == run, table.c.node == f"{node}[0]")
        row = dict(tx.execute(first).mappings().one())
        rows = [
            {**row, "id": new_id("step"), "node": f"{node}[{i}]", "parts": {}}
            for i in range(1_000, 1_000 + n)
        ]
        tx.execute(sa.insert(_TABLES["step_run"]), rows)

    ws.write(change)


@step
def wait_for(path: str) -> str:
    print("nothing there yet", flush=True)  # noqa: T201  (what the step prints)
    while not Path(path).exists():
        time.sleep(0.05)
    return "it is there"


@pipeline
def waiting(path: str) -> str:
    return wait_for(path)


@contextmanager
def going_on(ws: Workspace, path: Path) -> Iterator[str]:
    """A run that waits in its only step until there is a file at `path`; its id."""
    run = new_id("run")

    def conduct() -> None:
        with suppress(LostLease, NotReady):  # somebody cancelled or paused it
            run_pipeline(
                ws, waiting, params={"path": str(path)}, reason="a test", executor=Inline(), run_id=run
            )

    thread = threading.Thread(target=conduct)
    thread.start()
    try:
        while not attempts_at(ws, run, "wait_for"):
            time.sleep(0.02)
        yield run
    finally:
        path.touch()
        thread.join()
