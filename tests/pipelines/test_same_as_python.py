"""A body of maps and conditions gives as a pipeline what it gives as plain Python."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from everloop.ids import new_id
from everloop.pipelines import Inline, Progress, pipeline, result, resume, run_pipeline, step, when
from everloop.workspace import Workspace


@step
def add(left: int, right: int) -> int:
    return left + right


@step
def is_odd(value: int) -> bool:
    return value % 2 == 1


@step
def listed(value: int) -> list[int]:
    return list(range(value % 5))


@step
def total(values: list[int]) -> int:
    return sum(values)


@pipeline
def made_up(seed: int) -> int:
    return grown(seed, [add(1, 2), add(seed, 5)], depth=3)


def grown(seed: int, known: list[int], *, depth: int) -> int:
    """A few calls over known results, the last one's result. Branches have seeds of their own, as one may not be called."""
    chance = random.Random(seed)  # noqa: S311  (seeded: the body has to be the same each time)
    known = list(known)
    for _ in range(4):
        left, right = chance.choice(known), chance.choice(known)
        kind = chance.choice(["add", "map", "written", "when"] if depth else ["add", "map"])
        if kind == "add":
            known.append(add(left, right))
        elif kind == "map":
            known.append(total(add.map(listed(left), right=right)))
        elif kind == "written":
            known.append(total(add.map([left, 3, right], left=right)))
        else:
            then, otherwise = chance.randrange(10**6), chance.randrange(10**6)
            known.append(
                when(
                    is_odd(left),
                    lambda then=then, known=known: grown(then, known, depth=depth - 1),  # type: ignore[misc]  # bound per turn
                    lambda other=otherwise, known=known: grown(other, known, depth=depth - 1),  # type: ignore[misc]  # bound per turn
                )
            )
    return known[-1]


@pytest.mark.parametrize("seed", range(12))
def test_a_run_gives_what_plain_python_gives(ws: Workspace, seed: int) -> None:
    done = run_pipeline(ws, made_up, params={"seed": seed}, reason="test", executor=Inline())
    assert result(ws, done.id) == made_up(seed)
    nodes = Counter(one.node for one in done.steps)
    assert set(nodes.values()) == {1}
    assert {step["name"] for step in done.plan["steps"]} <= set(nodes)


class Killed(BaseException):
    """Ends a runner where it stands."""


@pytest.mark.parametrize("seed", range(4))
def test_it_does_so_when_its_runner_dies_again_and_again(ws: Workspace, seed: int) -> None:
    run_id, chance = new_id("run"), random.Random(seed)  # noqa: S311  (seeded)
    left = chance.randrange(5)

    def die(_progress: Progress) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            left = chance.randrange(5, 30)
            raise Killed

    def go_on() -> bool:
        try:
            run_pipeline(
                ws,
                made_up,
                params={"seed": seed},
                reason="test",
                run_id=run_id,
                executor=Inline(),
                on_progress=die,
            )
        except Killed:
            return False
        return True

    while not go_on():
        pass
    done = resume(ws, run_id)
    assert result(ws, done.id) == made_up(seed)
    finished = Counter(one.node for one in done.steps if one.state in ("done", "cached", "skipped"))
    assert set(finished.values()) == {1}
