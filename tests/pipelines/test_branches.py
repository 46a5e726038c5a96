"""`when`: both branches are traced, one runs, the other is skipped."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest

import everloop as el
from everloop import ledger
from everloop.errors import Invalid, StepFailed
from everloop.ledger import Node
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
    when,
    why,
)
from everloop.pipelines.graph import Constant, Output
from everloop.pipelines.plan import Plan, plan_run
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

LOOP = """
    import os
    from pathlib import Path

    from everloop.pipelines import pipeline, step, when

    PROJECT = Path(os.environ["PROJECT"])


    @step
    def score(value: int) -> int:
        return value


    @step
    def is_above(value: int, limit: int) -> bool:
        return value > limit


    @step
    def tuned(value: int) -> int:
        if (PROJECT / "bad").exists():
            raise ValueError("no tuning today")
        return value + 100


    @step
    def polished(value: int) -> int:
        return value + 1000


    @step
    def plain(value: int) -> int:
        return value + 1


    @step
    def reported(value) -> str:
        return f"it is {value}"


    @pipeline
    def train(value: int) -> str:
        found = score(value)
        best = when(is_above(found, 10), then=lambda: polished(tuned(found)), otherwise=lambda: plain(found))
        return reported(best)


    @pipeline
    def maybe(value: int) -> str:
        found = score(value)
        return reported(when(is_above(found, 10), lambda: tuned(found)))


    @pipeline
    def nested(value: int) -> str:
        found = score(value)

        def high() -> int:
            return when(is_above(found, 100), lambda: polished(found), lambda: tuned(found))

        return reported(when(is_above(found, 10), high, lambda: found))


    @pipeline
    def of_parts(value: int) -> list:
        found = score(value)
        return when(is_above(found, 10), lambda: [tuned(found), 5], lambda: [])


    @pipeline
    def of_a_map(value: int) -> list:
        return when(is_above(score(value), 10), lambda: plain.map([1, 2]), lambda: [plain(7)])
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


def states(done: PipelineRun) -> dict[str, str]:
    return {one.node: one.state for one in done.steps}


@step
def number(value: int = 0) -> int:
    return value


@step
def is_odd(value: int) -> bool:
    return value % 2 == 1


def test_both_branches_are_in_the_graph_under_their_condition() -> None:
    graph = pipeline(lambda: when(is_odd(3), lambda: number(1), lambda: number(2))).trace()
    assert [(node.name, node.guards) for node in graph.nodes] == [
        ("is_odd", ()),
        ("number", (("is_odd", True),)),
        ("number-2", (("is_odd", False),)),
        ("choice", ()),
    ]
    bindings = graph.node("choice").bindings
    assert bindings == {
        "condition": Output("is_odd"),
        "then": Output("number"),
        "otherwise": Output("number-2"),
    }


def test_without_otherwise_it_is_none() -> None:
    graph = pipeline(lambda: when(is_odd(3), lambda: number(1))).trace()
    assert graph.node("choice").bindings["otherwise"] == Constant(None)


@pytest.mark.parametrize(("condition", "expected"), [(True, 1), (False, 2)])
def test_over_a_plain_value_it_is_pythons_if(condition: bool, expected: int) -> None:
    assert el.when(condition, lambda: number(1), lambda: number(2)) == expected
    graph = pipeline(lambda: when(condition, lambda: number(1), lambda: number(2))).trace()
    assert [node.bindings["value"] for node in graph.nodes] == [Constant(expected)]


def leaked() -> Any:
    kept: list[Any] = []
    when(is_odd(3), lambda: kept.append(number(1)))
    return number(kept[0])


def crossed() -> Any:
    kept: list[Any] = []
    return when(is_odd(3), lambda: kept.append(number(1)), lambda: number(kept[0]))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (
            lambda: when(1, lambda: number(1)),  # type: ignore[call-overload]  # that is the mistake
            "condition of el.when in pipeline .* is 1; it is what a step makes",
        ),
        (lambda: when(is_odd(3), number(1)), "then of el.when .* it is a function without parameters"),  # type: ignore[call-overload]  # that is the mistake
        (lambda: when(is_odd(3), number, 5), "otherwise of el.when .* is 5"),  # type: ignore[call-overload]  # that is the mistake
        (leaked, "from inside a branch of el.when, which may not have run"),
        (crossed, "from inside a branch of el.when, which may not have run"),
    ],
)
def test_wrong_conditions_are_refused(body: Any, found: str) -> None:
    with pytest.raises(Invalid, match=found):
        pipeline(body).trace()


def test_outside_a_pipeline_a_condition_is_true_or_false() -> None:
    with pytest.raises(Invalid, match="neither True nor False"):
        when(0.5, lambda: 1)  # type: ignore[call-overload]  # that is the mistake


@pytest.mark.parametrize(
    ("value", "expected", "skipped"),
    [(20, "it is 1120", {"plain"}), (3, "it is 4", {"tuned", "polished"})],
)
def test_only_the_taken_branch_runs(
    any_ws: Workspace, loop: ModuleType, executor: Executor, value: int, expected: str, skipped: set[str]
) -> None:
    done = run(any_ws, loop.train, executor, value=value)
    assert result(any_ws, done.id) == expected
    assert {node for node, state in states(done).items() if state == "skipped"} == skipped
    assert {state for node, state in states(done).items() if node not in skipped} == {"done"}


def test_a_branch_that_is_not_there_gives_none(ws: Workspace, loop: ModuleType, executor: Executor) -> None:
    assert result(ws, run(ws, loop.maybe, executor, value=3).id) == "it is None"
    assert result(ws, run(ws, loop.maybe, executor, value=30).id) == "it is 130"


@pytest.mark.parametrize(
    ("value", "expected", "skipped"),
    [
        (3, "it is 3", {"is_above-2", "polished", "tuned", "choice"}),
        (20, "it is 120", {"polished"}),
        (200, "it is 1200", {"tuned"}),
    ],
)
def test_conditions_nest(
    ws: Workspace, loop: ModuleType, executor: Executor, value: int, expected: str, skipped: set[str]
) -> None:
    done = run(ws, loop.nested, executor, value=value)
    assert result(ws, done.id) == expected
    found = {one.step.partition(":")[2] for one in done.steps if one.state == "skipped"}
    assert found == {name.partition("-")[0] for name in skipped}


def test_a_branch_may_give_a_list_of_results(ws: Workspace, loop: ModuleType, executor: Executor) -> None:
    assert result(ws, run(ws, loop.of_parts, executor, value=20).id) == [120, 5]
    assert result(ws, run(ws, loop.of_parts, executor, value=2).id) == []


def test_a_map_in_a_branch_is_skipped_whole(ws: Workspace, loop: ModuleType, executor: Executor) -> None:
    assert result(ws, run(ws, loop.of_a_map, executor, value=20).id) == [2, 3]
    done = run(ws, loop.of_a_map, executor, value=2)
    assert result(ws, done.id) == [8]
    assert [one.node for one in done.steps if one.state == "skipped"] == ["plain"]


def test_a_second_run_takes_the_taken_branch_from_the_cache(ws: Workspace, loop: ModuleType) -> None:
    run(ws, loop.train, value=3)
    again = states(run(ws, loop.train, value=3))
    assert again == {
        "score": "cached",
        "is_above": "cached",
        "tuned": "skipped",
        "polished": "skipped",
        "plain": "cached",
        "choice": "cached",
        "reported": "cached",
    }


def test_a_condition_that_is_no_truth_fails_and_no_branch_runs(ws: Workspace) -> None:
    @pipeline
    def wrong() -> Any:
        return when(number(1), lambda: number(2), lambda: number(3))  # type: ignore[call-overload]  # that is the mistake

    with pytest.raises(StepFailed, match="what number made, is neither True nor False") as caught:
        run(ws, wrong)
    failed = states(pipeline_run(ws, caught.value.run_id))
    assert failed == {"number": "done", "number-2": "skipped", "number-3": "skipped", "choice": "failed"}


def test_a_run_that_failed_in_a_branch_goes_on_there(
    any_ws: Workspace, loop: ModuleType, project: UserProject, executor: Executor
) -> None:
    (project.root / "bad").touch()
    with pytest.raises(StepFailed, match="no tuning today") as caught:
        run(any_ws, loop.train, executor, value=20)
    (project.root / "bad").unlink()
    done = resume(any_ws, caught.value.run_id, executor=executor)
    assert result(any_ws, done.id) == "it is 1120"
    assert [one.state for one in done.steps if one.node == "plain"] == ["skipped"]
    assert [one.attempt for one in done.steps if one.node == "score"] == [1]


def test_why_says_which_branch_was_taken(ws: Workspace, loop: ModuleType) -> None:
    done = run(ws, loop.train, value=3)
    assert why(ws, done.id, "choice").sentence == "choice took what otherwise gives: is_above was false."
    skipped = why(ws, done.id, "polished")
    assert skipped.answer == "skipped"
    assert skipped.sentence == (
        "polished was skipped, as it is in a branch that was not taken: is_above was false."
    )


def test_lineage_goes_through_the_taken_branch_alone(ws: Workspace, loop: ModuleType) -> None:
    done = run(ws, loop.train, value=3)
    ids = {one.node: one.id for one in done.steps}
    above = {edge.source.id for edge in ledger.upstream(ws, Node("run", done.id))}
    assert {ids["score"], ids["is_above"], ids["plain"], ids["choice"]} <= above
    assert not {ids["tuned"], ids["polished"]} & above


def test_skipped_steps_are_told_and_counted(ws: Workspace, loop: ModuleType) -> None:
    told: list[Progress] = []
    run_pipeline(
        ws, loop.train, params={"value": 3}, reason="test", executor=Inline(), on_progress=told.append
    )
    assert [one.node for one in told if one.kind == "step_skipped"] == ["tuned", "polished"]
    assert (told[-1].done, told[-1].total) == (7, 7)


def test_a_long_branch_is_skipped_without_trouble(ws: Workspace) -> None:
    def long() -> Any:
        made = number(1)
        for _ in range(1_500):
            made = number(made)
        return made

    @pipeline
    def far() -> Any:
        return when(is_odd(2), long, lambda: 5)

    assert result(ws, run(ws, far).id) == 5


def test_a_planned_condition_comes_back_from_json(loop: ModuleType) -> None:
    plan = plan_run(loop.nested, {"value": 3}, None).plan
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert plan.by_name["polished"].guards == (("is_above", True), ("is_above-2", True))
