"""What a job, a lease, a lane and a schedule are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from everloop.errors import Invalid

if TYPE_CHECKING:
    from everloop.workspace import Workspace

State = Literal["waiting", "running", "done", "failed", "cancelled"]
WhenFull = Literal["queue", "refuse", "cancel_oldest"]
CatchUpPolicy = Literal["skip", "latest", "all"]

MOST_CATCH_UP = 1_000
MOST_PRIORITY = 1_000


@dataclass(frozen=True)
class Job:
    """One piece of work. `due_at` is machine time (back-off moves it); `put_at` is domain time.

    Jobs of one `lane` share a limit. `priority` counts against time waited: see `queue.put`.
    """

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
    lane: str = ""
    priority: int = 0


@dataclass(frozen=True)
class Lease:
    """The right to run one job until `until` (machine time), under a fencing token.

    What is added to `when_cancelled` is called, in another thread, when the job is cancelled while it runs.
    """

    job: Job
    worker: str
    token: int
    until: datetime
    when_cancelled: list[Callable[[], None]] = field(default_factory=list, compare=False, repr=False)


@dataclass(frozen=True)
class Lane:
    """How many jobs of one sort may run at once. `at_most` None: as many as its pool lets, or as there are workers.

    `when_full` says what becomes of a job that is put while so many are there already, running or waiting: it queues, it
    is refused, or the oldest are cancelled for it. Jobs of several lanes share the places of a `pool`.
    """

    name: str
    at_most: int | None
    when_full: WhenFull = "queue"
    pool: str | None = None


@dataclass(frozen=True)
class CatchUp:
    """What becomes of instants that passed while nobody looked: none fires, the latest does, or the newest `at_most`."""

    policy: CatchUpPolicy = "latest"
    at_most: int = 1

    def __post_init__(self) -> None:
        if self.policy not in ("skip", "latest", "all"):
            raise Invalid(
                f"catch_up is {self.policy!r}; it is 'skip', 'latest' or el.all_missed(at_most=10)."
            )
        if not 1 <= self.at_most <= MOST_CATCH_UP:
            raise Invalid(
                f"a schedule is to catch up with {self.at_most} missed instants; that is 1 to {MOST_CATCH_UP:,}. State how "
                "many: el.all_missed(at_most=10)."
            )


LATEST = CatchUp()


@dataclass(frozen=True)
class Schedule:
    """A cron expression that puts a job at each of its instants, in domain time.

    `next_at` is the next instant and `due_at` when it fires, `jitter_s` later at most; None while it is paused. `note`
    says what became of the last instant, where that was not a job.
    """

    name: str
    cron: str
    time_zone: str
    kind: str
    payload: dict[str, Any]
    next_at: datetime
    last_at: datetime | None
    due_at: datetime | None
    catch_up: CatchUpPolicy
    catch_up_most: int
    jitter_s: int
    priority: int
    lane: str
    note: str | None
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None


Handler = Callable[["Workspace", Lease], Any]
"""What a kind of job does; returns a JSON value, kept as the job's result. It may run again after a kill."""
