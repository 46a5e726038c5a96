"""Running pipelines: order, cache, failures, what is recorded of them."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from everloop import events, ledger, tracking
from everloop.errors import Conflict, Invalid, NotFound, NotReady, StepFailed
from everloop.ids import new_id
from everloop.ledger import Node
from everloop.pipelines import (
    Inline,
    Pinned,
    PipelineRun,
    Processes,
    Progress,
    output_of,
    pipeline,
    pipeline_run,
    pipeline_runs,
    result,
    run_pipeline,
    step,
    store,
)
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

LOOP = """
    from pathlib import Path

    from everloop.pipelines import pipeline, step

    NOTES = Path(__file__).parent / "notes"
    LIMIT = 1


    def note(word):
        with (NOTES).open("a") as file:
            file.write(word + " ")


    @step
    def first(value: int) -> int:
        note(f"first({value})")
        return value + LIMIT


    @step
    def second(value: int, by: int = 2) -> int:
        note(f"second({value},{by})")
        return value * by


    @step(cache=False)
    def never_cached(value: int) -> int:
        note("never_cached")
        return value


    @step(retries=2, back_off_s=0)
    def flaky(value: int, good_at: int) -> int:
        tries = (NOTES.read_text() if NOTES.exists() else "").count("flaky")
        note("flaky")
        if tries + 1 < good_at:
            raise RuntimeError(f"try {tries + 1}")
        return value


    @pipeline
    def train(value: int = 1) -> int:
        return second(first(value), by=3)


    @pipeline
    def fan_out(count: int) -> list:
        one = first(0)
        return [second(one, by=number) for number in range(count)]


    @pipeline
    def uncached() -> int:
        return never_cached(first(1))


    @pipeline
    def wobbly(good_at: int) -> int:
        return second(flaky(first(1), good_at))
"""


@pytest.fixture
def loop(project: UserProject) -> ModuleType:
    project.write({"loop": LOOP})
    return project.load()


def notes(project: UserProject) -> list[str]:
    """What ran since the last look, in order."""
    place = project.root / "notes"
    words = place.read_text().split() if place.exists() else []
    place.unlink(missing_ok=True)
    return words


def run(ws: Workspace, made: Any, **params: Any) -> PipelineRun:
    return run_pipeline(ws, made, params=params, reason="test", executor=Inline())


def states(done: PipelineRun) -> dict[str, str]:
    return {one.node: one.state for one in done.steps}


def test_steps_run_in_order_and_give_the_result(
    any_ws: Workspace, loop: ModuleType, project: UserProject
) -> None:
    done = run(any_ws, loop.train)
    assert done.state == "done"
    assert result(any_ws, done.id) == 6
    assert output_of(any_ws, done.id, "first") == 2
    assert notes(project) == ["first(1)", "second(2,3)"]


def test_a_second_run_takes_all_from_the_cache(
    any_ws: Workspace, loop: ModuleType, project: UserProject
) -> None:
    first = run(any_ws, loop.train)
    again = run(any_ws, loop.train)
    assert states(again) == {"first": "cached", "second": "cached"}
    assert [one.made_by for one in again.steps] == [one.id for one in first.steps]
    assert result(any_ws, again.id) == 6
    assert notes(project) == ["first(1)", "second(2,3)"]


def test_only_what_changed_runs_again(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    run(ws, loop.train)
    notes(project)
    project.edit("loop", "value * by", "by * value")
    run(ws, project.load().train)
    assert notes(project) == ["second(2,3)"]
    project.edit("loop", "LIMIT = 1", "LIMIT = 2")
    run(ws, project.load().train)
    assert notes(project) == ["first(1)", "second(3,3)"]


def test_a_parameter_decides_what_runs(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    run(ws, loop.fan_out, count=2)
    notes(project)
    done = run(ws, loop.fan_out, count=3)
    assert notes(project) == ["second(1,2)"]
    assert result(ws, done.id) == [0, 1, 2]


def test_another_pipeline_shares_the_cache(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    run(ws, loop.train)
    notes(project)
    assert states(run(ws, loop.uncached)) == {"first": "cached", "never_cached": "done"}


def test_a_step_without_cache_always_runs(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    run(ws, loop.uncached)
    run(ws, loop.uncached)
    assert notes(project) == ["first(1)", "never_cached", "never_cached"]


def test_a_result_whose_blob_is_gone_is_made_again(ws: Workspace) -> None:
    done = run(ws, tabular)
    (made,) = done.steps
    assert made.output is not None
    for digest in made.output.files.values():
        ws.blobs.delete(digest)
    assert states(run(ws, tabular)) == {"rows": "done"}
    assert states(run(ws, tabular)) == {"rows": "cached"}


@step
def rows() -> pa.Table:
    return pa.table({"x": [1, 2]})


@pipeline
def tabular() -> pa.Table:
    return rows()


def test_a_failed_step_is_tried_again(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    done = run(ws, loop.wobbly, good_at=3)
    assert notes(project) == ["first(1)", "flaky", "flaky", "flaky", "second(2,2)"]
    tries = [one for one in done.steps if one.node == "flaky"]
    assert [(one.attempt, one.state) for one in tries] == [(1, "failed"), (2, "failed"), (3, "done")]
    assert "RuntimeError: try 1" in (tries[0].error or "")


@step(retries=3, back_off_s=0)
def refuses() -> int:
    raise Invalid("the value is odd. Give an even one.")


@pipeline
def refused() -> int:
    return refuses()


def test_an_error_that_would_come_again_is_not_tried_again(ws: Workspace) -> None:
    with pytest.raises(StepFailed, match="the value is odd") as caught:
        run(ws, refused)
    assert len(pipeline_run(ws, caught.value.run_id).steps) == 1


def test_a_step_that_fails_for_good_fails_the_run(
    any_ws: Workspace, loop: ModuleType, project: UserProject
) -> None:
    with pytest.raises(StepFailed, match=r"step flaky\(good_at=9\) failed: .*") as caught:
        run(any_ws, loop.wobbly, good_at=9)
    assert notes(project) == ["first(1)", "flaky", "flaky", "flaky"]
    failed = pipeline_run(any_ws, caught.value.run_id)
    assert failed.state == "failed"
    assert "RuntimeError: try 3" in (failed.error or "")
    assert "second" not in states(failed)
    assert tracking.run(any_ws, failed.id).status == "failed"
    with pytest.raises(NotReady, match="is failed"):
        result(any_ws, failed.id)


def test_steps_beside_a_failed_one_are_kept(ws: Workspace, project: UserProject) -> None:
    project.write(
        {
            "loop": """
                from everloop.pipelines import pipeline, step

                @step
                def bad() -> int:
                    raise RuntimeError("bad")

                @step
                def slow() -> int:
                    return 1

                @pipeline
                def train() -> list:
                    return [bad(), slow()]
            """
        }
    )
    with pytest.raises(StepFailed) as caught:
        run_pipeline(ws, project.load().train, reason="test", executor=Processes(2))
    assert states(pipeline_run(ws, caught.value.run_id)) == {"bad": "failed", "slow": "done"}


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"value": 1.5}, "takes value as int"),
        ({"valeu": 1}, "Did you mean 'value'"),
        ({"value": (1,)}, "parameters of a run"),
    ],
)
def test_wrong_parameters_record_nothing(
    ws: Workspace, loop: ModuleType, params: dict[str, Any], found: str
) -> None:
    with pytest.raises(Invalid, match=found):
        run(ws, loop.train, **params)
    assert pipeline_runs(ws) == []
    assert tracking.runs(ws) == []


@pytest.mark.parametrize("value", [b"x", float("nan"), object(), {1: 2}])
def test_parameters_come_back_from_json_as_they_are(ws: Workspace, value: object) -> None:
    @pipeline
    def takes(value: Any) -> int:
        return 1

    with pytest.raises(Invalid, match="parameters of a run are"):
        run(ws, takes, value=value)


def test_progress_is_told_as_it_happens(ws: Workspace, loop: ModuleType) -> None:
    told: list[Progress] = []
    run(ws, loop.train)
    run_pipeline(
        ws, loop.wobbly, params={"good_at": 2}, reason="test", executor=Inline(), on_progress=told.append
    )
    of_steps = [one for one in told if one.kind != "step_touched"]  # they count their calls in a file
    assert [(one.kind, one.label, one.done, one.total) for one in of_steps] == [
        ("run_started", "wobbly", 0, 3),
        ("step_cached", "first(value=1)", 1, 3),
        ("step_started", "flaky(good_at=2)", 1, 3),
        ("step_retried", "flaky(good_at=2)", 1, 3),
        ("step_started", "flaky(good_at=2)", 1, 3),
        ("step_done", "flaky(good_at=2)", 2, 3),
        ("step_started", "second(by=2)", 2, 3),
        ("step_done", "second(by=2)", 3, 3),
        ("run_ended", "wobbly", 3, 3),
    ]
    assert of_steps[3].message == "RuntimeError: try 1"
    assert of_steps[5].seconds is not None


def test_a_run_is_a_tracking_run(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    done = run(ws, loop.train, value=4)
    tracked = tracking.run(ws, done.id)
    assert (tracked.kind, tracked.status, tracked.experiment) == ("pipeline", "finished", "train")
    assert tracked.params == {"value": "4"}
    assert (tracked.tags["reason"], tracked.tags["everloop.seed"]) == ("test", "0")
    assert tracking.machine_of(tracked) == tracking.machine()
    assert (tracked.code, tracked.environment) == (done.code, done.environment)
    assert done.code is not None
    captured = tracking.code(ws, done.code)
    assert ws.blobs.get(captured.files["loop.py"]) == (project.root / "loop.py").read_bytes()


def test_an_event_tells_how_a_run_ended(ws: Workspace, loop: ModuleType) -> None:
    done = run(ws, loop.train)
    with pytest.raises(StepFailed):
        run(ws, loop.wobbly, good_at=9)
    failed, good = events.newest(ws, limit=2)
    assert (good.kind, good.subject, good.level) == ("pipeline.done", Node("run", done.id), "info")
    assert (failed.kind, failed.level) == ("pipeline.failed", "failed")
    assert failed.message.startswith("wobbly: step flaky(good_at=9) failed")


def test_lineage_leads_from_a_run_to_its_steps(ws: Workspace, loop: ModuleType) -> None:
    done = run(ws, loop.train)
    first, second = done.steps
    edges = {(edge.source, edge.target, edge.role) for edge in ledger.upstream(ws, Node("run", done.id))}
    assert (Node("step", first.id), Node("step", second.id), "value") in edges
    assert (Node("step", second.id), Node("run", done.id), "result") in edges
    assert (Node("code", done.code or ""), Node("run", done.id), "code") in edges


def test_a_cached_result_keeps_its_lineage(ws: Workspace, loop: ModuleType) -> None:
    first = run(ws, loop.train)
    again = run(ws, loop.train)
    made = {one.id for one in first.steps}
    above = {
        edge.source.id for edge in ledger.upstream(ws, Node("run", again.id)) if edge.source.kind == "step"
    }
    assert above == made


@dataclass(frozen=True)
class Listings:
    """Rows that gain one with each day, as a data set gains versions."""

    name: str = "listings"

    def pin(self, ws: Workspace) -> Pinned:
        return Pinned("dataset_version", f"listings@{ws.now().day}", digest=f"content of {ws.now().day}")

    def load(self, ws: Workspace, ref: str) -> pa.Table:
        return pa.table({"x": range(int(ref.partition("@")[2]))})


@step
def count(table: pa.Table) -> int:
    return table.num_rows


@step
def later(counted: int, table: pa.Table) -> list[int]:
    return [counted, table.num_rows]


@pipeline
def counted() -> list[int]:
    declared: Any = Listings()
    return later(count(declared), declared)


def test_declared_inputs_are_pinned_once(ws: Workspace) -> None:
    done = run(ws, counted)
    assert done.pins == {"listings": Pinned("dataset_version", "listings@1", "content of 1")}
    assert result(ws, done.id) == [1, 1]
    edges = {(edge.source, edge.target.kind, edge.role) for edge in ledger.upstream(ws, Node("run", done.id))}
    listings = Node("dataset_version", "listings@1")
    assert {(listings, "run", "listings"), (listings, "step", "table")} <= edges


def test_a_new_version_of_an_input_runs_what_takes_it(ws: Workspace) -> None:
    run(ws, counted)
    assert states(run(ws, counted)) == {"count": "cached", "later": "cached"}
    ws.clock.advance(timedelta(days=1))  # type: ignore[attr-defined]  # the fixture's is a simulation
    assert states(run(ws, counted)) == {"count": "done", "later": "done"}


def test_a_step_is_finished_once_whatever_the_code_does(any_ws: Workspace, loop: ModuleType) -> None:
    done = run(any_ws, loop.train)
    with any_ws.read() as connection:
        row = connection.execute(
            sa.select(store.step_runs).where(store.step_runs.c.id == done.steps[0].id)
        ).one()
    twin = {**row._mapping, "id": new_id("step"), "attempt": 2}
    with pytest.raises(sa.exc.IntegrityError):
        any_ws.write(lambda tx: tx.execute(sa.insert(store.step_runs).values(**twin)))


def test_runs_are_listed_newest_first(ws: Workspace, loop: ModuleType) -> None:
    first, second = run(ws, loop.train), run(ws, loop.uncached)
    assert [one.id for one in pipeline_runs(ws)] == [second.id, first.id]
    assert [one.id for one in pipeline_runs(ws, pipeline="train")] == [first.id]


def test_what_is_not_there_is_told(ws: Workspace, loop: ModuleType) -> None:
    with pytest.raises(NotFound, match="no pipeline run run_1"):
        pipeline_run(ws, "run_1")
    done = run(ws, loop.train)
    with pytest.raises(NotFound, match="no finished step 'third'; finished are: first, second"):
        output_of(ws, done.id, "third")


def test_a_pipeline_made_inside_a_function_runs_in_this_process(ws: Workspace) -> None:
    @step
    def one() -> int:
        return 1

    @pipeline
    def inner() -> int:
        return one()

    done = run_pipeline(ws, inner, reason="test")
    assert result(ws, done.id) == 1
    assert done.code is None


def test_a_pipeline_in_a_file_runs_in_processes(
    ws: Workspace, loop: ModuleType, project: UserProject
) -> None:
    project.edit("loop", "return value + LIMIT", "print('said'); return value + LIMIT")
    done = run_pipeline(ws, project.load().train, reason="test")
    assert result(ws, done.id) == 6
    assert done.steps[0].log == "logs/first-1.log"
    assert tracking.read_artifact(ws, done.id, "logs/first-1.log") == b"said\n"
    assert not (ws.home / "runs" / done.id).exists()
    snapshot = Path(ws.home, "code", done.code or "")
    assert notes(project) == []
    assert (snapshot / "notes").read_text().split() == ["first(1)", "second(2,3)"]


def test_applied_code_is_what_the_run_names(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    (project.root / "other.py").write_text("x = 1")
    applied = tracking.capture_code(ws, project.root)
    done = run_pipeline(ws, loop.train, reason="test", executor=Inline(), root=project.root, code=applied)
    assert done.code == applied.digest
    assert set(applied.files) == {"loop.py", "other.py"}


def test_code_that_is_not_the_applied_one_is_refused(
    ws: Workspace, loop: ModuleType, project: UserProject
) -> None:
    applied = tracking.capture_code(ws, project.root)
    project.edit("loop", "LIMIT = 1", "LIMIT = 2")
    with pytest.raises(Conflict, match=r"loop.py is not as it was captured"):
        run_pipeline(
            ws, project.load().train, reason="test", executor=Inline(), root=project.root, code=applied
        )


def test_a_pipeline_outside_the_named_project_is_refused(
    ws: Workspace, loop: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(Invalid, match="is not below"):
        run_pipeline(ws, loop.train, reason="test", root=tmp_path / "elsewhere")


def test_the_same_code_in_another_folder_shares_the_cache(
    ws: Workspace, loop: ModuleType, project: UserProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job runs from the snapshot of what a person ran from the project's folder."""
    first = run(ws, loop.train)
    project.forget()
    monkeypatch.syspath_prepend(ws.home / "code" / (first.code or ""))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(project.root)])
    again = run(ws, importlib.import_module("loop").train)
    assert states(again) == {"first": "cached", "second": "cached"}


def test_a_result_is_looked_up_by_its_index(ws: Workspace) -> None:
    """However many steps were run."""
    with ws.read() as connection:
        statement = store._MADE_UNDER.params(by_key="k").compile(
            connection, compile_kwargs={"literal_binds": True}
        )
        plan = connection.execute(sa.text(f"EXPLAIN QUERY PLAN {statement}")).all()
    assert "USING INDEX ix_step_run_key (key=?)" in str(plan)
