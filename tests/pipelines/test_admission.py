"""Steps are given what they ask for of the machine, or wait until it is free."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

import pytest

from everloop.errors import Invalid, StepFailed
from everloop.loop import load, train
from everloop.pipelines import (
    Inline,
    Lean,
    PipelineRun,
    Processes,
    pipeline,
    pipeline_runs,
    resources_of,
    result,
    run_pipeline,
    step,
)
from everloop.pipelines.admission import Room, capacity_here
from everloop.pipelines.plan import Plan, PlannedStep
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

LOOP = """
    import time

    from everloop.pipelines import pipeline, step


    def times(number):
        begun = time.time()
        time.sleep(0.3)
        return [begun, time.time()]


    @step(gpus=1)
    def on_gpu(number: int) -> list:
        return times(number)


    @step
    def beside(number: int) -> list:
        return times(number)


    @step(cpus=8)
    def alone(number: int) -> list:
        return times(number)


    @step(memory_gb=1.0)
    def eats(megabytes: int) -> int:
        held = bytearray(megabytes * 1_000_000)
        time.sleep(0.5)
        return len(held)


    @step(timeout_s=0.3)
    def hangs() -> int:
        time.sleep(600)
        return 1


    @pipeline
    def two_on_gpu() -> list:
        return [on_gpu(1), on_gpu(2), beside(3)]


    @pipeline
    def mapped_on_gpu() -> list:
        return on_gpu.map(range(3))


    @pipeline
    def one_alone() -> list:
        return [beside(1), alone(2), beside(3)]


    @pipeline
    def eating(megabytes: int) -> int:
        return eats(megabytes)


    @pipeline
    def eating_in_calls() -> list:
        return eats.map([1, 2, 1_500])


    @pipeline
    def hanging() -> int:
        return hangs()
"""


@pytest.fixture
def loop(project: UserProject) -> ModuleType:
    project.write({"loop": LOOP})
    return project.load()


def run(ws: Workspace, made: Any, **params: Any) -> PipelineRun:
    executor = Processes(2, resources={"gpus": 1})
    return run_pipeline(ws, made, params=params, reason="test", executor=executor)


def overlap(one: list[float], other: list[float]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def planned(name: str, **resources: float) -> PlannedStep:
    return PlannedStep(name, "m:f", "s", 0, None, True, 1.0, {}, resources=resources)


def test_steps_that_want_the_same_wait_and_others_overtake(ws: Workspace, loop: ModuleType) -> None:
    done = run(ws, loop.two_on_gpu)
    assert [one.node for one in done.steps] == ["on_gpu", "beside", "on_gpu-2"]  # as they began
    first, second, _ = result(ws, done.id)
    assert not overlap(first, second)


def test_calls_of_a_map_wait_for_each_other_too(ws: Workspace, loop: ModuleType) -> None:
    first, second, third = result(ws, run(ws, loop.mapped_on_gpu).id)
    assert not overlap(first, second)
    assert not overlap(second, third)


def test_a_step_that_asks_for_more_cores_than_there_are_runs_alone(ws: Workspace, loop: ModuleType) -> None:
    first, alone, third = result(ws, run(ws, loop.one_alone).id)
    assert not overlap(alone, first)
    assert not overlap(alone, third)


def test_a_step_over_its_memory_is_killed_and_told(ws: Workspace, loop: ModuleType) -> None:
    assert result(ws, run(ws, loop.eating, megabytes=10).id) == 10_000_000
    with pytest.raises(StepFailed, match=r"more than the memory_gb=1 that it asks for"):
        run(ws, loop.eating, megabytes=1_500)


def test_a_call_over_its_memory_is_killed_and_told(ws: Workspace, loop: ModuleType) -> None:
    with pytest.raises(StepFailed, match=r"1 of 3 items failed: eats\[2\]\..*memory_gb=1"):
        run(ws, loop.eating_in_calls)


def test_what_can_never_begin_is_refused_before_anything_is_recorded(ws: Workspace, loop: ModuleType) -> None:
    with pytest.raises(Invalid, match="step on_gpu asks for gpus=1, and there is 0 of it here") as refused:
        run_pipeline(ws, loop.two_on_gpu, reason="test", executor=Processes(2))
    assert 'resources = "gpus=1"' in str(refused.value)
    assert pipeline_runs(ws) == []


def test_the_setting_says_what_a_machine_has(ws: Workspace, loop: ModuleType) -> None:
    settings = dataclasses.replace(ws.settings, resources="gpus=1, license=2")
    done = run_pipeline(dataclasses.replace(ws, settings=settings), loop.mapped_on_gpu, reason="test")
    assert done.state == "done"


def test_limits_hold_in_a_process_started_for_the_run(ws: Workspace, loop: ModuleType) -> None:
    with pytest.raises(StepFailed, match=r"longer than its timeout_s=0\.3"):
        run_pipeline(ws, loop.hanging, reason="test", executor=Lean())
    with pytest.raises(StepFailed, match="memory_gb=1"):
        run_pipeline(ws, loop.eating, params={"megabytes": 1_500}, reason="test", executor=Lean())


def test_a_training_keeps_its_limits(ws: Workspace, project: UserProject) -> None:
    project.write({"loop": LOOP})
    with pytest.raises(StepFailed, match=r"longer than its timeout_s=0\.3"):
        train(ws, load(project.root / "loop.py"), "hanging", reason="test")


def test_inline_takes_any_step(ws: Workspace, loop: ModuleType) -> None:
    assert len(result(ws, run_pipeline(ws, loop.two_on_gpu, reason="test", executor=Inline()).id)) == 3


def test_a_large_step_is_not_overtaken_by_small_ones_for_ever() -> None:
    room = Room(2, {}, [planned("running")])
    assert not room.admits(planned("large", cpus=2))
    assert not room.admits(planned("small"))


def test_what_nobody_waits_for_is_given() -> None:
    room = Room(2, {"gpus": 1}, [planned("running", gpus=1)])
    assert not room.admits(planned("second", gpus=1))
    assert room.admits(planned("small"))


def test_resources_are_no_part_of_the_cache_key_and_come_back_from_json(
    ws: Workspace, loop: ModuleType
) -> None:
    first = run(ws, loop.two_on_gpu)
    back = Plan.from_json(first.plan).by_name
    assert back["on_gpu"].resources == {"gpus": 1}
    assert back["beside"].resources == {}
    assert "gpus" not in str(first.steps[0].parts)


def test_a_machine_has_memory() -> None:
    assert capacity_here()["memory_gb"] > 0.1


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"cpus": 0}, "asks for cpus=0; that is a whole number of at least 1"),
        ({"cpus": 1.5}, "asks for cpus=1.5"),
        ({"memory_gb": -1}, "asks for memory_gb=-1; that is a number above zero"),
        ({"gpus": "one"}, "asks for gpus='one'; that is a whole number"),
        ({"resources": {"license": 0}}, "asks for license=0; that is a number above zero"),
        ({"resources": {"license": float("nan")}}, "asks for license=nan"),
        ({"resources": {"gpus": 1}}, "names cpus, memory_gb or gpus among its resources"),
    ],
)
def test_wrong_amounts_are_refused(options: dict[str, Any], found: str) -> None:
    with pytest.raises(Invalid, match=found):

        @step(**options)
        def nothing() -> None: ...


def test_a_wrong_setting_is_explained() -> None:
    assert resources_of("") == {}
    assert resources_of("gpus=1, license = 2.5") == {"gpus": 1, "license": 2.5}
    with pytest.raises(Invalid, match="names what steps may use of this machine with amounts"):
        resources_of("gpus")


def test_a_pipeline_with_resources_is_traced_as_any(ws: Workspace) -> None:
    @step(cpus=4, memory_gb=2, resources={"license": 1})
    def large() -> int:
        return 1

    @pipeline
    def one() -> int:
        return large()

    assert large() == 1
    assert large.resources == {"cpus": 4, "license": 1, "memory_gb": 2}
    assert result(ws, run_pipeline(ws, one, reason="test", executor=Inline()).id) == 1
