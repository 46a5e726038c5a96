"""A loop file with pipelines that need no data, and what it takes to let their triggers fire."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from everloop import background, events, jobs, loop, triggers
from everloop.clock import SimulatedClock
from everloop.jobs import Job
from everloop.ledger import Node
from everloop.triggers import Firing, Standing
from everloop.workspace import Workspace

PIPELINES = """
import everloop as el


@el.step
def add(month: str, rows: int) -> str:
    return f"{month}: {rows}"


@el.step
def fail(month: str) -> str:
    raise ValueError("no such month" if month == "none" else "broken")


@el.pipeline
def report(month: str = "last", rows: int = 3) -> str:
    return add(month, rows)


@el.pipeline
def send(month: str = "last") -> str:
    return add(month, 1)


@el.pipeline
def broken(month: str = "last") -> str:
    return fail(month)

"""


def applied(ws: Workspace, folder: Path, triggers: str) -> None:
    """Apply a loop file of the pipelines above with these lines of triggers."""
    file = folder / "reports.py"
    file.write_text(PIPELINES + triggers)
    loop.apply(ws, loop.load(file))


def later(ws: Workspace, **by: float) -> None:
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(**by))


def tell(ws: Workspace, kind: str, topic: str, **payload: str) -> str:
    """As a room does when something happens in it."""
    node = Node("endpoint", topic)
    return ws.write(
        lambda tx: events.emit(ws, tx, kind, node, message="it happened", payload=payload, topic=topic)
    )


def ended(ws: Workspace, pipeline: str, state: str = "done") -> str:
    return tell(ws, f"pipeline.{state}", pipeline)


def look(ws: Workspace) -> list[Firing]:
    return triggers.consider(ws)


def standing(ws: Workspace, name: str) -> Standing:
    (found,) = [one for one in triggers.standings(ws) if one.name == name]
    return found


def run_jobs(ws: Workspace) -> list[Job]:
    """Let a worker do all there is, and return the jobs, newest first."""
    background.run_jobs(ws)
    return jobs.jobs_of(ws)
