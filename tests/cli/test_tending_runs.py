"""`everloop runs` for those who tend them: pinning, tags, notes, deleting, restoring, cleaning up."""

from __future__ import annotations

from pathlib import Path

import pytest

from everloop import tracking
from everloop.errors import Invalid
from everloop.settings import load_settings
from everloop.workspace import Workspace
from tests.cli.test_triggers import Shell


@pytest.fixture
def everloop(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(ws, capsys)


def test_a_run_is_pinned_tagged_and_noted(everloop: Shell, ws: Workspace) -> None:
    kept, other = tracking.start_run(ws).id, tracking.start_run(ws).id
    everloop("runs", "pin", kept)
    everloop("runs", "note", kept, "the best so far")
    assert everloop("runs", "tag", kept, "team=vision", "why=a=b")["why"] == "a=b"
    assert "team" not in everloop("runs", "tag", kept, "--remove", "team")
    assert [one["id"] for one in everloop("runs", "list", "--pinned")] == [kept]
    assert tracking.run(ws, kept).tags["mlflow.note.content"] == "the best so far"
    everloop("runs", "pin", kept, "--off")
    assert everloop("runs", "list", "--pinned") == []
    assert [one["id"] for one in everloop("runs", "list")] == [other, kept]
    assert "write NAME=VALUE" in everloop("runs", "tag", kept, "team", code=2)
    assert "has no tag" in everloop("runs", "tag", kept, "--remove", "team", code=2)


def test_runs_are_deleted_restored_and_cleaned_up(everloop: Shell, ws: Workspace) -> None:
    one, two = tracking.start_run(ws).id, tracking.start_run(ws).id
    tracking.log_artifact(ws, one, "a.bin", b"x" * 500)
    everloop("runs", "delete", one, two)
    assert everloop("runs", "list") == []
    everloop("runs", "restore", two)
    planned = everloop("runs", "clean", "--dry-run")
    assert (planned["runs"], planned["files"], planned["freed_bytes"]) == (1, 1, 500)
    assert everloop("runs", "clean") == planned
    assert [found["id"] for found in everloop("runs", "list")] == [two]
    assert "there is no run" in everloop("runs", "restore", one, code=2)


def test_an_artifact_root_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, environ={}, artifact_root="file:///srv/%2e%2e/etc")
    with pytest.raises(Invalid, match=r"holds '\.\.'"):
        tracking.root_setting(settings)


def test_a_run_is_shown_with_the_models_that_it_logged(everloop: Shell, ws: Workspace) -> None:
    run = tracking.start_run(ws).id
    model = tracking.log_model(ws, 0, name="tree", run=run)
    (shown,) = everloop("runs", "show", run)["models"]
    assert (shown["id"], shown["name"], shown["status"]) == (model.id, "tree", "pending")
