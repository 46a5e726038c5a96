"""A pipeline with all that an engine elsewhere has to know, and what it must come to there."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import NamedTuple

from everloop.ledger import Node, upstream
from everloop.loop import apply, load
from everloop.pipelines import PipelineRun, pipeline_run, pipeline_runs, run_pipeline
from everloop.settings import load_settings
from everloop.workspace import Workspace, open_workspace

LOOP = """
    import everloop as el


    @el.step
    def numbers(count: int) -> list:
        return list(range(count))


    @el.step
    def square(value: int, plus: int) -> int:
        return value * value + plus


    @el.step
    def total(values: list) -> int:
        return sum(values)


    @el.step
    def is_big(value: int) -> bool:
        return value > 1


    @el.step
    def is_nothing(value: int) -> bool:
        return value == 0


    @el.step
    def praise(value: int) -> str:
        return f"{value} is much"


    @el.step
    def blame(value: int) -> str:
        return f"{value} is little"


    @el.step(optional=True)
    def luck() -> int:
        return 1 // 0


    @el.step(retries=2, back_off_s=0.5, timeout_s=60, cpus=2, memory_gb=1)
    def letter(text: str, luck: int) -> el.Table:
        import pyarrow as pa

        return pa.table({"text": [text], "luck": [luck]})


    @el.step(always=True)
    def sent(letter: el.Table) -> int:
        return letter.num_rows


    @el.pipeline
    def written(text: str) -> el.Table:
        return letter(text, luck())


    @el.pipeline
    def train(count: int = 2) -> int:
        found = total(square.map(numbers(count), plus=1))
        nothing = is_nothing(found)
        word = el.when(
            is_big(found),
            lambda: praise(found),
            lambda: el.when(nothing, lambda: praise(found), lambda: blame(found)),
        )
        return sent(written(word))
"""
PIPELINE = "train"


def project(folder: Path) -> Path:
    """A project with LOOP in a folder; its loop file."""
    folder.mkdir()
    file = folder / "loop.py"
    file.write_text(textwrap.dedent(LOOP))
    return file


def applied(file: Path, home: Path) -> None:
    """LOOP in force in a home of its own."""
    with opened(home) as ws:
        apply(ws, load(file))


class Came(NamedTuple):
    """How a step ended, the digest of what it made, and its lineage: the role and the name of what it was made from."""

    state: str
    digest: str
    sources: set[tuple[str, str]]


def came_to(home: Path) -> dict[str, Came]:
    """What the one run of a home came to, by step."""
    run = elsewhere(home)
    names = {one.id: one.node for one in run.steps}
    with opened(home) as ws:
        return {
            one.node: Came(
                one.state,
                one.output.digest if one.output else "",
                {
                    (edge.role, names.get(edge.source.id, edge.source.kind))
                    for edge in upstream(ws, Node("step", one.id))
                    if edge.target.id == one.id
                },
            )
            for one in run.steps
        }


def locally(file: Path, home: Path, **params: int) -> dict[str, Came]:
    """What a run of our own comes to, from an empty cache."""
    with opened(home) as ws:
        run_pipeline(ws, load(file).pipelines[PIPELINE], params=params, reason="test")
    return came_to(home)


def elsewhere(home: Path) -> PipelineRun:
    """The one run of a home."""
    with opened(home) as ws:
        (only,) = pipeline_runs(ws)
        return pipeline_run(ws, only.id)


def opened(home: Path) -> Workspace:
    return open_workspace(settings=load_settings(home, environ={}, actor="tester"))
