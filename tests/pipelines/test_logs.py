"""What steps print can be read while they run, and afterwards."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from everloop.errors import NotFound
from everloop.ids import new_id
from everloop.pipelines import (
    Executor,
    Inline,
    Processes,
    follow,
    pipeline,
    pipeline_run,
    printed,
    run_pipeline,
    step,
)
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

LOOP = """
    import os
    import sys
    import time
    from pathlib import Path

    from everloop.pipelines import pipeline, step

    GO = Path(os.environ["PROJECT"]) / "go"


    @step
    def talks() -> int:
        print("one")
        print("two", end="", flush=True)
        while not GO.exists():
            time.sleep(0.02)
        print(" and a half")
        print("three", file=sys.stderr)
        return 1


    @step
    def says(number: int) -> int:
        print(f"call {number}")
        return number


    @step
    def is_silent() -> int:
        return 1


    @pipeline
    def train() -> list:
        return [talks(), is_silent(), says.map([7, 8])]
"""


HANDLERS: list[logging.Handler] = []


@step
def speaks() -> int:
    sys.stdout.write("out\n")
    sys.stderr.write("err\n")
    HANDLERS.append(logging.StreamHandler())  # it holds the stream that it finds
    return 1


@pipeline
def speaking() -> int:
    return speaks()


@pytest.fixture
def loop(project: UserProject, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("PROJECT", str(project.root))
    project.write({"loop": LOOP})
    return project.load()


@pytest.fixture(params=["inline", "processes"])
def executor(request: pytest.FixtureRequest) -> Executor:
    return Inline() if request.param == "inline" else Processes(2)


@pytest.fixture
def running(ws: Workspace, loop: ModuleType, project: UserProject, executor: Executor) -> Iterator[str]:
    """A run of which one step waits for the file `go`."""
    run_id = new_id("run")
    runner = threading.Thread(
        target=run_pipeline,
        args=(ws, loop.train),
        kwargs={"reason": "t", "run_id": run_id, "executor": executor},
    )
    runner.start()
    yield run_id
    (project.root / "go").touch()
    runner.join()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def said(ws: Workspace, run_id: str, node: str) -> bytes:
    found = [one for one in pipeline_run(ws, run_id).steps if one.node == node]
    return printed(ws, found[-1]) if found else b""


def is_known(ws: Workspace, run_id: str) -> bool:
    try:
        return bool(pipeline_run(ws, run_id))
    except NotFound:
        return False


def test_what_a_step_printed_so_far_is_there(ws: Workspace, running: str) -> None:
    wait_for(lambda: is_known(ws, running) and said(ws, running, "talks") == b"one\ntwo")
    attempt = pipeline_run(ws, running).steps[0]
    assert attempt.state == "running"
    assert printed(ws, attempt, start=4) == b"two"


def test_lines_come_whole_and_once_until_the_run_ends(
    ws: Workspace, running: str, project: UserProject
) -> None:
    wait_for(lambda: is_known(ws, running) and said(ws, running, "talks") == b"one\ntwo")
    lines = follow(ws, running)
    assert next(lines) == ("talks", "one\n")
    (project.root / "go").touch()
    rest = list(lines)
    assert [one for one in rest if one[0] == "talks"] == [("talks", "two and a half\nthree\n")]
    assert sorted(one for one in rest if one[0] != "talks") == [
        ("says[0]", "call 7\n"),
        ("says[1]", "call 8\n"),
    ]


def test_all_is_kept_when_the_run_is_over(
    ws: Workspace, loop: ModuleType, project: UserProject, executor: Executor
) -> None:
    (project.root / "go").touch()
    run = run_pipeline(ws, loop.train, reason="test", executor=executor)
    assert said(ws, run.id, "talks") == b"one\ntwo and a half\nthree\n"
    assert said(ws, run.id, "is_silent") == b""
    assert list(follow(ws, run.id, node="says[1]")) == [("says[1]", "call 8\n")]


def test_an_unknown_step_is_told(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    (project.root / "go").touch()
    run = run_pipeline(ws, loop.train, reason="test", executor=Inline())
    with pytest.raises(NotFound, match="has no step 'fit'; its steps are talks, is_silent, says"):
        next(follow(ws, run.id, node="fit"))


def test_printing_goes_on_to_where_this_process_prints(
    ws: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    HANDLERS.clear()
    run = run_pipeline(ws, speaking, reason="test", executor=Inline())
    HANDLERS[0].emit(logging.LogRecord("later", 30, "", 0, "later", None, None))
    found = capsys.readouterr()
    assert (found.out, found.err) == ("out\n", "err\nlater\n")
    assert said(ws, run.id, "speaks") == b"out\nerr\n"
