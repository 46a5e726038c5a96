"""`everloop demo` without listings: the whole story on a simulated marketplace."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from everloop import feedback, labels
from everloop.demo import StoryFailed, tell_simulated_story
from everloop.workspace import Workspace, open_workspace


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_loop_closes_and_every_screen_says_that_it_is_simulated(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "everloop", "demo", "--fast", "--home", str(tmp_path / "home")]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    opening, *stages = told.stdout.split("\n\n")
    assert "SIMULATED" in opening
    headings = [one.splitlines()[0] for one in stages if one[:1].isdigit()]
    assert len(headings) == 8
    assert all("simulated" in heading for heading in headings)
    assert "closed on simulated listings" in told.stdout
    with open_workspace(tmp_path / "home") as ws:
        no_label_was_used_before_it_was_given(ws, tmp_path / "home" / "marketplace")


def no_label_was_used_before_it_was_given(ws: Workspace, data: Path) -> None:
    """No report was on record before its time, and no snapshot knows of a report or a review that came after it."""
    reported_at = {
        (row["listing_id"], row["category"]): row["corrected_at"].replace(tzinfo=UTC)
        for row in pq.read_table(data / "corrections_month_2.parquet").to_pylist()
    }
    reports = feedback.corrections(ws, "category", limit=10_000)
    assert len(reports) > 100
    for one in reports:
        assert one.recorded_at >= one.at == reported_at[int(one.key or 0), str(one.value)]
    given_at = {one.key: one.recorded_at for one in reports if one.reporter == "moderator"}
    used = 0
    for snapshot in labels.snapshots(ws, "category"):
        for row in labels.read_snapshot(ws, snapshot.digest).to_pylist():
            if "moderator" in row["annotators"]:
                used += 1
                assert given_at[row["key"]] <= snapshot.at
    assert used > 100


def test_a_home_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(StoryFailed, match="is not empty"):
        tell_simulated_story(tmp_path, say=print, fast=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
