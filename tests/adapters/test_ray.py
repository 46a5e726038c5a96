"""Steps, searches and batch scoring on a real Ray cluster, in an environment of its own: one of two nodes for most tests."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow.parquet as pq
import pytest

from everloop import loop, searches
from everloop.errors import Invalid, MissingExtra, NotReady
from everloop.pipelines import PipelineRun, executor_named
from everloop.settings import Settings
from tests.adapters.elsewhere import applied, came_to, elsewhere, locally, opened, project
from tests.flows.running import wait_for
from tests.loop import shop as goods_of
from tests.loop.living import Shop
from tests.peer import REPOSITORY, peer
from tests.searches.made_up import TUNED

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

# Each call waits for a file, and tells its number before.
WAITING = """
import os
import time

import everloop as el


@el.step
def wait(n: int, place: str) -> int:
    open(f"{place}/{n}-{os.getpid()}", "w").close()
    while not os.path.exists(f"{place}/go"):
        time.sleep(0.02)
    return n


@el.step(resources={"blind": 1})
def blind() -> int:
    return 1


@el.pipeline
def spread(place: str) -> list:
    return wait.map(range(2), place=place)


@el.step(resources={"near": 1, "far": 1})
def both() -> int:
    return 1


@el.pipeline
def unseen() -> int:
    return blind()


@el.pipeline
def nowhere() -> int:
    return both()
"""

# `fit` takes what only a node of the cluster has.
SEARCH = (
    TUNED.replace("@el.step\ndef fit", '@el.step(resources={"ray": 1})\ndef fit')
    + """
el.search(
    tune, space={"x": el.choice(3.0, 9.0)}, by="score", method="grid", parallel=2, stop=el.median(from_step=1, trials=1),
    params={"log": LOG, "epochs": 120, "pause_s": 0.05},
)
"""
)


@dataclass(frozen=True)
class Cluster:
    """A cluster of two nodes; the second does not see what is below `hidden`, if `is_blind`."""

    address: str
    hidden: Path
    is_blind: bool
    told: IO[str]

    def kill_the_second_node(self) -> None:
        self.told.write("kill\n")
        self.told.flush()

    def run(self, home: Path, *arguments: str) -> str:
        """A command of everloop on it, which does well; what it answers."""
        done = on_ray(home, *arguments, "--ray-address", self.address)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    hidden = tmp_path_factory.mktemp("hidden")
    command = [peer("ray", with_us=True) / "python", Path(__file__).with_name("ray_cluster.py"), hidden]
    with (
        pytest.MonkeyPatch.context() as patch,
        (tmp_path_factory.mktemp("cluster") / "said").open("w") as said,
    ):
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))  # for all commands that go there
        process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        address, *blind = process.stdout.readline().split()
        yield Cluster(address, hidden, bool(blind), process.stdin)
        process.stdin.close()
        process.stdout.close()
        assert process.wait(60) == 0


def test_without_the_package_its_extra_is_named() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'everloop\[ray\]'"):
        executor_named(Settings(), "ray")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_on_ray_comes_step_by_step_to_what_we_come_to(cluster: Cluster, tmp_path: Path) -> None:
    file, home = project(tmp_path / "project"), tmp_path / "home"
    applied(file, home)
    cluster.run(home, "run", "train")
    assert came_to(elsewhere(home)) == locally(file, tmp_path / "own")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_is_killed_costs_an_attempt(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text(KILLER)
    place = f"place={json.dumps(str(tmp_path / 'been'))}"
    cluster.run(tmp_path / "home", "run", "train", "--file", str(tmp_path / "loop.py"), "--param", place)
    first, second = elsewhere(tmp_path / "home").steps
    assert (first.state, second.state) == ("failed", "done")
    assert "the Ray worker that did the step died (SIGKILL" in (first.error or "")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_runs_its_trials_side_by_side_on_ray_and_ends_the_task_of_a_hopeless_one(
    cluster: Cluster, tmp_path: Path
) -> None:
    file, home = tmp_path / "tuned.py", tmp_path / "home"
    file.write_text(SEARCH.replace("LOG", repr(str(tmp_path / "log"))))
    applied(file, home)
    cluster.run(home, "search", "run", "tune")
    with opened(home) as ws:
        (made,) = searches.searches(ws)
        good, hopeless = searches.trials(ws, made.id)
    assert (good.state, good.reached, hopeless.state) == ("done", 120, "stopped")
    assert 1 <= (hopeless.reached or 0) < 120
    assert (tmp_path / "log").read_text().splitlines().count("prepare") == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_scoring_on_ray_gives_the_bytes_that_scoring_here_gives(
    cluster: Cluster, shop: Shop, tmp_path: Path
) -> None:
    pq.write_table(goods_of.goods(shop.ws, 40, seed=5, first=1_000), tmp_path / "new.parquet")
    other = shutil.copytree(shop.ws.home, tmp_path / "other")  # without what was scored here
    here = loop.score_batch(
        shop.ws, "kind@1", tmp_path / "new.parquet", part_rows=20, output=tmp_path / "here"
    )
    source, out = str(tmp_path / "new.parquet"), str(tmp_path / "there")
    told = cluster.run(other, "--json", "score", "kind@1", source, "--part-rows", "20", "--out", out)
    assert json.loads(told)["digest"] == here.digest
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_that_does_not_see_the_workspace_says_so(cluster: Cluster, tmp_path: Path) -> None:
    if not cluster.is_blind:
        pytest.skip("this machine gives no mounts of one's own")
    (tmp_path / "loop.py").write_text(WAITING)
    home = cluster.hidden / "home"
    done = on_ray(
        home, "run", "unseen", "--file", str(tmp_path / "loop.py"), "--ray-address", cluster.address
    )
    assert done.returncode == 1
    assert "cannot reach the workspace: it has no folder" in done.stderr
    assert f"mount the workspace's home, {home}, under the same path" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_no_single_node_has_is_told_and_not_waited_for(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text(WAITING)
    arguments = ["run", "nowhere", "--file", str(tmp_path / "loop.py"), "--ray-address", cluster.address]
    done = on_ray(tmp_path / "home", *arguments)
    assert done.returncode == 1
    assert "asks for far=1, near=1, and no node of the Ray cluster has all of it" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_suite_of_all_executors_passes_on_ray() -> None:
    """On a cluster that it starts itself, which ends with it."""
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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_a_lost_node_did_is_done_again_elsewhere_and_committed_once(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The last that takes the cluster: after it there is one node."""
    file, home, place = tmp_path / "loop.py", tmp_path / "home", tmp_path / "place"
    file.write_text(WAITING)
    place.mkdir()
    arguments = ["run", "spread", "--file", str(file), "--param", f"place={json.dumps(str(place))}"]
    with begun(home, *arguments, "--ray-address", cluster.address) as running:
        try:
            wait_for(lambda: len(list(place.iterdir())) == 2, "a call on each node")
            cluster.kill_the_second_node()
            wait_for(lambda: lost(elsewhere(home)), "a call whose node is lost")
        finally:
            (place / "go").touch()
        assert running.wait() == 0
    run = elsewhere(home)
    done = [one for one in run.steps if one.is_call and one.state == "done"]
    assert sorted(one.node for one in done) == ["wait[0]", "wait[1]"]
    assert [one.node for one in done if one.attempt == 2] == lost(run)


def test_an_address_of_ray_client_is_refused_and_one_where_nobody_listens_found_at_once() -> None:
    from everloop.adapters import ray  # noqa: PLC0415  (below: it is used by its entry point alone)

    with pytest.raises(Invalid, match="an address of Ray Client: from outside"):
        _ = ray.RayTasks("ray://127.0.0.1:10001").slots
    with pytest.raises(NotReady, match=r"there is no Ray cluster at '127.0.0.1:1'"):
        _ = ray.RayTasks("127.0.0.1:1").slots


def lost(run: PipelineRun) -> list[str]:
    """The calls of which an attempt's node was lost."""
    return [one.node for one in run.steps if "the node of the Ray cluster" in (one.error or "")]


def on_ray(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of everloop where Ray is."""
    return subprocess.run(
        [peer("ray", with_us=True) / "everloop", "--home", str(home), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def begun(home: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A command of everloop where Ray is, that goes on meanwhile."""
    command = [str(peer("ray", with_us=True) / "everloop"), "--home", str(home), *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
