"""Runs as a person looks through them: many in a list, or one with its maps counted instead of told call by call."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa

from everloop.errors import Invalid, NotFound
from everloop.pipelines import store
from everloop.pipelines.plan import Plan, PlannedStep
from everloop.pipelines.reading import held_out_answers, outputs_of, unknown
from everloop.pipelines.records import PipelineRun, RunState, StepRun, Stored
from everloop.pipelines.results import Results
from everloop.workspace import Workspace

RunOrder = Literal["newest", "oldest", "longest"]


@dataclass(frozen=True)
class RunLine:
    """A run without its plan and its steps. `error` is cut off."""

    id: str
    pipeline: str
    reason: str
    state: RunState
    error: str | None
    started_at: datetime
    ended_at: datetime | None

    @property
    def seconds(self) -> float | None:
        return None if self.ended_at is None else (self.ended_at - self.started_at).total_seconds()


@dataclass(frozen=True)
class RunOverview:
    """A run with its plan and its attempts, those at the calls of maps left out: `calls` counts these.

    `calls` has by map how many of its calls are in which state after their last attempt, `items` how many there are
    in all, for maps of which that is known.
    """

    run: PipelineRun
    plan: Plan
    calls: Mapping[str, Mapping[str, int]]
    items: Mapping[str, int]


def pipeline_names(ws: Workspace) -> list[str]:
    """The pipelines that ever ran, in order of their names; one question each, however many runs there are."""
    found: list[str] = []
    with ws.read() as connection:
        while (name := store.pipeline_after(connection, found[-1] if found else "")) is not None:
            found.append(name)
    return found


def run_lines(
    ws: Workspace,
    *,
    pipeline: str | None = None,
    states: Sequence[RunState] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    order: RunOrder = "newest",
    after: str | None = None,
    limit: int = 50,
) -> list[RunLine]:
    """Runs for a list, at most `limit`; the next page is asked for with `after` the last run's id.

    `since` and `until` are about when a run started. In the order `longest` only runs that ended are listed.
    """
    with ws.read() as connection:
        rows = store.run_lines(
            connection,
            pipeline=pipeline,
            states=states,
            since=since,
            until=until,
            order=order,
            after=after,
            limit=limit,
        )
        return [RunLine(**row._mapping) for row in rows]


def run_overview(ws: Workspace, run_id: str) -> RunOverview:
    """One run for a page, however many items its maps go over. Raises NotFound."""
    with ws.read() as connection:
        found = store.run_without_calls(connection, run_id)
        if found is None:
            raise unknown(run_id)
        calls = store.count_calls(connection, run_id)
    plan, outputs = Plan.from_json(found.plan), outputs_of(found)
    results = Results(ws.blobs, Path(tempfile.gettempdir()))
    items = {
        step.name: number
        for step in plan.steps
        if step.over is not None and (number := _items(step, outputs, results)) is not None
    }
    return RunOverview(found, plan, calls, items)


def attempts_at(ws: Workspace, run_id: str, node: str) -> list[StepRun]:
    """The attempts at one step, or at one call of a map such as `fit[3]`, in the order they began."""
    with ws.read() as connection:
        return store.attempts_at(connection, run_id, node)


def calls_of(
    ws: Workspace, run_id: str, node: str, *, states: Sequence[str] = (), limit: int = 50
) -> list[StepRun]:
    """The last attempts at the calls of a map, the newest first."""
    with ws.read() as connection:
        return store.calls_of(connection, run_id, node, states=states, limit=limit)


def _items(step: PlannedStep, outputs: Mapping[str, Stored], results: Results) -> int | None:
    """Over how many items a map goes, as soon as the list is there."""
    each = step.bindings[step.over or ""]["each"]
    if "node" not in each:
        return len(each["list"])
    stored = outputs.get(each["node"])
    try:
        return None if stored is None else len(results.items(stored))
    except (Invalid, NotFound):  # no list, which is how the map failed; or its blob is gone
        return None


@dataclass(frozen=True)
class Confusion:
    """How often each class was answered with which on the rows that a run's model was not trained on.

    `counts` has a row for each label and a column for each answer, in the order of `classes`: the most frequent labels.
    `others` counts the rows that are in none of the cells.
    """

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    others: int


def confusion(ws: Workspace, run_id: str, *, most: int = 12) -> Confusion | None:
    """The confusion of the classes of a run's model, without loading it; None for numbers, or without a model.

    Raises NotFound.
    """
    answers = held_out_answers(ws, run_id)
    if answers is None or pa.types.is_floating(answers.schema.field("label").type):
        return None
    pairs = (
        answers.select(["label", "predicted"]).group_by(["label", "predicted"]).aggregate([([], "count_all")])
    )
    found = {(str(one["label"]), str(one["predicted"])): one["count_all"] for one in pairs.to_pylist()}
    labels = Counter[str]()
    for (label, _), count in found.items():
        labels[label] += count
    classes = tuple(name for name, _ in labels.most_common(most))
    counts = tuple(tuple(found.get((label, answer), 0) for answer in classes) for label in classes)
    return Confusion(classes, counts, answers.num_rows - sum(map(sum, counts)))
