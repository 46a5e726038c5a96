"""Putting, finding and cancelling jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from everloop.errors import Conflict, NotFound
from everloop.ids import new_id
from everloop.jobs import store
from everloop.jobs.records import Job, State
from everloop.storage import Tx, wall_of
from everloop.workspace import Workspace


def put(
    ws: Workspace,
    tx: Tx,
    kind: str,
    payload: dict[str, Any],
    *,
    reason: str,
    once_key: str | None = None,
    max_attempts: int = 3,
) -> str:
    """Add a job in the transaction of what caused it and return its id.

    With `once_key`, a job that was put under the same key before is returned instead of a second one, whatever
    its state: the cause happened once.
    """
    if once_key is not None:
        tx.lock(f"job:{once_key}")
        if (known := store.job_by_key(tx.connection, once_key)) is not None:
            return known.id
    job_id = new_id("job")
    values = {
        "id": job_id,
        "kind": kind,
        "payload": payload,
        "reason": reason,
        "once_key": once_key,
        "state": "waiting",
        "put_at": ws.now(),
        "due_at": tx.wall(),
        "attempts": 0,
        "max_attempts": max_attempts,
        "token": 0,
    }
    store.insert_job(tx, values)
    return job_id


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


def waiting(ws: Workspace) -> int:
    """How many jobs a worker could take right now."""
    with ws.read() as connection:
        return store.count_due(connection, wall_of(connection))


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
        values = {"state": "cancelled", "error": reason, "ended_at": ws.now(), "lease_until": None}
        return store.update_unended(tx, job_id, values)

    if not ws.write(change):
        raise Conflict(
            f"job {job_id} has ended ({found.state}); only a waiting or running job can be cancelled."
        )
