"""A worker: takes jobs under leases and runs them. Any process can be one, and any number of them."""

from __future__ import annotations

import os
import socket
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from everloop.errors import EverloopError, LostLease, NotReady
from everloop.jobs import queue, store
from everloop.jobs.records import Handler, Job, Lease
from everloop.storage import Tx
from everloop.workspace import Workspace

LEASE_S = 30.0
_BEAT_S = 2.0  # how soon a running job notices at the latest that it was cancelled
BACK_OFF_S = 2.0  # before the second attempt; doubles with each


def hold(tx: Tx, lease: Lease) -> None:
    """Go on only while the lease is in force: the first line of each change that a job makes.

    Raises
    ------
    LostLease
        Another worker took the job over, or it was cancelled. The change is undone.
    """
    if not store.is_held(tx, lease.job.id, token=lease.token):
        raise LostLease(
            f"job {lease.job.id} is no longer leased to {lease.worker} under token {lease.token}: "
            "another worker took it over or it was cancelled. Nothing of this change was kept."
        )


class Worker:
    """Runs jobs of the kinds it has handlers for.

    Parameters
    ----------
    handlers
        By kind of job. A job whose kind has no handler here fails with an error that says so.
    lease_s
        How long a job stays with a worker that no longer answers. Renewed three times in that span, or more often.
    """

    def __init__(self, ws: Workspace, handlers: Mapping[str, Handler], *, lease_s: float = LEASE_S) -> None:
        self._ws = ws
        self._handlers = handlers
        self._lease_s = lease_s
        self.name = f"{socket.gethostname()}:{os.getpid()}"

    def run_until_idle(self) -> int:
        """Run due jobs until there is none and return how many were run."""
        count = 0
        while self.run_one():
            count += 1
        return count

    def run_one(self) -> bool:
        """Take the next due job, if there is one, and run it to its end; whether there was one."""
        lease = self.take()
        if lease is None:
            return False
        self.run(lease)
        return True

    def take(self) -> Lease | None:
        """Lease the next due job, raising its fencing token."""
        return self._ws.write(self._take)

    def run(self, lease: Lease) -> None:
        """Run a leased job and keep its result, unless the lease was lost meanwhile."""
        handler = self._handlers.get(lease.job.kind)
        try:
            with self._heartbeat(lease):
                if handler is None:
                    raise EverloopError(f"no handler for jobs of kind {lease.job.kind!r} in this everloop.")
                result = handler(self._ws, lease)
        except LostLease:
            return
        except Exception as error:  # noqa: BLE001  (a job may raise anything; it is kept as the job's error)
            self._fail(lease, error)
        else:
            self._finish(lease, {"state": "done", "result": result, "error": None})

    def _take(self, tx: Tx) -> Lease | None:
        tx.lock("job")  # two workers that look at once would both find a place in a lane that has one
        now = tx.wall()
        while (due := store.next_due(tx.connection, now)) is not None:
            if due.attempts >= due.max_attempts:
                store.update_unended(tx, due.id, self._died_too_often(due))
                continue
            until = store.lease_end(now, self._lease_s)
            if store.take(tx, due, worker=self.name, until=until):
                return Lease(due, self.name, due.token + 1, until)
        return None

    def _died_too_often(self, job: Job) -> dict[str, Any]:
        error = f"its worker {job.worker} stopped answering at attempt {job.attempts} of {job.max_attempts}"
        return {"state": "failed", "error": error, "ended_at": self._ws.now(), "lease_until": None}

    def _fail(self, lease: Lease, error: Exception) -> None:
        text = str(error) if isinstance(error, EverloopError) else "".join(traceback.format_exception(error))
        attempt = lease.job.attempts + 1
        may_pass = isinstance(error, NotReady) or not isinstance(error, EverloopError)
        retry = may_pass and attempt < lease.job.max_attempts
        if not retry:
            self._finish(lease, {"state": "failed", "error": text})
            return
        wait = timedelta(seconds=BACK_OFF_S * 2 ** (attempt - 1))
        self._settle(
            lease, lambda now: {"state": "waiting", "due_at": now + wait, "error": text, "lease_until": None}
        )

    def _finish(self, lease: Lease, values: dict[str, Any]) -> None:
        self._settle(lease, lambda _now: {**values, "ended_at": self._ws.now(), "lease_until": None})

    def _settle(self, lease: Lease, values: Any) -> None:
        """Write how the job ended; a token that is no longer in force changes nothing."""
        self._ws.write(
            lambda tx: store.update_held(tx, lease.job.id, token=lease.token, values=values(tx.wall()))
        )

    @contextmanager
    def _heartbeat(self, lease: Lease) -> Iterator[None]:
        """Renew the lease beside the job."""
        stop = threading.Event()
        beat = threading.Thread(target=self._beat, args=(lease, stop), name="everloop-heartbeat", daemon=True)
        beat.start()
        try:
            yield
        finally:
            stop.set()
            beat.join()

    def _beat(self, lease: Lease, stop: threading.Event) -> None:
        while not stop.wait(min(_BEAT_S, self._lease_s / 3)):
            if not self._ws.write(lambda tx: self._renew(tx, lease), power_safe=False):
                if queue.job(self._ws, lease.job.id).state == "cancelled":
                    for act in lease.when_cancelled:
                        act()
                return

    def _renew(self, tx: Tx, lease: Lease) -> bool:
        until: datetime = store.lease_end(tx.wall(), self._lease_s)
        return store.update_held(tx, lease.job.id, token=lease.token, values={"lease_until": until})
