"""Batch scoring: a released version's answers for a table, part by part, kept as a file or as a dataset version.

It is a run of a pipeline of our own, so that it has what runs have: a journal in which a part that was scored is not scored
again after a kill, a cache in which a part that was scored before is found, lineage from the rows and the release, a page,
and any executor. Who scores the same again goes on with the run that was cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop import data, pipelines, registry, rollout, serving, tracking
from everloop.data import ROW_ID, DatasetVersion
from everloop.errors import Conflict, Invalid, NotReady
from everloop.ledger import Node
from everloop.loop.rows import Source, dataset_rows, given, rows_in_run
from everloop.loop.score import AT_ONCE, check_inputs, inputs_of
from everloop.pipelines import OnProgress, Pinned, PipelineRun, Stored, pipeline, step
from everloop.registry import Release
from everloop.serving import Failure, Predictor
from everloop.storage import write_atomically
from everloop.workspace import Workspace

PART_ROWS = 50_000
_OURS = ("output", "score", "scores", "error", "version")  # the columns beside the key
_SCORES = pa.list_(pa.struct([("class", pa.string()), ("score", pa.float64())]))
_UNFINISHED = ("running", "pausing", "paused", "failed")
_KEY = "row_id"  # what a dataset of answers calls the row ids of a dataset without a key


@dataclass(frozen=True)
class Batch:
    """What came of scoring: `run` is its pipeline run, `digest` that of the answers, `failed` counts rows without one.

    `kept` is the dataset version that holds the answers, where they were to be kept as one.
    """

    run: str
    version: str
    release: str
    rows: int
    failed: int
    digest: str
    answers: pa.Table
    kept: str | None = None


@dataclass(frozen=True)
class Served:
    """A released model as a run's input."""

    release: str
    name: str = "model"

    def pin(self, _ws: Workspace) -> Pinned:
        return Pinned("release", self.release)

    def load(self, ws: Workspace, ref: str) -> Asked:
        return Asked(ws, _predictor(ws, ref))


@dataclass(frozen=True)
class Asked:
    """A model that is asked in a step, with the workspace from which its features come."""

    ws: Workspace
    predictor: Predictor


_loaded: dict[tuple[Path, str], Predictor] = {}  # the last one: a process scores one part after the other


def _predictor(ws: Workspace, release: str) -> Predictor:
    wanted = ws.home, release
    if wanted not in _loaded:
        _loaded.clear()
        _loaded[wanted] = Predictor.load(
            registry.loadable(ws, registry.find_release(ws, release)),
            ws.blobs,
            model_python=ws.settings.model_python,
            hidden=ws.home.absolute(),
            is_compiled=False,  # what a plan saves is paid once for thousands of rows, and comparing it costs more
        )
    return _loaded[wanted]


def score_batch(
    ws: Workspace,
    ref: str,
    source: Source,
    *,
    key: str | None = None,
    to: str | None = None,
    only_new: bool = False,
    part_rows: int = PART_ROWS,
    executor: str | None = None,
    processes: int | None = None,
    output: Path | None = None,
    run_id: str | None = None,
    on_progress: OnProgress | None = None,
) -> Batch:
    """Score a file, a folder, a dataset version such as `listings@3` or a query with a released version.

    A row that the version's endpoint would refuse, or on which the model fails, has an `error` and no output. Features are
    computed as in training, over the newest versions of their datasets, which the run is pinned to.

    Parameters
    ----------
    ref
        A version such as `category@2`, or an endpoint: then the version that answers most of its traffic.
    key
        The column that names a row in the answers; None: the dataset's key, the first column of anything else.
    to
        A dataset of which the answers become the next version: one for all rows of this source. It is defined if it is not
        there, and holds nothing but answers.
    only_new
        Score only rows whose key has no answer in `to` yet, and add theirs.
    part_rows
        Rows in a part. The answers do not depend on it.
    executor, processes
        Where parts are scored, and how many at once where that is in processes; None: as the settings say, one for each core.
    output
        A Parquet file for the answers, written whole or not at all.
    run_id
        The run's id, made before: where it was begun, it goes on, whatever has changed since.

    Raises
    ------
    NotFound
        The version is not released, or there is no such endpoint, dataset or file.
    Invalid
        A column is missing or does not fit the version's signature, or the key's name is one of the answers' own.
    Conflict
        `to` holds rows that are no answers.
    NotReady
        The same is being scored by another process, or nothing answers on the endpoint.
    StepFailed
        A part could not be scored. What was finished is kept.

    Writes the answers as blobs and, with `to`, as a dataset version.
    """
    if only_new and to is None:
        raise Invalid(
            "only new rows are to be scored, but no dataset of answers is named that says which are not. Name it with --to."
        )
    before = None if to is None else _answered(ws, to)
    place = pipelines.executor_named(
        ws.settings, "processes" if executor is None and processes else executor, slots=processes
    )
    if run_id is not None and pipelines.is_known(ws, run_id):
        run = pipelines.resume(ws, run_id, executor=place, on_progress=on_progress)
    else:
        release = registry.release_of(ws, version_at(ws, ref))
        params = _params(ws, release, source, key=key, part_rows=part_rows)
        if only_new and before is not None:
            params["answered"] = [before.ref, before.digest]
        run = _run(ws, release, source, params, place, run_id=run_id, on_progress=on_progress)
    release = registry.find_release(ws, run.params["release"])
    stored = _stored_answers(run)
    answers: pa.Table = pipelines.result(ws, run.id)
    if output is not None:
        write_atomically(output, ws.blobs.get(stored.files["table.parquet"]))
    kept = None if to is None else _keep(ws, to, answers, run, is_more="answered" in run.params)
    failed = answers.num_rows - answers["error"].null_count
    return Batch(run.id, release.version, release.id, answers.num_rows, failed, stored.digest, answers, kept)


def version_at(ws: Workspace, ref: str) -> str:
    """The version that `ref` names, or that answers most of the traffic of the endpoint that it names."""
    if "@" in ref:
        return ref
    live = rollout.endpoint(ws, ref).variants
    if not live:
        raise NotReady(
            f"nothing answers on endpoint {ref!r} yet. Release a version, or name one, such as {ref}@1."
        )
    return max(live, key=lambda one: one.weight).version


@pipeline
def batch_scoring(
    release: str,
    rows: list[str],
    key: str,
    part_rows: int,
    past: dict[str, list[str]],
    tables: dict[str, list[str]],
    answered: list[str] | None = None,
) -> pa.Table:
    """What `score_batch` runs."""
    wanted = rows_in_run(rows, tables)
    if answered is not None:
        wanted = without_answer(wanted, dataset_rows("answered", *answered), key)
    history = {name: dataset_rows(name, *pinned) for name, pinned in past.items()}
    return joined(answers.map(parts(wanted, part_rows), model=Served(release), past=history, key=key))


@step
def without_answer(rows: pa.Table, answered: pa.Table, key: str) -> pa.Table:
    """The rows whose key is not among those answered."""
    known = set(answered[_KEY if key == ROW_ID else key].to_pylist())
    return rows.filter(pa.array([one not in known for one in rows[key].to_pylist()], pa.bool_()))


@step
def parts(rows: pa.Table, part_rows: int) -> list[pa.Table]:
    """The rows in parts, in their order."""
    return [rows.slice(start, part_rows) for start in range(0, max(rows.num_rows, 1), part_rows)]


@step
def answers(part: pa.Table, model: Asked, past: dict[str, pa.Table], key: str) -> pa.Table:
    """The model's answers for the rows of a part, in their order."""
    manifest = model.predictor.manifest
    x = inputs_of(model.ws, manifest, part, past=past)
    errors = serving.refusals(manifest.signature, x)
    asked = np.array([error is None for error in errors], dtype=bool)
    columns = [
        _answered_at_once(model.predictor, x[start : start + AT_ONCE], errors[start : start + AT_ONCE])
        if asked[start : start + AT_ONCE].all()
        else _answered_in_turn(model.predictor, x[start : start + AT_ONCE], errors[start : start + AT_ONCE])
        for start in range(0, len(x), AT_ONCE)
    ]
    found = pa.concat_tables([_answered_in_turn(model.predictor, x[:0], []), *columns]).combine_chunks()
    version = pa.array([f"{manifest.model}@{manifest.version}"]).take(np.zeros(len(x), np.int64))
    return found.add_column(0, key, part[key]).append_column("version", version)


def _answered_at_once(predictor: Predictor, x: NDArray[np.object_], errors: list[str | None]) -> pa.Table:
    """What a model says of rows that an endpoint would take, made without an object for each row."""
    found = predictor.ranked(x)
    if found is None:
        return _answered_in_turn(predictor, x, errors)
    rows = len(x)
    if found.best is None or found.shares is None:
        output = pa.array(found.outputs, _output_type(predictor))
        score: Any = pa.nulls(rows, pa.float64())
        scores: Any = pa.nulls(rows, _SCORES)
    else:
        classes = pa.array(found.classes, pa.string())
        width = found.best.shape[1]
        named = pa.StructArray.from_arrays(
            [classes.take(found.best.ravel()), pa.array(found.shares.ravel())],
            names=["class", "score"],
        )
        scores = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * width), named)
        output = pa.array(found.outputs, pa.string())
        is_first = found.outputs == found.classes[found.best[:, 0]]
        if is_first.all():
            score = pa.array(found.shares[:, 0])
        else:  # it does not take the most probable: the score is that of what it took
            is_output = found.classes[found.best] == found.outputs[:, None]
            score = pa.array((found.shares * is_output).sum(axis=1), mask=~is_output.any(axis=1))
    return _table(output, score, scores, pa.nulls(rows, pa.string()))


def _answered_in_turn(predictor: Predictor, x: NDArray[np.object_], errors: list[str | None]) -> pa.Table:
    """The same, row by row: some would be refused, or the model fails on some."""
    told = list(errors)
    given: list[tuple[Any, dict[str, float]]] = [(None, {})] * len(x)
    asked = [row for row, error in enumerate(errors) if error is None]
    for row, answer in zip(asked, predictor.answer(x[asked].tolist()) if asked else (), strict=True):
        if isinstance(answer, Failure):
            told[row] = f"{answer.kind}: {answer.text}"
        else:
            given[row] = answer
    scores = [[{"class": name, "score": share} for name, share in each.items()] or None for _, each in given]
    return _table(
        pa.array([output for output, _ in given], _output_type(predictor)),
        pa.array([each.get(output) for output, each in given], pa.float64()),
        pa.array(scores, _SCORES),
        pa.array(told, pa.string()),
    )


def _output_type(predictor: Predictor) -> pa.DataType:
    return pa.string() if predictor.manifest.signature.output == "class" else pa.float64()


def _table(output: Any, score: Any, scores: Any, error: Any) -> pa.Table:
    return pa.table({"output": output, "score": score, "scores": scores, "error": error})


@step
def joined(parts: list[pa.Table]) -> pa.Table:
    """The answers of all parts, in the rows' order."""
    return pa.concat_tables(parts)


def _params(
    ws: Workspace, release: Release, source: Source, *, key: str | None, part_rows: int
) -> dict[str, Any]:
    """What a run scores with what. Raises where that cannot be scored, before anything is begun."""
    manifest = registry.loadable(ws, release)
    found = given(ws, source, manifest)
    named = key or found.key
    if named not in found.columns or named in _OURS:
        raise Invalid(
            f"the column that names a row is {named!r}; it is one of {', '.join(found.columns)}, and none of {', '.join(_OURS)}, "
            "which the answers have. Name another with --key."
        )
    check_inputs(found.columns, manifest)
    past = {view.dataset: data.version(ws, view.dataset) for view in manifest.features}
    return {
        "release": release.id,
        "rows": found.named,
        "key": named,
        "part_rows": part_rows,
        "past": {name: [version.ref, version.digest] for name, version in past.items()},
        "tables": {name: list(pinned) for name, pinned in found.tables.items()},
    }


def _run(
    ws: Workspace,
    release: Release,
    source: Source,
    params: Mapping[str, Any],
    place: pipelines.Executor,
    *,
    run_id: str | None,
    on_progress: OnProgress | None,
) -> PipelineRun:
    """Run it, or go on with the run of the same that was cut off."""
    for one in pipelines.pipeline_runs(ws, pipeline=batch_scoring.name) if run_id is None else ():
        if one.state in _UNFINISHED and one.params == params:
            return pipelines.resume(ws, one.id, executor=place, paused=True, on_progress=on_progress)
    code = registry.version(ws, release.version).code
    return pipelines.run_pipeline(
        ws,
        batch_scoring,
        params=params,
        reason=f"to score {source} with {release.version}",
        run_id=run_id,
        executor=place,
        on_progress=on_progress,
        code=tracking.capture_code(ws, ws.home, []) if code is None else tracking.code(ws, code),
    )


def _answered(ws: Workspace, name: str) -> DatasetVersion | None:
    """The newest version of a dataset of answers, None before there is one. Raises Conflict if it holds other rows."""
    if not any(one.name == name for one in data.datasets(ws)):
        return None
    newest = next(iter(data.versions(ws, name, limit=1)), None)
    if newest is not None and "made_from" not in newest.operation:
        raise Conflict(
            f"dataset {name!r} holds rows that no scoring made; answers would take their place. Name another dataset for them."
        )
    return newest


def _keep(ws: Workspace, name: str, answers: pa.Table, run: PipelineRun, *, is_more: bool) -> str | None:
    """Make the answers the next version of a dataset: all there is, or more of them."""
    key = answers.column_names[0]
    if key == ROW_ID:
        key, *others = (_KEY, *answers.column_names[1:])
        answers = answers.rename_columns([key, *others])
    encode = msgspec.json.Encoder().encode
    place = answers.column_names.index("scores")
    scores = [None if each is None else encode(each).decode() for each in answers["scores"].to_pylist()]
    table = answers.set_column(place, "scores", pa.array(scores, pa.large_string()))
    data.define(ws, name, key=key)
    if table.num_rows == 0:
        newest = _answered(ws, name)
        return None if newest is None else newest.ref
    kept = data.ingest(
        ws, name, table, mode="merge" if is_more else "replace", made_from=[Node("run", run.id)]
    )
    return kept.ref


def _stored_answers(run: PipelineRun) -> Stored:
    returned = run.plan["output"]["node"]
    return next(one.output for one in run.steps if one.node == returned and one.output is not None)
