"""Looking through runs: lists in pages, maps counted, the confusion of a model, on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from everloop import pipelines
from everloop.clock import SimulatedClock
from everloop.errors import Invalid, NotFound, StepFailed
from everloop.pipelines import Inline, Pipeline, RunLine, pipeline, run_pipeline, step
from everloop.workspace import Workspace
from tests.loop.living import Shop


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def checked(number: int, worst: int) -> int:
    if number >= worst:
        raise ValueError(f"{number} is too much")
    return number


@step(retries=1)
def checked_2(number: int, worst: int) -> int:
    if number >= worst:
        raise ValueError(f"{number} is too much")
    return number


@pipeline
def first(worst: int = 100) -> list[int]:
    return checked.map(numbers(12), worst=worst)


@pipeline
def second(worst: int = 100) -> list[int]:
    made = checked_2.map(numbers(3), worst=worst)
    checked.map([7, 8], worst=100)
    return made


def ran(ws: Workspace, one: Pipeline[..., Any], *, worst: int = 100) -> str:
    """A run's id. The clock of a simulation moves on behind it, for the next one."""
    try:
        found = run_pipeline(ws, one, params={"worst": worst}, reason="a test", executor=Inline()).id
    except StepFailed as error:
        found = error.run_id
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(hours=1))
    return found


def ids(lines: list[RunLine]) -> list[str]:
    return [one.id for one in lines]


def test_runs_are_listed_by_pipeline_state_and_time_and_paged(any_ws: Workspace) -> None:
    ws, begun = any_ws, any_ws.now()
    runs = [ran(ws, one, worst=worst) for one in (first, second) for worst in (100, 2)]
    assert pipelines.pipeline_names(ws) == ["first", "second"]
    assert ids(pipelines.run_lines(ws)) == runs[::-1]
    assert ids(pipelines.run_lines(ws, order="oldest")) == runs
    assert ids(pipelines.run_lines(ws, order="oldest", after=runs[1])) == runs[2:]
    assert ids(pipelines.run_lines(ws, pipeline="first")) == runs[1::-1]
    assert ids(pipelines.run_lines(ws, states=["failed"])) == [runs[3], runs[1]]
    since, until = begun + timedelta(minutes=30), begun + timedelta(hours=3)
    assert ids(pipelines.run_lines(ws, since=since, until=until)) == [runs[2], runs[1]]
    pages = [ids(pipelines.run_lines(ws, limit=3))]
    pages.append(ids(pipelines.run_lines(ws, limit=3, after=pages[0][-1])))
    assert [*pages[0], *pages[1]] == runs[::-1]
    assert pipelines.run_lines(ws)[0].error


def test_the_longest_runs_come_first_page_by_page_even_when_many_took_as_long(any_ws: Workspace) -> None:
    runs = [ran(any_ws, first) for _ in range(5)]
    seen: list[str] = []
    for _ in range(5):
        (one,) = pipelines.run_lines(any_ws, order="longest", after=seen[-1] if seen else None, limit=1)
        seen.append(one.id)
    assert sorted(seen) == sorted(runs)


def test_the_calls_of_each_map_are_counted_after_their_last_attempt(any_ws: Workspace) -> None:
    seen = pipelines.run_overview(any_ws, ran(any_ws, second, worst=2))
    assert seen.calls["checked_2"] == {"done": 2, "failed": 1}
    assert seen.items == {"checked_2": 3, "checked": 2}
    assert all("[" not in one.node for one in seen.run.steps)
    well = pipelines.run_overview(any_ws, ran(any_ws, second))
    assert well.calls == {"checked_2": {"done": 3}}  # the other map is taken whole from the cache


def test_calls_are_those_of_the_map_that_was_asked_for(any_ws: Workspace) -> None:
    run = ran(any_ws, second)
    assert [one.node for one in pipelines.calls_of(any_ws, run, "checked")] == ["checked[1]", "checked[0]"]
    assert pipelines.calls_of(any_ws, run, "checked_") == []  # an underscore is no wild card
    assert pipelines.calls_of(any_ws, run, "checked", states=["failed"]) == []
    assert [one.attempt for one in pipelines.attempts_at(any_ws, run, "checked[1]")] == [1]


def test_an_unknown_run_is_told(ws: Workspace) -> None:
    with pytest.raises(NotFound, match="everloop runs list"):
        pipelines.run_overview(ws, "run_nothing")


def test_the_confusion_of_a_model_counts_every_test_row(shop: Shop) -> None:
    (newest, *_) = pipelines.run_lines(shop.ws, limit=1)
    answers = pipelines.held_out_answers(shop.ws, newest.id)
    assert answers is not None
    found = pipelines.confusion(shop.ws, newest.id, most=2)
    assert found is not None
    assert len(found.classes) == 2
    assert sum(map(sum, found.counts)) + found.others == answers.num_rows
    pairs = list(zip(answers["label"].to_pylist(), answers["predicted"].to_pylist(), strict=True))
    for at, label in enumerate(found.classes):
        for to, answer in enumerate(found.classes):
            assert found.counts[at][to] == pairs.count((label, answer))


def test_only_a_run_that_can_be_reproduced_becomes_a_job(shop: Shop) -> None:
    (newest, *_) = pipelines.run_lines(shop.ws, limit=1)
    with pytest.raises(Invalid, match="reason is empty"):
        pipelines.ask_to_reproduce(shop.ws, newest.id, reason="  ")
    with pytest.raises(Invalid, match="from 0 on"):
        pipelines.ask_to_reproduce(shop.ws, newest.id, reason="an audit", tolerance=-1)
    with pytest.raises(NotFound):
        pipelines.ask_to_reproduce(shop.ws, "run_nothing", reason="an audit")
