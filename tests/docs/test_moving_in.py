"""Whoever follows the page on moving in sees what it shows, with a source of each kind beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.sources import event_file, mlflow_folder, scalar, wandb_run
from tests.docs.page_runner import run_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "move-in.md"


@pytest.mark.slow
def test_the_page_on_moving_in_does_what_it_says(tmp_path: Path) -> None:
    mlflow_folder(tmp_path, 3)
    wandb_run(tmp_path, rows=[{"loss": "1.0", "note": '"hello"'}, {"loss": "0.5"}])
    event_file(tmp_path / "runs" / "first" / "events.out.tfevents.1", [scalar("loss", 1.0, 0)])
    run_page(PAGE, tmp_path)
