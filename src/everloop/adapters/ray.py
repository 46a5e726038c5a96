"""Steps and the calls of maps as Ray tasks, on a cluster on this machine or on a remote one.

A task says what is to be done; in the Ray worker the step has a process of its own all the same, so that a time limit, a
crash and megabytes of output are dealt with as everywhere. What steps hand to each other goes through our store, not
Ray's: the nodes share the workspace's home, and have everloop and the project's packages installed. A node that does not
says so, and a node that dies costs the attempts that ran on it, which are made again on others.
"""

from __future__ import annotations

import importlib.util
import logging
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from everloop.clock import SystemClock
from everloop.errors import EverloopError, Invalid, MissingExtra, NotReady
from everloop.pipelines import Outcome, Plan, PlannedStep, Processes, Task, Work
from everloop.settings import Settings, for_libraries
from everloop.storage import open_blobs, open_database
from everloop.workspace import Workspace

_ANSWERS_WITHIN_S = 10.0

_DIED = "the Ray worker that did the step died (SIGKILL, or the system took its memory): {error}. A step with retries is tried again on another."
_LOST = "the node of the Ray cluster that did the step is gone: {error} It is tried again on another node."
_UNABLE = (
    "a node of the Ray cluster could not begin the step: {error}. Each node needs what is installed here: this everloop "
    "with its extra 'ray', and the project's packages. Install it there, then resume the run."
)


@dataclass(frozen=True)
class _Told:
    """What a worker has to know of a run, sent to the cluster once. `everloop` is the version that conducts it."""

    everloop: str
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
        if address.startswith("ray://"):
            raise Invalid(
                f"the Ray cluster is named {address!r}, an address of Ray Client: from outside of the cluster nobody sees what "
                "steps write below the workspace's home, such as logs. Run the command on a node of the cluster, itself or by "
                "'ray job submit', and name its head as HOST:PORT (6379 unless it was started with another --port)."
            )
        self._address = address
        self._slots = slots
        self._lock = threading.Lock()
        self._running: dict[Future[Outcome], Any] = {}
        self._told: tuple[Work, Any] | None = None  # what is known of the run in the cluster
        self._is_connected = False

    @classmethod
    def of(cls, settings: Settings) -> RayTasks:
        """As the settings say. Raises MissingExtra, and Invalid for an address of Ray Client."""
        made = cls(settings.ray_address)
        if importlib.util.find_spec("ray") is None:
            raise MissingExtra("ray", needed_for="running steps on Ray")
        return made

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
        """What a step asks for in Ray's words; of CPUs no more than the largest node has that has the rest.

        Raises Invalid when none has the rest: Ray would wait for one without an end.
        """
        asked = dict(step.resources)
        if not asked:
            return {"num_cpus": 1}
        cpus, gpus = asked.pop("cpus", 1), asked.pop("gpus", 0)
        memory = int(asked.pop("memory_gb", 0) * 1e9)
        needed = {"memory": memory, "GPU": gpus, **asked}
        nodes = [one["Resources"] for one in self._ray().nodes() if one["Alive"]]
        able = [node for node in nodes if all(node.get(name, 0) >= least for name, least in needed.items())]
        if not able:
            raise Invalid(
                f"step {step.name} asks for {', '.join(f'{name}={amount:g}' for name, amount in needed.items() if amount)}, "
                "and no node of the Ray cluster has all of it. Ask for less, or add such a node, then resume the run."
            )
        cpus = min(cpus, max(node.get("CPU", 0) for node in able))
        return {"num_cpus": cpus, "num_gpus": gpus, "memory": memory or None, "resources": asked}

    def start(self, work: Work, task: Task) -> Future[Outcome]:
        if work.code is None:
            raise Invalid(
                f"{work.plan.entry} cannot be imported by another process: it is not at the top level of a file. Write it in "
                "a file to run it on Ray."
            )
        ray, done = self._ray(), Future[Outcome]()
        try:
            asked = self._asked(work.plan.by_name[task.node])
        except Invalid as error:
            done.set_result(Outcome(error=str(error), is_final=True))
            return done
        if self._told is None or self._told[0] is not work:
            told = _Told(
                version("everloop"),
                task.run,
                work.ws.settings,
                work.plan,
                work.code,
                work.scratch,
                dict(work.variables),
            )
            self._told = work, ray.put(told)
        # a failed attempt is in the journal before the next begins, so Ray repeats none
        remote = ray.remote(max_retries=0, **asked)(_attempt)
        reference = remote.options(name=f"{work.plan.pipeline}: {task.name}").remote(self._told[1], task)
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
        if self._is_connected:
            self._is_connected = False
            _connection.leave()

    def _settle(self, done: Future[Outcome], ended: Future[Outcome]) -> None:
        with self._lock:
            self._running.pop(done, None)
        error = ended.exception()
        done.set_result(ended.result() if error is None else _outcome_of(error))

    def _ray(self) -> Any:
        """Ray, connected."""
        with self._lock:
            if not self._is_connected:
                _connection.join(self._address)
                self._is_connected = True
        import ray  # an optional package, and heavy

        return ray


class _Connection:
    """This process's connection to a cluster, of which Ray allows one: it ends with the last executor that uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._is_ours = False

    def join(self, address: str) -> None:
        """Connect, unless somebody did.

        Raises
        ------
        NotReady
            No cluster answers there.
        Invalid
            The address is none that Ray takes.
        """
        with self._lock:
            if self._users == 0:
                self._is_ours = _connect(address)
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._is_ours:
                import ray

                ray.shutdown()


_connection = _Connection()


def _connect(address: str) -> bool:
    """Connect this process to a cluster; False when the program that we are part of did so before."""
    _check_answers(address)
    for_libraries(RAY_USAGE_STATS_ENABLED="0")  # those are the user's to send
    import ray

    if ray.is_initialized():
        return False
    try:
        ray.init(
            address or "local",
            log_to_driver=False,
            logging_level=logging.WARNING,
            **({} if address else {"include_dashboard": False}),
        )
    except ConnectionError as error:
        raise _no_cluster(address, error) from error
    except ValueError as error:
        raise Invalid(
            f"the setting ray_address is {address!r}, which Ray does not take: {error} Name HOST:PORT of the cluster's "
            "head, from one of its nodes."
        ) from error
    return True


def _check_answers(address: str) -> None:
    """Raise NotReady when nothing listens at HOST:PORT: Ray itself would try for many minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWERS_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> NotReady:
    return NotReady(
        f"there is no Ray cluster at {address!r}: {error}. Start one (ray start --head), give this process its token "
        "(~/.ray/auth_token or RAY_AUTH_TOKEN), or leave the setting ray_address empty for one on this machine."
    )


def _outcome_of(error: BaseException) -> Outcome:
    """What came of an attempt that ended without an outcome of its own."""
    from ray.exceptions import NodeDiedError, RayTaskError

    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()] or [
        type(error).__name__
    ]
    if isinstance(error, NodeDiedError):
        return Outcome(error=_LOST.format(error=lines[0].partition(" This can ")[0]), is_lost=True)
    if isinstance(cause := getattr(error, "cause", None), EverloopError):
        return Outcome(error=str(cause))
    if isinstance(error, RayTaskError):
        return Outcome(error=_UNABLE.format(error=lines[-1]), is_final=True)
    return Outcome(error=_DIED.format(error=f"{type(error).__name__}: {lines[0]}"))


_here: tuple[_Told, Work, Processes] | None = None  # the run that this worker did a step of last


def _attempt(told: _Told, task: Task) -> Outcome:
    """In a worker: do one attempt in a process of its own, forked from one that has imported the project."""
    global _here  # noqa: PLW0603  (a worker does one task at a time, and the next of the same run finds it ready)
    if (trouble := _trouble_here(told)) is not None:
        return Outcome(error=trouble, is_final=True)
    if _here is None or (_here[0].run, _here[0].scratch) != (told.run, told.scratch):
        if _here is not None:
            _here[2].close()
        _here = (told, _work(told), Processes(1))
    _, work, processes = _here
    return processes.start(work, task).result()


def _trouble_here(told: _Told) -> str | None:
    """Why this node cannot do a step of the run, if it cannot."""
    node = socket.gethostname()
    if (here := version("everloop")) != told.everloop:
        return (
            f"the Ray node {node} has everloop {here} and the run is conducted by {told.everloop}; all nodes have the same. "
            f"Install everloop=={told.everloop} there, then resume the run."
        )
    if not told.scratch.is_dir():
        return (
            f"the Ray node {node} cannot reach the workspace: it has no folder {told.scratch}. All nodes mount the "
            f"workspace's home, {told.settings.home}, under the same path. Mount it there, or take the node out of the "
            "cluster, then resume the run."
        )
    return None


def _work(told: _Told) -> Work:
    """A run as this worker sees it; the database is not touched unless a step does."""
    settings = told.settings
    database = open_database(settings.database)
    ws = Workspace(
        "", settings, database, open_blobs(settings, only_reads=True), SystemClock(), settings.actor
    )
    return Work(ws, told.plan, None, told.code, told.scratch, variables=told.variables)
