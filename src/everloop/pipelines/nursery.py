"""The process that steps are forked from: `python -m everloop.pipelines.nursery FILE`, started by `processes`.

It imports the project from its snapshot and traces the pipeline once; each step then starts in milliseconds instead of
the second or more that importing takes, and has a process of its own all the same. It runs no step itself, has one
thread and does not use the libraries it imports, so that what it forks is as good as new.

It is told what to do on standard input, in lines of JSON: {"id", "order", "log"} begins an attempt, {"id", "signal"}
signals its processes. It answers on standard output: {"id", "returncode"} when one ended. When standard input closes,
its parent is gone: it kills what runs and ends; its children watch it in the same way.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from everloop.pipelines.child import carry_out, end_with, traced, without_input
from everloop.pipelines.graph import Graph


class Nursery:
    """Forks processes for steps and tells how they end. `answers` is the descriptor that is answered on."""

    def __init__(self, spec: dict[str, Any], graph: Graph | str, *, answers: int) -> None:
        self._spec = spec
        self._graph = graph
        self._answers = answers
        self._running: dict[str, int] = {}  # process numbers by the attempt's id
        self._alive, self._held = os.pipe()  # children read the one; the other closes when this process ends
        self._woken, self._wake = os.pipe()

    def serve(self) -> None:
        """Do as told until standard input closes."""
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler nothing is written into the pipe
        unread = b""
        while True:
            ready, _, _ = select.select([0, self._woken], [], [])
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if 0 in ready:
                read = os.read(0, 1 << 16)
                if not read:
                    break
                *lines, unread = (unread + read).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))
        for pid in self._running.values():
            _signal(pid, signal.SIGKILL)

    def _obey(self, told: dict[str, Any]) -> None:
        if "signal" not in told:
            self._fork(told)
        elif told["id"] in self._running:
            _signal(self._running[told["id"]], told["signal"])

    def _fork(self, told: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            # libraries for linear algebra start threads when they are imported, and look after them in a fork
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            self._be_step(Path(told["order"]), Path(told["log"]))
        with suppress(OSError):  # the child does it too: whoever is first
            os.setpgid(pid, pid)
        self._running[told["id"]] = pid

    def _be_step(self, order: Path, log: Path) -> NoReturn:
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            without_input()
            _print_to(log)
            for descriptor in (self._answers, self._held, self._woken, self._wake):
                os.close(descriptor)
            end_with(self._alive)
            _reseed()
            carry_out(json.loads(order.read_bytes()), self._spec, self._graph)
        finally:
            os._exit(1)  # never back into the loop above

    def _reap(self) -> None:
        for name, pid in list(self._running.items()):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _signal(pid, signal.SIGKILL)  # what it left running; its number is its own until it is reaped
            _, status = os.waitpid(pid, 0)
            del self._running[name]
            answer = {"id": name, "returncode": os.waitstatus_to_exitcode(status)}
            os.write(self._answers, json.dumps(answer).encode() + b"\n")


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
