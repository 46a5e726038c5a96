"""When a result may be reused: for so long, never, or not this time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from everloop.clock import SimulatedClock
from everloop.errors import Invalid, NotFound
from everloop.pipelines import Inline, PipelineRun, pipeline, pipeline_runs, run_pipeline, step
from everloop.workspace import Workspace


@step(cache_for_s=3_600)
def load() -> list[int]:
    return [1, 2]


@step
def square(number: int) -> int:
    return number * number


@step
def total(values: list[int]) -> int:
    return sum(values)


@pipeline
def train() -> int:
    return total(square.map(load()))


@step(cache_for_s=60)
def fetch(number: int) -> int:
    return number


@pipeline
def fetched() -> list[int]:
    return fetch.map([1, 2])


def run(ws: Workspace, *force: str) -> dict[str, str]:
    return states(run_pipeline(ws, train, reason="test", executor=Inline(), force=force))


def states(run: PipelineRun) -> dict[str, str]:
    return {one.node: one.state for one in run.steps}


def later(ws: Workspace, **how: float) -> None:
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(**how))


CACHED = {"load": "cached", "square": "cached", "total": "cached"}


def test_a_result_is_reused_until_it_is_too_old(any_ws: Workspace) -> None:
    run(any_ws)
    later(any_ws, minutes=59)
    assert run(any_ws) == CACHED
    later(any_ws, minutes=2)
    assert run(any_ws) == {**CACHED, "load": "done"}  # it made the same: what follows is known
    later(any_ws, minutes=59)
    assert run(any_ws) == CACHED  # an hour from when it was made last


def test_calls_of_a_map_grow_old_too(ws: Workspace) -> None:
    run_pipeline(ws, fetched, reason="test", executor=Inline())
    later(ws, seconds=61)
    again = run_pipeline(ws, fetched, reason="test", executor=Inline())
    assert states(again) == {"fetch": "done", "fetch[0]": "done", "fetch[1]": "done"}


def test_a_forced_step_runs_and_the_others_do_not(ws: Workspace) -> None:
    run(ws)
    assert run(ws, "total") == {**CACHED, "total": "done"}
    assert run(ws) == CACHED


def test_forcing_a_map_forces_its_calls(ws: Workspace) -> None:
    run(ws)
    assert run(ws, "square") == {
        "load": "cached", "square": "done", "square[0]": "done", "square[1]": "done", "total": "cached",
    }  # fmt: skip


def test_all_means_each_step(ws: Workspace) -> None:
    run(ws)
    assert set(run(ws, "all").values()) == {"done"}


def test_forcing_what_is_not_there_is_refused_before_anything_is_recorded(ws: Workspace) -> None:
    with pytest.raises(NotFound, match="has no step 'fit' to force; its steps are load, square, total"):
        run(ws, "fit")
    assert pipeline_runs(ws) == []


@pytest.mark.parametrize("options", [{"cache_for_s": 0}, {"cache_for_s": 10, "cache": False}])
def test_an_age_that_means_nothing_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(Invalid, match="cache_for_s"):

        @step(**options)  # type: ignore[call-overload, untyped-decorator]  # that is the mistake
        def nothing() -> None: ...
