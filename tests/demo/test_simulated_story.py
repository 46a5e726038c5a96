"""`everloop demo` without listings: the whole story on a simulated marketplace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from everloop.demo import StoryFailed, tell_simulated_story


@pytest.mark.slow
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


def test_a_home_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(StoryFailed, match="is not empty"):
        tell_simulated_story(tmp_path, say=print, fast=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
