"""A pipeline's body becomes a static graph, and what it cannot do says so."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

from everloop.errors import Invalid, NotFound
from everloop.pipelines import Pinned, best, pipeline, step
from everloop.pipelines.graph import Constant, Declared, Graph, Group, Mapped, Output
from everloop.workspace import Workspace


@dataclass(frozen=True)
class Rows:
    name: str

    def pin(self, ws: Workspace) -> Pinned:
        raise NotImplementedError

    def load(self, ws: Workspace, ref: str) -> pa.Table:
        raise NotImplementedError


@step
def number(value: int = 0) -> Any:
    return value


@step
def add(left: Any, right: Any = 1) -> int:
    return int(left + right)


@step
def rows_of(rows: Any) -> int:
    return 0


def graph_of(body: Callable[[], Any]) -> Graph:
    return pipeline(body).trace()


def test_calls_become_nodes_and_arguments_bindings() -> None:
    graph = graph_of(lambda: add(number(2), right=3))
    assert [node.name for node in graph.nodes] == ["number", "add"]
    assert graph.node("number").bindings == {"value": Constant(2)}
    assert graph.node("add").bindings == {"left": Output("number"), "right": Constant(3)}
    assert graph.output == Output("add")


def test_defaults_are_bound_as_well() -> None:
    assert graph_of(lambda: add(number())).node("number").bindings == {"value": Constant(0)}


def test_a_comprehension_fans_out_under_unique_names() -> None:
    graph = graph_of(lambda: add([number(n) for n in range(3)]))
    assert [node.name for node in graph.nodes] == ["number", "number-2", "number-3", "add"]
    gathered = Group((Output("number"), Output("number-2"), Output("number-3")), is_tuple=False)
    assert graph.node("add").bindings["left"] == gathered


def test_results_may_stand_inside_tuples_and_dictionaries() -> None:
    graph = graph_of(lambda: add((number(), 1), {"a": number(), "b": [2]}))
    left, right = (graph.node("add").bindings[name] for name in ("left", "right"))
    assert left == Group((Output("number"), Constant(1)), is_tuple=True)
    assert right == Mapped((("a", Output("number-2")), ("b", Constant([2]))))


def test_a_list_of_plain_values_is_one_parameter() -> None:
    assert graph_of(lambda: add([1, 2])).node("add").bindings["left"] == Constant([1, 2])


def test_best_is_a_step_in_a_pipeline_and_a_function_elsewhere() -> None:
    graph = graph_of(lambda: best([number(1), number(2)], by="accuracy"))
    assert graph.output == Output("best")
    with pytest.raises(Invalid, match="no best of 0 models"):
        best([], by="accuracy")


def test_an_inner_pipeline_adds_its_steps_under_its_name() -> None:
    @pipeline
    def inner(start: Any) -> int:
        return add(start, 10)

    graph = graph_of(lambda: add(inner(number()), inner(5)))
    assert [node.name for node in graph.nodes] == ["number", "inner.add", "inner.add-2", "add"]


def test_called_outside_tracing_a_pipeline_is_its_function() -> None:
    @pipeline
    def train(n: int) -> int:
        return add(number(n), 2)

    assert train(3) == 5


def test_equal_declarations_are_one_input_and_names_stay_apart() -> None:
    graph = graph_of(lambda: add(rows_of(Rows("a")), add(rows_of(Rows("a")), rows_of(Rows("b")))))
    assert dict(graph.sources) == {"a": Rows("a"), "b": Rows("b")}
    assert graph.node("rows_of-2").bindings == {"rows": Declared("a")}


@dataclass(frozen=True)
class OtherRows(Rows):
    pass


def test_two_inputs_of_one_name_get_two_names() -> None:
    graph = graph_of(lambda: add(rows_of(Rows("a")), rows_of(OtherRows("a"))))
    assert list(graph.sources) == ["a", "a-2"]


def looped() -> Any:
    return [add(part) for part in number()]


def branched() -> Any:
    return add(1) if number() else add(2)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (branched, "cannot branch on it"),
        (looped, "looped over"),
        (lambda: number().metrics, "attribute .metrics cannot be read"),
        (lambda: number()["a"], r"its part \['a'\]"),
        (lambda: len(number()), "has no length"),
        (lambda: number() == 1, "compared or calculated"),
        (lambda: number() + 1, "compared or calculated"),
        (lambda: 2 * number(), "compared or calculated"),
        (lambda: float(number()), "compared or calculated"),
        (lambda: f"{number()}", "turned into text"),
        (lambda: str(number()), "turned into text"),
        (lambda: number()(1), "cannot be called"),
        (lambda: 1 in number(), "looked up in it"),
        (lambda: math.sqrt(number()), "compared or calculated"),
        (lambda: {number(): 1}, "unhashable"),
    ],
)
def test_a_body_cannot_look_into_results(body: Callable[[], Any], found: str) -> None:
    with pytest.raises((Invalid, TypeError), match=found) as caught:
        graph_of(body)
    if isinstance(caught.value, Invalid):
        assert "result of step number is not known" in str(caught.value)
        assert "function with @step" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (lambda: 1, "calls no step"),
        (
            lambda: number(value=1, other=2),  # type: ignore[call-arg]  # that is the mistake
            "step number was called wrongly.*other.*value: 'int'",
        ),
        (lambda: add({1, 2}), r"add\(left=\).*set is no type of a parameter"),
        (lambda: add(print), "builtin_function_or_method is no type"),
        (lambda: (number(), Rows("a"))[1], "returns a declared input itself, or a secret"),
    ],
)
def test_wrong_bodies_are_refused(body: Callable[[], Any], found: str) -> None:
    with pytest.raises(Invalid, match=found):
        graph_of(body)


@step
def a_number() -> int:
    return 1


@step
def a_text(value: str) -> str:
    return value


@pipeline
def in_a_circle() -> int:
    return in_a_circle()


@pipeline
def counts_down(left: int) -> int:
    return counts_down(left - 1) if left else a_number()


@pipeline
def given_what_holds_itself() -> Any:
    values: list[Any] = [a_number()]
    values.append(values)
    return add(values, 1)


@pipeline
def another_type() -> str:
    return a_text(a_number())  # type: ignore[arg-type]  # that is the mistake


@pipeline
def mapped_over_a_number() -> Any:
    return a_text.map(a_number())  # type: ignore[arg-type]  # that is the mistake


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (in_a_circle, "in_a_circle calls itself, or gives a step a value that holds itself"),
        (given_what_holds_itself, "a graph of steps has no circle"),
        (
            another_type,
            r"a_text\(value=\) in pipeline another_type takes str and got .* a_number.* gives int",
        ),
        (mapped_over_a_number, r"takes list\[str\] and got .* gives int"),
    ],
)
def test_circles_and_types_that_cannot_fit_are_told_while_tracing(wrong: Any, found: str) -> None:
    with pytest.raises(Invalid, match=found):
        wrong.trace()


def test_a_pipeline_may_call_itself_to_an_end() -> None:
    assert [node.name for node in counts_down.trace({"left": 2}).nodes] == [
        "counts_down.counts_down.a_number"
    ]


def test_a_result_does_not_outlive_its_tracing() -> None:
    kept: list[Any] = []
    graph_of(lambda: kept.append(number()))
    with pytest.raises(Invalid, match="of another tracing"):
        graph_of(lambda: add(kept[0]))


def test_a_failed_tracing_leaves_steps_plain_functions() -> None:
    with pytest.raises(Invalid):
        graph_of(branched)
    assert number(7) == 7


@pipeline
def with_parameters(n: int, c: float = 1.0, name: str = "x") -> int:
    return add(number(n), len(name))


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, "needs the parameter 'n'"),
        ({"n": 1, "nane": "y"}, "no parameter 'nane'. Did you mean 'name'?"),
        ({"n": "1"}, "takes n as int and got '1', which is str"),
        ({"n": True}, "takes n as int and got True"),
    ],
)
def test_wrong_parameters_are_refused(params: dict[str, Any], found: str) -> None:
    with pytest.raises(Invalid, match=found.replace("?", r"\?")):
        with_parameters.trace(params)


def test_a_whole_number_is_good_enough_for_a_float() -> None:
    assert with_parameters.trace({"n": 1, "c": 2}).node("number").bindings == {"value": Constant(1)}


def test_an_unknown_node_is_told_with_near_names() -> None:
    with pytest.raises(NotFound, match=r"no step 'numbr'\. Near names: number"):
        graph_of(lambda: add(number())).node("numbr")
