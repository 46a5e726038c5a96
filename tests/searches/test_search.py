"""Searches over a pipeline in real processes: what is tried, shared, stopped, resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from everloop import pipelines, searches, tracking
from everloop.errors import Conflict, Invalid, NotFound
from everloop.pipelines import between
from everloop.searches import Plan, Search, choice, halving, median
from everloop.workspace import Workspace
from tests.searches.made_up import loaded, noted


def run(ws: Workspace, folder: Path, **asked: Any) -> Search:
    log = folder / "log"
    given = {"log": str(log), **asked.pop("params", {})}
    plan = Plan(**{"by": "score", "method": "grid", "params": given, **asked})
    return searches.run_search(ws, loaded(folder).pipelines["tune"], plan)


def test_the_best_of_a_grid_is_named_and_every_trial_is_a_run_below_the_search(
    any_ws: Workspace, tmp_path: Path
) -> None:
    ws = any_ws
    found = run(ws, tmp_path, space={"x": choice(1.0, 3.5), "y": between(1, 2)}, parallel=2)
    assert found.state == "done"
    assert found.best is not None
    assert (found.best.params, found.best.value) == ({"x": 3.5, "y": 2}, -0.25)
    for trial in searches.trials(ws, found.id):
        made = tracking.run(ws, trial.run)
        assert (made.parent, made.kind, trial.state, trial.reached) == (found.run, "pipeline", "done", 2)
        assert made.metrics["score"] == pytest.approx(float(trial.value or 0) + 0.02)  # as reported last
        assert pipelines.pipeline_run(ws, trial.run).params["x"] == trial.params["x"]
    assert tracking.run(ws, found.run).metrics == {"score": -0.25}


def test_what_trials_have_in_common_is_made_once(ws: Workspace, tmp_path: Path) -> None:
    run(ws, tmp_path, space={"x": choice(*map(float, range(6)))}, parallel=3)
    assert noted(tmp_path / "log")["prepare"] == 1


def test_lowest_may_be_best_and_no_more_run_than_asked_for(ws: Workspace, tmp_path: Path) -> None:
    found = run(
        ws, tmp_path, space={"x": between(-5.0, 5.0)}, method="random", trials=3, highest=False, seed=7
    )
    values = [trial.value for trial in searches.trials(ws, found.id)]
    assert len(values) == 3
    assert found.best is not None
    assert found.best.value == min(one for one in values if one is not None)


def test_optuna_proposes_trials_that_are_run(ws: Workspace, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra optuna is not installed")
    found = run(
        ws,
        tmp_path,
        space={"x": between(-9.0, 9.0), "y": choice(1, 2)},
        method="optuna",
        trials=5,
        parallel=2,
    )
    assert {one.state for one in searches.trials(ws, found.id)} == {"done"}
    assert len(searches.trials(ws, found.id)) == 5


def test_a_trial_that_fails_is_noted_and_the_search_goes_on(ws: Workspace, tmp_path: Path) -> None:
    found = run(ws, tmp_path, space={"y": choice(13, 2)})
    failed, done = searches.trials(ws, found.id)
    assert (failed.state, done.state) == ("failed", "done")
    assert "13 does not work" in str(failed.told)
    assert found.best == done


def test_a_search_of_which_nothing_worked_says_why(ws: Workspace, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"no trial of search srch_\w+ came to its end(.|\n)*13 does not work"):
        run(ws, tmp_path, space={"y": choice(13)})
    (found,) = searches.searches(ws)
    assert (found.state, tracking.run(ws, found.run).status) == ("failed", "failed")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"space": {"z": choice(1)}}, "has no parameter 'z'"),
        ({"space": {"x": choice("much")}}, "takes x as float"),
        ({"space": {"x": choice(1.0)}, "by": "accuracy"}, "gave 'accuracy' as None"),
    ],
)
def test_what_does_not_fit_is_told(ws: Workspace, tmp_path: Path, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        run(ws, tmp_path, **asked)


@pytest.mark.parametrize(
    "stop", [median(from_step=3, trials=2), pytest.param(halving(least=3, factor=2), marks=pytest.mark.long)]
)
def test_hopeless_trials_are_stopped_and_their_processes_end(
    ws: Workspace, tmp_path: Path, stop: Any
) -> None:
    begun = time.monotonic()
    found = run(
        ws,
        tmp_path,
        space={"x": choice(3.0, 2.9, -50.0, -60.0)},
        stop=stop,
        params={"epochs": 12, "pause_s": 0.5},
    )
    good, near, *bad = searches.trials(ws, found.id)
    assert good.state == "done"
    assert [one.state for one in bad] == ["stopped", "stopped"]
    for one in bad:
        assert "stopped early: at step" in str(one.told)
        assert one.reached is not None
        assert one.reached < 12
        assert pipelines.pipeline_run(ws, one.run).state == "cancelled"
        assert tracking.run(ws, one.run).status == "killed"
    assert found.best == good
    assert near.state in ("done", "stopped")
    assert time.monotonic() - begun < 4 * 12 * 0.5


def test_what_is_reported_outside_a_run_goes_nowhere() -> None:
    pipelines.report(1, score=0.5)
    for step, metrics in ((1.5, {"a": 1.0}), (1, {})):
        with pytest.raises(Invalid, match="a whole number and named numbers"):
            pipelines.report(step, **metrics)  # type: ignore[arg-type]  # what a step might do


PROGRAM = """
import json, sys
from pathlib import Path
from everloop import searches
from everloop.settings import load_settings
from everloop.workspace import open_workspace
from tests.searches.made_up import loaded

home, url, folder, asked = sys.argv[1:]
with open_workspace(settings=load_settings(home, database_url=url or None)) as ws:
    pipeline = loaded(Path(folder)).pipelines["tune"]
    searches.run_search(ws, pipeline, searches.Plan.from_json(json.loads(asked)))
"""


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_without_its_finished_trials(
    any_ws: Workspace, tmp_path: Path
) -> None:
    ws, log = any_ws, tmp_path / "log"
    log.touch()
    plan = Plan(
        {"x": choice(*(n / 10 for n in range(12)))},
        by="score",
        method="grid",
        parallel=2,
        params={"log": str(log), "epochs": 2, "pause_s": 0.3},
    )
    loaded(tmp_path)
    words = [str(ws.home.absolute()), ws.settings.database_url, str(tmp_path), json.dumps(plan.as_json())]
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *words]) as process:
        deadline = time.monotonic() + 60
        while sum(line.startswith("fit") for line in noted(log)) < 5 and time.monotonic() < deadline:
            assert process.poll() is None
            threading.Event().wait(0.05)
        process.send_signal(signal.SIGKILL)
    (before,) = searches.searches(ws)
    ended = [one for one in searches.trials(ws, before.id) if one.state == "done"]
    assert before.state == "running"
    assert len(ended) >= 2
    found = searches.resume(ws, before.id, loaded(tmp_path).pipelines["tune"])
    assert (found.state, found.best and found.best.params) == ("done", {"x": 1.1})
    after = searches.trials(ws, before.id)
    assert (len(after), {one.state for one in after}) == (12, {"done"})
    assert all(one in after for one in ended)
    fits = noted(log)
    assert all(fits[f"fit {one.params['x']} 2"] == 1 for one in ended)  # no finished trial ran again
    assert fits["prepare"] == 1
    assert searches.resume(ws, before.id, loaded(tmp_path).pipelines["tune"]) == found


def test_a_search_goes_on_with_its_own_pipeline_and_code_alone(ws: Workspace, tmp_path: Path) -> None:
    pipeline = loaded(tmp_path).pipelines["tune"]
    with pytest.raises(NotFound, match="everloop search list"):
        searches.resume(ws, "srch_none", pipeline)
    plan = Plan({"y": choice(13)}, by="score", method="grid", params={"log": str(tmp_path / "log")})
    with pytest.raises(Invalid):
        searches.run_search(ws, pipeline, plan, code="a" * 64)
    (failed,) = searches.searches(ws)
    with pytest.raises(Conflict, match="Start another search"):
        searches.resume(ws, failed.id, pipeline, code="b" * 64)


def test_an_executor_that_nobody_offers_is_told_before_anything_is_written(
    ws: Workspace, tmp_path: Path
) -> None:
    plan = Plan(space={"x": choice(1.0)}, by="score", method="grid", params={"log": str(tmp_path / "log")})
    with pytest.raises(NotFound, match="there is no executor 'nowhere'"):
        searches.run_search(ws, loaded(tmp_path).pipelines["tune"], plan, executor="nowhere")
    assert searches.searches(ws) == []
