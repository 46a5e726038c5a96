"""Starting the processes of steps, forked from one that has imported the project or each from nothing, and ending them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from everloop import clock
from everloop.pipelines.executors import Work
from everloop.pipelines.logs import attempt_name, log_place
from everloop.pipelines.perform import Outcome, Task
from everloop.pipelines.records import Stored, Touched
from everloop.settings import child_environment

GRACE_S = 2.0  # between asking a process to end and killing it
_TAIL_BYTES = 2_000  # of what a dead process printed, told with its end


class StepProcess(Protocol):
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


class AttemptFiles:
    """The files of one attempt: what it is told, what it prints, what it answers."""

    def __init__(self, work: Work, task: Task) -> None:
        name = attempt_name(task.name, task.attempt)
        self.order = work.scratch / f"{name}.order.json"
        self.result = work.scratch / f"{name}.result.json"
        self.log = log_place(work.scratch, task.name, task.attempt)
        self.log.touch()

    def told(self, task: Task) -> dict[str, Any]:
        """The order: what to do and where to answer."""
        return {"task": asdict(task), "result": str(self.result)}

    def outcome(self, seconds: float) -> Outcome:
        told = json.loads(self.result.read_bytes())
        stored = told.pop("stored")
        touched = tuple(Touched(**one) for one in told["touched"])
        known = {**told, "seconds": seconds, "log": str(self.log), "touched": touched}
        return Outcome(**known, stored=None if stored is None else Stored(**stored))


class Fresh:
    """A process that starts from nothing."""

    def __init__(self, work: Work, task: Task, files: AttemptFiles) -> None:
        files.order.write_text(json.dumps({"order": files.told(task), "spec": spec_of(work)}))
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


class Nursery:
    """This process's side of `nursery`: starts it, tells it what to do and hears what ended."""

    def __init__(self, work: Work) -> None:
        spec = work.scratch / "nursery.json"
        spec.write_text(json.dumps(spec_of(work)))
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
        self._children: dict[str, Forked] = {}
        self._count = 0
        self.is_dead = False
        threading.Thread(target=self._hear, name="everloop-nursery", daemon=True).start()

    def fork(self, task: Task, files: AttemptFiles) -> Forked:
        """Begin an attempt; a call of a map may be done by a process that did another call of it."""
        files.order.write_text(json.dumps(files.told(task)))
        with self._lock:
            self._count += 1
            child = Forked(self, str(self._count))
            if self.is_dead:
                child.end(None)
            self._children[child.name] = child
        of_map = None if task.index is None else task.node
        told = {"id": child.name, "order": str(files.order), "log": str(files.log)}
        self.tell({**told, "map": of_map, "memory_gb": task.memory_gb})
        return child

    def tell(self, what: dict[str, Any]) -> None:
        """Say something to it; if it is dead, what was started there has ended or will be told so."""
        with self._lock, suppress(BrokenPipeError):
            self._tell.write(json.dumps(what).encode() + b"\n")

    def kill(self) -> None:
        _signal(self._popen.pid, signal.SIGKILL)

    def last_words(self) -> str:
        return tail_of(self._log)

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


class Forked:
    """A process that the nursery forked."""

    def __init__(self, nursery: Nursery, name: str) -> None:
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


def spec_of(work: Work) -> dict[str, Any]:
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
        "lock": work.lock,
    }


def _python(
    module: str, file: Path, work: Work, *, told: int, answers: int, printed: int
) -> subprocess.Popen[bytes]:
    """A process of ours in a group of its own, in the project's folder, from which it does not import (-P)."""
    return subprocess.Popen(
        [work.python, "-P", "-m", f"everloop.pipelines.{module}", str(file)],
        stdin=told,
        stdout=answers,
        stderr=printed,
        cwd=work.plan.root if Path(work.plan.root).is_dir() else work.code,
        env=child_environment(work.ws.settings, PYTHONUNBUFFERED="1", **work.variables),
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


def tail_of(log: Path) -> str:
    """The end of what a process printed, to be told with an error."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = file.read().decode(errors="replace").strip()
    return f"\nThe last it printed:\n{text}" if text else ""
