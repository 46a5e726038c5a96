"""Environments of steps' own: built once by the content of their lock files, shared by all runs of a workspace."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from everloop import tracking
from everloop.errors import Invalid
from everloop.pipelines.canonical import digest_of
from everloop.pipelines.executors import Work
from everloop.pipelines.perform import Task
from everloop.pipelines.plan import Plan, PlannedStep
from everloop.workspace import Workspace

_known: dict[
    tuple[str, str], tracking.Environment
] = {}  # by database and lock: a map asks ten thousand times
_READY = "everloop-ready"  # in an environment that was built to its end


def settled(ws: Workspace, plan: Plan, root: Path) -> Plan:
    """The plan with the lock files of its steps as they are now in the project's folder, kept by content.

    Raises
    ------
    Invalid
        One is not there, or is no lock file.
    """
    locks = {}
    for lock in {step.environment for step in plan.steps if step.environment is not None}:
        try:
            content = (root / lock).read_bytes()
        except OSError as error:
            steps = [step.name for step in plan.steps if step.environment == lock]
            raise Invalid(
                f"step {steps[0]} is declared with environment={lock!r}, and {root / lock} cannot be read: {error.strerror}. It "
                "is a lock file, seen from the project's folder. Make it with 'uv pip compile requirements.in -o FILE'."
            ) from error
        tracking.locked_environment(lock, content)
        locks[lock] = ws.blobs.put(content)
    return replace(plan, locks=locks)


def environment_of(ws: Workspace, plan: Plan, step: PlannedStep) -> tracking.Environment | None:
    """The environment of a step's own, recorded; None: it has none."""
    if step.environment is None:
        return None
    return _recorded(ws, step.environment, plan.locks[step.environment])


def to_be_built(ws: Workspace, plan: Plan, step: PlannedStep) -> str:
    """What is told before a step whose environment has to be built first; empty when nothing has to be."""
    found = environment_of(ws, plan, step)
    if found is None or step.environment is None or _python_in(_folder(ws, plan, step.environment, found)):
        return ""
    return f"builds the environment of {step.environment} once; the step's log shows how far it is"


def placed(work: Work, task: Task, *, log: Path) -> Work | None:
    """The work as it is done in the environment of a step's own, which is built if need be; None: it has none.

    Two that want the same one build it once: the second waits. What is printed meanwhile is added to `log`.

    Raises
    ------
    NotReady
        A package cannot be had now.
    """
    step = work.plan.by_name[task.node]
    found = environment_of(work.ws, work.plan, step)
    if found is None or step.environment is None:
        return None
    folder = _folder(work.ws, work.plan, step.environment, found)
    if (python := _python_in(folder)) is None:
        python = _built(work.ws, work.plan, step.environment, folder, log)
    # what this process was told to look for packages in is not the environment that was built
    return replace(work, python=python, variables={**work.variables, "PYTHONPATH": ""}, lock=step.environment)


def _built(ws: Workspace, plan: Plan, lock: str, folder: Path, log: Path) -> str:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _held(folder.with_suffix(".lock")):
        if (python := _python_in(folder)) is not None:
            return python
        shutil.rmtree(folder, ignore_errors=True)  # somebody died over it
        python = tracking.build_locked(lock, ws.blobs.get(plan.locks[lock]), folder, log=log)
        (folder / _READY).touch()
        return python


def _folder(ws: Workspace, plan: Plan, lock: str, found: tracking.Environment) -> Path:
    # of two locks with the same versions one may name other files by their hashes
    name = digest_of(found.digest, plan.locks[lock])[:24]
    return ws.home.absolute() / "environments" / name


def _python_in(folder: Path) -> str | None:
    python = folder / "bin" / "python"
    return str(python) if (folder / _READY).exists() and python.exists() else None


@contextmanager
def _held(place: Path) -> Iterator[None]:
    """Be the only one on this machine that builds it; the system lets go when its holder dies."""
    with place.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _recorded(ws: Workspace, lock: str, digest: str) -> tracking.Environment:
    at = ws.settings.database, digest
    if at not in _known:
        found = tracking.locked_environment(lock, ws.blobs.get(digest))
        tracking.keep_environment(ws, found)
        _known[at] = found
    return _known[at]
