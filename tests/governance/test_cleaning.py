"""Removing deleted runs for good: what goes, what stays, and what it frees."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from everloop import governance, tracking
from everloop.errors import Conflict, NotFound
from everloop.ledger import Node, entries
from everloop.tracking import DatasetInput, LoggedDataset, MetricPoint, ModelMetric, RunModel
from everloop.workspace import Workspace
from tests.conftest import START, simulation
from tests.registry.versions import register


def deleted_run(ws: Workspace, content: bytes = b"x" * 1_000, **settings: str) -> str:
    """A deleted run with something in each table."""
    run = tracking.start_client_run(ws, 0).id
    point = MetricPoint("loss", 1.0, 0, START)
    tracking.log_batch(
        ws, run, points=[point], params={"a": 1}, tags={"b": "c"}, of_models=[ModelMetric("m-1", point)]
    )
    rows = LoggedDataset("rows", "d", "local", "{}")
    tracking.log_inputs(ws, run, [DatasetInput(rows)], models=[RunModel("m-1", "output")])
    tracking.log_artifact(ws, run, "file.bin", content)
    tracking.delete_run(ws, run)
    return run


def rows_that_name(ws: Workspace, run: str) -> list[str]:
    with ws.read() as connection:
        tables = [
            (table, column["name"])
            for table in inspect(connection).get_table_names()
            for column in inspect(connection).get_columns(table)
            if column["name"] in ("run", "id") and table not in ("audit", "lineage")
        ]
        return [
            table
            for table, column in tables
            if connection.execute(
                text(f'SELECT 1 FROM "{table}" WHERE CAST("{column}" AS TEXT) = :run'),  # noqa: S608  (names of ours)
                {"run": run},
            ).first()
        ]


def test_a_deleted_run_is_removed_with_its_files_and_the_space_is_told(any_ws: Workspace) -> None:
    run = deleted_run(any_ws)
    child = tracking.start_client_run(any_ws, 0).id
    assert len(rows_that_name(any_ws, run)) >= 9
    cleaned = governance.clean_runs(any_ws)
    assert (cleaned.runs, cleaned.files, cleaned.freed_bytes, cleaned.refused) == (1, 1, 1_000, {})
    assert rows_that_name(any_ws, run) == []
    assert list(any_ws.blobs) == []
    assert tracking.run(any_ws, child).deleted_at is None
    assert [entry.act for entry in entries(any_ws, subject=Node("run", run))] == ["run.purge"]


def test_a_dry_run_tells_the_same_and_removes_nothing(any_ws: Workspace) -> None:
    run = deleted_run(any_ws)
    planned = governance.clean_runs(any_ws, dry_run=True)
    assert tracking.run(any_ws, run).deleted_at is not None
    assert planned == governance.clean_runs(any_ws)


def test_a_file_that_another_run_has_too_stays(ws: Workspace) -> None:
    deleted_run(ws)
    kept = tracking.start_run(ws).id
    tracking.log_artifact(ws, kept, "same.bin", b"x" * 1_000)
    cleaned = governance.clean_runs(ws)
    assert (cleaned.runs, cleaned.files, cleaned.freed_bytes) == (1, 0, 0)
    assert tracking.read_artifact(ws, kept, "same.bin") == b"x" * 1_000


def test_a_file_that_a_manifest_among_the_blobs_names_stays(ws: Workspace) -> None:
    run = deleted_run(ws)
    digest = tracking.artifacts(ws, run)[0].digest
    ws.blobs.put(b'{"parts": ["' + digest.encode() + b'"]}')
    assert governance.clean_runs(ws).files == 0
    assert ws.blobs.has(digest)


def test_a_run_that_a_version_was_registered_from_stays(ws: Workspace) -> None:
    run = tracking.start_client_run(ws, 0).id
    register(ws, name="shop", run=run)
    tracking.delete_run(ws, run)
    cleaned = governance.clean_runs(ws)
    assert (cleaned.runs, cleaned.refused) == (0, {run: "model version shop@1 was registered from it"})
    tracking.restore_run(ws, run)


def test_a_pipelines_run_stays(ws: Workspace) -> None:
    run = tracking.start_run(ws, kind="pipeline").id
    with pytest.raises(Conflict, match="Cancel it first"):
        tracking.delete_run(ws, run)
    tracking.finish_run(ws, run)
    tracking.delete_run(ws, run)
    assert "pipeline" in governance.clean_runs(ws).refused[run]


def test_children_stay_and_a_deleted_experiment_goes_when_it_is_empty(any_ws: Workspace) -> None:
    made = tracking.create_experiment(any_ws, "photos", tags={"a": "b"})
    parent = tracking.start_client_run(any_ws, made.id).id
    child = tracking.start_client_run(any_ws, 0, tags={tracking.PARENT_TAG: parent[4:]}).id
    tracking.delete_experiment(any_ws, made.id)
    governance.clean_runs(any_ws)
    assert tracking.run(any_ws, child).parent is None
    with pytest.raises(NotFound, match="there is no experiment"):
        tracking.experiment(any_ws, made.id)


def test_files_below_the_artifact_root_go_and_those_elsewhere_are_named(tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    with simulation(tmp_path / "home", artifact_root=root.as_uri()) as ws:
        made = tracking.create_experiment(ws, "bucket", artifact_root="s3://bucket/it")
        near, far = tracking.start_client_run(ws, 0), tracking.start_client_run(ws, made.id)
        folder = root / "0" / near.mlflow_id / "artifacts"
        folder.mkdir(parents=True)
        (folder / "a.txt").write_bytes(b"12345")
        for run in (near, far):
            tracking.delete_run(ws, run.id)
        cleaned = governance.clean_runs(ws)
        assert (cleaned.files, cleaned.freed_bytes) == (1, 5)
        assert cleaned.elsewhere == (f"s3://bucket/it/{far.mlflow_id}/artifacts",)
        assert not folder.parent.exists()


def test_a_root_that_points_out_of_its_place_removes_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "victim" / "artifacts"
    victim.mkdir(parents=True)
    root = tmp_path / "artifacts"
    root.mkdir()
    with simulation(tmp_path / "home", artifact_root=root.as_uri()) as ws:
        run = tracking.start_client_run(ws, 0)
        (root / "0").mkdir()
        (root / "0" / run.mlflow_id).symlink_to(victim.parent)
        tracking.delete_run(ws, run.id)
        assert governance.clean_runs(ws).files == 0
        assert victim.is_dir()


def test_a_deleted_model_goes_and_another_outlives_its_run(any_ws: Workspace) -> None:
    run = tracking.start_client_run(any_ws, 0).id
    kept, gone = (tracking.log_model(any_ws, 0, run=run, params={"a": 1}, tags={"b": "c"}).id for _ in "ab")
    for model in (kept, gone):
        tracking.log_artifact(any_ws, model, "file.bin", model.encode())
    tracking.delete_logged_model(any_ws, gone)
    tracking.delete_run(any_ws, run)
    looked_at = governance.clean_runs(any_ws, dry_run=True)
    cleaned = governance.clean_runs(any_ws)
    assert looked_at == cleaned
    assert (cleaned.runs, cleaned.models, cleaned.files) == (1, 1, 1)
    assert tracking.logged_model(any_ws, kept).run is None
    assert tracking.read_artifact(any_ws, kept, "file.bin") == kept.encode()
    with pytest.raises(NotFound):
        tracking.logged_model(any_ws, gone, or_deleted=True)
