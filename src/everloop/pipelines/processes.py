"""The executor that gives each attempt a process of its own, from the snapshot of the code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from everloop import clock
from everloop.errors import EverloopError, Invalid, StorageFailed
from everloop.pipelines.admission import capacity_here
from everloop.pipelines.child import OVER_MEMORY, UNTOLD
from everloop.pipelines.executors import Work
from everloop.pipelines.launching import (
    GRACE_S,
    AttemptFiles,
    Fresh,
    Nursery,
    StepProcess,
    tail_of,
)
from everloop.pipelines.perform import Outcome, Task
from everloop.pipelines.step_environments import placed


class Processes:
    """Runs each attempt in a process of its own; calls of one map that end well may take over the process of another.

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
    resources
        What there is for steps that ask for it besides cores and this machine's memory, such as {"gpus": 1}.
    """

    in_process = False

    def __init__(
        self,
        slots: int | None = None,
        *,
        forked: bool | None = None,
        grace_s: float = GRACE_S,
        resources: Mapping[str, float] | None = None,
    ) -> None:
        self.slots = slots or os.cpu_count() or 1
        self._forked = sys.platform == "linux" if forked is None else forked
        self._grace_s = grace_s
        self.capacity = {**capacity_here(), **(resources or {})}
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._nursery: Nursery | None = None
        self._running: set[StepProcess] = set()
        self._stops = 0

    def start(self, work: Work, task: Task) -> Future[Outcome]:
        if work.code is None:
            raise Invalid(
                f"{work.plan.entry} cannot be imported by another process: it is not at the top level of a file. Write it in "
                "a file, or run it with executor=Inline()."
            )
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.slots, thread_name_prefix="everloop-step")
        with _begins(task):
            files = AttemptFiles(work, task)
        return self._threads.submit(self._attend, work, task, files, self._stops)

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

    def _attend(self, work: Work, task: Task, files: AttemptFiles, stops: int) -> Outcome:
        """Start a process, wait for its end, and say what came of it."""
        try:
            own = placed(work, task, log=files.log)
        except EverloopError as error:
            return Outcome(error=str(error), is_final=isinstance(error, Invalid), log=str(files.log))
        begun = clock.elapsed_s()
        with self._lock:
            if self._stops != stops:
                return Outcome(error="the run was stopped before this step began", is_final=True)
            with _begins(task):
                process = self._launched(own or work, task, files)
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
        printed = tail_of(files.log)
        if returncode is None and self._nursery is not None:
            printed = self._nursery.last_words() + printed
        text = _end_of(returncode, task, in_time=in_time) + printed
        return Outcome(seconds=seconds, error=text, log=str(files.log))

    def _launched(self, work: Work, task: Task, files: AttemptFiles) -> StepProcess:
        if not self._forked or work.lock is not None:
            return Fresh(work, task, files)
        if self._nursery is not None and self._nursery.is_dead:
            self._nursery.close()
            self._nursery = None
        self._nursery = self._nursery or Nursery(work)
        return self._nursery.fork(task, files)

    def _end(self, process: StepProcess) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            process.signal(number)
            if process.ended(self._grace_s):
                return
        process.give_up()


@contextmanager
def _begins(task: Task) -> Iterator[None]:
    """What the system refuses while a step's process is begun ends the run, which can be resumed."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            f"step {task.name} could not be begun: {error.strerror or error} ({error.filename or 'starting its process'}). "
            "What was finished is kept. Free space, or end other processes, then resume the run."
        ) from error


def _end_of(returncode: int | None, task: Task, *, in_time: bool) -> str:
    """How a process ended without telling what came of its step, in words."""
    if not in_time:
        return (
            f"the step took longer than its timeout_s={task.timeout_s:g} and was killed. Raise the limit or give it less to "
            "do."
        )
    if returncode == OVER_MEMORY and task.memory_gb is not None:
        return (
            f"the step used more than the memory_gb={task.memory_gb:g} that it asks for and was killed. Ask for more, or give "
            "it less data at a time."
        )
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
    if returncode == UNTOLD:
        return (
            "what came of the step could not be written below the workspace's home. Free space or make it writable, then "
            "resume the run."
        )
    if returncode < 0:
        name = signal.Signals(-returncode).name
        return f"the step's process died of {name}: native code crashed. The log shows where."
    return (
        f"the step's process exited with code {returncode} before the step returned. A step returns its result or raises "
        "an error; take out os._exit and the like."
    )
