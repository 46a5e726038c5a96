"""Who runs a run: a lease in the database, renewed by heartbeats, and on this machine a lock that dies with its holder.

The lease lets another machine take a run over when its runner stopped answering; the lock tells processes on the same
machine at once whether the runner is dead, without waiting for the lease to end.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from everloop.errors import StorageFailed

if TYPE_CHECKING:
    from everloop.workspace import Workspace

LEASE_S = 30.0
OUTSIDE = "outside"  # the worker of a run that no runner of ours conducts
_TRIES = 100  # at a folder that others make and remove meanwhile
_BEAT_S = 2.0  # how soon a replaced or cancelled runner notices at the latest


def here() -> str:
    """This process, as the run's worker: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def lease_end(now: datetime, lease_s: float) -> datetime:
    return now + timedelta(seconds=lease_s)


def scratch_of(ws: Workspace, run_id: str, *, token: int) -> Path:
    """Where the runner under a token keeps its lock, and the logs and messages of its steps while it goes on."""
    return ws.home.absolute() / "runs" / run_id / str(token)


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Hold the lock of one runner of a run, whose own folder this is; False when somebody else has it.

    Afterwards the folder is removed, and with it those beside it whose holders died.
    """
    lock = _locked(folder)
    if lock is None:
        yield False
        return
    with lock:
        try:
            yield True
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _sweep(folder.parent)


def is_dead(worker: str, folder: Path) -> bool:
    """Whether a worker was on this machine and lives no more; its folder is where it would have its lock.

    Where there is no such folder it may have another home on this machine: then its process number decides.
    """
    host, _, pid = worker.rpartition(":")
    if host != socket.gethostname():
        return False
    if folder.exists():
        return _is_free(folder)
    return int(pid) == os.getpid() or not _lives(int(pid))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _is_free(folder: Path) -> bool:
    lock = _locked(folder)
    if lock is None:
        return False
    lock.close()
    return True


def _locked(folder: Path) -> TextIO | None:
    """The runner's lock, which the system lets go of when its holder dies."""
    for tries_left in reversed(range(_TRIES)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / "lock").open("w")
        except OSError as error:
            # who had it may have removed it between two of our calls; then the next try makes it anew
            if tries_left and isinstance(error, FileExistsError | FileNotFoundError):
                continue
            raise StorageFailed(
                f"{folder} cannot be written: {error.strerror}. Make the workspace's home writable, or name another."
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        if _is_named(file, folder / "lock"):
            return file
        file.close()  # removed before it was locked: it is no lock for anybody else
    return None


def _is_named(file: TextIO, path: Path) -> bool:
    """Whether an open file is the one that is found under a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _sweep(folder: Path) -> None:
    """Remove what dead runners left, and the run's folder when nothing is in it any more."""
    with suppress(OSError):  # somebody alive is in it, or another removed it meanwhile
        for left in folder.glob("*/"):
            if (lock := _locked(left)) is not None:
                with lock:  # as long as it is removed: nobody is to begin in it
                    shutil.rmtree(left, ignore_errors=True)
        folder.rmdir()


@contextmanager
def beating(beat: Callable[[], bool], lost: Callable[[], None], *, lease_s: float) -> Iterator[None]:
    """Call `beat` again and again beside what is done meanwhile; when it says False, call `lost` and stop."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(min(_BEAT_S, lease_s / 3)):
            if not beat():
                lost()
                return

    thread = threading.Thread(target=work, name="everloop-run-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
