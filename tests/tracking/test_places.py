from __future__ import annotations

from pathlib import Path

import pytest

from everloop import tracking
from everloop.errors import Invalid
from everloop.tracking import uri_of
from everloop.tracking.places import check_root
from tests.conftest import simulation


@pytest.mark.parametrize(
    "uri",
    ["s3://bucket/folder", "file:///srv/artifacts", "mlflow-artifacts:/x", "/srv/artifacts", "gs://b/a%20b"],
)
def test_a_place_is_kept_as_it_was_given(uri: str) -> None:
    assert check_root(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "file:///srv/../etc",
        "file:///srv/%2e%2e/etc",
        "file:///srv/%252e%252e/etc",
        "file:///srv/%25252e%25252e/etc",
        "s3://../etc",
        "s3://bucket/..",
        "file:///srv?x=/../..",
        "file:///srv#/../..",
        "file:///srv%23/../../etc",
        "file:///srv\\..\\etc",
        "file:///srv%5c..%5cetc",
        "file:///srv\n",
        "file:///srv%00",
        "s3://" + "x" * 2_000,
    ],
)
def test_a_place_that_could_be_another_than_it_says_is_refused(uri: str) -> None:
    with pytest.raises(Invalid, match="cannot be a place for artifacts"):
        check_root(uri)


def test_files_are_below_the_root_and_a_later_change_of_it_moves_nothing(tmp_path: Path) -> None:
    with simulation(tmp_path / "home", artifact_root=str(tmp_path / "files")) as ws:
        made = tracking.create_experiment(ws, "photos")
        root = f"{(tmp_path / 'files').as_uri()}/{made.id}"
        run = tracking.start_client_run(ws, made.id)
        assert uri_of(run, made.id) == f"{root}/{run.mlflow_id}/artifacts"
        own = tracking.start_run(ws)  # its files are blobs
        assert uri_of(own, 0) == f"mlflow-artifacts:/0/{own.mlflow_id}/artifacts"
    with simulation(tmp_path / "home") as ws:
        found = tracking.found_run(ws, run.id)
        assert uri_of(found.run, found.experiment_id) == f"{root}/{run.mlflow_id}/artifacts"
        again = tracking.start_client_run(ws, made.id)
        assert uri_of(again, made.id).startswith(root)


def test_an_experiment_may_have_a_place_of_its_own(tmp_path: Path) -> None:
    with simulation(tmp_path / "home", artifact_root=str(tmp_path / "files")) as ws:
        made = tracking.create_experiment(ws, "bucket", artifact_root="s3://bucket/it/")
        run = tracking.start_client_run(ws, made.id)
        assert uri_of(run, made.id) == f"s3://bucket/it/{run.mlflow_id}/artifacts"
        assert tracking.location_of(ws.settings, made) == "s3://bucket/it"
