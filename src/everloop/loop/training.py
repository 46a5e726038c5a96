"""Training a declared model: run its pipeline, measure the result against its gates, register it as a candidate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from everloop import checks, data, events, labels, pipelines, registry, rollout, serving
from everloop.checks import CheckInput, Evidence, Live, Loadable
from everloop.errors import EverloopError, Invalid, NotFound
from everloop.jobs import Lease
from everloop.ledger import Node
from everloop.loop.applying import loaded, newest
from everloop.loop.asked import asked_lately
from everloop.loop.declare import DeclaredDataset, DeclaredLabels, DeclaredModel
from everloop.loop.loading import Loop, load
from everloop.loop.scheduled import score_declared
from everloop.loop.sources import view_of
from everloop.loop.start import SCORING, ending_with, params_of
from everloop.pipelines import Model, OnProgress, PipelineRun, Split
from everloop.storage import Tx
from everloop.workspace import Workspace


@dataclass(frozen=True)
class Trained:
    """How a run ended: the version it made, if its pipeline is a model's, and whether that passed its gates."""

    run: str
    version: str | None = None
    gate_report: str | None = None
    passed: bool = True


def train_job(ws: Workspace, lease: Lease) -> Any:
    """The job behind schedules and retraining; repeated after a kill, it goes on with the run that it had begun."""
    model = str(lease.job.payload["model"])
    loop = loaded(ws)
    declared = next((one for one in loop.declared.of(DeclaredModel) if one.name == model), None)
    if declared is None:
        raise NotFound(f"the applied loop file declares no model {model!r} any more; nothing is trained.")
    if "decision" not in lease.job.payload and (known := _nothing_new(ws, loop, declared)):
        return {"skipped": f"labels and code are those of {known}: training again would make the same model"}
    return _run(ws.acting_as("system:retraining"), lease, loop, declared.pipeline.name, {})


def pipeline_job(ws: Workspace, lease: Lease) -> Any:
    """The job behind triggers; repeated after a kill, it goes on with the run that it had begun."""
    payload = lease.job.payload
    acting, pipeline = ws.acting_as("system:triggers"), str(payload["pipeline"])
    if pipeline.startswith(SCORING):
        return score_declared(acting, lease, loaded(ws), pipeline.removeprefix(SCORING))
    return _run(acting, lease, loaded(ws), pipeline, params_of(payload))


def _run(ws: Workspace, lease: Lease, loop: Loop, pipeline: str, params: Mapping[str, Any]) -> dict[str, Any]:
    run_id = lease.job.id.replace("job_", "run_")
    with ending_with(ws, lease, run_id):
        ended = train(ws, loop, pipeline, params=params, reason=lease.job.reason, run_id=run_id)
    return {"run": ended.run, "version": ended.version, "passed": ended.passed}


def _nothing_new(ws: Workspace, loop: Loop, declared: DeclaredModel) -> str | None:
    """The version that a scheduled training would only repeat: made from the same labels by the same code."""
    version = next(iter(registry.versions(ws, declared.name, limit=1)), None)
    applied = newest(ws)
    if version is None or applied is None or version.code != applied.code:
        return None
    snapshots = {one.pin(ws).ref for one in loop.declared.of(DeclaredLabels)}
    return version.ref if version.label_snapshot in snapshots else None


def train(
    ws: Workspace,
    loop: Loop,
    pipeline: str,
    *,
    params: Mapping[str, Any] | None = None,
    reason: str,
    run_id: str | None = None,
    on_progress: OnProgress | None = None,
    seed: int = pipelines.DEFAULT_SEED,
    executor: str | None = None,
    force: Collection[str] = (),
    against: str | None = None,
) -> Trained:
    """Run a pipeline; when a model is declared on it, gate and register what it returns.

    Steps run where `executor` or the settings say; if they say nothing, in this process, which is a command's or a job's
    own. Called again with the same `run_id` it goes on where it was: no finished step runs twice, and a version is
    registered once for each run.

    Parameters
    ----------
    force
        Steps that are run whatever the cache holds; see `pipelines.run_pipeline`.
    against
        A version of the model that its gates take for the live one; None: the one that is live.

    Raises
    ------
    NotFound
        The loop file has no such pipeline.
    Invalid
        A model is declared on the pipeline, but it returned something else.
    """
    run = pipelines.run_pipeline(
        ws,
        loop.pipeline(pipeline),
        params=params,
        reason=reason,
        run_id=run_id,
        executor=pipelines.executor_named(ws.settings, executor),
        on_progress=on_progress,
        seed=seed,
        force=force,
    )
    return judged(ws, loop, run, against=against)


def end_training(ws: Workspace, run_id: str) -> Trained:
    """End a run that was conducted from outside; what follows is as after `train`, by the loop file that the run began with.

    Raises
    ------
    NotReady, StepFailed
        As `pipelines.end_run`.
    """
    run = pipelines.end_run(ws, run_id)
    return judged(ws, load(pipelines.entry_file(ws, run)), run)


def judged(ws: Workspace, loop: Loop, run: PipelineRun, *, against: str | None = None) -> Trained:
    """Register and gate what a run returned, when a model is declared on its pipeline."""
    declared = _model_on(loop, run.pipeline)
    if declared is None:
        return Trained(run.id)
    made = pipelines.result(ws, run.id)
    if not isinstance(made, Model):
        raise Invalid(
            f"pipeline {run.pipeline!r} returned a {type(made).__name__}; the model {declared.name!r} declared on it needs an "
            "el.Model. Return what el.fit or el.best gives."
        )
    version = _register(ws, loop, declared, run, made)
    report = _gate(ws, declared, version, run, made, against)
    return Trained(run.id, version.ref, report.id, checks.standing(ws, report.id).is_clear)


def _model_on(loop: Loop, pipeline: str) -> DeclaredModel | None:
    return next((one for one in loop.declared.of(DeclaredModel) if one.pipeline.name == pipeline), None)


def _register(
    ws: Workspace, loop: Loop, declared: DeclaredModel, run: PipelineRun, made: Model
) -> registry.ModelVersion:
    known = registry.version_of_run(ws, declared.name, run.id)
    if known is not None:
        return known
    rows = _pinned(run, "dataset_version")
    datasets = {one.name: one for one in loop.declared.of(DeclaredDataset)}
    views = tuple(
        view_of(ws, one, rows)
        for one in datasets[rows.partition("@")[0]].features
        if one.name in made.features
    )
    return registry.register(
        ws,
        declared.name,
        run=run.id,
        files=pipelines.files_of_model(ws, run.id),
        signature=made.signature,
        metrics=made.metrics,
        data_version=rows,
        label_snapshot=_pinned(run, "label_snapshot"),
        code=run.code,
        environment=run.environment,
        features=views,
        approval=declared.approve,
        gates=declared.gates,
    )


def judged_rows(ws: Workspace, run_id: str) -> CheckInput | None:
    """What the model of a finished run was tested on and answered, as checks take it; None when it made no model."""
    made = pipelines.result(ws, run_id)
    if not isinstance(made, Model):
        return None
    split = _split_of(ws, pipelines.pipeline_run(ws, run_id), made)
    return CheckInput(
        train=split.train,
        test=split.test,
        inputs=split.inputs,
        features=split.features,
        label=split.label,
        group=split.group,
        predictions=made.evaluation,
        metrics=made.metrics,
    )


def _gate(
    ws: Workspace,
    declared: DeclaredModel,
    version: registry.ModelVersion,
    run: PipelineRun,
    made: Model,
    against: str | None,
) -> checks.GateReport:
    known = checks.reports_of(ws, version.ref, limit=1)
    if known:
        return known[0]
    evidence = Evidence(
        model=version.digest,
        data=version.data_version,
        labels=version.label_snapshot,
        code=version.code,
        environment=version.environment,
    )
    given = check_input(ws, declared.name, version, run, made, against=against)
    report = checks.evaluate(ws, version.ref, given, gates=declared.gates, evidence=evidence)
    ws.write(lambda tx: _tell(ws, tx, version, report))
    return report


def _tell(ws: Workspace, tx: Tx, version: registry.ModelVersion, report: checks.GateReport) -> None:
    failed = ", ".join(one.name for one in report.failed)
    message = f"{version.ref} {f'failed its gates: {failed}' if failed else 'passed its gates'}"
    events.emit(
        ws,
        tx,
        "registry.gated",
        Node("model_version", version.ref),
        message=message,
        level="attention" if failed else "info",
        payload={"report": report.id},
    )


def check_input(
    ws: Workspace,
    model: str,
    version: registry.ModelVersion,
    run: PipelineRun,
    made: Model,
    *,
    against: str | None = None,
) -> CheckInput:
    """What checks may look at for a version: its split, its answers, the model itself, and what is live."""
    split = _split_of(ws, run, made)
    snapshot = labels.find_snapshot(ws, _pinned(run, "label_snapshot"))
    schema = labels.schema(ws, f"{snapshot.name}#{snapshot.schema_number}")
    dataset = data.dataset(ws, _pinned(run, "dataset_version").partition("@")[0])
    before = registry.version_before(ws, version.ref)
    return CheckInput(
        train=split.train,
        test=split.test,
        inputs=split.inputs,
        features=split.features,
        label=split.label,
        key=dataset.key,
        time=dataset.time,
        group=split.group,
        classes=None if schema.kind == "number" else tuple(schema.labels),
        signature=made.signature,
        predictions=made.evaluation,
        metrics=made.metrics,
        reference=None if before is None else _rows_of(ws, before),
        live=_live(ws, model, split) if against is None else _instead_of_live(ws, against),
        answer=lambda rows: made.estimator.predict(pipelines.as_objects(rows, split.columns)).tolist(),
        chances=_chances(made, split),
        loadable=_loadable(ws, version),
        annotators=_annotators(labels.read_snapshot(ws, snapshot.digest)),
        traffic=lambda: asked_lately(ws, model),
    )


def _chances(made: Model, split: Split) -> Callable[[pa.Table], dict[str, list[float]]] | None:
    if not hasattr(made.estimator, "predict_proba"):
        return None

    def chances(rows: pa.Table) -> dict[str, list[float]]:
        columns = made.estimator.predict_proba(pipelines.as_objects(rows, split.columns)).T
        return {
            str(name): column.tolist() for name, column in zip(made.estimator.classes_, columns, strict=True)
        }

    return chances


def _annotators(snapshot: pa.Table) -> pa.Table:
    """Who decided each label; of several the first."""
    first = [each[0] if each else None for each in snapshot["annotators"].to_pylist()]
    return pa.table({"_row_id": snapshot["_row_id"], "annotator": pa.array(first, pa.string())})


def _loadable(ws: Workspace, version: registry.ModelVersion) -> Loadable | None:
    """The version as serving will load it once it is released."""
    if version.signature is None:
        return None
    manifest = serving.Manifest(
        id=version.ref,
        model=version.model,
        version=version.number,
        digest=version.digest,
        files=dict(version.files),
        signature=version.signature,
        created_at=version.created_at,
        flavor=version.flavor,
        features=version.features,
        trusted_types=version.trusted_types,
    )
    return Loadable(manifest, ws.blobs)


def _split_of(ws: Workspace, run: PipelineRun, made: Model) -> Split:
    """The split that the model was trained on, from the run's own results."""
    for step in pipelines.pipeline_run(ws, run.id).steps:
        if step.output is not None and step.output.kind == "split":
            split: Split = pipelines.output_of(ws, run.id, step.node)
            if split.digest == made.split_ref:
                return split
    raise Invalid(
        f"run {run.id} made no split that its model was trained on, so that nothing can be checked. "
        "Make the split in a step of its own: return el.split(...) from it."
    )


def held_out_rows(ws: Workspace, version: registry.ModelVersion) -> list[list[Any]]:
    """The test rows of the run that made a version, as its model takes them; none if they are not known here."""
    if version.run is None:
        return []
    try:
        made = pipelines.result(ws, version.run)
        if not isinstance(made, Model):
            return []
        split = _split_of(ws, pipelines.pipeline_run(ws, version.run), made)
    except EverloopError:  # collected, or made elsewhere
        return []
    rows: list[list[Any]] = pipelines.as_objects(split.test, split.columns).tolist()
    return rows


def _rows_of(ws: Workspace, version: registry.ModelVersion) -> pa.Table | None:
    """The labelled rows that an earlier version was made from."""
    if version.data_version is None or version.label_snapshot is None:
        return None
    truth = labels.read_snapshot(ws, version.label_snapshot)
    return data.read(ws, version.data_version, row_ids=truth["_row_id"].to_numpy())


def _live(ws: Workspace, model: str, split: Split) -> Live | None:
    """What the version that answers now says of the same test rows; a row's part does not change between runs."""
    for endpoint in rollout.endpoints(ws):
        if endpoint.model == model and endpoint.variants:
            live = endpoint.variants[0]
            manifest = registry.loadable(ws, registry.release_of(ws, live.version))
            wanted = [field.name for field in manifest.signature.inputs] + [
                view.name for view in manifest.features
            ]
            if not set(wanted) <= set(split.test.column_names):
                return Live(live.version)
            loaded = serving.Predictor.load(
                manifest, ws.blobs, model_python=ws.settings.model_python, hidden=ws.home.absolute()
            )
            with closing(loaded) as predictor:
                outputs, _ = predictor.predict(pipelines.as_objects(split.test, wanted))
            predictions = pa.table({"_row_id": split.test["_row_id"], "predicted": outputs})
            loadable = None if manifest.brings_code else Loadable(manifest, ws.blobs)
            return Live(live.version, predictions, registry.version(ws, live.version).metrics, loadable)
    return None


def _instead_of_live(ws: Workspace, ref: str) -> Live:
    """What a version said of its own test rows, for gates that compare with the live one."""
    version = registry.version(ws, ref)
    answers = None if version.run is None else pipelines.held_out_answers(ws, version.run)
    return Live(ref, answers, version.metrics)


def _pinned(run: PipelineRun, kind: str) -> str:
    found = [pinned.ref for pinned in run.pins.values() if pinned.kind == kind]
    if not found:
        raise Invalid(
            f"run {run.id} used no {kind.replace('_', ' ')}, so its model cannot be traced. "
            "Give the pipeline's steps a declared dataset and label set."
        )
    return found[0]
