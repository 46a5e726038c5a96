"""Why a step ran is told by what changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from everloop import tracking
from everloop.errors import NotFound
from everloop.pipelines import Change, Inline, PipelineRun, run_pipeline, store, why
from everloop.storage import Tx
from everloop.tracking.store import put_environment
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

LOOP = """
    from everloop.pipelines import pipeline, step
    import text

    LIMIT = 3

    @step
    def read(value: int) -> int:
        return value + LIMIT

    @step
    def clean(value: int, by: str = "a") -> str:
        return text.fold(by) * value

    @step(cache=False)
    def tell(value: str) -> str:
        return value

    @pipeline
    def train(value: int = 1, by: str = "a") -> str:
        return tell(clean(read(value), by))
"""
TEXT = """
    def fold(value):
        return value.lower()
"""


@pytest.fixture
def loop(project: UserProject) -> UserProject:
    project.write({"loop": LOOP, "text": TEXT})
    return project


def run(ws: Workspace, project: UserProject, **params: Any) -> PipelineRun:
    return run_pipeline(ws, project.load().train, params=params, reason="test", executor=Inline())


def test_the_first_time_needs_no_reason(ws: Workspace, loop: UserProject) -> None:
    told = why(ws, run(ws, loop).id, "clean")
    assert (told.answer, told.changes) == ("first", ())
    assert told.sentence == "clean ran: no earlier run of train finished it."


def test_a_cached_step_names_who_made_it(ws: Workspace, loop: UserProject) -> None:
    first = run(ws, loop)
    told = why(ws, run(ws, loop).id, "clean")
    assert (told.answer, told.compared_with) == ("cached", first.steps[1].id)


def test_a_changed_function_is_named(ws: Workspace, loop: UserProject) -> None:
    run(ws, loop)
    loop.edit("text", "lower", "upper")
    told = why(ws, run(ws, loop).id, "clean")
    (change,) = told.changes
    assert (change.part, change.name) == ("source", "text:fold")
    assert told.sentence == "clean ran: source text:fold was rewritten."


def test_a_changed_constant_is_shown(ws: Workspace, loop: UserProject) -> None:
    run(ws, loop)
    loop.edit("loop", "LIMIT = 3", "LIMIT = 4")
    told = why(ws, run(ws, loop).id, "read")
    assert Change("source", "loop:LIMIT =", "3", "4") in told.changes


def test_a_changed_parameter_is_shown(ws: Workspace, loop: UserProject) -> None:
    run(ws, loop)
    told = why(ws, run(ws, loop, by="b").id, "clean")
    assert told.changes == (Change("parameter", "by", "'a'", "'b'"),)
    assert told.sentence == "clean ran: parameter by went from 'a' to 'b'."


def test_a_changed_input_is_named(ws: Workspace, loop: UserProject) -> None:
    run(ws, loop)
    told = why(ws, run(ws, loop, value=2).id, "clean")
    (change,) = told.changes
    assert (change.part, change.name) == ("input", "value")


def test_another_environment_names_the_package(ws: Workspace, loop: UserProject) -> None:
    first = run(ws, loop)
    here = tracking.capture_environment(ws)
    packages = tuple((name, "0.1" if name == "numpy" else version) for name, version in here.packages)
    earlier = replace(here, digest="0" * 64, packages=packages)
    parts = {**first.steps[0].parts, "environment": earlier.digest}
    made = store.step_runs.c.id == first.steps[0].id

    def change(tx: Tx) -> None:
        put_environment(tx, earlier)
        tx.execute(sa.update(store.step_runs).where(made).values(parts=parts, key="another"))

    ws.write(change)
    (told,) = why(ws, run(ws, loop).id, "read").changes
    assert told == Change("environment", "numpy", "0.1", here.version_of("numpy"))


def test_a_step_without_cache_says_so(ws: Workspace, loop: UserProject) -> None:
    run(ws, loop)
    assert why(ws, run(ws, loop).id, "tell").answer == "uncached"


def test_a_result_that_was_lost_says_so(ws: Workspace, project: UserProject) -> None:
    project.write(
        {
            "loop": """
                from everloop.pipelines import pipeline, step

                @step
                def long() -> bytes:
                    return b"x" * 9

                @pipeline
                def train() -> bytes:
                    return long()
            """
        }
    )
    (made,) = run(ws, project).steps
    assert made.output is not None
    for digest in made.output.files.values():
        ws.blobs.delete(digest)
    assert why(ws, run(ws, project).id, "long").answer == "lost"


def test_what_is_not_there_is_told(ws: Workspace, loop: UserProject) -> None:
    with pytest.raises(NotFound, match="no pipeline run"):
        why(ws, "run_1", "read")
    with pytest.raises(NotFound, match=r"step 'reed' did not begin in run .*Begun: read, clean, tell"):
        why(ws, run(ws, loop).id, "reed")
