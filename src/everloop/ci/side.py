"""One side of a comparison, in a process of its own: a checkout's loop file is looked at, or run in a home of its own.

`python -m everloop.ci.side` reads what is asked as JSON and answers in JSON, a line each. The user's code runs in here alone.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pyarrow as pa

from everloop import checks, data, labels, loop, pipelines, registry
from everloop.ci.comparing import compared
from everloop.ci.data_files import LabelFile, Sources
from everloop.ci.looking import look
from everloop.ci.records import Answer, Asked, Compared, DataSeen, GateEnded, Outcome, StepEnded
from everloop.errors import EverloopError, StepFailed
from everloop.loop import Loop
from everloop.pipelines import PipelineRun, Plan, Progress
from everloop.settings import load_settings
from everloop.workspace import Workspace, open_workspace

_ANNOTATOR = "everloop-ci"  # the same on both sides: what the change's file says of a row takes the place of the base's


def main() -> None:
    """Answer what is asked, a line each, until nothing more can be asked."""
    asks, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("rb") as nothing:  # the user's code may read, and may print
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    for line in asks:
        asked = msgspec.json.decode(line, type=Asked)
        try:
            answer = (
                Answer(look=look(Path(asked.file), asked.sources.params))
                if asked.act == "look"
                else _run(asked)
            )
        except EverloopError as error:
            answer = Answer(problem=str(error))
        answers.write(msgspec.json.encode(answer) + b"\n")
        answers.flush()


def _run(asked: Asked) -> Answer:
    settings = load_settings(asked.home, environ={}, actor=asked.actor)
    with open_workspace(settings=settings) as ws:
        found = loop.load(Path(asked.file))
        loop.apply(ws, found)
        # the base may not know yet what the change's file names
        notes = tuple(_take_in(ws, asked.sources.only(loop.stored(found.declared))))
        outcomes = tuple(_train(ws, found, name, asked) for name in asked.pipelines)
        beside: dict[str, Compared] = {}
        for one in outcomes:
            try:
                beside[one.pipeline] = compared(ws, asked.base.get(one.pipeline), one)
            except EverloopError as error:
                notes = (*notes, f"{one.pipeline} could not be compared with the base: {error}")
    return Answer(outcomes=outcomes, compared=beside, notes=notes)


def _take_in(ws: Workspace, sources: Sources) -> Iterator[str]:
    """The rows and labels of the side, and what has to be said of them; what its home holds already makes no new version."""
    for one in sources.data:
        data.ingest(ws, one.name, Path(one.file), mode="replace")
    for named in sources.labels:
        claims = _claims(ws, named)
        labels.import_labels(
            ws,
            named.name,
            claims,
            key=named.key,
            value=named.value,
            annotator=_ANNOTATOR,
            unknown_rows="skip",
        )
        if lost := _lost(ws, named, claims):
            yield (
                f"{Path(named.file).name} labels {lost:,} rows no more that the base labels: their labels of {named.name} are "
                "those of the base here, since what was said of a row is never taken back."
            )


def _lost(ws: Workspace, source: LabelFile, claims: pa.Table) -> int:
    """How many rows of the dataset have a label that the file does not give."""
    known = labels.read_snapshot(ws, labels.snapshot(ws, source.name).digest)["key"].to_pylist()
    gone = set(map(str, known)) - set(map(str, claims[source.key].to_pylist()))
    if not gone:
        return 0
    dataset = data.dataset(ws, labels.schema(ws, source.name).dataset)
    rows = data.read(ws, dataset.name, columns=[str(dataset.key)])[str(dataset.key)].to_pylist()
    return len(gone & set(map(str, rows)))


def _claims(ws: Workspace, source: LabelFile) -> pa.Table:
    """The rows of a file that have a label, as the file writes it."""
    rows = data.load(Path(source.file), key=None, file_format=None).rows
    return loop.labelled_rows(
        rows,
        key=source.key,
        value=source.value,
        among=labels.schema(ws, source.name).labels if source.skip_unknown else None,
    )


def _train(ws: Workspace, found: Loop, pipeline: str, asked: Asked) -> Outcome:
    began = time.perf_counter()
    base = asked.base.get(pipeline)
    try:
        ended = loop.train(
            ws,
            found,
            pipeline,
            params=asked.sources.params.get(pipeline, {}),
            reason=asked.reason,
            against=None if base is None else base.version,
            on_progress=lambda one: _tell(asked.title, one),
        )
    except StepFailed as error:
        run = pipelines.pipeline_run(ws, error.run_id)
        failed = next((one.node for one in run.steps if one.state == "failed"), None)
        return Outcome(
            pipeline,
            "failed",
            run=run.id,
            steps=_steps(ws, run),
            failure=run.error or str(error),
            failed_step=failed,
            seconds=time.perf_counter() - began,
        )
    except EverloopError as error:
        return Outcome(pipeline, "failed", failure=str(error), seconds=time.perf_counter() - began)
    run = pipelines.pipeline_run(ws, ended.run)
    outcome = Outcome(
        pipeline,
        "passed" if ended.passed else "failed",
        run=run.id,
        version=ended.version,
        steps=_steps(ws, run),
        data=tuple(_data(ws, run)),
        seconds=time.perf_counter() - began,
    )
    if ended.version is None or ended.gate_report is None:
        return outcome
    report = checks.report(ws, ended.gate_report)
    return replace(
        outcome,
        gates=tuple(
            GateEnded(one.name, one.verdict, one.found, one.rule, one.remedy, one.numbers)
            for one in report.results
        ),
        metrics={
            name: one
            for name, one in registry.version(ws, ended.version).metrics.items()
            if math.isfinite(one)
        },
    )


def _steps(ws: Workspace, run: PipelineRun) -> tuple[StepEnded, ...]:
    planned = Plan.from_json(run.plan).by_name
    last = {one.node: one for one in run.steps if not one.is_call}
    return tuple(
        StepEnded(
            one.node,
            planned[one.node].label,
            one.state,
            one.seconds,
            pipelines.why(ws, run.id, one.node).sentence,
        )
        for one in last.values()
    )


def _data(ws: Workspace, run: PipelineRun) -> list[DataSeen]:
    versions = [data.version(ws, one.ref) for one in run.pins.values() if one.kind == "dataset_version"]
    return [
        DataSeen(one.dataset, one.ref, one.rows, {column.name: column.type for column in one.schema.columns})
        for one in versions
    ]


def _tell(title: str, one: Progress) -> None:
    words = {"step_cached": "cached", "step_done": "done", "step_failed": "FAILED"}
    if one.kind in words:
        took = "" if one.seconds is None else f"  {one.seconds:.1f} s"
        sys.stderr.write(f"{title}: [{one.done}/{one.total}] {words[one.kind]:<6} {one.label}{took}\n")


if __name__ == "__main__":
    main()
