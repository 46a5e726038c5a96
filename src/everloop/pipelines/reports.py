"""Numbers that a step tells while it runs, for whoever watches the run: a file beside it, a line each.

The process of a step holds no right to write on the run, so it leaves what it has to tell in the run's scratch folder.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from everloop.errors import Invalid

if TYPE_CHECKING:
    from everloop.workspace import Workspace

_FILE = "reports.jsonl"
_place: ContextVar[Path | None] = ContextVar("everloop_reports", default=None)


@dataclass(frozen=True)
class Report:
    """What a step told: how far it is, in whatever it counts, and its numbers there."""

    step: int
    metrics: dict[str, float]


def report(step: int, **metrics: float) -> None:
    """Tell numbers from inside a step while it runs; outside a run it does nothing.

    A search that stops early compares them with what other trials told at the same `step`.
    """
    if type(step) is not int or not metrics:
        raise Invalid(
            f"report() was given step {step!r} and {metrics}; it takes a whole number and named numbers."
        )
    numbers = {name: float(value) for name, value in metrics.items()}
    place = _place.get()
    if place is None:
        return
    line = json.dumps({"step": step, "metrics": {name: _text_of(one) for name, one in numbers.items()}})
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())  # one call, so that lines of steps side by side stay whole
    finally:
        os.close(descriptor)


def reports_of(ws: Workspace, run_id: str) -> list[Report]:
    """What the steps of a run that goes on have told so far; empty when it is over."""
    told = []
    for place in sorted((ws.home.absolute() / "runs" / run_id).glob(f"*/{_FILE}")):
        try:
            lines = place.read_text().splitlines(keepends=True)
        except FileNotFoundError:
            continue  # its runner has just ended
        for line in lines:
            if line.endswith("\n"):
                one = json.loads(line)
                told.append(Report(one["step"], {name: float(text) for name, text in one["metrics"].items()}))
    return told


@contextmanager
def reporting(scratch: Path) -> Iterator[None]:
    """Where reports go that are made meanwhile."""
    token = _place.set(scratch / _FILE)
    try:
        yield
    finally:
        _place.reset(token)


def _text_of(number: float) -> str | float:
    return number if math.isfinite(number) else str(number)
