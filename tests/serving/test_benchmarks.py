"""The benchmarks of serving begin."""

from __future__ import annotations

import subprocess
import sys

from tests.peer import REPOSITORY


def test_the_benchmarks_of_serving_say_what_they_do() -> None:
    command = [sys.executable, "-m", "benchmarks.serving.all", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--rounds" in done.stdout
