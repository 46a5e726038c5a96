"""Logging from inside steps and scripts, with no server: the same runs that everything else sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import everloop as el
from everloop import tracking
from everloop.errors import Invalid, StepFailed
from everloop.pipelines import Executor, Inline, Processes, run_pipeline
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

LOOP = """
    import everloop as el

    @el.step
    def fit(c: int) -> float:
        el.log_params({"c": c})
        for epoch in range(3):
            el.log_metrics({"loss": c / (epoch + 1)}, step=epoch)
        el.log_tags({"team": "vision"})
        el.log_artifact("notes.txt", b"as told")
        with el.start_run("inner"):
            el.log_metrics({"depth": 2})
        return float(c)

    @el.step
    def quiet(by: float) -> float:
        return by

    @el.step
    def broken(by: float) -> float:
        el.log_metrics({"loss": by})
        raise ValueError("on purpose")

    @el.pipeline
    def train() -> float:
        return quiet(fit(4))

    @el.pipeline
    def fails() -> float:
        return broken(quiet(1.0))
"""


@pytest.fixture
def loop(project: UserProject) -> Any:
    project.write({"loop": LOOP})
    return project.load()


def below(ws: Workspace, run_id: str) -> dict[str, tracking.Run]:
    return {run.name: run for run in tracking.runs(ws, parent=run_id)}


@pytest.mark.parametrize(
    "executor", [Inline(), Processes(1), Processes(1, forked=False)], ids=["inline", "forked", "fresh"]
)
def test_what_a_step_logs_is_a_run_below_the_pipelines(ws: Workspace, loop: Any, executor: Executor) -> None:
    done = run_pipeline(ws, loop.train, reason="test", executor=executor)
    made = below(ws, done.id)
    assert list(made) == ["fit"]  # the step that logged nothing left no run
    fit = made["fit"]
    assert (fit.status, fit.params, fit.tags) == ("finished", {"c": "4"}, {"team": "vision"})
    assert [point.value for point in tracking.metric_history(ws, fit.id, "loss")] == [4.0, 2.0, 4 / 3]
    assert tracking.read_artifact(ws, fit.id, "notes.txt") == b"as told"
    assert below(ws, fit.id)["inner"].metrics == {"depth": 2.0}


def test_a_step_that_is_taken_from_the_cache_logs_nothing_again(ws: Workspace, loop: Any) -> None:
    run_pipeline(ws, loop.train, reason="test", executor=Inline())
    again = run_pipeline(ws, loop.train, reason="test", executor=Inline())
    assert below(ws, again.id) == {}


def test_the_run_of_a_step_that_fails_has_failed(ws: Workspace, loop: Any) -> None:
    with pytest.raises(StepFailed) as failure:
        run_pipeline(ws, loop.fails, reason="test", executor=Inline())
    broken = below(ws, failure.value.run_id)["broken"]
    assert (broken.status, broken.error, broken.metrics) == (
        "failed",
        "ValueError: on purpose",
        {"loss": 1.0},
    )


def test_a_script_begins_a_run_in_a_workspace(tmp_path: Path) -> None:
    with el.start_run(
        "tuning", experiment="photos", params={"c": 1}, tags={"a": "b"}, home=tmp_path / "home"
    ) as run:
        el.log_metrics({"acc": 0.9}, step=7)
        with el.start_run("inner") as inner:
            el.log_params({"deep": True})
    with el.open_workspace(tmp_path / "home") as ws:
        outer = tracking.found_run(ws, run.id)
        assert (outer.run.status, outer.run.experiment, outer.latest[0].step) == ("finished", "photos", 7)
        found = tracking.run(ws, inner.id)
        assert (found.parent, found.experiment, found.params) == (run.id, "photos", {"deep": "true"})


@pytest.mark.parametrize(("raised", "status"), [(ValueError("x"), "failed"), (KeyboardInterrupt(), "killed")])
def test_a_run_ends_as_its_block_does(tmp_path: Path, raised: BaseException, status: str) -> None:
    with pytest.raises(type(raised)), el.start_run(home=tmp_path / "home") as run:
        raise raised
    with el.open_workspace(tmp_path / "home") as ws:
        assert tracking.run(ws, run.id).status == status


def test_nothing_is_logged_where_no_run_goes_on() -> None:
    for log in (
        lambda: el.log_params({"a": 1}),
        lambda: el.log_metrics({"a": 1}),
        lambda: el.log_tags({"a": "1"}),
        lambda: el.log_artifact("a", b""),
    ):
        with pytest.raises(Invalid, match=r"Log inside a step .* or inside: with el.start_run"):
            log()
