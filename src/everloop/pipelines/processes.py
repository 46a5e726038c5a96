"""The executor that gives each attempt a process of its own, from the snapshot of the code."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from everloop import clock
from everloop.errors import Invalid
from everloop.pipelines.canonical import digest_of
from everloop.pipelines.executors import Work
from everloop.pipelines.perform import Outcome, Task
from everloop.pipelines.records import Stored
from everloop.settings import child_environment

GRACE_S = 2.0  # between asking a process to end and killing it
_TAIL_BYTES = 2_000  # of what a dead process printed, told with its end


class Processes:
    """Runs each attempt in a process of its own.

    A step that crashes, hangs or exits takes nothing with it. What it prints is kept as the run's log. When this
    process dies its children do too. A time limit counts from the start of the process, imports included.

    Parameters
    ----------
    slots
        How many at once; None: one for each core.
    forked
        Whether steps are forked from a process that has imported the project already, in milliseconds, instead of each
        importing it anew. None: where forking is safe after imports, which is Linux.
    grace_s
        Seconds between asking a step over its time limit to end (SIGTERM) and killing it.
    """

    in_process = False

    def __init__(
        self, slots: int | None = None, *, forked: bool | None = None, grace_s: float = GRACE_S
    ) -> None:
        self.slots = slots or os.cpu_count() or 1
        self._forked = sys.platform == "linux" if forked is None else forked
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._nursery: _Nursery | None = None
        self._running: set[_Process] = set()
        self._stops = 0

    def start(self, work: Work, task: Task) -> Future[Outcome]:
        if work.code is None:
            raise Invalid(
                f"{work.plan.entry} cannot be imported by another process: it is not at the top level of a file. Write it in "
                "a file, or run it with executor=Inline()."
            )
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.slots, thread_name_prefix="everloop-step")
        return self._threads.submit(self._attend, work, task, _Files(work, task), self._stops)

    def stop(self) -> None:
        with self._lock:
            self._stops += 1
            for process in self._running:
                process.signal(signal.SIGKILL)

    def close(self) -> None:
        self.stop()
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=True)
        nursery, self._nursery = self._nursery, None
        if nursery is not None:
            nursery.close()

    def _attend(self, work: Work, task: Task, files: _Files, stops: int) -> Outcome:
        """Start a process, wait for its end, and say what came of it."""
        begun = clock.elapsed_s()
        with self._lock:
            if self._stops != stops:
                return Outcome(error="the run was stopped before this step began", is_final=True)
            process = self._launched(work, task, files)
            self._running.add(process)
        in_time = process.ended(task.timeout_s)
        if not in_time:
            self._end(process)
        with self._lock:
            self._running.discard(process)
            returncode = process.reaped()
        seconds = clock.elapsed_s() - begun
        if in_time and returncode == 0 and files.result.exists():
            return files.outcome(seconds)
        printed = _tail(files.log)
        if returncode is None and self._nursery is not None:
            printed = self._nursery.last_words() + printed
        text = _end_of(returncode, None if in_time else task.timeout_s) + printed
        return Outcome(seconds=seconds, error=text, log=str(files.log))

    def _launched(self, work: Work, task: Task, files: _Files) -> _Process:
        order = {
            "task": asdict(task),
            "expected": work.plan.step(task.node).described(),
            "result": str(files.result),
        }
        if not self._forked:
            return _Fresh(work, {"order": order, "spec": _spec(work)}, files)
        if self._nursery is None or self._nursery.is_dead:
            self._nursery = _Nursery(work)
        return self._nursery.fork(order, files)

    def _end(self, process: _Process) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            process.signal(number)
            if process.ended(self._grace_s):
                return
        process.give_up()


class _Process(Protocol):
    """A step's process, however it was started."""

    def ended(self, timeout_s: float | None) -> bool:
        """Wait for its end; whether it came in time."""
        ...

    def signal(self, number: int) -> None:
        """Signal it and all it started."""
        ...

    def give_up(self) -> None:
        """It does not even end when killed: end who started it."""
        ...

    def reaped(self) -> int | None:
        """After its end: its return code, with nothing left running that it started. None: nobody knows."""
        ...


class _Files:
    """The files of one attempt: what it is told, what it prints, what it answers."""

    def __init__(self, work: Work, task: Task) -> None:
        # a node's name is the file's where it is short enough for a file system
        name = task.node if len(task.node.encode()) <= 150 else digest_of(task.node)[:32]
        self.order = work.scratch / f"{name}-{task.attempt}.order.json"
        self.result = work.scratch / f"{name}-{task.attempt}.result.json"
        self.log = work.scratch / f"{name}-{task.attempt}.log"
        self.log.touch()

    def outcome(self, seconds: float) -> Outcome:
        told = json.loads(self.result.read_bytes())
        stored = told.pop("stored")
        known = {**told, "seconds": seconds, "log": str(self.log)}
        return Outcome(**known, stored=None if stored is None else Stored(**stored))


class _Fresh:
    """A process that starts from nothing."""

    def __init__(self, work: Work, told: dict[str, Any], files: _Files) -> None:
        files.order.write_text(json.dumps(told))
        theirs, self._held = os.pipe()  # the end that we hold closes when we die, and then it ends itself
        try:
            with files.log.open("ab") as printed:
                self._popen = _python(
                    "child",
                    files.order,
                    work,
                    told=theirs,
                    answers=printed.fileno(),
                    printed=printed.fileno(),
                )
        finally:
            os.close(theirs)

    def ended(self, timeout_s: float | None) -> bool:
        return _ended(self._popen, timeout_s)

    def signal(self, number: int) -> None:
        _signal(self._popen.pid, number)

    def give_up(self) -> None:
        """Nobody else started it."""

    def reaped(self) -> int | None:
        # before it is reaped: until then nobody else can have its number
        self.signal(signal.SIGKILL)
        os.close(self._held)
        return self._popen.wait()


class _Nursery:
    """This process's side of `nursery`: starts it, tells it what to do and hears what ended."""

    def __init__(self, work: Work) -> None:
        spec = work.scratch / "nursery.json"
        spec.write_text(json.dumps(_spec(work)))
        self._log = work.scratch / "nursery.log"
        told, tell = os.pipe()
        hear, answers = os.pipe()
        try:
            with self._log.open("ab") as printed:
                self._popen = _python(
                    "nursery", spec, work, told=told, answers=answers, printed=printed.fileno()
                )
        finally:
            os.close(told)
            os.close(answers)
        self._tell, self._answers = os.fdopen(tell, "wb", buffering=0), os.fdopen(hear, "rb")
        self._lock = threading.Lock()
        self._children: dict[str, _Forked] = {}
        self._count = 0
        self.is_dead = False
        threading.Thread(target=self._hear, name="everloop-nursery", daemon=True).start()

    def fork(self, order: dict[str, Any], files: _Files) -> _Forked:
        files.order.write_text(json.dumps(order))
        with self._lock:
            self._count += 1
            child = _Forked(self, str(self._count))
            if self.is_dead:
                child.end(None)
            self._children[child.name] = child
        self.tell({"id": child.name, "order": str(files.order), "log": str(files.log)})
        return child

    def tell(self, what: dict[str, Any]) -> None:
        """Say something to it; if it is dead, what was started there has ended or will be told so."""
        with self._lock, suppress(BrokenPipeError):
            self._tell.write(json.dumps(what).encode() + b"\n")

    def kill(self) -> None:
        _signal(self._popen.pid, signal.SIGKILL)

    def last_words(self) -> str:
        return _tail(self._log)

    def close(self) -> None:
        with self._lock:
            self._tell.close()
        if not _ended(self._popen, GRACE_S):
            self.kill()
        self._popen.wait()

    def _hear(self) -> None:
        with self._answers as answers:
            for line in answers:
                told = json.loads(line)
                with self._lock:
                    child = self._children.pop(told["id"])
                child.end(told["returncode"])
        with self._lock:
            self.is_dead = True
            orphans, self._children = self._children, {}
        for child in orphans.values():
            child.end(None)


class _Forked:
    """A process that the nursery forked."""

    def __init__(self, nursery: _Nursery, name: str) -> None:
        self.name = name
        self._nursery = nursery
        self._end = threading.Event()
        self._returncode: int | None = None

    def end(self, returncode: int | None) -> None:
        """Told by the nursery, when nothing runs any more that the step started."""
        self._returncode = returncode
        self._end.set()

    def ended(self, timeout_s: float | None) -> bool:
        return self._end.wait(timeout_s)

    def signal(self, number: int) -> None:
        self._nursery.tell({"id": self.name, "signal": int(number)})

    def give_up(self) -> None:
        self._nursery.kill()
        self._end.wait()

    def reaped(self) -> int | None:
        return self._returncode


def _spec(work: Work) -> dict[str, Any]:
    """What all steps of a run have in common."""
    plan = work.plan
    return {
        "home": str(work.ws.home.absolute()),
        "scratch": str(work.scratch),
        "code": str(work.code),
        "root": plan.root,
        "folders": list(plan.folders),
        "entry": plan.entry,
        "params": dict(plan.params),
        "preload": list(plan.preload),
    }


def _python(
    module: str, file: Path, work: Work, *, told: int, answers: int, printed: int
) -> subprocess.Popen[bytes]:
    """A process of ours in a group of its own, in the project's folder, from which it does not import (-P)."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", f"everloop.pipelines.{module}", str(file)],
        stdin=told,
        stdout=answers,
        stderr=printed,
        cwd=work.plan.root if Path(work.plan.root).is_dir() else work.code,
        env=child_environment(work.ws.settings, PYTHONUNBUFFERED="1"),
        start_new_session=True,
    )


def _ended(process: subprocess.Popen[bytes], timeout_s: float | None) -> bool:
    """Wait for a process's end without reaping it, so that its number stays its own; whether it came in time."""
    if hasattr(os, "pidfd_open"):
        descriptor = os.pidfd_open(process.pid)
        try:
            return bool(select.select([descriptor], [], [], timeout_s)[0])
        finally:
            os.close(descriptor)
    deadline = None if timeout_s is None else clock.elapsed_s() + timeout_s
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if deadline is not None and clock.elapsed_s() >= deadline:
            return False
        time.sleep(0.01)
    return True


def _signal(group: int, number: int) -> None:
    """Signal all processes of a group; that there are none left is fine."""
    with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        os.killpg(group, number)


def _end_of(returncode: int | None, timeout_s: float | None) -> str:
    """How a process ended without telling what came of its step, in words."""
    if timeout_s is not None:
        return f"the step took longer than its timeout_s={timeout_s:g} and was killed. Raise the limit or give it less to do."
    if returncode is None:
        return (
            "the process that steps are forked from died, and this step with it: killed by hand, or by the system for want "
            "of memory. Run again; Processes(forked=False) does without it."
        )
    if returncode == -signal.SIGKILL:
        return (
            "the step's process was killed (SIGKILL): by hand, or by the system for want of memory. Give the step less data "
            "at a time, or the machine more memory."
        )
    if returncode < 0:
        name = signal.Signals(-returncode).name
        return f"the step's process died of {name}: native code crashed. The log shows where."
    return (
        f"the step's process exited with code {returncode} before the step returned. A step returns its result or raises "
        "an error; take out os._exit and the like."
    )


def _tail(log: Path) -> str:
    """The end of what a process printed, to be told with an error."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = file.read().decode(errors="replace").strip()
    return f"\nThe last it printed:\n{text}" if text else ""
