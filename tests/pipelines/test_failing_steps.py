"""Steps whose failure is foreseen: retried after some errors, optional, or run whatever happened."""

from __future__ import annotations

from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest

from everloop.errors import Invalid, StepFailed
from everloop.pipelines import (
    Executor,
    Inline,
    PipelineRun,
    Processes,
    Progress,
    pipeline,
    pipeline_run,
    result,
    resume,
    run_pipeline,
    step,
)
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

LOOP = """
    import os
    import time
    from pathlib import Path

    from everloop.pipelines import pipeline, step, when

    PROJECT = Path(os.environ["PROJECT"])


    @step(retries=2, back_off_s=0, retry_on=(ConnectionError, LookupError))
    def wobbly(error: str) -> int:
        raise {"reset": ConnectionResetError, "key": KeyError, "value": ValueError}[error](error)


    @pipeline
    def tried(error: str) -> int:
        return wobbly(error)


    @step(retries=3, back_off_s=0.1)
    def stubborn() -> int:
        with (PROJECT / "tries").open("a") as file:
            file.write(f"{time.monotonic()} ")
        raise ConnectionError


    @pipeline
    def insisted() -> int:
        return stubborn()


    @step(optional=True)
    def extra(number: int) -> int:
        if number % 2:
            raise ValueError("odd")
        return number


    @step
    def needed(number: int) -> int:
        if (PROJECT / "bad").exists():
            raise ValueError("needed failed")
        return number


    @step
    def shown(value) -> str:
        return f"it is {value}"


    @step(always=True)
    def tidied(value, other=None) -> str:
        with (PROJECT / "notes").open("a") as file:
            file.write(f"tidied({value},{other}) ")
        return "tidy"


    @pipeline
    def with_extra(number: int) -> list:
        return [shown(extra(number)), shown(extra.map(range(3)))]


    @pipeline
    def goes_on(number: int) -> list:
        return [shown(extra(number)), needed(number)]


    @pipeline
    def ends_tidy(number: int) -> list:
        one = needed(number)
        return [shown(one), tidied(one, other=extra(2))]


    @pipeline
    def tidied_twice(number: int) -> list:
        one = needed(number)
        return [shown(one), tidied(tidied(one))]
"""


@pytest.fixture
def loop(project: UserProject, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("PROJECT", str(project.root))
    project.write({"loop": LOOP})
    return project.load()


@pytest.fixture(params=["inline", "processes"])
def executor(request: pytest.FixtureRequest) -> Executor:
    return Inline() if request.param == "inline" else Processes(2)


def run(ws: Workspace, made: Any, executor: Executor | None = None, **params: Any) -> PipelineRun:
    return run_pipeline(ws, made, params=params, reason="test", executor=executor or Inline())


def notes(project: UserProject) -> list[str]:
    place = project.root / "notes"
    words = place.read_text().split() if place.exists() else []
    place.unlink(missing_ok=True)
    return words


def attempts(done: PipelineRun, node: str) -> list[str]:
    return [one.state for one in done.steps if one.node == node]


@pytest.mark.parametrize(("error", "tries"), [("reset", 3), ("key", 3), ("value", 1)])
def test_only_the_errors_that_are_named_are_tried_again(
    ws: Workspace, loop: ModuleType, executor: Executor, error: str, tries: int
) -> None:
    with pytest.raises(StepFailed) as caught:
        run(ws, loop.tried, executor, error=error)
    assert attempts(pipeline_run(ws, caught.value.run_id), "wobbly") == ["failed"] * tries


def plain() -> int:
    return 1


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"retry_on": (ValueError,)}, "retries=0; retry_on is a tuple of errors"),
        ({"retry_on": ValueError, "retries": 1}, "retry_on=<class 'ValueError'>"),
        ({"retry_on": (5,), "retries": 1}, r"retry_on=\(5,\)"),
    ],
)
def test_wrong_rules_are_refused(options: dict[str, Any], found: str) -> None:
    with pytest.raises(Invalid, match=found):
        step(**options)(plain)


def test_an_optional_step_that_failed_gives_none(
    any_ws: Workspace, loop: ModuleType, executor: Executor
) -> None:
    done = run(any_ws, loop.with_extra, executor, number=1)
    assert done.state == "done"
    assert result(any_ws, done.id) == ["it is None", "it is [0, None, 2]"]
    assert attempts(done, "extra") == attempts(done, "extra-2[1]") == ["failed"]
    assert attempts(done, "extra-2") == ["done"]


def test_an_optional_step_that_works_is_a_step(ws: Workspace, loop: ModuleType) -> None:
    assert result(ws, run(ws, loop.with_extra, number=4).id)[0] == "it is 4"


def test_an_optional_failure_is_tried_again_by_the_next_run(ws: Workspace, loop: ModuleType) -> None:
    run(ws, loop.with_extra, number=1)
    assert attempts(run(ws, loop.with_extra, number=1), "extra") == ["failed"]


def test_resuming_keeps_an_optional_failure(
    ws: Workspace, loop: ModuleType, project: UserProject, executor: Executor
) -> None:
    (project.root / "bad").touch()
    with pytest.raises(StepFailed, match="needed failed") as caught:
        run(ws, loop.goes_on, Inline(), number=1)
    (project.root / "bad").unlink()
    done = resume(ws, caught.value.run_id, executor=executor)
    assert result(ws, done.id) == ["it is None", 1]
    assert attempts(done, "extra") == ["failed"]


def test_an_optional_result_may_be_the_pipelines(ws: Workspace) -> None:
    @step(optional=True)
    def fails() -> int:
        raise ValueError("no")

    @pipeline
    def alone() -> int:
        return fails()

    told: list[Progress] = []
    done = run_pipeline(ws, alone, reason="test", executor=Inline(), on_progress=told.append)
    assert result(ws, done.id) is None
    assert [(one.kind, one.done) for one in told[-2:]] == [("step_failed", 1), ("run_ended", 1)]


def test_a_step_that_always_runs_runs_after_a_failure(
    any_ws: Workspace, loop: ModuleType, project: UserProject, executor: Executor
) -> None:
    (project.root / "bad").touch()
    with pytest.raises(StepFailed, match="needed failed") as caught:
        run(any_ws, loop.ends_tidy, executor, number=1)
    failed = pipeline_run(any_ws, caught.value.run_id)
    assert attempts(failed, "tidied") == ["ran_anyway"]
    assert attempts(failed, "shown") == []
    assert notes(project) in (["tidied(None,2)"], ["tidied(None,None)"])  # as far as the run had come


def test_it_runs_again_when_the_run_is_resumed(
    any_ws: Workspace, loop: ModuleType, project: UserProject, executor: Executor
) -> None:
    (project.root / "bad").touch()
    with pytest.raises(StepFailed) as caught:
        run(any_ws, loop.ends_tidy, executor, number=1)
    notes(project)
    (project.root / "bad").unlink()
    done = resume(any_ws, caught.value.run_id, executor=executor)
    assert attempts(done, "tidied") == ["ran_anyway", "done"]
    assert notes(project) == ["tidied(1,2)"]
    assert result(any_ws, done.id) == ["it is 1", "tidy"]


def test_it_runs_once_in_a_run_that_goes_well_and_not_from_the_cache(
    ws: Workspace, loop: ModuleType, project: UserProject
) -> None:
    for _ in range(2):
        assert attempts(run(ws, loop.ends_tidy, number=1), "tidied") == ["done"]
    assert notes(project) == ["tidied(1,2)"] * 2


def test_one_that_always_runs_hands_on_to_the_next(
    ws: Workspace, loop: ModuleType, project: UserProject
) -> None:
    (project.root / "bad").touch()
    with pytest.raises(StepFailed):
        run(ws, loop.tidied_twice, number=1)
    assert notes(project) == ["tidied(None,None)", "tidied(tidy,None)"]


def test_a_step_that_always_runs_is_not_mapped(loop: ModuleType) -> None:
    with pytest.raises(Invalid, match="always=True and mapped"):
        pipeline(lambda: loop.tidied.map([1])).trace()


def test_each_try_waits_twice_as_long_as_the_one_before(
    ws: Workspace, project: UserProject, loop: Any
) -> None:
    with pytest.raises(StepFailed):
        run_pipeline(ws, loop.insisted, reason="test", executor=Inline())
    times = [float(one) for one in (project.root / "tries").read_text().split()]
    assert len(times) == 4
    waited = [later - earlier for earlier, later in pairwise(times)]
    assert all(took >= due for took, due in zip(waited, (0.1, 0.2, 0.4), strict=True)), waited
