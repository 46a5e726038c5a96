"""A run is run again from one of its steps: what came before is taken over, the rest runs anew."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from everloop import ledger
from everloop.errors import Conflict, Invalid, NotFound, NotReady, StepFailed
from everloop.ledger import Node
from everloop.pipelines import (
    Inline,
    PipelineRun,
    fork,
    pipeline,
    result,
    resume,
    run_pipeline,
    step,
)
from everloop.pipelines.store import update_run
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

LOOP = """
    import os
    from pathlib import Path

    import everloop as el
    from everloop.pipelines import pipeline, step

    PROJECT = Path(os.environ["PROJECT"])


    def note(word):
        with (PROJECT / "notes").open("a") as file:
            file.write(word + " ")
        if (PROJECT / f"bad-{word}").exists():
            raise ValueError(f"{word} is bad")


    @step
    def load(rows: int) -> list:
        note("load")
        return list(range(rows))


    @step
    def square(number: int) -> int:
        note("square")
        return number * number


    @step
    def total(values: list, times: int) -> int:
        note("total")
        return sum(values) * times


    @step
    def is_big(value: int) -> bool:
        note("is_big")
        return value > 10


    @step
    def shout(value: int) -> str:
        note("shout")
        return f"{value}!"


    @pipeline
    def beside(times: int = 1) -> list:
        rows = load(4)
        return [total(rows, times), total(rows, 2 * times), shout(total(rows, 1))]


    @pipeline
    def train(rows: int = 4, times: int = 1) -> str:
        value = total(square.map(load(rows)), times)
        return el.when(is_big(value), then=lambda: shout(value), otherwise=lambda: "small")
"""


@pytest.fixture
def loop(project: UserProject, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("PROJECT", str(project.root))
    project.write({"loop": LOOP})
    return project.load()


def run(ws: Workspace, made: Any, **params: Any) -> PipelineRun:
    return run_pipeline(ws, made, params=params, reason="test", executor=Inline())


def forked(ws: Workspace, run_id: str, start: str, **params: Any) -> PipelineRun:
    return fork(ws, run_id, start=start, params=params, reason="test", executor=Inline())


def ran(project: UserProject) -> list[str]:
    """What ran since the last look."""
    place = project.root / "notes"
    words = place.read_text().split() if place.exists() else []
    place.unlink(missing_ok=True)
    return words


def test_from_a_step_on_all_runs_anew(any_ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    first = run(any_ws, loop.train)
    assert ran(project) == ["load", *["square"] * 4, "total", "is_big", "shout"]
    again = forked(any_ws, first.id, "total")
    assert ran(project) == ["total", "is_big", "shout"]
    assert result(any_ws, again.id) == result(any_ws, first.id) == "14!"
    states = {one.node: one.state for one in again.steps}
    assert states == {
        "load": "cached", "square": "cached", "total": "done", "is_big": "done", "shout": "done", "choice": "done",
    }  # fmt: skip
    made = {one.node: one.made_by for one in first.steps}
    assert {one.node: one.made_by for one in again.steps if one.state == "cached"} == {
        "load": made["load"], "square": made["square"],
    }  # fmt: skip


def test_a_parameter_may_change_from_there_on(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    first = run(ws, loop.train)
    ran(project)
    again = forked(ws, first.id, "total", times=3)
    assert ran(project) == ["total", "is_big", "shout"]
    assert result(ws, again.id) == "42!"
    assert again.params == {"times": 3}
    assert again.pins == first.pins
    assert again.code == first.code
    small = forked(ws, first.id, "total", times=0)
    assert result(ws, small.id) == "small"
    assert [one.state for one in small.steps if one.node == "shout"] == ["skipped"]


def test_a_parameter_of_an_earlier_step_may_not(
    ws: Workspace, loop: ModuleType, project: UserProject
) -> None:
    first = run(ws, loop.train)
    with pytest.raises(
        Invalid, match=r"with rows=5 the step load, which comes before total, is another one"
    ) as told:
        forked(ws, first.id, "total", rows=5)
    assert "Start from load" in str(told.value)
    assert result(ws, forked(ws, first.id, "load", rows=5).id) == "30!"


def test_a_step_beside_that_takes_the_parameter_runs_too(
    ws: Workspace, loop: ModuleType, project: UserProject
) -> None:
    first = run(ws, loop.beside)
    ran(project)
    again = forked(ws, first.id, "total", times=2)
    assert ran(project) == ["total", "total"]
    assert result(ws, again.id) == [12, 24, "6!"]
    states = {one.node: one.state for one in again.steps}
    assert [states[node] for node in ("load", "total-3", "shout")] == ["cached"] * 3


def test_the_first_step_means_all(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    first = run(ws, loop.train)
    ran(project)
    forked(ws, first.id, "load")
    assert ran(project) == ["load", *["square"] * 4, "total", "is_big", "shout"]


def test_the_code_is_that_of_the_first_run(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    first = run(ws, loop.train)
    project.write({"loop": LOOP.replace('f"{value}!"', 'f"{value}?"')})
    again = fork(ws, first.id, start="shout", reason="test")  # in processes, from the snapshot
    assert result(ws, again.id) == "14!"


def test_other_code_in_this_process_is_told(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    first = run(ws, loop.train)
    project.write({"loop": LOOP.replace('f"{value}!"', 'f"{value}?"')})
    project.load()
    with pytest.raises(Conflict, match="this process has another loop imported than the run's"):
        forked(ws, first.id, "total", times=3)


def test_a_failed_run_is_taken_up_where_it_is_wanted(
    ws: Workspace, loop: ModuleType, project: UserProject
) -> None:
    (project.root / "bad-shout").touch()
    with pytest.raises(StepFailed) as failed:
        run(ws, loop.train)
    ran(project)
    (project.root / "bad-shout").unlink()
    again = forked(ws, failed.value.run_id, "total")
    assert ran(project) == ["total", "is_big", "shout"]
    assert again.state == "done"


def test_what_was_never_finished_runs_too(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    (project.root / "bad-total").touch()
    with pytest.raises(StepFailed) as failed:
        run(ws, loop.train)
    (project.root / "bad-total").unlink()
    ran(project)
    forked(ws, failed.value.run_id, "shout")
    assert ran(project) == ["total", "is_big", "shout"]


def test_lineage_leads_back_to_the_first_run(ws: Workspace, loop: ModuleType) -> None:
    first = run(ws, loop.train)
    again = forked(ws, first.id, "total")
    found = {(one.source, one.role) for one in ledger.upstream(ws, Node("run", again.id))}
    assert (Node("run", first.id), "forked") in found


def test_a_killed_fork_is_resumed_like_any_run(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    first = run(ws, loop.train)
    (project.root / "bad-total").touch()
    with pytest.raises(StepFailed) as failed:
        forked(ws, first.id, "total")
    (project.root / "bad-total").unlink()
    ran(project)
    assert resume(ws, failed.value.run_id, executor=Inline()).state == "done"
    assert ran(project) == ["total", "is_big", "shout"]


def test_wrong_forks_are_refused(ws: Workspace, loop: ModuleType) -> None:
    first = run(ws, loop.train)
    with pytest.raises(NotFound, match="no step 'fit'; its steps are load, square, total"):
        forked(ws, first.id, "fit")
    ws.write(lambda tx: update_run(tx, first.id, {"state": "running"}))
    with pytest.raises(NotReady, match="is running; what has not ended is not run again"):
        forked(ws, first.id, "total")

    @step
    def one() -> int:
        return 1

    @pipeline
    def nowhere() -> int:
        return one()

    inside = run_pipeline(ws, nowhere, reason="test", executor=Inline())
    with pytest.raises(Invalid, match="is not in a file"):
        forked(ws, inside.id, "one")
