"""What a trigger, a call and a firing are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from everloop.retraining import Armed, Condition

PIPELINE = "pipeline"  # the kind of job that a firing puts


def lane_of(pipeline: str) -> str:
    """The lane in which all jobs of a pipeline run, whatever put them."""
    return f"pipeline:{pipeline}"


def schedule_of(trigger: str) -> str:
    """The name of a trigger's schedule."""
    return f"trigger {trigger}"


@dataclass(frozen=True)
class Trigger:
    """What starts a pipeline, and with which parameters. `condition` None: its schedule, or somebody by hand.

    `takes` says which parameters the pipeline takes. A condition must have held without a change for `quiet` before it
    fires, but for `longest_wait` at most; after a firing nothing fires for `cooldown`.
    """

    name: str
    pipeline: str
    params: Mapping[str, Any]
    takes: Mapping[str, Mapping[str, Any]]
    condition: Condition | None = None
    quiet: timedelta = timedelta()
    longest_wait: timedelta | None = None
    cooldown: timedelta = timedelta()
    priority: int = 0


@dataclass(frozen=True)
class Waiting:
    """Since when a condition has held, when its numbers last changed, and what they were then."""

    holds_since: datetime
    changed_at: datetime
    seen: Mapping[str, int]


@dataclass(frozen=True)
class Stored:
    """A trigger as it is in force."""

    trigger: Trigger
    since: datetime
    waiting: Waiting | None
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    secret: int


@dataclass(frozen=True)
class Call:
    """Somebody asked for a trigger to fire. `firing` is what came of it; None while it waits."""

    id: str
    trigger: str
    at: datetime
    by: str
    once_key: str | None
    signature: str | None
    params: Mapping[str, Any]
    firing: str | None


@dataclass(frozen=True)
class Firing:
    """A trigger fired: why, on which evidence, and the job that it put, or why none was put.

    The job's run has the job's number.
    """

    id: str
    trigger: str
    at: datetime
    by: str
    reason: str
    evidence: Mapping[str, Any]
    params: Mapping[str, Any]
    job: str | None
    refused: str | None

    @property
    def run(self) -> str | None:
        return None if self.job is None else self.job.replace("job_", "run_")


@dataclass(frozen=True)
class Standing:
    """How far a trigger is from firing, and when it last did. `next_at` is its schedule's next instant.

    `conditions` says how far each part of its condition is, of one that is not paused.
    """

    name: str
    pipeline: str
    told: str
    last_at: datetime | None
    next_at: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    numbers: Mapping[str, int] = field(default_factory=dict)
    conditions: tuple[Armed, ...] = ()
