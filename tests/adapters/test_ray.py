"""What is told where Ray is not, and the tests of test_on_ray.py and of all executors in an environment with a real one."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from everloop.adapters.ray import RayTasks
from everloop.errors import MissingExtra, NotReady
from everloop.pipelines import executor_named
from everloop.settings import Settings
from tests.adapters.elsewhere import project
from tests.peer import REPOSITORY, peer

SUITES = ["tests/adapters/test_on_ray.py", "tests/pipelines/test_executors.py"]


def test_without_the_package_its_extra_is_named() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'everloop\[ray\]'"):
        executor_named(Settings(), "ray")


def test_where_nobody_listens_there_is_no_cluster() -> None:
    """Said at once: Ray itself would go on trying."""
    with pytest.raises(NotReady, match=r"there is no Ray cluster at '127.0.0.1:1'"):
        _ = RayTasks("127.0.0.1:1").slots


def test_an_address_of_ray_client_is_refused(tmp_path: Path) -> None:
    file = project(tmp_path / "project")
    command = [sys.executable, "-m", "everloop", "--home", str(tmp_path), "run", "train", "--file", str(file)]
    done = subprocess.run(
        [*command, "--ray-address", "ray://127.0.0.1:10001"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "'ray://127.0.0.1:10001', an address of Ray Client: from outside" in done.stderr


def test_a_cluster_is_named_for_no_other_executor(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "everloop", "--home", str(tmp_path), "run", "train"]
    done = subprocess.run(
        [*command, "--ray-address", "127.0.0.1:6379", "--executor", "inline"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--ray-address names a Ray cluster, and --executor is inline" in done.stderr


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("suites", "at_least"),
    [
        pytest.param("not long", 35, marks=pytest.mark.slow),
        pytest.param("long", 2, marks=[pytest.mark.slow, pytest.mark.long]),
    ],
)
def test_the_suites_pass_where_ray_is(suites: str, at_least: int) -> None:
    """In one process, since to connect and to start workers takes seconds; the second on a cluster that it starts itself."""
    suite = [*SUITES, "-k", "on_ray", "-m", suites, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [peer("ray", with_us=True) / "python", "-m", "pytest", *suite],
        cwd=REPOSITORY,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": secrets.token_hex(16)},  # noqa: TID251  (of a child process)
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-1_000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed.group(1)) >= at_least, done.stdout
