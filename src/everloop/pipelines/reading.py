"""Looking at runs and their results."""

from __future__ import annotations

import ast
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everloop.errors import NotFound, NotReady
from everloop.pipelines import store
from everloop.pipelines.records import PipelineRun, StepRun, Stored
from everloop.pipelines.results import Results
from everloop.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa


def pipeline_run(ws: Workspace, run_id: str) -> PipelineRun:
    """One run with its attempts. Raises NotFound."""
    with ws.read() as connection:
        found = store.run_by_id(connection, run_id)
    if found is None:
        raise unknown(run_id)
    return found


def pipeline_runs(ws: Workspace, *, pipeline: str | None = None, limit: int = 50) -> list[PipelineRun]:
    """The newest runs, newest first, without their attempts."""
    with ws.read() as connection:
        return store.newest_runs(connection, pipeline=pipeline, limit=limit)


def step_run(ws: Workspace, step_run_id: str) -> StepRun:
    """One attempt at a step. Raises NotFound."""
    with ws.read() as connection:
        found = store.step_run_by_id(connection, step_run_id)
    if found is None:
        raise NotFound(f"there is no step run {step_run_id}. 'everloop runs show RUN' lists those of a run.")
    return found


def result(ws: Workspace, run_id: str) -> Any:
    """What the pipeline returned. A path is that of a copy in a new temporary folder, the caller's to remove.

    Raises
    ------
    NotFound
    NotReady
        The run is not done.
    """
    run = pipeline_run(ws, run_id)
    if run.state != "done":
        raise NotReady(f"run {run_id} is {run.state}; only a run that is done has a result.")
    return _value(_results(ws), run.plan["output"], outputs_of(run))


def output_of(ws: Workspace, run_id: str, node: str) -> Any:
    """What one step of a run made. Raises NotFound when the run has no such finished step."""
    outputs = outputs_of(pipeline_run(ws, run_id))
    if node not in outputs:
        raise NotFound(
            f"run {run_id} has no finished step {node!r}; finished are: {', '.join(outputs) or 'none'}."
        )
    return _results(ws).bring(outputs[node])


def held_out_answers(ws: Workspace, run_id: str) -> pa.Table | None:
    """What a run's model answered on the rows that it was not trained on, without loading the model.

    Returns
    -------
    `_row_id`, `label`, `predicted` and `score`, a row for each test row; None when the pipeline returned no model.
    """
    stored = _returned_model(pipeline_run(ws, run_id))
    if stored is None:
        return None
    import pyarrow.parquet as pq  # noqa: PLC0415  (and numpy: a quarter of what importing the engine takes)

    with pq.ParquetFile(ws.blobs.path(stored.files["evaluation.parquet"])) as file:
        return file.read()


def files_of_model(ws: Workspace, run_id: str) -> dict[str, str]:
    """The folder of the model that a run's pipeline returned: the digest of each file's blob, by relative path.

    Raises NotFound when the pipeline returned no model.
    """
    run = pipeline_run(ws, run_id)
    stored = _returned_model(run)
    if stored is None:
        raise NotFound(
            f"the pipeline of run {run_id} returned no model. Return what el.fit or el.best gives."
        )
    folder = "model/"  # as value_files writes it
    return {
        path.removeprefix(folder): digest for path, digest in stored.files.items() if path.startswith(folder)
    }


def outputs_of(run: PipelineRun) -> dict[str, Stored]:
    """The stored results of a run's steps, by node: of one that failed and is optional, None."""
    return {one.node: one.output for one in run.steps if one.output is not None}


def _returned_model(run: PipelineRun) -> Stored | None:
    stored = outputs_of(run).get(run.plan["output"].get("node", ""))
    return stored if stored is not None and stored.kind == "model" else None


def unknown(run_id: str) -> NotFound:
    return NotFound(f"there is no pipeline run {run_id}. 'everloop runs list' shows the newest.")


def _results(ws: Workspace) -> Results:
    return Results(ws.blobs, Path(tempfile.gettempdir()))


def _value(results: Results, binding: Mapping[str, Any], outputs: Mapping[str, Stored]) -> Any:
    if "node" in binding:
        return results.bring(outputs[binding["node"]])
    if "dict" in binding:
        return {key: _value(results, item, outputs) for key, item in binding["dict"]}
    for kind, make in (("list", list), ("tuple", tuple)):
        if kind in binding:
            return make(_value(results, item, outputs) for item in binding[kind])
    return ast.literal_eval(binding["value"])
