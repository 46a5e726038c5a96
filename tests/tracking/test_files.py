from __future__ import annotations

from pathlib import Path

import pytest

from everloop import tracking
from everloop.errors import Invalid, NotFound
from everloop.workspace import Workspace


@pytest.fixture
def run_id(ws: Workspace) -> str:
    return tracking.start_run(ws).id


def test_a_file_is_kept_by_content(any_ws: Workspace, tmp_path: Path) -> None:
    run_id = tracking.start_run(any_ws).id
    (tmp_path / "report.txt").write_text("fine")
    kept = tracking.log_artifact(any_ws, run_id, "reports/report.txt", tmp_path / "report.txt")
    assert tracking.log_artifact(any_ws, run_id, "copy.txt", b"fine").digest == kept.digest
    assert [(one.path, one.size_bytes) for one in tracking.artifacts(any_ws, run_id)] == [
        ("copy.txt", 4), ("reports/report.txt", 4)
    ]  # fmt: skip
    assert tracking.read_artifact(any_ws, run_id, "reports/report.txt") == b"fine"


def test_a_file_logged_again_replaces_the_first(any_ws: Workspace) -> None:
    run_id = tracking.start_run(any_ws).id
    tracking.log_artifact(any_ws, run_id, "a.txt", b"one")
    tracking.log_artifact(any_ws, run_id, "a.txt", b"three")
    assert [one.size_bytes for one in tracking.artifacts(any_ws, run_id)] == [5]
    assert tracking.read_artifact(any_ws, run_id, "a.txt") == b"three"


def test_a_folder_is_kept_whole(ws: Workspace, run_id: str, tmp_path: Path) -> None:
    for name in ("MLmodel", "deep/er/weights.bin", "empty"):
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_bytes(b"" if name == "empty" else b"x")
    tracking.log_artifacts(ws, run_id, "model", tmp_path / "model")
    tracking.log_artifact(ws, run_id, "model.txt", b"beside")
    tracking.log_artifact(ws, run_id, "Model/x", b"another case")
    assert [one.path for one in tracking.artifacts(ws, run_id, below="model")] == [
        "model/MLmodel", "model/deep/er/weights.bin", "model/empty"
    ]  # fmt: skip


def test_a_link_in_a_folder_is_refused(ws: Workspace, run_id: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match="symbolic link"):
        tracking.log_artifacts(ws, run_id, "model", tmp_path / "model")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "a/",
        "./a",
        "a\\..\\b",
        "a\nb",
        "a\0b",
        "C:/x",
        "x" * 501,
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused(ws: Workspace, run_id: str, path: str) -> None:
    with pytest.raises(Invalid, match="cannot be a file's path"):
        tracking.log_artifact(ws, run_id, path, b"x")
    assert tracking.artifacts(ws, run_id) == []
    assert list(ws.blobs) == []


def test_what_is_not_there_is_refused(ws: Workspace, run_id: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is no file"):
        tracking.log_artifact(ws, run_id, "a", tmp_path / "nothing")
    with pytest.raises(Invalid, match="is no folder"):
        tracking.log_artifacts(ws, run_id, "a", tmp_path / "nothing")
    with pytest.raises(NotFound, match="has no file 'a'"):
        tracking.read_artifact(ws, run_id, "a")


def test_an_empty_folder_keeps_nothing(ws: Workspace, run_id: str, tmp_path: Path) -> None:
    assert tracking.log_artifacts(ws, run_id, "", tmp_path / "home" / "blobs") == []
