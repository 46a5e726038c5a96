"""What a look at background work costs with 1,000 schedules and 100,000 jobs that wait, most of them in a full lane, and
100 triggers among 1,000 events of others.

    python benchmarks/jobs/tick.py [DATABASE_URL]      default a new SQLite file

`is due` is what `everloop up` asks twice a second; `take` is what a worker does for each job.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from everloop import events, jobs, triggers
from everloop.clock import SimulatedClock
from everloop.ids import new_id
from everloop.jobs import Lane, Worker, store
from everloop.ledger import Node
from everloop.retraining import Finished
from everloop.settings import load_settings
from everloop.storage import Tx
from everloop.triggers import Trigger
from everloop.workspace import Workspace, open_workspace

SCHEDULES, JOBS, LANES, TRIGGERS, EVENTS, REPEATS = 1_000, 100_000, 50, 100, 1_000, 50


def main(url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(
            Path(folder) / "home", environ={}, actor="bench", **({"database_url": url} if url else {})
        )
        start = datetime(2026, 9, 1, tzinfo=UTC)
        with open_workspace(settings=settings, simulation_from=start) as ws:
            measure(ws)


def measure(ws: Workspace) -> None:
    assert isinstance(ws.clock, SimulatedClock)
    fill(ws)
    print(
        f"{ws.database.dialect}: {SCHEDULES:,} schedules, {JOBS:,} jobs wait in {LANES} lanes, one of them full"
    )
    show("is a schedule due (none is)", ms_of(lambda: jobs.schedules_due(ws)))
    show("is a job waiting that may run", ms_of(lambda: jobs.is_waiting(ws)))
    show("take the next job", ms_of(Worker(ws, {}).take))
    newest = jobs.jobs_of(ws, limit=50)
    show("say of 50 jobs why they wait", ms_of(lambda: jobs.why_waiting(ws, newest)))
    show(f"look at {TRIGGERS} triggers that wait for events", ms_of(lambda: triggers.wants_firing(ws)))
    ws.clock.advance(timedelta(hours=4))
    begun = time.perf_counter()
    put = len(jobs.fire_due(ws))
    show(f"fire {put:,} schedules that are due at once", (time.perf_counter() - begun) * 1_000)


def fill(ws: Workspace) -> None:
    lanes = [Lane(f"pipeline:{number}", 1 if number == 0 else None) for number in range(LANES)]
    ws.write(lambda tx: jobs.set_limits(tx, lanes, {}))
    for begin in range(0, SCHEDULES, 100):
        ws.write(lambda tx, begin=begin: schedule(ws, tx, begin))  # type: ignore[misc]  # bound per turn
    for begin in range(0, JOBS, 10_000):
        ws.write(lambda tx, begin=begin: crowd(tx, begin))  # type: ignore[misc]  # as above
    waiting = [Trigger(f"t{number}", "report", {}, {}, Finished(f"p{number}")) for number in range(TRIGGERS)]
    ws.write(lambda tx: triggers.set_triggers(ws, tx, waiting))
    ws.write(lambda tx: tell(ws, tx))
    Worker(ws, {}).take()  # the first in rank is of the lane with one place, which is full from now on
    if ws.database.dialect == "postgresql":
        ws.write(lambda tx: tx.execute(sa.text("ANALYZE")))


def schedule(ws: Workspace, tx: Tx, begin: int) -> None:
    for number in range(begin, begin + 100):
        jobs.schedule(
            ws, tx, f"s{number}", cron="0 3 * * *", kind="work", payload={}, time_zone="Europe/Berlin"
        )


def tell(ws: Workspace, tx: Tx) -> None:
    """Events of pipelines that no trigger waits for."""
    for number in range(EVENTS):
        node = Node("run", f"run_{number}")
        events.emit(ws, tx, "pipeline.done", node, message="a benchmark", topic=f"other{number}")


def crowd(tx: Tx, begin: int) -> None:
    now = tx.wall()
    rows = [
        {
            "id": new_id("job"),
            "kind": "work",
            "payload": {},
            "reason": "a benchmark",
            "state": "waiting",
            "put_at": now,
            "due_at": now,
            "attempts": 0,
            "max_attempts": 3,
            "token": 0,
            # nine in ten wait in the full lane, all of them before the others
            "lane": "pipeline:0" if number < JOBS * 0.9 else f"pipeline:{number % LANES}",
            "priority": 0,
            "rank_at": now + timedelta(microseconds=number),
        }
        for number in range(begin, begin + 10_000)
    ]
    tx.execute(sa.insert(store.jobs), rows)


def ms_of(act: Callable[[], object]) -> float:
    """The median of some repetitions."""
    act()
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        act()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1_000


def show(what: str, ms: float) -> None:
    print(f"  {what:<44} {ms:9.2f} ms")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
