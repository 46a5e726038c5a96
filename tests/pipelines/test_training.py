"""A training pipeline over real dataset versions and label snapshots, from rows to the best of two models."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from everloop import data, labels, ledger, tracking
from everloop.ids import new_id
from everloop.ledger import Node
from everloop.pipelines import (
    Executor,
    Inline,
    Model,
    PipelineRun,
    Processes,
    result,
    resume,
    run_pipeline,
)
from everloop.storage import Tx
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

LOOP = """
    from dataclasses import dataclass

    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    import everloop as el
    from everloop import data, labels
    from everloop.pipelines import Pinned


    @dataclass(frozen=True)
    class Rows:
        name: str

        def pin(self, ws):
            version = data.version(ws, self.name)
            return Pinned("dataset_version", version.ref, version.digest)

        def load(self, ws, ref):
            return data.read(ws, ref)


    @dataclass(frozen=True)
    class Labels:
        name: str

        def pin(self, ws):
            return Pinned("label_snapshot", labels.snapshot(ws, self.name).digest)

        def load(self, ws, ref):
            return labels.read_snapshot(ws, ref)


    @el.step
    def divide(rows: el.Table, truth: el.Table) -> el.Split:
        return el.split(rows, truth, test=0.3)


    @el.step
    def fit(parts: el.Split, c: float) -> el.Model:
        words = ColumnTransformer([("title", CountVectorizer(), parts.position("title"))])
        return el.fit(make_pipeline(words, LogisticRegression(C=c)), parts)


    @el.pipeline
    def train() -> el.Model:
        parts = divide(Rows("listings"), Labels("colour"))
        return el.best([fit(parts, c=c) for c in (0.00001, 1.0)], by="accuracy")


    @el.step
    def is_good(model: el.Model) -> bool:
        return model.metrics["accuracy"] > 0.9


    @el.pipeline
    def train_mapped() -> el.Model:
        parts = divide(Rows("listings"), Labels("colour"))
        found = el.best(fit.map([0.00001, 1.0], parts=parts), by="accuracy")
        return el.when(is_good(found), lambda: found, lambda: fit(parts, 5.0))
"""
COLOURS = ["red", "red", "blue", "green", "blue"]


@pytest.fixture(params=["train", "train_mapped"])
def train(ws: Workspace, project: UserProject, request: pytest.FixtureRequest) -> Any:
    rows = pa.table(
        {
            "id": [f"l{number}" for number in range(50)],
            "title": [f"{COLOURS[number % 5]} thing {number}" for number in range(50)],
        }
    )
    data.define(ws, "listings", key="id", inputs=["title"])
    data.ingest(ws, "listings", rows)
    labels.define(ws, "colour", dataset="listings", classes=["red", "blue", "green"])
    told = pa.table({"id": rows["id"], "colour": [COLOURS[number % 5] for number in range(50)]})
    labels.import_labels(ws, "colour", told, key="id", value="colour", annotator="ann")
    project.write({"loop": LOOP})
    return getattr(project.load(), request.param)


@pytest.mark.parametrize("executor", [Inline(), Processes(2)], ids=["inline", "processes"])
def test_the_better_of_two_models_is_the_result(ws: Workspace, train: Any, executor: Executor) -> None:
    done = run_pipeline(ws, train, reason="test", executor=executor)
    made = result(ws, done.id)
    assert isinstance(made, Model)
    assert made.metrics["accuracy"] == 1.0
    assert_candidates_are_tracked(ws, done)
    assert_the_result_is_tracked(ws, done)
    assert_lineage_reaches_rows_and_labels(ws, done)


def assert_candidates_are_tracked(ws: Workspace, done: PipelineRun) -> None:
    """Each fitted model is a run below the pipeline's; the one that `best` passes on is not a third."""
    worse, better = sorted(tracking.runs(ws, parent=done.id), key=lambda run: run.metrics["accuracy"])
    assert [run.params["c"] for run in (worse, better)] == ["1e-05", "1.0"]
    assert {(run.kind, run.status, run.experiment) for run in (worse, better)} == {
        ("step", "finished", done.pipeline)
    }
    assert "model/MLmodel" in {artifact.path for artifact in tracking.artifacts(ws, better.id)}
    assert {one.tracking_run for one in done.steps} == {None, worse.id, better.id}


def assert_the_result_is_tracked(ws: Workspace, done: PipelineRun) -> None:
    assert tracking.run(ws, done.id).metrics["accuracy"] == 1.0
    assert "model/MLmodel" in {artifact.path for artifact in tracking.artifacts(ws, done.id)}


def assert_lineage_reaches_rows_and_labels(ws: Workspace, done: PipelineRun) -> None:
    above = {edge.source for edge in ledger.upstream(ws, Node("run", done.id))}
    assert Node("dataset_version", "listings@1") in above
    assert Node("label_snapshot", done.pins["colour"].ref) in above


def test_the_same_training_again_is_cached_to_the_last_step(ws: Workspace, train: Any) -> None:
    run_pipeline(ws, train, reason="test", executor=Inline())
    again = run_pipeline(ws, train, reason="test", executor=Inline())
    assert {one.state for one in again.steps} - {"skipped"} == {"cached"}
    assert tracking.runs(ws, parent=again.id) == []
    assert tracking.run(ws, again.id).metrics["accuracy"] == 1.0


def test_a_new_label_runs_all_that_depends_on_it(ws: Workspace, train: Any) -> None:
    run_pipeline(ws, train, reason="test", executor=Inline())
    changed = pa.table({"id": ["l0"], "colour": ["blue"]})
    labels.import_labels(ws, "colour", changed, key="id", value="colour", annotator="bob")
    again = run_pipeline(ws, train, reason="test", executor=Inline())
    assert {one.state for one in again.steps} - {"skipped"} == {"done"}


class Killed(BaseException):
    """Ends a runner where it stands."""


def test_what_a_kill_cuts_off_behind_a_commit_is_done_again(ws: Workspace, train: Any) -> None:
    """The runner dies after the first model is committed and before its metrics are logged."""
    run_id = new_id("run")

    def die(progress: Any) -> None:
        if progress.kind == "step_done" and progress.node in ("fit", "fit[0]"):
            raise Killed

    with pytest.raises(Killed):
        run_pipeline(ws, train, reason="test", run_id=run_id, executor=Inline(), on_progress=die)
    (left,) = tracking.runs(ws, parent=run_id)
    ws.write(lambda tx: forget_metrics(tx, left.id))
    resume(ws, run_id, executor=Inline())
    tracked_runs = tracking.runs(ws, parent=run_id)
    assert len(tracked_runs) == 2
    assert all("accuracy" in run.metrics for run in tracked_runs)


def forget_metrics(tx: Tx, run_id: str) -> None:
    for table in (tracking.store.metrics, tracking.store.latest_metrics):
        tx.execute(table.delete().where(table.c.run == run_id))
