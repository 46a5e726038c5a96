"""Putting, finding and cancelling jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from everloop.errors import Conflict, Invalid, NotFound
from everloop.ids import new_id
from everloop.jobs import lanes, store
from everloop.jobs.records import MOST_PRIORITY, Job, State
from everloop.ledger import Node, audit
from everloop.storage import Tx, wall_of
from everloop.workspace import Workspace

# A job of priority n is taken as if it had been put n times this earlier. So the order of two jobs never changes while
# they wait, one index holds it, and whatever waits is overtaken only by what is put within priority x this time after it.
AGEING = timedelta(minutes=10)


def put(
    ws: Workspace,
    tx: Tx,
    kind: str,
    payload: dict[str, Any],
    *,
    reason: str,
    once_key: str | None = None,
    max_attempts: int = 3,
    lane: str = "",
    priority: int = 0,
) -> str:
    """Add a job in the transaction of what caused it and return its id.

    With `once_key`, a job that was put under the same key before is returned instead of a second one, whatever
    its state: the cause happened once.

    Parameters
    ----------
    lane
        Whose limit it counts against; empty for none.
    priority
        Higher ones are taken first. Each step outweighs ten minutes of waiting, so that nothing waits for ever.

    Raises
    ------
    NotReady
        The lane is full and refuses what does not fit.
    """
    if once_key is not None:
        tx.lock(f"job:{once_key}")
        if (known := store.job_by_key(tx.connection, once_key)) is not None:
            return known.id
    check_priority(priority)
    if lane:
        lanes.make_room(ws, tx, lane)
    job_id = new_id("job")
    now = tx.wall()
    values = {
        "id": job_id,
        "kind": kind,
        "payload": payload,
        "reason": reason,
        "once_key": once_key,
        "state": "waiting",
        "put_at": ws.now(),
        "due_at": now,
        "attempts": 0,
        "max_attempts": max_attempts,
        "token": 0,
        "lane": lane,
        "priority": priority,
        "rank_at": now - priority * AGEING,
    }
    store.insert_job(tx, values)
    return job_id


def check_priority(priority: int) -> None:
    """Raises Invalid for one that is out of bounds."""
    if type(priority) is not int or abs(priority) > MOST_PRIORITY:
        raise Invalid(
            f"the priority is {priority!r}; it is a whole number from -{MOST_PRIORITY:,} to {MOST_PRIORITY:,}, higher first. "
            "Leave it out for 0."
        )


def job(ws: Workspace, job_id: str) -> Job:
    """One job. Raises NotFound."""
    with ws.read() as connection:
        found = store.job_by_id(connection, job_id)
    if found is None:
        raise NotFound(f"there is no job {job_id}. 'everloop jobs list' shows the newest.")
    return found


def find(ws: Workspace, once_key: str) -> Job | None:
    """The job that was put under this key."""
    with ws.read() as connection:
        return store.job_by_key(connection, once_key)


def jobs_of(
    ws: Workspace, *, kind: str | None = None, states: Sequence[State] = (), limit: int = 50
) -> list[Job]:
    """The newest jobs, newest first."""
    with ws.read() as connection:
        return store.newest_jobs(connection, kind=kind, states=states, limit=limit)


def is_waiting(ws: Workspace) -> bool:
    """Whether there is a job that a worker could take right now."""
    with ws.read() as connection:
        return store.has_due(connection, wall_of(connection))


def cancel(ws: Workspace, job_id: str, *, reason: str) -> None:
    """End a job that has not ended; a running one loses its lease, so that its result is not kept.

    Raises
    ------
    NotFound
    Conflict
        The job has ended already.
    """
    found = job(ws, job_id)

    def change(tx: Tx) -> bool:
        is_ours = store.update_unended(tx, job_id, lanes.cancelled(ws, reason))
        if is_ours:
            audit(ws, tx, "jobs.cancel", Node("job", job_id), reason=reason)
        return is_ours

    if not ws.write(change):
        raise Conflict(
            f"job {job_id} has ended ({found.state}); only a waiting or running job can be cancelled."
        )
