"""The layout of a run's graph: boxes apart, each behind what it needs, and large runs folded."""

from __future__ import annotations

import random
import re
from itertools import combinations

import pytest

from everloop.web.bundles import MOST, folded
from everloop.web.layers import BOX, Drawing, drawn

Graph = dict[str, list[str]]
N = 500


def fan() -> Graph:
    inner = [f"fit-{i}" for i in range(N - 2)]
    return {"split": [], **{name: ["split"] for name in inner}, "best": inner}


def chain() -> Graph:
    """Each reads the first one besides the one before it."""
    return {"s0": [], **{f"s{i}": ["s0", f"s{i - 1}"] for i in range(1, N)}}


def rows() -> Graph:
    """A hundred rows of five."""
    ways = {f"s{k}-{i}": [f"s{k - 1}-{i}" if k else "load"] for i in range(100) for k in range(5)}
    return {"load": [], **ways, "end": [f"s4-{i}" for i in range(100)]}


def tangle() -> Graph:
    chance = random.Random(4)  # noqa: S311  (a made-up graph)
    names = [f"n{i}" for i in range(N)]
    return {
        name: chance.sample(names[max(0, i - 30) : i], min(i, chance.randrange(3)))
        for i, name in enumerate(names)
    }


GRAPHS = {"fan": fan(), "chain": chain(), "rows": rows(), "tangle": tangle()}


@pytest.mark.parametrize("name", GRAPHS)
def test_no_box_stands_over_another_and_each_stands_behind_what_it_needs(name: str) -> None:
    graph = GRAPHS[name]
    found = drawn(list(graph), graph)
    assert found.boxes.keys() == graph.keys()
    for (x, y), (u, v) in combinations(found.boxes.values(), 2):
        assert abs(x - u) >= BOX[0] or abs(y - v) >= BOX[1]
    for one, before in graph.items():
        assert all(found.boxes[one][0] >= found.boxes[other][0] + BOX[0] for other in before)
    assert all(
        0 <= x <= found.width - BOX[0] and 0 <= y <= found.height - BOX[1] for x, y in found.boxes.values()
    )


def test_wires_go_from_the_right_side_of_one_box_to_the_left_of_another() -> None:
    found = drawn(list(tangle()), tangle())
    assert {(one, other) for one, other, _ in found.wires} == {
        (before, name) for name, many in tangle().items() for before in many
    }
    for source, target, path in found.wires:
        numbers = [int(one) for one in re.findall(r"-?\d+", path)]
        assert tuple(numbers[:2]) == _side(found, source, right=True)
        assert tuple(numbers[-2:]) == _side(found, target, right=False)


def _side(found: Drawing, name: str, *, right: bool) -> tuple[int, int]:
    x, y = found.boxes[name]
    return x + (BOX[0] if right else 0), y + BOX[1] // 2


def test_a_row_that_reads_one_input_all_along_stays_on_the_line() -> None:
    found = drawn(list(chain()), chain())
    assert found.height < 4 * BOX[1]


@pytest.mark.parametrize("name", ["fan", "chain", "rows"])
def test_a_regular_run_of_500_steps_is_folded_into_what_can_be_read(name: str) -> None:
    graph = GRAPHS[name]
    found = folded(list(graph), graph, like={one: re.sub(r"-?\d+$", "", one) for one in graph}, inputs={"s0"})
    assert len(found) <= 5
    assert sorted(member for one in found for member in one.members) == sorted(graph)


@pytest.mark.parametrize("opened", [(), ("fit-0",), ("all",), ("s0-0",)])
@pytest.mark.parametrize("name", GRAPHS)
def test_folded_boxes_stand_behind_boxes_that_are_there(name: str, opened: tuple[str, ...]) -> None:
    graph = GRAPHS[name]
    known: set[str] = set()
    for one in folded(
        list(graph), graph, like={each: re.sub(r"-?\d+$", "", each) for each in graph}, opened=opened
    ):
        assert set(one.before) <= known, one
        known.add(one.id)


def test_a_folded_box_is_opened_by_its_name() -> None:
    graph = fan()
    like = dict.fromkeys(graph, "fit")
    assert len(folded(list(graph), graph, like=like, opened=("fit-0",))) == N
    assert len(folded(list(graph), graph, like=like, opened=("fit-1",))) == 3


def test_a_small_run_is_shown_step_by_step() -> None:
    graph = {"split": [], **{f"fit-{i}": ["split"] for i in range(MOST - 1)}}
    assert len(folded(list(graph), graph, like=dict.fromkeys(graph, "fit"))) == MOST
