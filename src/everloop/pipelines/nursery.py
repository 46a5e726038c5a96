"""The process that steps are forked from: `python -m everloop.pipelines.nursery FILE`, started by `processes`.

It imports the project from its snapshot and traces the pipeline once; each step then starts in milliseconds instead of
the second or more that importing takes, and has a process of its own all the same. It runs no step itself, has one
thread and does not use the libraries it imports, so that what it forks is as good as new.

The calls of a map, of which there may be thousands, share processes: one that ended its call well and is as it was
before takes the next. A call that fails in any way has its process to itself, as the process ends with it.

It is told what to do on standard input, in lines of JSON: {"id", "order", "log", "map", "memory_gb"} begins an attempt, with
the map that it is a call of or null, and the memory it may use or null; {"id", "signal"} signals its processes. It answers on standard output: {"id", "returncode"}
when one ended. When standard input closes, its parent is gone: it kills what runs and ends; its children watch it in the
same way.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import sys
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from everloop.pipelines.child import carry_out, end_with, resident_gb, traced, without_input
from everloop.pipelines.graph import Graph

_GROWTH_GB = 0.25  # of memory that a call leaves behind, and its process then takes no other


@dataclass
class _Child:
    """A process that was forked. `attempt` is what it does, None when it waits for the next call of its map.

    It reads further orders from the other end of `tell`; None: it is forked for one attempt alone.
    """

    pid: int
    attempt: str | None
    map: str | None
    tell: int | None
    is_signalled: bool = False


class Nursery:
    """Forks processes for steps and tells how they end. `answers` is the descriptor that is answered on."""

    def __init__(self, spec: dict[str, Any], graph: Graph | str, *, answers: int) -> None:
        self._spec = spec
        self._graph = graph
        self._answers = answers
        self._children: dict[int, _Child] = {}  # by process number
        self._alive, self._held = os.pipe()  # children read the one; the other closes when this process ends
        self._woken, self._wake = os.pipe()
        self._done, self._tell_done = os.pipe()  # children write their number when they can take another call

    def serve(self) -> None:
        """Do as told until standard input closes."""
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler nothing is written into the pipe
        told, done = _Lines(0), _Lines(self._done)
        while not told.is_over:
            ready, _, _ = select.select([0, self._done, self._woken], [], [])
            if self._done in ready:  # before the dead are reaped: what they ended well they ended
                for line in done.read():
                    self._has_done(int(line))
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if 0 in ready:
                for line in told.read():
                    self._obey(json.loads(line))
        for pid in self._children:
            _signal(pid, signal.SIGKILL)

    def _obey(self, told: dict[str, Any]) -> None:
        if "signal" not in told:
            self._begin(told)
            return
        for child in self._children.values():
            if child.attempt == told["id"]:
                child.is_signalled = True
                _signal(child.pid, told["signal"])

    def _begin(self, told: dict[str, Any]) -> None:
        """Let a process that waits for this map's next call take the attempt, or fork one."""
        waiting = [one for one in self._children.values() if one.tell is not None and one.attempt is None]
        for child in waiting:
            if child.map == told["map"]:
                child.attempt = told["id"]
                with suppress(BrokenPipeError):  # it died as it waited: reaping it will tell
                    os.write(child.tell or 0, json.dumps(told).encode() + b"\n")
                return
        for child in waiting:  # the map they waited for is over
            self._let_go(child)
        self._fork(told)

    def _let_go(self, child: _Child) -> None:
        """Give a process no further call: it ends when it has done what it does."""
        if child.tell is not None:
            os.close(child.tell)
            child.tell = None

    def _fork(self, told: dict[str, Any]) -> None:
        orders, tell = os.pipe() if told["map"] is not None else (None, None)
        with warnings.catch_warnings():
            # libraries for linear algebra start threads when they are imported, and look after them in a fork
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            self._be_step(told, orders, tell)
        if orders is not None:
            os.close(orders)
        with suppress(OSError):  # the child does it too: whoever is first
            os.setpgid(pid, pid)
        self._children[pid] = _Child(pid, told["id"], told["map"], tell)

    def _be_step(self, told: dict[str, Any], orders: int | None, tell: int | None) -> NoReturn:
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            without_input()
            _print_to(Path(told["log"]))
            others = [one.tell for one in self._children.values() if one.tell is not None]
            ours = (self._answers, self._held, self._woken, self._wake, self._done)
            for descriptor in (*ours, *others, *(() if tell is None else (tell,))):
                os.close(descriptor)
            end_with(self._alive, memory_gb=told["memory_gb"])
            _reseed()
            self._take_calls(told, orders)
        finally:
            os._exit(1)  # never back into the loop above

    def _take_calls(self, told: dict[str, Any], orders: int | None) -> None:
        """Do what was told, and then what is told further, as long as this process stays as it is."""
        before, memory_gb = _surroundings(), resident_gb()
        lines = None if orders is None else _Lines(orders)
        while True:
            went_well = carry_out(json.loads(Path(told["order"]).read_bytes()), self._spec, self._graph)
            is_as_before = _surroundings() == before and resident_gb() < memory_gb + _GROWTH_GB
            if lines is None or not went_well or not is_as_before:
                os._exit(0)  # whatever the step left running, threads included, ends here
            os.write(self._tell_done, f"{os.getpid()}\n".encode())
            following = lines.read()
            if not following:
                os._exit(0)
            told = json.loads(following[0])
            _print_to(Path(told["log"]))

    def _has_done(self, pid: int) -> None:
        child = self._children.get(pid)
        if child is None:  # killed, and reaped, between saying so and being heard
            return
        self._answer(child, 0)
        if child.is_signalled:  # too late for what it did, and it may end any moment
            self._let_go(child)

    def _reap(self) -> None:
        for child in list(self._children.values()):
            if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _signal(
                child.pid, signal.SIGKILL
            )  # what it left running; its number is its own until it is reaped
            _, status = os.waitpid(child.pid, 0)
            self._let_go(child)
            del self._children[child.pid]
            self._answer(child, os.waitstatus_to_exitcode(status))

    def _answer(self, child: _Child, returncode: int) -> None:
        if child.attempt is not None:
            answer = {"id": child.attempt, "returncode": returncode}
            os.write(self._answers, json.dumps(answer).encode() + b"\n")
        child.attempt = None


class _Lines:
    """Whole lines from a descriptor, as they come."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._unread = b""
        self.is_over = False

    def read(self) -> list[bytes]:
        """Wait for something to read; nothing is returned only when there will be nothing more."""
        while True:
            read = os.read(self._descriptor, 1 << 16)
            self.is_over = not read
            *lines, self._unread = (self._unread + read).split(b"\n")
            if lines or self.is_over:
                return lines


def _surroundings() -> tuple[object, ...]:
    """What a call may change of its process that the next one would find, apart from the project's own variables."""
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    return (
        threading.active_count(),
        _has_children(),
        Path.cwd(),
        dict(os.environ),  # noqa: TID251  (compared, no setting is read)
        list(sys.path),
        handlers,
        signal.getitimer(signal.ITIMER_REAL)[0] > 0,
    )


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _print_to(log: Path) -> None:
    """Let everything printed from here on, by native code too, go into a file."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _reseed() -> None:
    """Random numbers of its own for each step: Python's generator sees to that itself, numpy's does not."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def main(file: str) -> None:
    spec = json.loads(Path(file).read_bytes())
    answers = os.dup(1)
    _print_to(Path(spec["scratch"]) / "nursery.log")
    graph = traced(spec)
    for module in spec["preload"] if isinstance(graph, Graph) else ():
        with suppress(Exception):  # the step that needs it will say what is wrong with it
            importlib.import_module(module)
    gc.freeze()  # what is shared with the children stays shared when they collect garbage
    Nursery(spec, graph, answers=answers).serve()


if __name__ == "__main__":
    main(sys.argv[1])
