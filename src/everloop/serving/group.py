"""Several serving processes that share one port: started, started again when they die, ended together.

The parent listens and serves nothing. It loads the libraries once and forks: the pages that hold them are shared, and a
process that died is back as soon as its models are loaded. It starts no thread and runs no numbers before a fork, so that
none is copied in the middle of its work; models are loaded by each process for itself, since what they start does not
survive one.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from everloop.clock import elapsed_s
from everloop.errors import EverloopError

logger = logging.getLogger(__name__)

_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 5.0)  # before a process is started again, after so many deaths in a row
_IN_A_ROW_S = 60.0  # a death so long after the start is no continuation of the one before
_FOR_EVER_S = 3_600.0


@dataclass
class _Place:
    """Where one of the processes runs."""

    pid: int | None = None
    starts: int = 0
    deaths: int = 0
    started_s: float = 0.0
    not_before_s: float = 0.0

    def died(self) -> None:
        now_s = elapsed_s()
        self.deaths = self.deaths + 1 if now_s - self.started_s < _IN_A_ROW_S else 1
        self.not_before_s = now_s + _PAUSES_S[min(self.deaths, len(_PAUSES_S)) - 1]
        self.pid = None


def run_together(
    serve: Callable[[int], None], count: int, *, grace_s: float, ended: Callable[[int, int], None]
) -> None:
    """Keep `count` processes running until SIGTERM or SIGINT, then let them finish and return.

    `serve` is called in each of them, with how often its place was started; `ended` in this one, with the number and the exit
    code (a signal's is negative) of each that ended without being asked to.
    """
    places = [_Place() for _ in range(count)]
    alive, ours = (
        os.pipe()
    )  # a process reads its end until nobody holds ours any more: then its parent is dead
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    stopping: list[int] = []
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: stopping.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    gc.collect()
    gc.freeze()  # else the first collection in a process would copy every page that it shares
    while not stopping:
        for place in places:
            if place.pid is None and place.not_before_s <= elapsed_s():
                _start(place, serve, alive, (ours, woken.fileno(), wakes.fileno()))
        due_s = [place.not_before_s - elapsed_s() for place in places if place.pid is None]
        select.select([woken], [], [], max(0.0, min(due_s, default=_FOR_EVER_S)))
        _drain(woken)
        _bury(places, ended)
    for place in places:
        if place.pid is not None:
            os.kill(place.pid, signal.SIGTERM)
    until_s = elapsed_s() + grace_s
    while any(place.pid is not None for place in places) and elapsed_s() < until_s:
        select.select([woken], [], [], max(0.0, until_s - elapsed_s()))
        _drain(woken)
        _bury(places)
    for place in places:
        if place.pid is not None:
            logger.error("process %d did not end within %.0f s and is killed", place.pid, grace_s)
            os.kill(place.pid, signal.SIGKILL)
            os.waitpid(place.pid, 0)


def _start(place: _Place, serve: Callable[[int], None], alive: int, not_its_own: tuple[int, ...]) -> None:
    place.starts += 1
    place.started_s = elapsed_s()
    both = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, both)  # none may be lost between the fork and the new handlers
    with warnings.catch_warnings():
        # Python warns of threads: they are those of a library of numbers, which waits for a fork and starts them anew
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
        place.pid = pid
        return
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (*both, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
        for descriptor in not_its_own:
            os.close(descriptor)
        threading.Thread(target=_end_with_parent, args=(alive,), name="everloop-parent", daemon=True).start()
        serve(place.starts)
        code = 0
    except EverloopError as error:
        sys.stderr.write(f"{error}\n")
    except BaseException:  # noqa: BLE001  (it is the end of this process, which must not go on as its parent)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _end_with_parent(alive: int) -> None:
    os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _bury(places: list[_Place], ended: Callable[[int, int], None] | None = None) -> None:
    """Take note of the processes that have ended, and tell of those that nobody asked to."""
    for place in places:
        if place.pid is None:
            continue
        pid, status = os.waitpid(place.pid, os.WNOHANG)
        if pid:
            place.died()
            if ended is not None:
                code = os.waitstatus_to_exitcode(status)
                logger.error("serving process %d ended with %d and is started again", pid, code)
                ended(pid, code)


def _drain(woken: socket.socket) -> None:
    woken.setblocking(False)
    try:
        while woken.recv(4096):
            pass
    except BlockingIOError:
        return
