"""Going on with runs that were left, and keeping out who should not write any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from everloop import tracking
from everloop.errors import Conflict, Invalid, LostLease, NotFound, NotReady, StepFailed
from everloop.ids import new_id
from everloop.pipelines import (
    Inline,
    Pinned,
    PipelineRun,
    Processes,
    cancel,
    pipeline,
    pipeline_run,
    pipeline_runs,
    result,
    resume,
    run_pipeline,
    step,
    store,
)
from everloop.pipelines.claim import claimed, scratch_of
from everloop.storage import Tx
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject
from tests.pipelines.test_executors import wait_until


class Killed(BaseException):
    """Ends a runner where it stands, as a signal would, but within this process."""


CALLS: list[str] = []
ON_CALL: dict[str, Callable[[], None]] = {}


def called(name: str) -> None:
    CALLS.append(name)
    ON_CALL.pop(name, lambda: None)()


@step(cache=False)
def one() -> int:
    called("one")
    return 1


@step(cache=False)
def two(value: int) -> int:
    called("two")
    return value + 1


@step(cache=False)
def three(value: int) -> int:
    called("three")
    return value + 1


@pipeline
def train() -> int:
    return three(two(one()))


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()
    ON_CALL.clear()


def kill() -> None:
    raise Killed


def left_in(ws: Workspace, node: str) -> str:
    """The id of a run whose runner was killed while `node` ran."""
    ON_CALL[node] = kill
    run_id = new_id("run")
    with pytest.raises(Killed):
        run_pipeline(ws, train, reason="test", run_id=run_id, executor=Inline())
    return run_id


def states(run: PipelineRun) -> list[tuple[str, int, str, int]]:
    return [(one.node, one.attempt, one.state, one.token) for one in run.steps]


@pytest.mark.parametrize(
    ("node", "before", "after"),
    [
        ("one", ["one"], ["one", "two", "three"]),
        ("two", ["one", "two"], ["two", "three"]),
        ("three", ["one", "two", "three"], ["three"]),
    ],
)
def test_finished_steps_do_not_run_again(
    any_ws: Workspace, node: str, before: list[str], after: list[str]
) -> None:
    run_id = left_in(any_ws, node)
    assert before == CALLS
    CALLS.clear()
    done = resume(any_ws, run_id, executor=Inline())
    assert after == CALLS
    assert done.state == "done"
    assert result(any_ws, run_id) == 3
    assert tracking.run(any_ws, run_id).status == "finished"


def test_an_interrupted_step_runs_again_under_a_new_token(ws: Workspace) -> None:
    done = resume(ws, left_in(ws, "two"), executor=Inline())
    assert states(done) == [
        ("one", 1, "done", 1),
        ("two", 1, "interrupted", 1),
        ("two", 2, "done", 2),
        ("three", 1, "done", 2),
    ]


def test_running_under_a_known_id_goes_on_with_that_run(ws: Workspace) -> None:
    run_id = left_in(ws, "three")
    CALLS.clear()
    run_pipeline(ws, train, reason="the job came again", run_id=run_id, executor=Inline())
    assert CALLS == ["three"]
    assert [run.id for run in pipeline_runs(ws)] == [run_id]


def test_a_finished_run_is_returned_as_it_is(ws: Workspace) -> None:
    done = run_pipeline(ws, train, reason="test", executor=Inline())
    CALLS.clear()
    assert resume(ws, done.id, executor=Inline()) == done
    assert CALLS == []


def test_a_failed_run_goes_on_from_the_failed_step(ws: Workspace) -> None:
    def fail() -> None:
        raise RuntimeError("the mirror is down")

    ON_CALL["two"] = fail
    with pytest.raises(StepFailed) as caught:
        run_pipeline(ws, train, reason="test", executor=Inline())
    CALLS.clear()
    done = resume(ws, caught.value.run_id, executor=Inline())
    assert CALLS == ["two", "three"]
    assert (done.state, done.error) == ("done", None)


def take_over(ws: Workspace) -> PipelineRun:
    (run,) = pipeline_runs(ws)
    return resume(ws, run.id, executor=Inline(), take_over=True)


@pytest.mark.parametrize("node", ["one", "two", "three"])
def test_a_runner_that_was_replaced_commits_nothing(any_ws: Workspace, node: str) -> None:
    """It sleeps in the middle of a step, another takes the run over and finishes it, then it wakes."""
    taken: list[PipelineRun] = []
    ON_CALL[node] = lambda: taken.append(take_over(any_ws))
    with pytest.raises(LostLease, match=r"taken over or cancelled|no longer this process's"):
        run_pipeline(any_ws, train, reason="test", executor=Inline())
    (run,) = taken
    assert pipeline_run(any_ws, run.id) == run
    finished = [(one.node, one.token) for one in run.steps if one.state == "done"]
    assert sorted(node for node, _ in finished) == ["one", "three", "two"]
    assert (node, 2) in finished


class Overtaken(Workspace):
    """One in which another takes a run over as soon as somebody has."""

    def write(self, change: Callable[[Tx], Any], *, power_safe: bool = True) -> Any:
        done = super().write(change, power_safe=power_safe)
        taken = store.pipeline_runs.c.token == 2
        super().write(lambda tx: tx.execute(sa.update(store.pipeline_runs).where(taken).values(token=3)))
        return done


def test_a_runner_that_was_replaced_before_it_looked_commits_nothing(any_ws: Workspace) -> None:
    """The token that it reads with the run is that of the other, and not its own."""
    run_id = left_in(any_ws, "two")
    with pytest.raises(LostLease):
        resume(Overtaken(**vars(any_ws)), run_id, executor=Inline())
    assert [one for one in pipeline_run(any_ws, run_id).steps if one.token == 3] == []
    assert CALLS == ["one", "two"]


def test_of_two_that_begin_a_run_under_one_id_one_waits(any_ws: Workspace) -> None:
    run_id = new_id("run")

    @dataclass(frozen=True)
    class Begun:
        """Declared data; while it is pinned another process is quicker."""

        name: str = "data"

        def pin(self, ws: Workspace) -> Pinned:
            return Pinned("dataset_version", run_pipeline(ws, train, reason="test", run_id=run_id).id)

        def load(self, ws: Workspace, ref: str) -> int:
            return 1

    @pipeline
    def takes_it() -> int:
        return two(Begun())  # type: ignore[arg-type]  # a declaration stands for its rows

    with pytest.raises(NotReady, match="is being begun by another process"):
        run_pipeline(any_ws, takes_it, reason="test", run_id=run_id, executor=Inline())
    assert pipeline_run(any_ws, run_id).state == "done"
    second = new_id("run")
    with claimed(scratch_of(any_ws, second, token=1)), pytest.raises(NotReady, match="is being begun"):
        run_pipeline(any_ws, train, reason="test", run_id=second, executor=Inline())


def test_a_living_runner_is_left_alone(any_ws: Workspace) -> None:
    refused: list[str] = []

    def look() -> None:
        (run,) = pipeline_runs(any_ws)
        with pytest.raises(NotReady, match=r"is being run by .* lease ends at") as caught:
            resume(any_ws, run.id, executor=Inline())
        refused.append(str(caught.value))

    ON_CALL["two"] = look
    assert run_pipeline(any_ws, train, reason="test", executor=Inline()).state == "done"
    assert len(refused) == 1


def leased_elsewhere(ws: Workspace, run_id: str, *, seconds: float) -> None:
    """Make it look as if another machine ran it, whose lease ends so many seconds from now."""

    def change(tx: Any) -> None:
        until = tx.wall() + timedelta(seconds=seconds)
        store.update_run(tx, run_id, {"worker": "elsewhere:1", "lease_until": until})

    ws.write(change)


def test_a_runner_on_another_machine_is_waited_for_until_its_lease_ends(any_ws: Workspace) -> None:
    run_id = left_in(any_ws, "two")
    leased_elsewhere(any_ws, run_id, seconds=60)
    with pytest.raises(NotReady, match="elsewhere:1"):
        resume(any_ws, run_id, executor=Inline())
    leased_elsewhere(any_ws, run_id, seconds=-1)
    assert resume(any_ws, run_id, executor=Inline()).state == "done"


def test_a_runner_renews_its_lease(ws: Workspace) -> None:
    ends: list[Any] = []

    def look() -> None:
        (run,) = pipeline_runs(ws)
        first = run.lease_until
        wait_until(lambda: pipeline_run(ws, run.id).lease_until != first)
        ends.extend([first, pipeline_run(ws, run.id).lease_until])

    ON_CALL["two"] = look
    run_pipeline(ws, train, reason="test", executor=Inline(), lease_s=0.3)
    assert ends[0] < ends[1]


def test_a_cancelled_run_is_over(any_ws: Workspace) -> None:
    def stop() -> None:
        (run,) = pipeline_runs(any_ws)
        cancel(any_ws, run.id, reason="the data was wrong.")

    ON_CALL["two"] = stop
    with pytest.raises(LostLease):
        run_pipeline(any_ws, train, reason="test", executor=Inline())
    (run,) = pipeline_runs(any_ws)
    assert (run.state, run.error) == ("cancelled", "the data was wrong.")
    assert [state[2] for state in states(pipeline_run(any_ws, run.id))] == ["done", "interrupted"]
    assert tracking.run(any_ws, run.id).status == "killed"
    assert CALLS == ["one", "two"]
    with pytest.raises(Conflict, match=r"was cancelled: the data was wrong\. Start a new one"):
        resume(any_ws, run.id, executor=Inline())
    with pytest.raises(Conflict, match="only one that has not ended can be cancelled"):
        cancel(any_ws, run.id, reason="again")


SLEEPS = """
    import os
    import time
    from pathlib import Path

    from everloop.pipelines import pipeline, step

    @step
    def sleeps() -> int:
        Path(os.environ["NOTE"]).write_text("asleep")
        time.sleep(600)
        return 1

    @pipeline
    def train() -> int:
        return sleeps()
"""


def test_cancelling_kills_what_runs(
    ws: Workspace, project: UserProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = project.root / "note"
    monkeypatch.setenv("NOTE", str(note))
    project.write({"loop": SLEEPS})
    made, caught = project.load().train, []

    def work() -> None:
        with pytest.raises(LostLease) as lost:
            run_pipeline(ws, made, reason="test", executor=Processes(1), lease_s=0.3)
        caught.append(lost.value)

    runner = threading.Thread(target=work)
    runner.start()
    wait_until(note.exists)
    cancel(ws, pipeline_runs(ws)[0].id, reason="enough")
    runner.join(timeout=30)
    assert len(caught) == 1


def test_a_run_that_no_other_process_can_import_is_not_resumed(ws: Workspace) -> None:
    @pipeline
    def inner() -> int:
        return two(one())

    ON_CALL["two"] = kill
    with pytest.raises(Killed):
        run_pipeline(ws, inner, reason="test")
    (run,) = pipeline_runs(ws)
    with pytest.raises(Invalid, match="is not in a file"):
        resume(ws, run.id)


def test_a_run_is_resumed_with_the_code_it_began_with(ws: Workspace, project: UserProject) -> None:
    project.write(
        {
            "loop": """
                from everloop.pipelines import pipeline, step
                from tests.pipelines.test_resume import called

                @step(cache=False)
                def first() -> int:
                    return 1

                @step(cache=False)
                def second(value: int) -> int:
                    called("second")
                    return value + 10

                @pipeline
                def train() -> int:
                    return second(first())
            """
        }
    )
    ON_CALL["second"] = kill
    with pytest.raises(Killed):
        run_pipeline(ws, project.load().train, reason="test", executor=Inline())
    (run,) = pipeline_runs(ws)
    project.edit("loop", "value + 10", "value + 20")
    project.load()
    with pytest.raises(Conflict, match="another loop imported than the run's"):
        resume(ws, run.id, executor=Inline())
    project.forget()
    resume(ws, run.id, executor=Inline())
    assert result(ws, run.id) == 11


def test_an_unknown_run_is_told(ws: Workspace) -> None:
    for act in (lambda: resume(ws, "run_1"), lambda: cancel(ws, "run_1", reason="x")):
        with pytest.raises(NotFound, match="no pipeline run run_1"):
            act()
