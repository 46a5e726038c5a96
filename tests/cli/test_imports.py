"""`everloop import`: what came, what was left out, and the exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from everloop import tracking
from everloop.workspace import Workspace
from tests.adapters.sources import event_file, mlflow_folder, scalar, wandb_run
from tests.cli.test_triggers import Shell


@pytest.fixture
def everloop(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(ws, capsys)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    mlflow_folder(tmp_path, 2)
    wandb_run(tmp_path, rows=[{"loss": "1.0", "note": '"hello"'}])
    event_file(tmp_path / "runs" / "tfevents", [scalar("loss", 1.0, 0)])
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "folder", "runs"), [("mlflow", "mlruns", 2), ("wandb", "wandb", 1), ("tensorboard", "runs", 1)]
)
def test_a_report_says_what_came(
    everloop: Shell, ws: Workspace, sources: Path, kind: str, folder: str, runs: int
) -> None:
    told = everloop("import", kind, str(sources / folder), "--dry-run")
    assert (told["new_runs"], told["is_dry_run"], tracking.runs(ws)) == (runs, True, [])
    told = everloop("import", kind, str(sources / folder))
    assert (told["new_runs"], told["source"]) == (runs, str(sources / folder))
    assert len(tracking.runs(ws)) == runs
    assert everloop("import", kind, str(sources / folder))["known_runs"] == runs


def test_what_was_left_out_is_told_and_with_strict_ends_with_3(everloop: Shell, sources: Path) -> None:
    told = everloop("import", "wandb", str(sources))
    assert [one["what"] for one in told["left_out"]] == ["str in a history"]
    wandb_run(sources, rows=[{"note": '"hello"'}], run_id="other")
    everloop("import", "wandb", str(sources), "--strict", code=3)
    assert everloop("import", "mlflow", str(sources), "--strict")["left_out"] == []


@pytest.mark.parametrize("kind", ["mlflow", "wandb", "tensorboard"])
def test_a_source_that_is_not_there_is_wrong_use(everloop: Shell, tmp_path: Path, kind: str) -> None:
    assert "there is no" in everloop("import", kind, str(tmp_path / "nothing"), code=2)


def test_a_password_does_not_reach_the_report(everloop: Shell) -> None:
    told = everloop("import", "mlflow", "http://ana:secret-word@127.0.0.1:9", code=75)
    assert "secret-word" not in told
    assert "http://127.0.0.1:9 does not answer" in told
