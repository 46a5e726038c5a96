"""Batch scoring: a released version's answers for a file or a dataset version, part by part.

It is a run of a pipeline of our own, so that it has what runs have: a journal in which a part that was scored is not scored
again after a kill, a cache in which a part that was scored before is found, lineage from the rows and the release, a page,
and any executor. Who scores the same again goes on with the run that was cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from everloop import data, pipelines, registry, serving, tracking
from everloop.errors import Invalid
from everloop.loop.score import AT_ONCE, inputs_of
from everloop.pipelines import OnProgress, Pinned, PipelineRun, Stored, pipeline, step
from everloop.registry import Release
from everloop.serving import Failure, Predictor
from everloop.storage import write_atomically
from everloop.workspace import Workspace

PART_ROWS = 50_000
_OURS = ("output", "score", "scores", "error", "version")  # the columns beside the key
_SCORES = pa.list_(pa.struct([("class", pa.string()), ("score", pa.float64())]))
_UNFINISHED = ("running", "pausing", "paused", "failed")


@dataclass(frozen=True)
class Batch:
    """What came of scoring: `run` is its pipeline run, `digest` that of the answers, `failed` counts rows without one."""

    run: str
    version: str
    release: str
    rows: int
    failed: int
    digest: str
    answers: pa.Table


@dataclass(frozen=True)
class Rows:
    """Rows as a run's input: those of a dataset version, or of a file, which are kept as a Parquet blob, `digest`."""

    kind: Literal["dataset_version", "file"]
    ref: str
    digest: str
    name: str = "rows"

    def pin(self, _ws: Workspace) -> Pinned:
        return Pinned(self.kind, self.ref, self.digest)

    def load(self, ws: Workspace, ref: str) -> pa.Table:
        if self.kind == "dataset_version":
            return data.read(ws, ref)
        with pq.ParquetFile(ws.blobs.path(self.digest)) as file:
            return file.read()


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
            is_compiled=ws.settings.compiled_models,
        )
    return _loaded[wanted]


def score_batch(
    ws: Workspace,
    ref: str,
    source: Path | str,
    *,
    key: str | None = None,
    part_rows: int = PART_ROWS,
    executor: str | None = None,
    output: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Batch:
    """Score a file, or a dataset version such as `listings@3`, with a released version.

    A row that the version's endpoint would refuse, or on which the model fails, has an `error` and no output. Features are
    computed as in training, over the newest versions of their datasets, which the run is pinned to.

    Parameters
    ----------
    key
        The column that names a row in the answers; None: the dataset's key, a file's first column.
    part_rows
        Rows in a part. The answers do not depend on it.
    executor
        Where parts are scored; None: where the settings say.
    output
        A Parquet file for the answers, written whole or not at all.

    Raises
    ------
    NotFound
        The version is not released, or there is no such dataset or file.
    Invalid
        A column is missing or does not fit the version's signature, or the key's name is one of the answers' own.
    NotReady
        The same is being scored by another process.
    StepFailed
        A part could not be scored. What was finished is kept.
    """
    rows, columns, key = _rows_of(ws, source, key)
    release = registry.release_of(ws, ref)
    if key not in columns or key in _OURS:
        raise Invalid(
            f"the column that names a row is {key!r}; it is one of {', '.join(columns)}, and none of {', '.join(_OURS)}, which the "
            "answers have. Name another with --key."
        )
    past = {view.dataset: data.version(ws, view.dataset) for view in release.manifest.features}
    params = {
        "release": release.id,
        "rows": [rows.kind, rows.ref, rows.digest],
        "key": key,
        "part_rows": part_rows,
        "past": {name: [version.ref, version.digest] for name, version in past.items()},
    }
    run = _run(ws, release, source, params, executor=executor, on_progress=on_progress)
    stored = _stored_answers(run)
    answers: pa.Table = pipelines.result(ws, run.id)
    if output is not None:
        write_atomically(output, ws.blobs.get(stored.files["table.parquet"]))
    failed = answers.num_rows - answers["error"].null_count
    return Batch(run.id, release.version, release.id, answers.num_rows, failed, stored.digest, answers)


@pipeline
def batch_scoring(
    release: str, rows: list[str], key: str, part_rows: int, past: dict[str, list[str]]
) -> pa.Table:
    """What `score_batch` runs."""
    kind, *named = rows
    given: Any = Rows(cast("Literal['dataset_version', 'file']", kind), *named)
    history = {name: Rows("dataset_version", ref, digest, name) for name, (ref, digest) in past.items()}
    return joined(answers.map(parts(given, part_rows), model=Served(release), past=history, key=key))


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
    given: list[tuple[Any, dict[str, float]]] = [(None, {})] * len(x)
    asked = [row for row, error in enumerate(errors) if error is None]
    for start in range(0, len(asked), AT_ONCE):
        some = asked[start : start + AT_ONCE]
        for row, answer in zip(some, model.predictor.answer(x[some].tolist()), strict=True):
            if isinstance(answer, Failure):
                errors[row] = f"{answer.kind}: {answer.text}"
            else:
                given[row] = answer
    is_class = manifest.signature.output == "class"
    scores = [[{"class": name, "score": share} for name, share in each.items()] or None for _, each in given]
    return pa.table(
        {
            key: part[key],
            "output": pa.array([output for output, _ in given], pa.string() if is_class else pa.float64()),
            "score": pa.array([each.get(output) for output, each in given], pa.float64()),
            "scores": pa.array(scores, _SCORES),
            "error": pa.array(errors, pa.string()),
            "version": pa.array([f"{manifest.model}@{manifest.version}"] * len(x), pa.string()),
        }
    )


@step
def joined(parts: list[pa.Table]) -> pa.Table:
    """The answers of all parts, in the rows' order."""
    return pa.concat_tables(parts)


def _rows_of(ws: Workspace, source: Path | str, key: str | None) -> tuple[Rows, list[str], str]:
    """The rows as a run's input, their columns, and the one that names a row."""
    if isinstance(source, Path):
        found = data.load(source, key=None, file_format=None)
        table, _ = data.typed(found)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        kept = ws.blobs.put(memoryview(sink.getvalue()))
        return (
            Rows("file", (found.file or {})["digest"], kept),
            table.column_names,
            key or table.column_names[0],
        )
    version = data.version(ws, source)
    columns = [data.ROW_ID, *(column.name for column in version.schema.columns)]
    named = key or data.dataset(ws, version.ref.partition("@")[0]).key or data.ROW_ID
    return Rows("dataset_version", version.ref, version.digest), columns, named


def _run(
    ws: Workspace,
    release: Release,
    source: Path | str,
    params: Mapping[str, Any],
    *,
    executor: str | None,
    on_progress: OnProgress | None,
) -> PipelineRun:
    """Run it, or go on with the run of the same that was cut off."""
    place = pipelines.executor_named(ws.settings, executor)
    for one in pipelines.pipeline_runs(ws, pipeline=batch_scoring.name):
        if one.state in _UNFINISHED and one.params == params:
            return pipelines.resume(ws, one.id, executor=place, paused=True, on_progress=on_progress)
    code = registry.version(ws, release.version).code
    return pipelines.run_pipeline(
        ws,
        batch_scoring,
        params=params,
        reason=f"to score {source} with {release.version}",
        executor=place,
        on_progress=on_progress,
        code=tracking.capture_code(ws, ws.home, []) if code is None else tracking.code(ws, code),
    )


def _stored_answers(run: PipelineRun) -> Stored:
    returned = run.plan["output"]["node"]
    return next(one.output for one in run.steps if one.node == returned and one.output is not None)
