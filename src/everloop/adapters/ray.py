"""Steps and the calls of maps as Ray tasks, on a cluster on this machine or on a remote one.

A task says what is to be done; in the Ray worker the step has a process of its own all the same, so that a time limit, a
crash and megabytes of output are dealt with as everywhere. What steps hand to each other goes through our store, not
Ray's: the nodes share the workspace's home, and have everloop and the project's packages installed.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everloop.clock import SystemClock
from everloop.errors import Invalid, MissingExtra, NotReady
from everloop.pipelines import Outcome, Plan, PlannedStep, Processes, Task, Work
from everloop.settings import Settings, for_libraries
from everloop.storage import open_blobs, open_database
from everloop.workspace import Workspace

_DIED = "the Ray worker that did the step died (SIGKILL, or its node was lost): {error}. A step with retries is tried again on another."


@dataclass(frozen=True)
class _Told:
    """What a worker has to know of a run, sent to the cluster once."""

    run: str
    settings: Settings
    plan: Plan
    code: Path
    scratch: Path
    variables: Mapping[str, str]


class RayTasks:
    """Runs each attempt as a Ray task, one for each CPU of the cluster at once.

    Parameters
    ----------
    address
        The cluster, as `ray.init` takes it: `auto`, `HOST:6379`; empty: one on this machine, which ends with the run.
    slots
        How many at once; None: as many as the cluster has CPUs when the first run begins.
    """

    in_process = False

    def __init__(self, address: str = "", *, slots: int | None = None) -> None:
        self._address = address
        self._slots = slots
        self._lock = threading.Lock()
        self._running: dict[Future[Outcome], Any] = {}
        self._told: tuple[Work, Any] | None = None  # what is known of the run in the cluster
        self._is_ours = False

    @classmethod
    def of(cls, settings: Settings) -> RayTasks:
        """As the settings say. Raises MissingExtra."""
        if importlib.util.find_spec("ray") is None:
            raise MissingExtra("ray", needed_for="running steps on Ray")
        return cls(settings.ray_address)

    @property
    def slots(self) -> int:
        if self._slots is None:
            self._slots = max(1, int(self._ray().cluster_resources().get("CPU", 1)))
        return self._slots

    @property
    def capacity(self) -> Mapping[str, float]:
        """What the cluster has in all besides its CPUs."""
        known = {"memory": ("memory_gb", 1e-9), "GPU": ("gpus", 1.0)}
        found = {}
        for name, amount in self._ray().cluster_resources().items():
            ours, factor = known.get(name, (name, 1.0))
            found[ours] = amount * factor
        return found

    def _asked(self, step: PlannedStep) -> dict[str, Any]:
        """What a step asks for in Ray's words; of CPUs no more than there are."""
        asked = dict(step.resources)
        memory_gb = asked.pop("memory_gb", None)
        return {
            "num_cpus": min(asked.pop("cpus", 1), self.slots),
            "num_gpus": asked.pop("gpus", 0),
            "memory": None if memory_gb is None else int(memory_gb * 1e9),
            "resources": asked,
        }

    def start(self, work: Work, task: Task) -> Future[Outcome]:
        if work.code is None:
            raise Invalid(
                f"{work.plan.entry} cannot be imported by another process: it is not at the top level of a file. Write it in "
                "a file to run it on Ray."
            )
        ray = self._ray()
        if self._told is None or self._told[0] is not work:
            told = _Told(task.run, work.ws.settings, work.plan, work.code, work.scratch, dict(work.variables))
            self._told = work, ray.put(told)
        # a failed attempt is in the journal before the next begins, so Ray repeats none
        remote = ray.remote(max_retries=0, **self._asked(work.plan.by_name[task.node]))(_attempt)
        reference = remote.options(name=f"{work.plan.pipeline}: {task.name}").remote(self._told[1], task)
        done: Future[Outcome] = Future()
        with self._lock:
            self._running[done] = reference
        reference.future().add_done_callback(lambda ended: self._settle(done, ended))
        return done

    def stop(self) -> None:
        with self._lock:
            running = list(self._running.values())
        for reference in running:
            self._ray().cancel(reference, force=True)

    def close(self) -> None:
        self.stop()
        self._told = None
        if self._is_ours:
            self._ray().shutdown()
            self._is_ours = False

    def _settle(self, done: Future[Outcome], ended: Future[Outcome]) -> None:
        with self._lock:
            self._running.pop(done, None)
        error = ended.exception()
        if error is None:
            done.set_result(ended.result())
        else:
            told = str(error).strip().partition("\n")[0]
            done.set_result(Outcome(error=_DIED.format(error=f"{type(error).__name__}: {told}")))

    def _ray(self) -> Any:
        """Ray, connected."""
        for_libraries(RAY_USAGE_STATS_ENABLED="0")  # those are the user's to send
        import ray  # an optional package, and heavy

        if not ray.is_initialized():
            try:
                ray.init(
                    self._address or "local",
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                    **({} if self._address else {"include_dashboard": False}),
                )
            except ConnectionError as error:
                raise NotReady(
                    f"there is no Ray cluster at {self._address!r}: {error}. Start one (ray start --head), or leave the setting "
                    "ray_address empty for one on this machine."
                ) from error
            except ValueError as error:
                raise Invalid(
                    f"the setting ray_address is {self._address!r}, which Ray does not take: {error} Name HOST:PORT of the cluster's "
                    "head, from one of its nodes."
                ) from error
            self._is_ours = True
        return ray


_here: tuple[_Told, Work, Processes] | None = None  # the run that this worker did a step of last


def _attempt(told: _Told, task: Task) -> Outcome:
    """In a worker: do one attempt in a process of its own, forked from one that has imported the project."""
    global _here  # noqa: PLW0603  (a worker does one task at a time, and the next of the same run finds it ready)
    if _here is None or (_here[0].run, _here[0].scratch) != (told.run, told.scratch):
        if _here is not None:
            _here[2].close()
        _here = (told, _work(told), Processes(1))
    _, work, processes = _here
    return processes.start(work, task).result()


def _work(told: _Told) -> Work:
    """A run as this worker sees it; the database is not touched unless a step does."""
    settings = told.settings
    database = open_database(settings.database)
    ws = Workspace(
        "", settings, database, open_blobs(settings, only_reads=True), SystemClock(), settings.actor
    )
    return Work(ws, told.plan, None, told.code, told.scratch, variables=told.variables)
