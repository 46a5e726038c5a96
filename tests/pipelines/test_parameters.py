"""Parameters are checked before anything is recorded, and pipelines within pipelines theirs too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest

from everloop.errors import Invalid
from everloop.pipelines import Inline, between, pipeline, pipeline_runs, result, run_pipeline, step
from everloop.workspace import Workspace

if TYPE_CHECKING:
    from decimal import Decimal

    from everloop.pipelines import Pipeline


@dataclass(frozen=True)
class Gt:
    """As annotated_types.Gt."""

    gt: float


@dataclass(frozen=True)
class Len:
    """As annotated_types.Len."""

    min_length: int = 0
    max_length: int | None = None


@step
def give(value: Any) -> Any:
    return value


@pipeline
def train(
    c: Annotated[float, between(0.1, 10)] = 1.0,
    kind: Literal["linear", "tree", 1] = "linear",
    depth: int | None = None,
    names: Annotated[list[str], Len(1, 3)] = ["a"],  # noqa: B006  (a default of a pipeline is never changed)
    weights: dict[str, float] = {},  # noqa: B006
    title: str = "",
    share: Annotated[float | None, "of all", Gt(0)] = None,
    is_quick: bool = False,
    price: Decimal | int = 0,
) -> Any:
    return give([c, kind, depth, names, weights, title, share, is_quick])


GOOD: list[dict[str, Any]] = [
    {"c": 10},
    {"c": 0.1, "kind": 1},
    {"depth": 3},
    {"depth": None},
    {"names": ["a", "b", "c"]},
    {"weights": {"a": 1, "b": 0.5}},
    {"share": 0.1},
    {"price": "anything, as its type is not there when it runs"},
]

BAD: list[tuple[dict[str, Any], str]] = [
    ({"c": 11}, r"pipeline train takes c as float from 0.1 up to 10 and got 11. Give it such a value\."),
    ({"c": "1"}, "takes c as float from 0.1 up to 10 and got '1'"),
    ({"c": None}, "takes c as float"),
    ({"kind": "forest"}, "takes kind as one of 'linear', 'tree', 1 and got 'forest'"),
    ({"kind": True}, "takes kind as one of"),
    ({"depth": 2.5}, "takes depth as int or None and got 2.5"),
    ({"depth": True}, "takes depth as int or None"),
    ({"names": []}, r"takes names as list\[str\] of at least 1 of at most 3 and got \[\]"),
    ({"names": ["a", 1]}, r"takes names as list\[str\]"),
    ({"names": "abc"}, r"takes names as list\[str\]"),
    ({"weights": {"a": "1"}}, r"takes weights as dict\[str, float\]"),
    ({"title": 4}, r"takes title as str and got 4, which is int\. .* in quotes: --param 'title=\"4\"'"),
    ({"share": 0}, "takes share as float or None above 0 and got 0"),
    ({"is_quick": 1}, "takes is_quick as bool and got 1, which is int"),
]


@pytest.mark.parametrize("params", GOOD, ids=str)
def test_good_values_pass(params: dict[str, Any]) -> None:
    assert len(train.trace(params).nodes) == 1


@pytest.mark.parametrize(("params", "found"), BAD, ids=str)
def test_bad_values_are_refused_before_anything_is_recorded(
    ws: Workspace, params: dict[str, Any], found: str
) -> None:
    with pytest.raises(Invalid, match=found):
        run_pipeline(ws, train, params=params, reason="test", executor=Inline())
    assert pipeline_runs(ws) == []


def test_a_default_is_held_to_it_too() -> None:
    @pipeline
    def wrong(share: Annotated[float, between(0, 1)] = 20) -> Any:
        return give(share)

    with pytest.raises(Invalid, match="takes share as float from 0 up to 1 and got 20"):
        wrong.trace()


def test_a_range_has_numbers_in_it() -> None:
    with pytest.raises(Invalid, match=r"between\(2, 1\) has no numbers in it"):
        between(2, 1)


@pipeline
def inner(value: Annotated[int, between(1, 3)], rows: Any = None) -> Any:
    return give(give(value))


def nested(body: Any) -> Pipeline[[], Any]:
    def outer() -> Any:
        return body()

    return pipeline(outer)


def test_pipelines_within_pipelines_have_names_and_parameters_of_their_own(ws: Workspace) -> None:
    @pipeline
    def middle(value: int) -> Any:
        return inner(value)

    graph = nested(lambda: [middle(1), inner(2), middle(3), give(0)]).trace()
    assert [node.name for node in graph.nodes] == [
        "middle.inner.give",
        "middle.inner.give-2",
        "inner.give",
        "inner.give-2",
        "middle.inner.give-3",
        "middle.inner.give-4",
        "give",
    ]
    run = run_pipeline(ws, nested(lambda: [inner(n) for n in (1, 2)]), reason="test", executor=Inline())
    assert result(ws, run.id) == [1, 2]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (lambda: inner(4), "pipeline inner takes value as int from 1 up to 3 and got 4"),
        (inner, "pipeline inner was called wrongly in pipeline outer: missing a required argument"),
        (lambda: inner(1, size=2), "called wrongly in pipeline outer: got an unexpected"),  # type: ignore[call-arg]
        (lambda: inner.map([1, 2]), "pipeline inner was mapped; only a step is called once for each item"),
        (lambda: give.map([inner]), "Pipeline is no type of a parameter"),
    ],
)
def test_wrong_calls_of_a_pipeline_in_a_pipeline_are_refused(body: Any, found: str) -> None:
    with pytest.raises(Invalid, match=found):
        nested(body).trace()


def test_what_a_step_makes_may_be_a_parameter_of_a_pipeline_in_a_pipeline(ws: Workspace) -> None:
    run = run_pipeline(ws, nested(lambda: inner(give(7))), reason="test", executor=Inline())
    assert result(ws, run.id) == 7


def test_a_pipeline_that_calls_itself_for_ever_is_refused() -> None:
    @pipeline
    def endless() -> Any:
        return endless()

    with pytest.raises(Invalid, match="calls itself"):
        endless.trace()
