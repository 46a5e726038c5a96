"""Steps on a real Ray cluster of this machine, in an environment of its own."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from everloop.errors import MissingExtra
from everloop.pipelines import executor_named
from everloop.settings import Settings
from tests.adapters.elsewhere import applied, came_to, elsewhere, locally, project
from tests.peer import REPOSITORY, peer

KILLER = """
import os
import signal

import everloop as el


@el.step(retries=1, back_off_s=0.1)
def unlucky(place: str) -> int:
    if not os.path.exists(place):
        open(place, "w").close()
        with open(f"/proc/{os.getppid()}/stat") as file:  # of the process that steps are forked from
            os.kill(int(file.read().rpartition(")")[2].split()[1]), signal.SIGKILL)
    return 7


@el.pipeline
def train(place: str) -> int:
    return unlucky(place)
"""


def test_without_the_package_its_extra_is_named() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'everloop\[ray\]'"):
        executor_named(Settings(), "ray")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_on_ray_comes_step_by_step_to_what_we_come_to(tmp_path: Path) -> None:
    file, home = project(tmp_path / "project"), tmp_path / "home"
    applied(file, home)
    on_ray(home, "run", "train", "--executor", "ray")
    assert came_to(home) == locally(file, tmp_path / "own")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_is_killed_costs_an_attempt(tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text(KILLER)
    place = f"place={json.dumps(str(tmp_path / 'been'))}"
    on_ray(
        tmp_path / "home",
        "run",
        "train",
        "--file",
        str(tmp_path / "loop.py"),
        "--param",
        place,
        "--executor",
        "ray",
    )
    first, second = elsewhere(tmp_path / "home").steps
    assert (first.state, second.state) == ("failed", "done")
    assert "the Ray worker that did the step died (SIGKILL" in (first.error or "")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_suite_of_all_executors_passes_on_ray() -> None:
    suite = ["tests/pipelines/test_executors.py", "-k", "on_ray", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [peer("ray", with_us=True) / "python", "-m", "pytest", *suite],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-1_000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed.group(1)) >= 24, done.stdout


def on_ray(home: Path, *arguments: str) -> None:
    """A command of everloop where Ray is."""
    done = subprocess.run(
        [peer("ray", with_us=True) / "everloop", "--home", str(home), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
