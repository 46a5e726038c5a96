"""Backwards: from a prediction, a version, a run or a dataset version to what it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from everloop import (
    checks,
    data,
    feedback,
    labels,
    pipelines,
    predictions,
    registry,
    rollout,
    serving,
    tracking,
)
from everloop.clock import from_micros
from everloop.errors import Invalid, NotFound
from everloop.governance.predictions import why_not_logged
from everloop.ledger import Node
from everloop.pipelines import Pinned
from everloop.registry import ModelVersion
from everloop.workspace import Workspace


@dataclass(frozen=True)
class TraceStep:
    """One thing on the way back: what it is, what is known of it, in the order of reading."""

    title: str
    node: Node
    facts: dict[str, Any]


@dataclass(frozen=True)
class Trace:
    """The way back from one thing, nearest first. `gaps` are links that the records do not have."""

    subject: Node
    steps: tuple[TraceStep, ...]
    gaps: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        return not self.gaps


class _Steps:
    """Gathers steps and gaps on the way."""

    def __init__(self) -> None:
        self.steps: list[TraceStep] = []
        self.gaps: list[str] = []

    def add(self, title: str, node: Node, **facts: Any) -> None:
        self.steps.append(TraceStep(title, node, facts))

    def has(self, node: Node) -> bool:
        """Whether it was told of before: scoring comes back to the data that the model was trained on."""
        return any(one.node == node for one in self.steps)


def trace(ws: Workspace, identifier: str) -> Trace:
    """Where a thing comes from.

    Parameters
    ----------
    identifier
        A prediction (`pred_...`), a run (`run_...`), a model version (`category@2`), a dataset version (`listings@3`) or
        a row of one by its key (`listings@3:30519`), such as a row's answer that batch scoring kept.

    Raises
    ------
    NotFound
        There is no such thing.
    Invalid
        The identifier is of none of these kinds.
    """
    steps = _Steps()
    node = _begin(ws, identifier, steps)
    return Trace(node, tuple(steps.steps), tuple(steps.gaps))


def _begin(ws: Workspace, identifier: str, steps: _Steps) -> Node:
    if identifier.startswith("pred_"):
        _prediction(ws, identifier, steps)
        return Node("prediction", identifier)
    if identifier.startswith("run_"):
        _run(ws, identifier, steps)
        return Node("run", identifier)
    ref, colon, key = identifier.partition(":")
    if colon:
        return _row(ws, ref, key, steps)
    name, at, _ = identifier.partition("@")
    if not at:
        raise Invalid(
            f"{identifier!r} cannot be traced; give a prediction (pred_...), a run (run_...), a model version "
            "(category@2), a dataset version (listings@3) or one of its rows (listings@3:30519)."
        )
    if any(one.name == name for one in registry.models(ws)):
        _version(ws, registry.version(ws, identifier, even_deleted=True), steps)
        return Node("model_version", identifier)
    _dataset_version(ws, identifier, steps)
    return Node("dataset_version", identifier)


def _prediction(ws: Workspace, prediction_id: str, steps: _Steps) -> None:
    record = predictions.find(ws.home / "serving", prediction_id)
    if record is None:
        _gone(ws, prediction_id, steps)
        return
    at = from_micros(record.at)
    steps.add(
        "prediction",
        Node("prediction", prediction_id),
        endpoint=record.endpoint,
        at=at,
        inputs=record.inputs or ("erased" if record.error == "erased" or record.status == "ok" else {}),
        features={name: value for name, (value, _as_of) in record.features.items()},
        answer=record.output,
        scores=record.scores,
        status=record.status,
        error=record.error,
        latency_ms=record.latency_us / 1_000,
        variant=record.variant,
        replay=record.replay,
    )
    _said_of(ws, prediction_id, steps)
    if not record.release:
        steps.gaps.append("the request was refused before a version was chosen: there is no model behind it")
        return
    _live_then(ws, record.endpoint, record.release, at, steps)
    found = registry.version(ws, f"{record.model}@{record.version}", even_deleted=True)
    manifest = serving.read_manifest(ws.home / "serving", record.release)
    if manifest.digest != found.digest:
        steps.gaps.append(
            f"release {record.release} was of digest {manifest.digest[:12]}, {found.ref} has {found.digest[:12]}"
        )
    _version(ws, found, steps, row_key=record.key)


def _gone(ws: Workspace, prediction_id: str, steps: _Steps) -> None:
    """What is known of a prediction that the log does not have: why it may not, and what was said of it."""
    why = why_not_logged(ws, prediction_id)
    _said_of(ws, prediction_id, steps)
    if not steps.steps:
        raise NotFound(f"there is no prediction {prediction_id} in this workspace's log: {why}.")
    steps.gaps.append(f"the prediction is not in the log any more: {why}")
    told = feedback.corrections_of(ws, prediction_id)[0]
    _version(
        ws,
        registry.version(ws, f"{told.model}@{told.version}", even_deleted=True),
        steps,
        row_key=told.key,
    )


def _row(ws: Workspace, ref: str, key: str, steps: _Steps) -> Node:
    """A row, the version that wrote it, and where that came from."""
    found = data.rows_by_key(ws, ref, [key]).to_pylist()
    if not found:
        raise NotFound(
            f"{ref} has no row with the key {key!r}. 'everloop data versions' shows the other versions."
        )
    row = {
        name: f"{len(value):,} bytes" if isinstance(value, bytes) else value
        for name, value in found[0].items()
    }
    row_id = int(row.pop(data.ROW_ID))
    node = Node("row", f"{ref.partition('@')[0]}:{row_id}")
    if steps.has(node):
        return node
    steps.add("row", node, values=row)
    written = data.origins(ws, ref, [row_id])[row_id]
    for run_id in _runs_behind(written):
        kind, source, _ = pipelines.pipeline_run(ws, run_id).params["rows"]
        if kind == "dataset_version" and data.dataset(ws, source.partition("@")[0]).key == written.schema.key:
            _row(ws, source, key, steps)
    _dataset_version(ws, written.ref, steps, row_key=key)
    return node


def _runs_behind(version: data.DatasetVersion) -> list[str]:
    """The runs whose answers a dataset version holds."""
    return [name for kind, name in version.operation.get("made_from", ()) if kind == "run"]


def _said_of(ws: Workspace, prediction_id: str, steps: _Steps) -> None:
    for one in feedback.corrections_of(ws, prediction_id):
        steps.add(
            "correction",
            Node("correction", one.id),
            says=one.value,
            contradicts=one.contradicts,
            reporter=one.reporter,
            at=one.at,
            fate=one.fate,
        )


def _live_then(ws: Workspace, endpoint: str, release: str, at: Any, steps: _Steps) -> None:
    for event in rollout.history(ws, endpoint_name=endpoint, without_looks=True, limit=1_000):
        if event.at <= at and event.variants and any(one.release == release for one in event.variants):
            steps.add(
                "what was live",
                Node("endpoint", endpoint),
                since=event.at,
                act=event.act,
                by=event.actor,
                reason=event.reason,
                variants=[f"{one.version} {one.weight:g} %" for one in event.variants],
                rollout=event.rollout,
            )
            return
    steps.gaps.append(f"no rollout event put release {release} on {endpoint} before the prediction")


def _version(ws: Workspace, found: ModelVersion, steps: _Steps, *, row_key: str | None = None) -> None:
    steps.add(
        "model version",
        Node("model_version", found.ref),
        digest=found.digest,
        author=found.author,
        made_at=found.created_at,
        metrics=dict(found.metrics),
        files=dict(found.files),
    )
    for report in checks.reports_of(ws, found.ref, limit=1):
        steps.add(
            "gates",
            Node("gate_report", report.id),
            verdict=report.verdict,
            at=report.at,
            results={one.name: one.verdict for one in report.results},
            waived=[f"{one.check} by {one.by}: {one.reason}" for one in checks.waivers_of(ws, report.id)],
        )
    said = registry.decisions(ws, found.ref)
    steps.add(
        "approval",
        Node("model_version", found.ref),
        said=[f"{one.verdict} by {one.by} at {one.at:%Y-%m-%d %H:%M}: {one.reason}" for one in said]
        or ["nobody was asked"],
    )
    if found.run is None:
        steps.gaps.append(f"{found.ref} names no run: where it was made is not recorded")
    else:
        _run(ws, found.run, steps, row_key=row_key)


def _run(ws: Workspace, run_id: str, steps: _Steps, *, row_key: str | None = None) -> None:
    run = tracking.run(ws, run_id)
    facts: dict[str, Any] = {
        "name": run.name,
        "status": run.status,
        "started_at": run.started_at,
        "params": dict(run.params),
    }
    pins: list[Pinned] = []
    if run.has_steps:
        pipeline = pipelines.pipeline_run(ws, run_id)
        facts |= {"pipeline": pipeline.pipeline, "reason": pipeline.reason, "seed": pipeline.plan.get("seed")}
        facts["steps"] = {one.node: one.state for one in pipeline.steps if not one.is_call}
        facts["done_again"] = [
            f"{again}: {said}" for again, said in pipelines.verdicts_on(ws, run_id).items()
        ]
        pins = list(pipeline.pins.values())
    steps.add("run", Node("run", run_id), **facts)
    _code(ws, run.code, steps)
    _environment(ws, run.environment, steps)
    if all(one.kind not in ("dataset_version", "file") for one in pins):
        steps.gaps.append(f"run {run_id} names no dataset version")
    for pinned in pins:
        _pinned(ws, pinned, steps, row_key=row_key)


def _pinned(ws: Workspace, pinned: Pinned, steps: _Steps, *, row_key: str | None) -> None:
    """What a run used."""
    node = Node(pinned.kind, pinned.ref)
    if steps.has(node):
        return
    if pinned.kind == "dataset_version":
        _dataset_version(ws, pinned.ref, steps)
    elif pinned.kind == "label_snapshot":
        _snapshot(ws, pinned.ref, steps, row_key=row_key)
    elif pinned.kind == "file":
        steps.add("file", node, digest=pinned.ref)
    else:
        found = registry.find_release(ws, pinned.ref)
        steps.add("release", node, version=found.version)
        _version(ws, registry.version(ws, found.version, even_deleted=True), steps, row_key=row_key)


def _code(ws: Workspace, digest: str | None, steps: _Steps) -> None:
    if digest is None:
        steps.gaps.append("the run's code was not captured: it came from a notebook")
        return
    found = tracking.code(ws, digest)
    steps.add(
        "code",
        Node("code", digest),
        commit=found.commit,
        uncommitted_changes=found.is_dirty,
        diff=found.diff,
        files=dict(found.files),
    )


def _environment(ws: Workspace, digest: str | None, steps: _Steps) -> None:
    if digest is None:
        steps.gaps.append("the run's environment was not captured")
        return
    found = tracking.environment(ws, digest)
    steps.add(
        "environment",
        Node("environment", digest),
        python=found.python,
        platform=found.platform,
        packages=len(found.packages),
        scikit_learn=dict(found.packages).get("scikit-learn"),
    )


def _dataset_version(ws: Workspace, ref: str, steps: _Steps, *, row_key: str | None = None) -> None:
    found = data.version(ws, ref)
    runs = _runs_behind(found)
    steps.add(
        "data",
        Node("dataset_version", found.ref),
        digest=found.digest,
        rows=found.rows,
        made_by=found.operation["kind"],
        source=found.operation.get("source"),
        file=found.operation.get("file"),
        created_by=found.created_by,
        created_at=found.created_at,
        parent=None if found.parent is None else f"{found.dataset}@{found.parent}",
        **({"made_from": runs} if runs else {}),
    )
    for run_id in runs:
        if not steps.has(Node("run", run_id)):
            _run(ws, run_id, steps, row_key=row_key)


def _snapshot(ws: Workspace, digest: str, steps: _Steps, *, row_key: str | None) -> None:
    found = labels.find_snapshot(ws, digest)
    steps.add(
        "labels",
        Node("label_snapshot", digest),
        label_set=f"{found.name}#{found.schema_number}",
        rule=found.rule,
        as_of=found.at,
        count=found.count,
        annotators=dict(found.annotators),
        per_class=dict(found.per_class),
    )
    if row_key is None:
        return
    dataset = labels.schema(ws, found.name).dataset
    for row_id in data.rows_by_key(ws, dataset, [row_key])[data.ROW_ID].to_numpy():
        for event in labels.events_of(ws, found.name, int(row_id)):
            steps.add(
                "label of this row",
                Node("row", f"{dataset}:{row_id}"),
                value=event.value,
                annotator=event.annotator,
                source=event.source,
                at=event.at,
            )
