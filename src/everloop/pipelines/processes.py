"""The executor that gives each attempt a process of its own, from the snapshot of the code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict

from everloop import clock
from everloop.errors import EverloopError, Invalid
from everloop.pipelines.executors import Work
from everloop.pipelines.launching import (
    GRACE_S,
    AttemptFiles,
    Fresh,
    Nursery,
    StepProcess,
    spec_of,
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
        return self._threads.submit(self._attend, work, task, AttemptFiles(work, task), self._stops)

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
        text = _end_of(returncode, None if in_time else task.timeout_s) + printed
        return Outcome(seconds=seconds, error=text, log=str(files.log))

    def _launched(self, work: Work, task: Task, files: AttemptFiles) -> StepProcess:
        order = {"task": asdict(task), "result": str(files.result)}
        if not self._forked or work.lock is not None:
            return Fresh(work, {"order": order, "spec": spec_of(work)}, files)
        if self._nursery is not None and self._nursery.is_dead:
            self._nursery.close()
            self._nursery = None
        self._nursery = self._nursery or Nursery(work)
        return self._nursery.fork(order, files, of_map=None if task.index is None else task.node)

    def _end(self, process: StepProcess) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            process.signal(number)
            if process.ended(self._grace_s):
                return
        process.give_up()


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
