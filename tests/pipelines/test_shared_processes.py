"""Calls of a map share processes, and one that is not as it was takes no further call."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from everloop import tracking
from everloop.errors import StepFailed
from everloop.pipelines import PipelineRun, Processes, pipeline_run, result, resume, run_pipeline
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

LOOP = """
    import os
    import signal
    import subprocess
    import sys
    import threading
    import time

    from everloop.pipelines import pipeline, step

    KEPT = []


    def started(number):
        return subprocess.Popen(["sleep", "600"]).pid


    CHANGES = {
        "thread": lambda number: threading.Thread(target=time.sleep, args=(600,), daemon=True).start(),
        "process": started,
        "folder": lambda number: os.chdir("/"),
        "variable": lambda number: os.environ.update(LEFT="behind"),
        "path": lambda number: sys.path.append("/nowhere"),
        "handler": lambda number: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        "alarm": lambda number: signal.setitimer(signal.ITIMER_REAL, 600),
        "memory": lambda number: KEPT.append(bytes([1]) * 300_000_000),
    }


    @step
    def where(number: int) -> int:
        print(f"call {number}")
        return os.getpid()


    @step
    def changes(number: int, what: str) -> int:
        CHANGES[what](number)
        return os.getpid()


    @step(timeout_s=3)
    def goes_wrong(number: int, how: str) -> int:
        if number == 3 and how == "raises":
            raise ValueError("three")
        if number == 3 and how == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 3 and how == "hangs":
            time.sleep(600)
        return os.getpid()


    @step
    def is_done(numbers: list) -> list:
        return numbers


    @pipeline
    def numbered(count: int) -> list:
        return where.map(range(count))


    @pipeline
    def changing(count: int, what: str) -> list:
        return changes.map(range(count), what=what)


    @pipeline
    def failing(count: int, how: str) -> list:
        return goes_wrong.map(range(count), how=how)


    @pipeline
    def twice(count: int) -> list:
        return [where.map(range(count)), where.map(range(count, 2 * count))]
"""


@pytest.fixture
def loop(project: UserProject) -> ModuleType:
    project.write({"loop": LOOP})
    return project.load()


def run(ws: Workspace, made: Any, **params: Any) -> PipelineRun:
    return run_pipeline(
        ws, made, params=params, reason="test", executor=Processes(2, forked=True, grace_s=0.1)
    )


def test_calls_of_a_map_share_a_process_for_each_place(ws: Workspace, loop: ModuleType) -> None:
    pids = result(ws, run(ws, loop.numbered, count=40).id)
    assert len(pids) == 40
    assert len(set(pids)) <= 2


def test_maps_share_none_with_each_other(ws: Workspace, loop: ModuleType) -> None:
    first, second = result(ws, run(ws, loop.twice, count=10).id)
    assert not set(first) & set(second)


def test_each_call_has_a_log_of_its_own(ws: Workspace, loop: ModuleType) -> None:
    done = run(ws, loop.numbered, count=9)
    logs = {one.node: one.log for one in done.steps if one.is_call}
    for number in range(9):
        log = logs[f"where[{number}]"]
        assert log is not None
        assert tracking.read_artifact(ws, done.id, log) == f"call {number}\n".encode()


@pytest.mark.parametrize(
    "what", ["thread", "process", "folder", "variable", "path", "handler", "alarm", "memory"]
)
def test_a_process_that_a_call_changed_takes_no_other(ws: Workspace, loop: ModuleType, what: str) -> None:
    pids = result(ws, run(ws, loop.changing, count=4, what=what).id)
    assert len(set(pids)) == 4


@pytest.mark.parametrize("how", ["raises", "is killed", "hangs"])
def test_a_call_that_goes_wrong_takes_no_other_with_it(ws: Workspace, loop: ModuleType, how: str) -> None:
    with pytest.raises(StepFailed) as failed:
        run(ws, loop.failing, count=6, how=how)
    known = pipeline_run(ws, failed.value.run_id)
    states = {one.node: one.state for one in known.steps}
    assert states["goes_wrong[3]"] == "failed"
    assert all(states[f"goes_wrong[{number}]"] == "done" for number in range(3))
    assert "interrupted" not in states.values()
    with pytest.raises(StepFailed, match="1 of 6 items failed"):  # the others are made, by new processes
        resume(ws, known.id, executor=Processes(1, forked=True, grace_s=0.1))
