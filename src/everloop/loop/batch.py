"""Batch scoring: a released version's answers for a table, part by part, kept as a file or as a dataset version.

It is a run of a pipeline of our own, so that it has what runs have: a journal in which a part that was scored is not scored
again after a kill, a cache in which a part that was scored before is found, lineage from the rows and the release, a page,
and any executor. Who scores the same again goes on with the run that was cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from everloop import data, pipelines, registry, serving, tracking
from everloop.data import ROW_ID, DatasetVersion
from everloop.errors import Conflict, Invalid, NotReady
from everloop.ledger import Node
from everloop.loop.answering import AT_ONCE, as_rows, check_inputs, inputs_of
from everloop.loop.rows import Given, Source, dataset_rows, given, rows_in_run
from everloop.pipelines import OnProgress, Pinned, PipelineRun, Stored, pipeline, step
from everloop.registry import Release
from everloop.serving import Failure, Manifest, Predictor, Ranked, Scorer
from everloop.storage import write_atomically
from everloop.workspace import Workspace

PART_ROWS = 50_000
_FEW_ROWS = 500_000
"""Up to so many rows, answered from what was kept, are through before processes that answer them were started: which takes 0.9 s of CPU."""
_COMPARED = 256  # rows of each part of which both ways to ask a model are compared
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
    file: Path
    kept: str | None = None

    @cached_property
    def answers(self) -> pa.Table:
        """The answers, read from the Parquet `file` of the workspace that holds them when they are asked for."""
        return pq.read_table(self.file)


@dataclass(frozen=True)
class Served:
    """A released model as a run's input; `imports` are what takes long to import of what answers in its place."""

    release: str
    name: str = "model"
    imports: tuple[str, ...] = ("skops.io",)

    def pin(self, _ws: Workspace) -> Pinned:
        return Pinned("release", self.release)

    def load(self, ws: Workspace, ref: str) -> Asked:
        _keep_freed_memory()
        return Asked(ws, _scorer(ws, ref))


@dataclass(frozen=True)
class Asked:
    """A model that is asked in a step, with the workspace from which its features come."""

    ws: Workspace
    scorer: Scorer


_loaded: dict[tuple[Path, str], Scorer] = {}  # the last one: a process scores one part after the other


def _scorer(ws: Workspace, release: str) -> Scorer:
    wanted = ws.home, release
    if wanted not in _loaded:
        _loaded.clear()
        _loaded[wanted] = Scorer.load(
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
        Where parts are scored, and how many at once where that is in processes; None: as the settings say, one for each core, and
        in this process where that costs less.
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
        found = given(ws, source, registry.loadable(ws, release))
        params = _params(ws, release, found, key=key, part_rows=part_rows)
        is_quick = "is_kept" in params and not params["past"]
        is_few = found.count is not None and found.count <= _FEW_ROWS
        if executor is None and isinstance(place, pipelines.Processes) and is_quick and is_few:
            place = pipelines.executor_named(ws.settings, "inline")
        if only_new and before is not None:
            params["answered"] = [before.ref, before.digest]
        _keep_freed_memory()  # not before the rows were read: they are let go once
        with found.at_hand():
            run = _run(ws, release, source, params, place, run_id=run_id, on_progress=on_progress)
    release = registry.find_release(ws, run.params["release"])
    stored = _stored_answers(run)
    file = ws.blobs.path(stored.files["table.parquet"])
    if output is not None:
        write_atomically(output, file.read_bytes())
    errors = pq.read_table(file, columns=["error"])["error"]
    kept = None if to is None else _keep(ws, to, pq.read_table(file), run, is_more="answered" in run.params)
    rows, failed = len(errors), len(errors) - errors.null_count
    return Batch(run.id, release.version, release.id, rows, failed, stored.digest, file, kept)


def _keep_freed_memory() -> None:
    """Let Arrow take memory where what was freed is kept: its own pool gives it back to the system, and asks again for each part.

    Of 10 s of processor time for 1,000,000 rows of Adult that took one.
    """
    pa.set_memory_pool(pa.system_memory_pool())


def version_at(ws: Workspace, ref: str) -> str:
    """The version that `ref` names, or that answers most of the traffic of the endpoint that it names."""
    if "@" in ref:
        return ref
    from everloop import rollout  # noqa: PLC0415  (and monitoring below it, which a version's own name needs not)

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
    is_kept: bool = False,
) -> pa.Table:
    """What `score_batch` runs; `is_kept`: what was kept of the model answers, and its library is hardly asked."""
    wanted = rows_in_run(rows, tables)
    if answered is not None:
        wanted = without_answer(wanted, dataset_rows("answered", *answered), key)
    history = {name: dataset_rows(name, *pinned) for name, pinned in past.items()}
    model = Served(release, imports=("pyarrow.compute",)) if is_kept else Served(release)
    return joined(answers.map(parts(wanted, part_rows), model=model, past=history, key=key))


@step
def without_answer(rows: pa.Table, answered: pa.Table, key: str) -> pa.Table:
    """The rows whose key is not among those answered."""
    known = set(answered[_KEY if key == ROW_ID else key].to_pylist())
    return rows.filter(pa.array([one not in known for one in rows[key].to_pylist()], pa.bool_()))


@step
def parts(rows: pa.Table, part_rows: int) -> list[bytes]:
    """The rows in parts, in their order."""
    _keep_freed_memory()
    return [_packed(rows.slice(start, part_rows)) for start in range(0, max(rows.num_rows, 1), part_rows)]


def _packed(table: pa.Table) -> bytes:
    """A part as it goes from step to step: as Arrow has it in memory. Parquet takes three times as long."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4", unify_dictionaries=True)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        # copied, for the same rows are to give the same bytes wherever they stood
        writer.write_table(pa.concat_tables([table, table.slice(0, 0)]).combine_chunks())
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _unpacked(part: bytes) -> pa.Table:
    with pa.ipc.open_file(pa.py_buffer(part)) as reader:
        return reader.read_all()


@step
def answers(part: bytes, model: Asked, past: dict[str, pa.Table], key: str) -> bytes:
    """The model's answers for the rows of a part, in their order."""
    rows, scorer = _unpacked(part), model.scorer
    manifest = scorer.manifest
    inputs = inputs_of(model.ws, manifest, rows, past=past)
    in_columns = cache(lambda: _in_columns(scorer.predictor, inputs.slice(0, _COMPARED)))
    found = pa.concat_tables(
        [
            _in_turn(scorer, as_rows(inputs.slice(0, 0)), []),
            *(
                _answers(scorer, inputs.slice(start, AT_ONCE), in_columns)
                for start in range(0, inputs.num_rows, AT_ONCE)
            ),
        ]
    )
    version = pa.repeat(f"{manifest.model}@{manifest.version}", inputs.num_rows)
    return _packed(found.add_column(0, key, rows[key]).append_column("version", version))


def _in_columns(predictor: Predictor, inputs: pa.Table) -> bool:
    """Whether the model says of these columns what it says of these rows."""
    rows = as_rows(inputs)
    taken = [error is None for error in serving.refusals(predictor.manifest.signature, rows)]
    return predictor.ranks_alike(inputs.filter(pa.array(taken, pa.bool_())).columns, rows[taken])


def _answers(scorer: Scorer, inputs: pa.Table, in_columns: Callable[[], bool]) -> pa.Table:
    """What is said of rows: from what was kept of the model, and of those that are left, by the model."""
    found = scorer.ranked(inputs.columns)
    if found is None:
        return _by_model(scorer, inputs, in_columns)
    ranked, is_told = found
    signature = scorer.manifest.signature
    if not serving.takes_all(signature, inputs.columns):
        is_told &= [error is None for error in serving.refusals(signature, as_rows(inputs))]
    told = _told(scorer.manifest, ranked)
    if is_told.all():
        return told
    left = _by_model(scorer, inputs.filter(pa.array(~is_told)), in_columns)
    order = np.argsort(np.concatenate([np.flatnonzero(is_told), np.flatnonzero(~is_told)]))
    return pa.concat_tables([told.filter(pa.array(is_told)), left]).take(order).combine_chunks()


def _by_model(scorer: Scorer, inputs: pa.Table, in_columns: Callable[[], bool]) -> pa.Table:
    """What a model says of rows: as columns where it is asked so and all are taken, else as rows, else one by one."""
    signature = scorer.manifest.signature
    is_taken = serving.takes_all(signature, inputs.columns)
    if is_taken and in_columns() and (found := scorer.predictor.ranked_columns(inputs.columns)) is not None:
        return _told(scorer.manifest, found)
    x = as_rows(inputs)
    errors = serving.refusals(signature, x)
    if not any(errors) and (found := scorer.predictor.ranked(x)) is not None:
        return _told(scorer.manifest, found)
    return _in_turn(scorer, x, errors)


def _told(manifest: Manifest, found: Ranked) -> pa.Table:
    """Answers as they are kept, made without an object for each row."""
    rows = len(found.outputs)
    if found.best is None or found.shares is None:
        output = pa.array(found.outputs, _output_type(manifest))
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


def _in_turn(scorer: Scorer, x: NDArray[np.object_], errors: list[str | None]) -> pa.Table:
    """The same, row by row: some would be refused, or the model fails on some."""
    told, manifest = list(errors), scorer.manifest
    given: list[tuple[Any, dict[str, float]]] = [(None, {})] * len(x)
    asked = [row for row, error in enumerate(errors) if error is None]
    for row, answer in zip(asked, scorer.predictor.answer(x[asked].tolist()) if asked else (), strict=True):
        if isinstance(answer, Failure):
            told[row] = f"{answer.kind}: {answer.text}"
        else:
            given[row] = answer
    scores = [[{"class": name, "score": share} for name, share in each.items()] or None for _, each in given]
    return _table(
        pa.array([output for output, _ in given], _output_type(manifest)),
        pa.array([each.get(output) for output, each in given], pa.float64()),
        pa.array(scores, _SCORES),
        pa.array(told, pa.string()),
    )


def _output_type(manifest: Manifest) -> pa.DataType:
    return pa.string() if manifest.signature.output == "class" else pa.float64()


def _table(output: Any, score: Any, scores: Any, error: Any) -> pa.Table:
    return pa.table({"output": output, "score": score, "scores": scores, "error": error})


@step
def joined(parts: list[bytes]) -> pa.Table:
    """The answers of all parts, in the rows' order."""
    _keep_freed_memory()
    # each is let go when it was unpacked
    return pa.concat_tables(_unpacked(parts.pop(0)) for _ in range(len(parts)))


def _params(
    ws: Workspace, release: Release, found: Given, *, key: str | None, part_rows: int
) -> dict[str, Any]:
    """What a run scores with what. Raises where that cannot be scored, before anything is begun."""
    manifest = registry.loadable(ws, release)
    named = key or found.key
    if named not in found.columns or named in _OURS:
        raise Invalid(
            f"the column that names a row is {named!r}; it is one of {', '.join(found.columns)}, and none of {', '.join(_OURS)}, "
            "which the answers have. Name another with --key."
        )
    check_inputs(found.columns, manifest)
    past = {view.dataset: data.version(ws, view.dataset) for view in manifest.features}
    is_kept = (
        ws.settings.compiled_models and manifest.compiled is not None and bool(manifest.compiled.columns)
    )
    return {
        **({"is_kept": True} if is_kept else {}),
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
