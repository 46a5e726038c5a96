"""Steps, searches and batch scoring on a real Ray cluster of two nodes; run where Ray is, by test_ray.py."""

from __future__ import annotations

import importlib.util
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq
import pytest

from everloop import loop, pipelines, searches
from everloop.adapters.ray import RayTasks
from everloop.errors import StepFailed
from everloop.pipelines import PipelineRun
from everloop.searches import Plan, choice, median
from everloop.settings import load_settings
from everloop.workspace import Workspace, open_workspace
from tests.adapters.elsewhere import came_to, elsewhere, locally, project
from tests.flows.running import wait_for
from tests.loop import shop as goods_of
from tests.loop.living import Shop
from tests.searches.made_up import TUNED

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="test_ray.py runs it where Ray is"
)

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

    def opened(self, home: Path) -> Workspace:
        settings = load_settings(home, environ={}, actor="tester", executor="ray", ray_address=self.address)
        return open_workspace(settings=settings)

    def run(self, home: Path, file: Path, pipeline: str, **params: Any) -> PipelineRun:
        with self.opened(home) as ws:
            executor = pipelines.executor_named(ws.settings)
            found = loop.load(file).pipelines[pipeline]
            return pipelines.run_pipeline(ws, found, params=params, reason="a test", executor=executor)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    hidden = tmp_path_factory.mktemp("hidden")
    command = [sys.executable, str(Path(__file__).with_name("ray_cluster.py")), str(hidden)]
    with (tmp_path_factory.mktemp("cluster") / "said").open("w") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
        )
    assert process.stdin is not None
    assert process.stdout is not None
    address, *blind = process.stdout.readline().split()
    held = RayTasks(address)  # so that this process is connected once
    assert held.slots == 2
    yield Cluster(address, hidden, bool(blind), process.stdin)
    held.close()
    process.stdin.close()
    process.stdout.close()
    assert process.wait(60) == 0


def test_a_run_comes_step_by_step_to_what_we_come_to(cluster: Cluster, tmp_path: Path) -> None:
    file = project(tmp_path / "project")
    cluster.run(tmp_path / "home", file, "train")
    assert came_to(tmp_path / "home") == locally(file, tmp_path / "own")


def test_a_worker_that_is_killed_costs_an_attempt(cluster: Cluster, tmp_path: Path) -> None:
    file = written(tmp_path / "killer.py", KILLER)
    first, second = cluster.run(tmp_path / "home", file, "train", place=str(tmp_path / "been")).steps
    assert (first.state, second.state) == ("failed", "done")
    assert "the Ray worker that did the step died (SIGKILL" in (first.error or "")


def test_a_search_runs_its_trials_side_by_side_and_ends_the_task_of_a_hopeless_one(
    cluster: Cluster, tmp_path: Path
) -> None:
    on_a_node = '@el.step(resources={"ray": 1})'  # no machine but the cluster's nodes has it
    text = TUNED.replace("@el.step\ndef fit", f"{on_a_node}\ndef fit")
    text = text.replace("time.sleep(pause_s)", "time.sleep(pause_s * x)")  # the good one is done long before
    params = {"log": str(tmp_path / "log"), "epochs": 40, "pause_s": 0.01}
    plan = Plan(
        space={"x": choice(3.0, 60.0)},
        by="score",
        method="grid",
        parallel=2,
        stop=median(from_step=1, trials=1),
        params=params,
    )
    tune = loop.load(written(tmp_path / "tuned.py", text)).pipelines["tune"]
    with cluster.opened(tmp_path / "home") as ws:
        good, hopeless = searches.trials(ws, searches.run_search(ws, tune, plan).id)
    assert (good.state, good.reached, hopeless.state) == ("done", 40, "stopped")
    assert 1 <= (hopeless.reached or 0) < 40
    assert (tmp_path / "log").read_text().splitlines().count("prepare") == 1


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("folder", marks=pytest.mark.long),
        pytest.param(
            loop.Query("SELECT sku, title, seller, listed_at FROM goods WHERE sku < 50"),
            marks=pytest.mark.long,
            id="query",
        ),
        pytest.param(loop.Query("SELECT * FROM goods", "WAREHOUSE"), id="outside"),
    ],
)
def test_scoring_gives_the_bytes_that_scoring_here_gives(
    cluster: Cluster,
    shop: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str | loop.Query,
) -> None:
    monkeypatch.setenv("WAREHOUSE", f"sqlite:///{tmp_path / 'shop.db'}")
    goods = goods_of.goods(shop.ws, 40, seed=5, first=1_000)
    (tmp_path / "folder").mkdir()
    for name, rows in (("folder/0", goods.slice(0, 15)), ("folder/1", goods.slice(15))):
        pq.write_table(rows, tmp_path / f"{name}.parquet")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as outside:
        outside.execute("CREATE TABLE goods (sku INTEGER, title TEXT, seller INTEGER, listed_at TEXT)")
        told = [
            (one["sku"], one["title"], one["seller"], one["listed_at"].isoformat())
            for one in goods.to_pylist()
        ]
        outside.executemany("INSERT INTO goods VALUES (?, ?, ?, ?)", told)
        outside.commit()
    other = shutil.copytree(shop.ws.home, tmp_path / "other")  # without what was scored here
    with (other / "settings.toml").open("a") as file:  # a node sees no variable of this process
        file.write('secrets_dir = "secrets"\n')
    (other / "secrets").mkdir()
    (other / "secrets" / "WAREHOUSE").write_text(f"sqlite:///{tmp_path / 'shop.db'}")
    asked = tmp_path / source if isinstance(source, str) else source
    here = loop.score_batch(shop.ws, "kind@1", asked, part_rows=20, output=tmp_path / "here")
    with cluster.opened(other) as ws:
        made = loop.score_batch(ws, "kind@1", asked, part_rows=20, output=tmp_path / "there")
    assert made.digest == here.digest
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


def test_a_node_that_does_not_see_the_workspace_says_so(cluster: Cluster, tmp_path: Path) -> None:
    if not cluster.is_blind:
        pytest.skip("this machine gives no mounts of one's own")
    home = cluster.hidden / "home"
    with pytest.raises(StepFailed, match="cannot reach the workspace: it has no folder") as told:
        cluster.run(home, written(tmp_path / "waiting.py", WAITING), "unseen")
    assert f"workspace's home, {home}, under the same path" in str(told.value)


def test_what_no_single_node_has_is_told_and_not_waited_for(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="asks for far=1, near=1, and no node of the Ray cluster has all"):
        cluster.run(tmp_path / "home", written(tmp_path / "waiting.py", WAITING), "nowhere")


def test_what_a_lost_node_did_is_done_again_elsewhere_and_committed_once(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The last that takes the cluster: after it there is one node."""
    home, place = tmp_path / "home", tmp_path / "place"
    file = written(tmp_path / "waiting.py", WAITING)
    place.mkdir()
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(cluster.run, home, file, "spread", place=str(place))
        try:
            wait_for(lambda: len(list(place.iterdir())) == 2, "a call on each node")
            cluster.kill_the_second_node()
            wait_for(lambda: lost(elsewhere(home)), "a call whose node is lost")
        finally:
            (place / "go").touch()
        run = running.result()
    done = [one for one in run.steps if one.is_call and one.state == "done"]
    assert sorted(one.node for one in done) == ["wait[0]", "wait[1]"]
    assert [one.node for one in done if one.attempt == 2] == lost(run)


def written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def lost(run: PipelineRun) -> list[str]:
    """The calls of which an attempt's node was lost."""
    return [one.node for one in run.steps if "the node of the Ray cluster" in (one.error or "")]
