"""A paused run begins nothing more, keeps what it has, and goes on when it is told to."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from everloop.errors import Conflict, NotFound, NotReady, StepFailed
from everloop.ids import new_id
from everloop.pipelines import (
    Inline,
    PipelineRun,
    cancel,
    pause,
    pipeline,
    pipeline_run,
    result,
    resume,
    run_pipeline,
    step,
)
from everloop.pipelines.store import UNDER_WAY, update_run
from everloop.workspace import Workspace

ON_CALL: dict[str, Callable[[], None]] = {}
CALLS: list[str] = []
LEASE_S = 3.0  # so that a runner looks every second


def called(node: str) -> None:
    CALLS.append(node)
    ON_CALL.pop(node, lambda: None)()


@step
def one() -> int:
    called("one")
    return 1


@step(retries=3, back_off_s=600)
def two(value: int) -> int:
    called("two")
    return value + 1


@step
def three(value: int) -> int:
    called("three")
    return value + 1


@step
def each(value: int) -> int:
    called(f"each-{value}")
    return value


@pipeline
def train() -> int:
    return three(two(one()))


@pipeline
def mapped() -> list[int]:
    return each.map(range(6))


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()
    ON_CALL.clear()


def pause_during(ws: Workspace, node: str, run_id: str) -> None:
    def ask() -> None:
        pause(ws, run_id)
        time.sleep(LEASE_S / 2)  # the runner looks meanwhile

    ON_CALL[node] = ask


def run_paused(ws: Workspace, made: object, node: str) -> str:
    run_id = new_id("run")
    pause_during(ws, node, run_id)
    with pytest.raises(NotReady, match=f"everloop runs resume {run_id}"):
        run_pipeline(ws, made, reason="test", run_id=run_id, executor=Inline(), lease_s=LEASE_S)  # type: ignore[arg-type]  # one of two
    return run_id


def states(run: PipelineRun) -> dict[str, str]:
    return {one.node: one.state for one in run.steps}


def test_a_step_under_way_is_finished_and_no_other_begins(any_ws: Workspace) -> None:
    run_id = run_paused(any_ws, train, "two")
    assert CALLS == ["one", "two"]
    run = pipeline_run(any_ws, run_id)
    assert (run.state, run.lease_until, run.ended_at) == ("paused", None, None)
    assert states(run) == {"one": "done", "two": "done"}


def test_it_goes_on_when_told_to(any_ws: Workspace) -> None:
    run_id = run_paused(any_ws, train, "two")
    with pytest.raises(NotReady, match=r"is paused\. Go on with it: everloop runs resume"):
        resume(any_ws, run_id, executor=Inline())  # as a job would that comes again
    assert resume(any_ws, run_id, executor=Inline(), paused=True).state == "done"
    assert result(any_ws, run_id) == 3
    assert CALLS == ["one", "two", "three"]


def test_a_map_is_paused_between_its_calls(ws: Workspace) -> None:
    run_id = run_paused(ws, mapped, "each-2")
    assert CALLS == ["each-0", "each-1", "each-2"]
    resume(ws, run_id, executor=Inline(), paused=True)
    assert [f"each-{number}" for number in range(6)] == CALLS
    assert result(ws, run_id) == list(range(6))


def test_a_run_that_waits_to_try_again_is_paused_at_once(ws: Workspace) -> None:
    run_id = new_id("run")

    def fail() -> None:
        pause(ws, run_id)
        raise OSError("try again in ten minutes")

    ON_CALL["two"] = fail
    begun = time.monotonic()
    with pytest.raises(NotReady):
        run_pipeline(ws, train, reason="test", run_id=run_id, executor=Inline(), lease_s=LEASE_S)
    assert time.monotonic() - begun < 60
    assert resume(ws, run_id, executor=Inline(), paused=True).state == "done"


def test_a_run_that_has_nothing_left_is_done(ws: Workspace) -> None:
    run_id = new_id("run")
    pause_during(ws, "three", run_id)
    run = run_pipeline(ws, train, reason="test", run_id=run_id, executor=Inline(), lease_s=LEASE_S)
    assert run.state == "done"


def test_a_run_that_fails_meanwhile_has_failed(ws: Workspace) -> None:
    run_id = new_id("run")

    def fail() -> None:
        pause(ws, run_id)
        time.sleep(LEASE_S / 2)
        raise OSError("broken")

    ON_CALL["three"] = fail
    with pytest.raises(StepFailed):
        run_pipeline(ws, train, reason="test", run_id=run_id, executor=Inline(), lease_s=LEASE_S)
    assert pipeline_run(ws, run_id).state == "failed"


def test_a_run_whose_runner_died_is_paused_at_once(ws: Workspace) -> None:
    run_id = left_by_a_dead_runner(ws)
    pause(ws, run_id)
    assert pipeline_run(ws, run_id).state == "paused"


def test_a_runner_that_dies_while_it_is_paused_leaves_it_paused(ws: Workspace) -> None:
    run_id = left_by_a_dead_runner(ws)
    ws.write(lambda tx: update_run(tx, run_id, {"state": "pausing"}))
    with pytest.raises(NotReady, match="is pausing"):
        resume(ws, run_id, executor=Inline())
    assert resume(ws, run_id, executor=Inline(), paused=True).state == "done"


def test_a_paused_run_can_be_cancelled(ws: Workspace) -> None:
    run_id = run_paused(ws, train, "two")
    cancel(ws, run_id, reason="enough")
    assert pipeline_run(ws, run_id).state == "cancelled"
    with pytest.raises(Conflict, match="was cancelled: enough"):
        resume(ws, run_id, executor=Inline(), paused=True)


def test_only_a_running_run_can_be_paused(ws: Workspace) -> None:
    done = run_pipeline(ws, train, reason="test", executor=Inline())
    assert done.state not in UNDER_WAY
    with pytest.raises(Conflict, match="is done; only a running one can be paused"):
        pause(ws, done.id)
    with pytest.raises(NotFound):
        pause(ws, new_id("run"))


def left_by_a_dead_runner(ws: Workspace) -> str:
    class Killed(BaseException):
        """As if the process were gone."""

    def die() -> None:
        raise Killed

    run_id = new_id("run")
    ON_CALL["two"] = die
    with pytest.raises(Killed):
        run_pipeline(ws, train, reason="test", run_id=run_id, executor=Inline())
    return run_id
