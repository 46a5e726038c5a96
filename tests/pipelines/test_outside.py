"""A run whose steps are begun one by one from outside comes to what a run of our own comes to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from everloop import tracking
from everloop.errors import Conflict, Invalid, NotFound, NotReady, StepFailed
from everloop.ids import new_id
from everloop.pipelines import (
    PipelineRun,
    begin_run,
    cancel,
    end_run,
    pipeline_run,
    result,
    resume,
    run_of,
    run_pipeline,
    run_step,
    step_items,
    store,
)
from everloop.pipelines.records import Share
from everloop.workspace import Workspace
from tests.conftest import simulation
from tests.pipelines.conftest import UserProject
from tests.pipelines.test_executors import wait_until

LOOP = """
    import time
    from pathlib import Path

    from everloop.pipelines import pipeline, step, when

    @step
    def numbers(count: int) -> list:
        return list(range(count))

    @step
    def square(value: int, plus: int) -> int:
        return value * value + plus

    @step
    def total(values: list) -> int:
        return sum(values)

    @step
    def is_big(value: int) -> bool:
        return value > 10

    @step
    def words(value: int) -> str:
        return f"{value} is much"

    @step
    def louder(text: str) -> str:
        return text.upper()

    @step(optional=True)
    def luck() -> int:
        return 1 // 0

    @step(retries=1)
    def last(text: str, extra: int) -> str:
        return f"{text}, {extra}"

    @pipeline
    def train(count: int = 4) -> str:
        found = total(square.map(numbers(count), plus=1))
        told = when(is_big(found), lambda: words(found), lambda: louder(words(found)))
        return last(told, luck())

    @step
    def needs(item: str) -> str:
        return Path(item).read_text()

    @pipeline
    def reads(places: list) -> list:
        return needs.map(places)

    @step
    def waits_once(place: str) -> int:
        if not Path(place).exists():
            Path(place).touch()
            time.sleep(600)
        return 1

    @pipeline
    def waiting(place: str) -> int:
        return waits_once(place)

    @step(retries=1)
    def fails(value: int) -> int:
        raise ValueError(f"{value} is not to my taste")

    @step
    def after(value: int) -> int:
        return value

    @step(always=True)
    def tidy(value: int) -> str:
        return f"tidied after {value}"

    @pipeline
    def broken() -> str:
        return tidy(after(fails(1)))
"""
ORDER = ("numbers", "square", "total", "is_big", "words", "words-2", "louder", "choice", "luck", "last")


@pytest.fixture
def outside(project: UserProject, ws: Workspace) -> Callable[[str], PipelineRun]:
    """Begins a run of a pipeline of LOOP."""
    project.write({"loop": LOOP})
    loop = project.load()
    return lambda name: begin_run(ws, getattr(loop, name), key="night-7", reason="test")


def digests(run: PipelineRun) -> dict[str, str]:
    return {one.node: one.output.digest for one in run.steps if one.output is not None}


def run_all(ws: Workspace, run: str) -> list[str]:
    """Everything in order, the map item by item; the states."""
    states: list[str] = []
    for node in ORDER:
        if node == "square":
            states += [run_step(ws, run, "square", item=n).state for n in step_items(ws, run, "square")]
        states.append(run_step(ws, run, node).state)
    return states


def test_it_comes_step_by_step_to_what_a_run_of_our_own_comes_to(
    ws: Workspace, project: UserProject, outside: Callable[[str], PipelineRun], tmp_path: Path
) -> None:
    run = outside("train")
    run_all(ws, "night-7")
    ended = end_run(ws, "night-7")
    with simulation(tmp_path / "own") as other:
        own = run_pipeline(other, project.load().train, reason="test")
        assert digests(ended) == digests(own)
        assert {(one.node, one.state) for one in ended.steps} == {(one.node, one.state) for one in own.steps}
    assert result(ws, run.id) == "18 is much, None"
    assert tracking.run(ws, run.id).status == "finished"


def test_what_is_done_is_told_and_not_done_again(
    ws: Workspace, outside: Callable[[str], PipelineRun]
) -> None:
    run = outside("train")
    first = run_all(ws, run.id)
    before = pipeline_run(ws, run.id).steps
    assert [state for state in run_all(ws, run.id) if state == "failed"] == ["failed"]  # the optional one
    assert pipeline_run(ws, run.id).steps == before
    assert first.count("skipped") == 2


def test_a_second_run_is_taken_from_the_cache(
    ws: Workspace, project: UserProject, outside: Callable[[str], PipelineRun]
) -> None:
    outside("train")
    run_all(ws, "night-7")
    begin_run(ws, project.load().train, key="night-8", reason="test")
    assert run_step(ws, "night-8", "numbers").state == "cached"
    assert step_items(ws, "night-8", "square") == ()
    assert run_step(ws, "night-8", "square").state == "cached"


def test_the_same_key_is_the_same_run(ws: Workspace, outside: Callable[[str], PipelineRun]) -> None:
    assert outside("train").id == outside("train").id
    with pytest.raises(Conflict, match="was begun under the key 'night-7' before"):
        outside("broken")


def test_a_step_whose_inputs_are_not_made_is_refused(
    ws: Workspace, outside: Callable[[str], PipelineRun]
) -> None:
    outside("train")
    with pytest.raises(NotReady, match=r"step total of run .* waits for square"):
        run_step(ws, "night-7", "total")
    with pytest.raises(NotReady, match="items of step square were not listed yet"):
        run_step(ws, "night-7", "square", item=0)
    assert pipeline_run(ws, outside("train").id).steps == ()


def test_what_there_is_not_is_named(ws: Workspace, outside: Callable[[str], PipelineRun]) -> None:
    outside("train")
    with pytest.raises(NotFound, match="none was begun under this key"):
        run_step(ws, "night-9", "total")
    with pytest.raises(NotFound, match="has no step 'nix'; it has numbers, square"):
        run_step(ws, "night-7", "nix")
    run_step(ws, "night-7", "numbers")
    with pytest.raises(Invalid, match="is no map and has no items"):
        step_items(ws, "night-7", "total")
    step_items(ws, "night-7", "square")
    with pytest.raises(Invalid, match="square has 4 items, 0 to 3, and was asked for item 4"):
        run_step(ws, "night-7", "square", item=4)


def test_a_failure_is_tried_again_from_outside_and_counted(
    ws: Workspace, outside: Callable[[str], PipelineRun]
) -> None:
    run = outside("broken")
    with pytest.raises(NotReady, match=r"(?s)fails failed and may be tried again: .*not to my taste"):
        run_step(ws, run.id, "fails")
    with pytest.raises(StepFailed, match="not to my taste"):
        run_step(ws, run.id, "fails")
    assert [(one.node, one.attempt, one.state) for one in pipeline_run(ws, run.id).steps] == [
        ("fails", 1, "failed"),
        ("fails", 2, "failed"),
    ]


def test_an_item_that_fails_leaves_the_map_open_for_the_others_and_for_another_try(
    ws: Workspace, project: UserProject, outside: Callable[[str], PipelineRun], tmp_path: Path
) -> None:
    places = [tmp_path / name for name in ("one", "two")]
    params = {"places": [str(place) for place in places]}
    run = begin_run(ws, project.load().reads, key="night-8", params=params, reason="test")
    assert list(step_items(ws, run.id, "needs")) == [0, 1]
    with pytest.raises(StepFailed, match="No such file"):
        run_step(ws, run.id, "needs", item=0)
    for item, place in reversed(list(enumerate(places))):
        place.write_text(place.name)
        assert run_step(ws, run.id, "needs", item=item).state == "done"
    assert [one.state for one in pipeline_run(ws, run.id).steps if one.node == "needs"] == ["running"]
    assert run_step(ws, run.id, "needs").state == "done"
    end_run(ws, run.id)
    assert result(ws, run.id) == ["one", "two"]


def test_what_always_runs_does_so_after_a_failure_and_the_run_ends_as_failed(
    ws: Workspace, outside: Callable[[str], PipelineRun]
) -> None:
    run = outside("broken")
    with pytest.raises(NotReady, match="waits for after"):
        run_step(ws, run.id, "tidy")
    for _ in range(2):
        with pytest.raises((NotReady, StepFailed)):
            run_step(ws, run.id, "fails")
    assert run_step(ws, run.id, "tidy").state == "ran_anyway"
    with pytest.raises(StepFailed, match=r"step fails\(value=1\) failed"):
        end_run(ws, run.id)
    assert pipeline_run(ws, run.id).state == "failed"
    assert tracking.run(ws, run.id).status == "failed"


def test_a_run_ended_before_all_was_run_has_failed_and_can_go_on(
    ws: Workspace, outside: Callable[[str], PipelineRun]
) -> None:
    outside("train")
    run_step(ws, "night-7", "numbers")
    with pytest.raises(StepFailed, match=r"square.* was not run before the run was ended"):
        end_run(ws, "night-7")
    run_all(ws, "night-7")
    assert end_run(ws, "night-7").state == "done"
    assert [one.token for one in pipeline_run(ws, outside("train").id).steps if one.node == "total"] == [2]


def test_who_works_on_a_step_is_left_alone_until_its_lease_ends(
    ws: Workspace, outside: Callable[[str], PipelineRun]
) -> None:
    run = outside("train")
    elsewhere = share(ws, run, "numbers", worker="other:1", seconds=30)
    with pytest.raises(NotReady, match=r"numbers of run .* is being worked on by other:1"):
        run_step(ws, run.id, "numbers")
    assert run_step(ws, run.id, "luck").state == "failed"  # another step is free
    with pytest.raises(NotReady, match="is being worked on by other:1"):
        end_run(ws, run.id)
    ws.write(lambda tx: store.renew_share(tx, elsewhere, until=tx.wall() - timedelta(seconds=1)))
    assert run_step(ws, run.id, "numbers").state == "done"


def test_a_step_whose_process_was_killed_is_taken_over_at_once(
    ws: Workspace, project: UserProject, outside: Callable[[str], PipelineRun], tmp_path: Path
) -> None:
    place = tmp_path / "been"
    run = begin_run(ws, project.load().waiting, key="night-8", params={"place": str(place)}, reason="test")
    step = ["step", "run", "--run", run.id, "--step", "waits_once"]
    with subprocess.Popen([sys.executable, "-m", "everloop", "--home", str(ws.home), *step]) as process:
        wait_until(place.exists)
        with pytest.raises(NotReady, match=r"waits_once of run .* is being worked on by"):
            run_step(ws, run.id, "waits_once")
        process.kill()
    assert run_step(ws, run.id, "waits_once").state == "done"
    assert [one.state for one in pipeline_run(ws, run.id).steps] == ["interrupted", "done"]


def test_a_process_writes_of_its_own_step_alone(ws: Workspace, outside: Callable[[str], PipelineRun]) -> None:
    outside("train")
    for node in ("numbers", "square", "total", "is_big"):
        run_step(ws, "night-7", node)
    written = [one.node for one in pipeline_run(ws, run_of(ws, "night-7")).steps if not one.is_call]
    assert written == ["numbers", "square", "total", "is_big"]


def test_a_runner_of_ours_leaves_it_alone_while_somebody_works_on_it(
    ws: Workspace, outside: Callable[[str], PipelineRun]
) -> None:
    run = outside("train")
    run_step(ws, run.id, "numbers")
    with pytest.raises(NotReady, match="is being run by outside"):
        resume(ws, run.id)
    assert resume(ws, run.id, take_over=True).state == "done"


def test_a_run_that_a_living_runner_has_is_refused_and_a_cancelled_one_too(
    ws: Workspace, outside: Callable[[str], PipelineRun]
) -> None:
    run = outside("train")
    ws.write(
        lambda tx: store.update_run(
            tx, run.id, {"worker": "other:1", "lease_until": tx.wall() + timedelta(seconds=30)}
        )
    )
    with pytest.raises(NotReady, match="is being run by other:1"):
        run_step(ws, run.id, "numbers")
    cancel(ws, run.id, reason="enough")
    with pytest.raises(Conflict, match="was cancelled: enough"):
        run_step(ws, run.id, "numbers")


def test_who_was_replaced_commits_nothing(ws: Workspace, outside: Callable[[str], PipelineRun]) -> None:
    run = outside("train")

    def replaced(*_: object) -> None:
        ws.write(lambda tx: store.drop_shares(tx, run.id, holders(ws, run)))
        share(ws, run, "numbers", worker="other:1", seconds=30)

    with pytest.raises(NotReady, match="another took numbers over"):
        run_step(ws, run.id, "numbers", on_progress=replaced)
    assert [one.state for one in pipeline_run(ws, run.id).steps] == ["running"]


def share(ws: Workspace, run: PipelineRun, node: str, *, worker: str, seconds: float) -> Share:
    """What another process does that works on a step."""
    made = ws.write(
        lambda tx: Share(run.id, node, new_id("share"), worker, tx.wall() + timedelta(seconds=seconds))
    )
    ws.write(lambda tx: store.keep_share(tx, made))
    return made


def holders(ws: Workspace, run: PipelineRun) -> list[str]:
    with ws.read() as connection:
        return [one.holder for one in store.shares_of(connection, run.id)]
