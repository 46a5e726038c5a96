"""`step.map`: one call for each item of a list, each journaled, cached and resumed by itself."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from everloop import ledger
from everloop.errors import Invalid, StepFailed
from everloop.ledger import Node
from everloop.pipelines import (
    Executor,
    Inline,
    PipelineRun,
    Processes,
    Progress,
    output_of,
    pipeline,
    pipeline_run,
    result,
    resume,
    run_pipeline,
    step,
    why,
)
from everloop.pipelines.graph import Constant, Each, Group, Output
from everloop.pipelines.plan import Plan, key_parts, plan_run
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject
from tests.pipelines.test_runner import Threads

LOOP = """
    import os
    from pathlib import Path

    import pyarrow as pa

    from everloop.pipelines import pipeline, step

    PROJECT = Path(os.environ["PROJECT"])


    def note(word):
        with (PROJECT / "notes").open("a") as file:
            file.write(word + " ")


    @step
    def numbers(count: int) -> list:
        return list(range(count))


    @step
    def square(number: int, plus: int = 0) -> int:
        note(f"square({number})")
        if (PROJECT / f"bad-{number}").exists():
            raise ValueError(f"{number} is bad")
        return number * number + plus


    @step
    def total(values: list) -> int:
        return sum(values)


    @pipeline
    def train(count: int, plus: int = 0) -> int:
        return total(square.map(numbers(count), plus=plus))


    @pipeline
    def written(count: int) -> list:
        return square.map(range(count))


    @step
    def tables(count: int) -> list:
        return [pa.table({"x": [number]}) for number in range(count)]


    @step
    def doubled(table: pa.Table) -> pa.Table:
        return pa.table({"x": [2 * table["x"][0].as_py()]})


    @step
    def joined(tables: list) -> list:
        return [table["x"][0].as_py() for table in tables]


    @pipeline
    def of_tables(count: int) -> list:
        return joined(doubled.map(doubled.map(tables(count))))
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
    """What ran since the last look, sorted."""
    place = project.root / "notes"
    words = place.read_text().split() if place.exists() else []
    place.unlink(missing_ok=True)
    return sorted(words)


def states(done: PipelineRun) -> dict[str, str]:
    return {one.node: one.state for one in done.steps}


@step
def listed() -> list[int]:
    return [1, 2]


@step
def power(number: int, exponent: int = 2) -> int:
    return int(number**exponent)


@step
def sum_of(*numbers: int) -> int:
    return sum(numbers)


def test_a_map_is_one_node_of_the_graph() -> None:
    graph = pipeline(lambda: power.map(listed(), exponent=3)).trace()
    assert [node.name for node in graph.nodes] == ["listed", "power"]
    assert graph.node("power").bindings == {"number": Each(Output("listed")), "exponent": Constant(3)}


def test_an_item_goes_to_the_first_parameter_that_is_not_given() -> None:
    graph = pipeline(lambda: power.map([2, 3], number=10)).trace()
    items = Each(Group((Constant(2), Constant(3)), is_tuple=False))
    assert graph.node("power").bindings == {"number": Constant(10), "exponent": items}


def test_outside_a_pipeline_a_map_is_a_list_of_calls() -> None:
    assert power.map([2, 3], exponent=3) == [8, 27]
    assert power.map((2, 3), number=10) == [100, 1000]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (lambda: power.map([1], number=1, exponent=2), "no parameter for the item"),
        (lambda: power.map([1], exponant=2), "called wrongly.*exponant"),
        (lambda: sum_of.map([1]), "no parameter for the item"),
        (lambda: power.map("abc"), "mapped over 'abc', a str"),
        (lambda: power.map([{1, 2}]), "set is no type of a parameter"),
    ],
)
def test_wrong_maps_are_refused(body: Any, found: str) -> None:
    with pytest.raises(Invalid, match=found):
        pipeline(body).trace()


def test_each_item_is_a_step_run_of_its_own(any_ws: Workspace, loop: ModuleType, executor: Executor) -> None:
    done = run(any_ws, loop.train, executor, count=3, plus=1)
    assert result(any_ws, done.id) == 8
    assert states(done) == dict.fromkeys(
        ["numbers", "square", "square[0]", "square[1]", "square[2]", "total"], "done"
    )
    assert output_of(any_ws, done.id, "square") == [1, 2, 5]
    assert output_of(any_ws, done.id, "square[2]") == 5


def test_a_list_in_the_body_is_mapped_as_well(ws: Workspace, loop: ModuleType, executor: Executor) -> None:
    done = run(ws, loop.written, executor, count=3)
    assert result(ws, done.id) == [0, 1, 4]


@pytest.mark.parametrize("name", ["train", "written"])
def test_an_empty_list_is_fine(ws: Workspace, loop: ModuleType, executor: Executor, name: str) -> None:
    done = run(ws, getattr(loop, name), executor, count=0)
    assert done.state == "done"
    assert output_of(ws, done.id, "square") == []


def test_tables_are_mapped_and_handed_from_map_to_map(
    ws: Workspace, loop: ModuleType, executor: Executor
) -> None:
    done = run(ws, loop.of_tables, executor, count=3)
    assert result(ws, done.id) == [0, 4, 8]
    doubled: pa.Table = output_of(ws, done.id, "doubled[1]")
    assert doubled["x"].to_pylist() == [2]
    assert [one["x"].to_pylist() for one in output_of(ws, done.id, "doubled-2")] == [[0], [4], [8]]
    assert states(run(ws, loop.of_tables, executor, count=3)) == dict.fromkeys(
        ["tables", "doubled", "doubled-2", "joined"], "cached"
    )


def test_only_new_items_run_again(ws: Workspace, loop: ModuleType, project: UserProject) -> None:
    run(ws, loop.train, count=3)
    notes(project)
    again = run(ws, loop.train, count=4)
    assert notes(project) == ["square(3)"]
    assert [states(again)[f"square[{number}]"] for number in range(4)] == ["cached"] * 3 + ["done"]
    assert result(ws, again.id) == 14


def test_items_share_the_cache_with_single_calls(
    ws: Workspace, loop: ModuleType, project: UserProject
) -> None:
    run(ws, loop.written, count=3)
    notes(project)
    assert states(run(ws, loop.train, count=3))["square[2]"] == "cached"
    assert notes(project) == []


def test_a_failed_item_fails_the_map_and_says_which(
    ws: Workspace, loop: ModuleType, project: UserProject, executor: Executor
) -> None:
    (project.root / "bad-1").touch()
    with pytest.raises(StepFailed, match=r"step square.* failed: 1 of 5 items failed: square\[1\]") as caught:
        run(ws, loop.train, executor, count=5)
    assert "1 is bad" in str(caught.value)
    failed = pipeline_run(ws, caught.value.run_id)
    assert {one.state for one in failed.steps} <= {"done", "failed"}
    assert states(failed)["square"] == states(failed)["square[1]"] == "failed"


def test_items_in_flight_are_waited_for_and_all_that_failed_are_named(ws: Workspace) -> None:
    @step
    def fails(number: int) -> int:
        raise ValueError(f"no {number}")

    @pipeline
    def failing() -> Any:
        return fails.map(range(100))

    with pytest.raises(StepFailed, match=r"2 of 100 items failed: fails\[0\], fails\[1\]\. ") as caught:
        run(ws, failing, Threads(2))
    told = states(pipeline_run(ws, caught.value.run_id))
    assert told == {"fails": "failed", "fails[0]": "failed", "fails[1]": "failed"}


def test_resuming_runs_only_what_is_missing(
    any_ws: Workspace, loop: ModuleType, project: UserProject, executor: Executor
) -> None:
    (project.root / "bad-2").touch()
    with pytest.raises(StepFailed) as caught:
        run(any_ws, loop.train, executor, count=4)
    before = notes(project)
    (project.root / "bad-2").unlink()
    done = resume(any_ws, caught.value.run_id, executor=executor)
    assert result(any_ws, done.id) == 14
    after = notes(project)
    assert sorted([*before, *after]) == sorted(["square(2)", *(f"square({number})" for number in range(4))])
    assert [one.attempt for one in done.steps if one.node == "square[2]"] == [1, 2]


def test_another_steps_failure_leaves_no_map_running(ws: Workspace) -> None:
    @step
    def fails() -> int:
        raise ValueError("no")

    @pipeline
    def beside() -> Any:
        return [power.map([1, 2, 3]), fails()]

    with pytest.raises(StepFailed, match="step fails failed") as caught:
        run(ws, beside)
    assert states(pipeline_run(ws, caught.value.run_id))["power"] == "interrupted"


def test_what_is_no_list_fails_the_map(ws: Workspace) -> None:
    @step
    def two() -> Any:
        return 2

    @pipeline
    def of_a_number() -> Any:
        return power.map(two())

    with pytest.raises(StepFailed, match="goes over a list, and it was given a json value, int"):
        run(ws, of_a_number)


def test_lineage_reaches_through_a_map(ws: Workspace, loop: ModuleType) -> None:
    done = run(ws, loop.train, count=3)
    ids = {one.node: one.id for one in done.steps}
    above = {edge.source.id for edge in ledger.upstream(ws, Node("run", done.id))}
    assert set(ids.values()) <= above
    above_item = {edge.source.id for edge in ledger.upstream(ws, Node("step", ids["square[1]"]))}
    assert ids["numbers"] in above_item
    assert ids["square[0]"] not in above_item


def test_why_an_item_ran_is_told(ws: Workspace, loop: ModuleType) -> None:
    run(ws, loop.train, count=3)
    done = run(ws, loop.train, count=3, plus=1)
    told = why(ws, done.id, "square[1]")
    assert told.sentence.startswith("square[1] ran: parameter plus went from 0 to 1.")


def test_progress_counts_items(ws: Workspace, loop: ModuleType) -> None:
    told: list[Progress] = []
    run_pipeline(
        ws, loop.train, params={"count": 2}, reason="test", executor=Inline(), on_progress=told.append
    )
    ends = [(one.label, one.done, one.total) for one in told if one.kind == "step_done"]
    assert ends == [
        ("numbers(count=2)", 1, 3),
        ("square[0](number=0, plus=0)", 2, 5),
        ("square[1](number=1, plus=0)", 3, 5),
        ("square(plus=0)", 4, 5),
        ("total", 5, 5),
    ]
    assert (told[-1].done, told[-1].total) == (5, 5)


def test_a_planned_map_comes_back_from_json(loop: ModuleType) -> None:
    plan = plan_run(loop.written, {"count": 3}, None).plan
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert plan.by_name["square"].over == "number"


def test_a_long_list_in_the_body_counts_in_the_maps_key_by_its_digest(loop: ModuleType) -> None:
    def parts(count: int) -> str:
        planned = plan_run(loop.written, {"count": count}, None).plan.by_name["square"]
        return json.dumps(key_parts(planned, environment="here", outputs={}, pins={}))

    assert parts(3) != parts(4)
    assert parts(3_000) != parts(3_001)
    assert "3000 items" in parts(3_000)
    assert len(parts(3_000)) < 1_000


def test_a_list_of_which_a_part_is_gone_is_made_again(ws: Workspace, loop: ModuleType) -> None:
    done = run(ws, loop.of_tables, count=2)
    lost = next(one.output for one in done.steps if one.node == "doubled[1]")
    assert lost is not None
    ws.blobs.delete(lost.files["table.parquet"])
    again = states(run(ws, loop.of_tables, count=2))
    assert (again["doubled"], again["doubled[0]"], again["doubled[1]"]) == ("done", "cached", "done")


def test_thousands_of_items_are_copied_neither_into_the_plan_nor_into_the_journal(ws: Workspace) -> None:
    done = run(ws, of_many, count=3_000)
    assert result(ws, done.id) == 3_000
    by_node = {one.node: one for one in done.steps}
    assert len(json.dumps(done.plan)) < 2_000
    assert len(json.dumps(dict(by_node["length"].parts))) < 1_000
    made = by_node["length"].output
    assert made is not None
    assert made.note is None
    assert max(len(json.dumps(dict(one.parts))) for one in done.steps) < 1_000


@step
def many(count: int) -> list[str]:
    return [f"{number} {'x' * 2_000}" for number in range(count)]


@step
def length(text: str) -> int:
    return len(text)


@step
def count_of(values: list[int]) -> int:
    return len(values)


@pipeline
def of_many(count: int) -> int:
    return count_of(length.map(many(count)))
