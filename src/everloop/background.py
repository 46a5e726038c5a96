"""The one table of background work: what is done over and over, and what each kind of job does.

Ticks are short looks that find nothing to do most of the time; jobs are durable rows that may take hours. Both run in
worker processes, never in the one that answers the API; the server asks `is_due` and starts workers when it says so.
A tick that fails is logged and rests for a while, longer each time; it never keeps the others from running.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from everloop import (
    clock,
    events,
    governance,
    jobs,
    loop,
    monitoring,
    pipelines,
    predictions,
    retraining,
    rollout,
    triggers,
)
from everloop.errors import EverloopError
from everloop.jobs import Handler
from everloop.workspace import Workspace

_log = logging.getLogger("everloop.background")
_SHORT_S = 1.0  # whatever takes less may come each turn
_LONGEST_REST_S = 60.0


@dataclass(frozen=True)
class Tick:
    """`look` says whether there may be something to do, by a cheap query; `verb` does it and tells how much was done.

    What it writes is recorded as done by `system:<room>`: nobody is named for what nobody did.
    """

    name: str
    room: str
    look: Callable[[Workspace], bool]
    verb: Callable[[Workspace], int]
    share: float = 1.0
    """The part of the time that it may take once it takes more than a second: what reads all since some moment takes longer each
    time, and comes less often."""


def _ship(ws: Workspace) -> int:
    done = governance.ship_log(ws)
    return done.sent + done.brought


TICKS: tuple[Tick, ...] = (
    Tick("fire schedules", "jobs", jobs.schedules_due, lambda ws: len(jobs.fire_due(ws))),
    Tick("bring what serving reads", "delivery", rollout.is_behind, lambda ws: len(loop.restore(ws))),
    Tick("go on with rollouts", "rollout", rollout.is_running, lambda ws: len(rollout.tick(ws)), share=0.1),
    Tick("look at watches", "monitoring", monitoring.is_due, lambda ws: len(monitoring.observe(ws))),
    Tick(
        "tell of predictions without a log",
        "monitoring",
        monitoring.has_unlogged,
        lambda ws: len(monitoring.tell_unlogged(ws)),
    ),
    Tick(
        "consider retraining",
        "retraining",
        retraining.wants_training,
        lambda ws: len(retraining.consider(ws)),
    ),
    Tick("look at triggers", "triggers", triggers.wants_firing, lambda ws: len(triggers.consider(ws))),
    Tick("roll out what is approved", "delivery", loop.has_approved, lambda ws: len(loop.deliver(ws))),
    Tick("tell events", "events", events.has_undelivered, events.deliver),
    Tick(
        "seal the prediction log",
        "serving",
        lambda ws: predictions.may_be_sealed(ws.home / "serving"),
        lambda ws: len(predictions.seal(ws.home / "serving")),
    ),
    Tick("ship the prediction log", "governance", governance.has_shipping, _ship),
    Tick(
        "remove predictions that are kept no longer",
        "governance",
        governance.has_expiring,
        lambda ws: sum(one.rows for one in governance.expire_predictions(ws)),
    ),
)

HANDLERS: Mapping[str, Handler] = {
    retraining.TRAIN: loop.train_job,
    pipelines.REPRODUCE: pipelines.reproduce_job,
    loop.GO_ON: loop.go_on_job,
    loop.FORK: loop.fork_job,
    triggers.PIPELINE: loop.pipeline_job,
}


def is_due(ws: Workspace) -> bool:
    """Whether any tick has something to look at."""
    return any(tick.look(ws) for tick in TICKS)


def turn(ws: Workspace) -> int:
    """Run every tick that has something to do, once; how much was done."""
    return Ticker(ws).turn()


def run_jobs(ws: Workspace) -> int:
    """Run due jobs until there is none; how many were run."""
    return jobs.Worker(ws, HANDLERS).run_until_idle()


class Ticker:
    """Runs the ticks turn after turn. One that failed rests for 1, 2, 4, ... up to 60 seconds, one with a share by what it took."""

    def __init__(self, ws: Workspace, ticks: Sequence[Tick] = TICKS) -> None:
        self._ws = ws
        self._ticks = ticks
        self._failures: Counter[str] = Counter()
        self._rests_until_s: dict[str, float] = {}

    def turn(self) -> int:
        """As `turn`, but for ticks that rest."""
        rested = (
            tick for tick in self._ticks if clock.elapsed_s() >= self._rests_until_s.get(tick.name, 0.0)
        )
        return sum(self._run(tick) for tick in rested if tick.look(self._ws))

    def _run(self, tick: Tick) -> int:
        begun_s = clock.elapsed_s()
        try:
            done = tick.verb(self._ws.acting_as(f"system:{tick.room}"))
        except EverloopError as error:
            _log.error("%s: %s", tick.name, error)
            rest_s = min(2.0 ** self._failures[tick.name], _LONGEST_REST_S)
            self._failures[tick.name] += 1
            self._rests_until_s[tick.name] = clock.elapsed_s() + rest_s
            return 0
        del self._failures[tick.name]
        took_s = clock.elapsed_s() - begun_s
        if took_s > _SHORT_S:
            self._rests_until_s[tick.name] = begun_s + min(took_s / tick.share, took_s + _LONGEST_REST_S)
        return done
