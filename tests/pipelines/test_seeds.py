"""Random numbers of a step come from the run's seed and the step's function, and from nothing else."""

from __future__ import annotations

import random
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from everloop.pipelines import Executor, Inline, PipelineRun, Processes, result, run_pipeline, store, why
from everloop.pipelines.plan import Plan
from everloop.pipelines.seeds import seeded, step_seed
from everloop.storage import Tx
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

LOOP = """
    import random

    import numpy

    from everloop.pipelines import pipeline, step

    @step
    def drawn(by: int = 1) -> list:
        return [random.random(), float(numpy.random.random())]

    @step
    def other() -> list:
        return [random.random(), float(numpy.random.random())]

    @step
    def both(left: list, right: list) -> list:
        return [left, right]

    @pipeline
    def twice() -> list:
        return both(drawn(), other())

    @pipeline
    def called() -> list:
        return both(drawn(by=1), drawn(by=2))
"""


@pytest.fixture
def loop(project: UserProject) -> Any:
    project.write({"loop": LOOP})
    return project.load()


def ran(ws: Workspace, pipeline: Any, executor: Executor | None = None, **options: Any) -> PipelineRun:
    return run_pipeline(ws, pipeline, reason="test", executor=executor or Inline(), **options)


@pytest.mark.parametrize(
    ("library", "place"),
    [("torch", "manual_seed"), ("tensorflow", "random.set_seed"), ("cupy", "random.seed")],
)
def test_libraries_that_are_loaded_are_seeded(
    monkeypatch: pytest.MonkeyPatch, library: str, place: str
) -> None:
    """Stand-ins that remember what they were told: these libraries weigh gigabytes."""
    told: list[int] = []
    *within, name = place.split(".")
    module = SimpleNamespace(**{name: told.append})
    for one in reversed(within):
        module = SimpleNamespace(**{one: module})
    monkeypatch.setitem(sys.modules, library, module)
    with seeded(11):
        pass
    with seeded(None):
        pass
    assert told == [11]


def test_two_steps_draw_different_numbers(ws: Workspace, loop: Any) -> None:
    left, right = result(ws, ran(ws, loop.twice).id)
    assert not set(left) & set(right)


def test_two_calls_of_a_step_draw_the_same(ws: Workspace, loop: Any) -> None:
    left, right = result(ws, ran(ws, loop.called).id)
    assert left == right


@pytest.mark.parametrize("executor", [Processes(1), Processes(1, forked=False)], ids=["forked", "fresh"])
def test_every_executor_draws_the_same(ws: Workspace, loop: Any, executor: Executor) -> None:
    before = result(ws, ran(ws, loop.twice, seed=5).id)
    ws.write(forget_results)
    assert result(ws, ran(ws, loop.twice, executor, seed=5).id) == before


def forget_results(tx: Tx) -> None:
    tx.execute(store.step_runs.update().values(key=None))


def test_another_seed_runs_the_steps_anew_and_is_the_reason(ws: Workspace, loop: Any) -> None:
    before = ran(ws, loop.twice)
    after = ran(ws, loop.twice, seed=7)
    assert {one.state for one in after.steps} == {"done"}
    assert result(ws, before.id) != result(ws, after.id)
    assert why(ws, after.id, "drawn").sentence == "drawn ran: seed of the run went from 0 to 7."


def test_the_default_seed_is_no_part_of_a_cache_key(ws: Workspace, loop: Any) -> None:
    assert set(ran(ws, loop.twice).steps[0].parts) == {"source", "environment", "parameters", "inputs"}


def test_a_plan_of_before_there_were_seeds_has_none(ws: Workspace, loop: Any) -> None:
    told = dict(ran(ws, loop.twice).plan)
    del told["seed"], told["repeats"]
    assert Plan.from_json(told).seed is None


def test_a_step_in_this_process_takes_nothing_of_its_random_numbers(ws: Workspace, loop: Any) -> None:
    before = random.getstate(), numbers_to_come()
    ran(ws, loop.twice)
    assert (random.getstate(), numbers_to_come()) == before


def test_the_seed_of_a_step_depends_on_run_and_function() -> None:
    assert len({step_seed(0, "loop:fit"), step_seed(1, "loop:fit"), step_seed(0, "loop:split")}) == 3


def test_without_a_seed_nothing_is_set() -> None:
    before = random.getstate()
    with seeded(None):
        assert random.getstate() == before


def numbers_to_come() -> list[int]:
    keys: list[int] = np.random.get_state(legacy=False)["state"]["key"].tolist()
    return keys
