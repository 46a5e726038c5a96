"""Where MLflow's clients say that files are: what is taken, what is refused in every spelling, and that it stays."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import pytest

from everloop import registry, tracking
from everloop.errors import Invalid, NotFound
from everloop.registry.sources import Folder, LoggedModel, RunFiles, VersionFiles, parse_source
from everloop.workspace import Workspace
from tests.registry.versions import register

HEX = "0123456789abcdef" * 2
ROOT = Path("/srv/artifacts")
MLMODEL = b"flavors: {}"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (f"runs:/{HEX}/model", RunFiles(f"run_{HEX}", "model")),
        (f"runs:///{HEX}", RunFiles(f"run_{HEX}")),
        (f"mlflow-artifacts:/0/{HEX}/artifacts/a/b c", RunFiles(f"run_{HEX}", "a/b c")),
        (f"mlflow-artifacts:/12/models/m-{HEX}/artifacts", LoggedModel(f"m-{HEX}")),
        ("mlflow-artifacts:/versions/category/3", VersionFiles("category@3")),
        (f"models:/m-{HEX}", LoggedModel(f"m-{HEX}")),
        ("models:/category/3", VersionFiles("category@3")),
        ("models:/category@champion", VersionFiles("category@champion")),
        ("/srv/artifacts/0/model", Folder(PurePosixPath("0/model"))),
        ("file:///srv/artifacts/0/my%20model", Folder(PurePosixPath("0/my model"))),
        ("file:/srv/artifacts/model", Folder(PurePosixPath("model"))),
    ],
)
def test_plain_places_are_understood(text: str, meant: object) -> None:
    assert parse_source(text, root=ROOT) == meant


def spellings(path: str) -> list[str]:
    """A path as it may be written to hide what it is."""
    once = quote(path, safe="").replace(".", "%2e")
    twice = quote(once, safe="")
    return [
        path,
        once,
        once.upper(),
        twice,
        quote(twice, safe=""),
        path.replace("/", "\\"),
        path.replace("/", "%5c"),
    ]


TRAVERSALS = [
    begin + spelling
    for begin in (
        f"runs:/{HEX}/",
        f"mlflow-artifacts:/0/{HEX}/artifacts/",
        f"mlflow-artifacts:/0/models/m-{HEX}/artifacts/",
        "models:/category/",
        "/srv/artifacts/",
        "file:///srv/artifacts/",
    )
    for spelling in spellings("../../../etc/passwd")
]
ELSEWHERE = [
    "",
    "model",
    "./model",
    "../model",
    "/",
    "/etc/passwd",
    "//srv/artifacts/model",
    "/srv/artifacts",
    "/srv/artifacts-other/model",
    "/srv/artifacts//model",
    "/srv/./artifacts/model",
    "~/model",
    "C:\\models",
    "C:/models",
    "\\\\server\\share",
    "file:model",
    "file:///etc/passwd",
    "file:///srv/artifacts",
    "file:///srv/artifacts%252fmodel",
    "file:///srv/artifacts/%2fetc/passwd",
    "file://server/srv/artifacts/model",
    "file://localhost/etc/passwd",
    "file:////etc/passwd",
    "FILE:///srv/artifacts/model",
    "http://127.0.0.1:1/model",
    "https://example.org/model",
    "http://169.254.169.254/latest/meta-data",
    "ftp://example.org/model",
    "s3://bucket/model",
    "gs://bucket/model",
    "hdfs://host/model",
    "dbfs:/model",
    "gopher://127.0.0.1/",
    "data:text/plain,hello",
    "mlflow-artifacts://example.org/0/" + HEX + "/artifacts",
    "mlflow-artifacts:////example.org/model",
    f"mlflow-artifacts:/0/{HEX}/artifacts/model?path=/etc",
    f"mlflow-artifacts:/0/{HEX}/artifacts/model#/../..",
    f"mlflow-artifacts:/0/{HEX}/artifacts/model%3fpath=/etc",
    f"mlflow-artifacts:/0/{HEX}/model",
    "mlflow-artifacts:/etc/passwd",
    "runs:/" + "g" * 32 + "/model",
    f"runs://example.org/{HEX}/model",
    f"runs:/{HEX}/model\n/etc",
    f"runs:/{HEX}/model\0",
    "models:/category",
    "models:/category/latest",
    "models:/../category/1",
    "models:/m-1",
    "://etc/passwd",
    ":/etc/passwd",
    f"runs:/{HEX}/model;/../../etc/passwd",
    f"mlflow-artifacts:/0/{HEX}/artifacts/;/%2e%2e/etc",
    "x" * 2_001,
]


@pytest.mark.parametrize("text", [*TRAVERSALS, *ELSEWHERE], ids=repr)
def test_everything_else_is_refused_in_every_spelling(text: str) -> None:
    with pytest.raises(Invalid, match="source"):
        parse_source(text, root=ROOT)


def test_no_path_of_the_disk_is_taken_without_an_artifact_root() -> None:
    for text in ("/srv/artifacts/model", "file:///srv/artifacts/model"):
        with pytest.raises(Invalid, match="no artifact root is set"):
            parse_source(text)


@pytest.fixture
def run(any_ws: Workspace) -> str:
    """A run with the files of a model; the model `category` is there."""
    registry.create(any_ws, "category")
    run_id = tracking.start_run(any_ws).id
    tracking.log_metrics(any_ws, run_id, {"f1": 0.5})
    tracking.log_artifact(any_ws, run_id, "model/MLmodel", MLMODEL)
    tracking.log_artifact(any_ws, run_id, "model/data/model.bin", b"weights")
    return run_id


def test_a_version_is_a_copy_of_the_files_at_its_source(any_ws: Workspace, run: str) -> None:
    version = registry.register_source(any_ws, "category", f"runs:/{run[4:]}/model", tags={"a": "b"})
    assert sorted(version.files) == ["MLmodel", "data/model.bin"]
    assert (version.run, version.metrics, version.tags, version.source) == (
        run,
        {"f1": 0.5},
        {"a": "b"},
        f"runs:/{run[4:]}/model",
    )
    tracking.log_artifact(any_ws, run, "model/data/model.bin", b"others")
    again = registry.version(any_ws, version.ref)
    assert any_ws.blobs.get(again.files["data/model.bin"]) == b"weights"


def test_the_files_of_a_logged_model_become_a_version(any_ws: Workspace, run: str) -> None:
    logged = tracking.log_model(any_ws, 0, name="model", run=run)
    tracking.log_artifact(any_ws, logged.id, "MLmodel", MLMODEL)
    tracking.log_artifact(any_ws, logged.id, "data/model.bin", b"weights")
    version = registry.register_source(any_ws, "category", f"models:/{logged.id}")
    assert sorted(version.files) == ["MLmodel", "data/model.bin"]
    assert (version.logged_model, version.run, version.metrics) == (logged.id, run, {"f1": 0.5})


def test_each_call_of_a_client_makes_a_version(any_ws: Workspace, run: str) -> None:
    numbers = [
        registry.register_source(any_ws, "category", f"runs:/{run[4:]}/model").number for _ in range(2)
    ]
    assert numbers == [1, 2]


def test_one_file_can_be_a_model_and_nothing_an_empty_one(any_ws: Workspace, run: str) -> None:
    one = registry.register_source(any_ws, "category", f"runs:/{run[4:]}/model/data/model.bin")
    assert list(one.files) == ["model.bin"]
    none = registry.register_source(any_ws, "category", f"runs:/{run[4:]}/nothing")
    assert none.files == {}
    assert not registry.may_be_released(any_ws, none.ref)


def test_a_copied_version_keeps_what_it_was_made_from(any_ws: Workspace) -> None:
    made = register(any_ws)
    registry.create(any_ws, "copies")
    copy = registry.register_source(any_ws, "copies", "models:/category/1")
    assert (copy.files, copy.signature, copy.data_version) == (made.files, made.signature, made.data_version)


@pytest.mark.parametrize("source", [f"runs:/{HEX}/model", "models:/category/9", "models:/nothing/1"])
def test_a_source_that_is_not_there_is_told(ws: Workspace, source: str) -> None:
    registry.create(ws, "category")
    with pytest.raises(NotFound):
        registry.register_source(ws, "category", source)
    with pytest.raises(NotFound, match="there is no model"):
        registry.register_source(
            ws, "other", f"mlflow-artifacts:/0/{tracking.start_run(ws).mlflow_id}/artifacts/x"
        )


@pytest.fixture
def rooted(ws: Workspace, tmp_path: Path) -> Workspace:
    """A workspace with an artifact root on the disk, and a secret beside it."""
    (tmp_path / "root" / "model" / "data").mkdir(parents=True)
    (tmp_path / "root" / "model" / "MLmodel").write_bytes(MLMODEL)
    (tmp_path / "root" / "model" / "data" / "empty").touch()
    (tmp_path / "secret").write_text("secret")
    registry.create(ws, "category")
    return replace(ws, settings=replace(ws.settings, artifact_root=(tmp_path / "root").as_uri()))


def test_a_folder_below_the_artifact_root_is_copied(rooted: Workspace, tmp_path: Path) -> None:
    version = registry.register_source(rooted, "category", str(tmp_path / "root" / "model"))
    assert sorted(version.files) == ["MLmodel", "data/empty"]
    (tmp_path / "root" / "model" / "MLmodel").write_text("changed")
    assert rooted.blobs.get(version.files["MLmodel"]) == MLMODEL


def test_the_files_of_a_run_whose_client_keeps_them_are_found(rooted: Workspace, tmp_path: Path) -> None:
    run = tracking.start_client_run(rooted, 0)
    folder = tmp_path / "root" / "0" / run.mlflow_id / "artifacts" / "model"
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"weights")
    version = registry.register_source(rooted, "category", f"runs:/{run.mlflow_id}/model")
    assert list(version.files) == ["model.bin"]


@pytest.mark.parametrize("place", ["model/link", "model/data/link", "link"])
@pytest.mark.parametrize("target", ["secret", "."])
def test_links_are_not_followed(rooted: Workspace, tmp_path: Path, place: str, target: str) -> None:
    link = tmp_path / "root" / place
    link.symlink_to(tmp_path / target)
    source = link if place == "link" else tmp_path / "root" / "model"
    with pytest.raises(Invalid, match="link"):
        registry.register_source(rooted, "category", str(source))
    assert registry.versions(rooted, "category") == []


def test_a_pipe_is_no_file(rooted: Workspace, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "root" / "model" / "pipe")
    with pytest.raises(Invalid, match="no plain file"):
        registry.register_source(rooted, "category", str(tmp_path / "root" / "model"))
