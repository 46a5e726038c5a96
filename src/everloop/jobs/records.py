"""What a job, a lease and a schedule are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from everloop.workspace import Workspace

State = Literal["waiting", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Job:
    """One piece of work. `due_at` is machine time (back-off moves it); `put_at` is domain time."""

    id: str
    kind: str
    payload: dict[str, Any]
    reason: str
    state: State
    put_at: datetime
    due_at: datetime
    attempts: int
    max_attempts: int
    token: int
    worker: str | None
    lease_until: datetime | None
    result: Any
    error: str | None
    ended_at: datetime | None


@dataclass(frozen=True)
class Lease:
    """The right to run one job until `until` (machine time), under a fencing token."""

    job: Job
    worker: str
    token: int
    until: datetime


@dataclass(frozen=True)
class Schedule:
    """A cron expression that puts a job at each of its instants, in domain time."""

    name: str
    cron: str
    time_zone: str
    kind: str
    payload: dict[str, Any]
    next_at: datetime
    last_at: datetime | None


Handler = Callable[["Workspace", Lease], Any]
"""What a kind of job does; returns a JSON value, kept as the job's result. It may run again after a kill."""
