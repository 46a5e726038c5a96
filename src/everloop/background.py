"""The one table of background work: what is done over and over, and what each kind of job does.

Ticks are short looks that find nothing to do most of the time; jobs are durable rows that may take hours. Both run in
worker processes, never in the one that answers the API; the server asks `is_due` and starts workers when it says so.
A tick that fails is logged and looked at again at the next turn; it never keeps the others from running.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from everloop import events, jobs, loop, monitoring, retraining, rollout, serving
from everloop.errors import EverloopError
from everloop.jobs import Handler
from everloop.workspace import Workspace

_log = logging.getLogger("everloop.background")


@dataclass(frozen=True)
class Tick:
    """`look` says whether there may be something to do, by a cheap query; `verb` does it and tells how much was done."""

    name: str
    look: Callable[[Workspace], bool]
    verb: Callable[[Workspace], int]


TICKS: tuple[Tick, ...] = (
    Tick("fire schedules", jobs.schedules_due, lambda ws: len(jobs.fire_due(ws))),
    Tick("go on with rollouts", rollout.is_running, lambda ws: len(rollout.tick(ws))),
    Tick("look at watches", monitoring.is_due, lambda ws: len(monitoring.observe(ws))),
    Tick("consider retraining", retraining.wants_training, lambda ws: len(retraining.consider(ws))),
    Tick("roll out what is approved", loop.has_approved, lambda ws: len(loop.deliver(ws))),
    Tick("tell events", events.has_undelivered, events.deliver),
    Tick(
        "seal the prediction log",
        lambda ws: serving.log.may_be_sealed(ws.home / "serving"),
        lambda ws: len(serving.log.seal(ws.home / "serving")),
    ),
)

HANDLERS: Mapping[str, Handler] = {
    retraining.TRAIN: loop.train_job,
}


def is_due(ws: Workspace) -> bool:
    """Whether any tick has something to look at."""
    return any(tick.look(ws) for tick in TICKS)


def turn(ws: Workspace) -> int:
    """Run every tick that has something to do, once; how much was done."""
    return sum(_run(ws, tick) for tick in TICKS if tick.look(ws))


def run_jobs(ws: Workspace) -> int:
    """Run due jobs until there is none; how many were run."""
    return jobs.Worker(ws, HANDLERS).run_until_idle()


def _run(ws: Workspace, tick: Tick) -> int:
    try:
        return tick.verb(ws)
    except EverloopError as error:
        _log.error("%s: %s", tick.name, error)
        return 0
