"""Two machines, each with a home of its own, on one PostgreSQL and one S3: what one begins, the other ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from everloop.pipelines import PipelineRun, pipeline_run, pipeline_runs
from everloop.settings import load_settings
from everloop.workspace import open_workspace
from tests.flows.running import wait_for
from tests.s3 import VARIABLES, S3Server

LOOP = """
    import time
    from pathlib import Path

    import numpy as np
    import pyarrow as pa

    import everloop as el


    @el.step
    def rows(count: int) -> el.Table:
        return el.Table.from_arrays([pa.array(range(count)), pa.array([str(n) for n in range(count)])], ["x", "name"])


    @el.step
    def weights(rows: el.Table, wait_for: str) -> np.ndarray:
        print("weighing", flush=True)
        while not Path(wait_for).exists():
            time.sleep(0.05)
        return np.cumsum(rows["x"].to_numpy()) / 7


    @el.step
    def sums(rows: el.Table, weights: np.ndarray) -> dict:
        return {"rows": rows.num_rows, "sum": float(weights.sum())}


    @el.pipeline
    def train(count: int = 50_000, wait_for: str = "") -> dict:
        table = rows(count)
        return sums(table, weights(table, wait_for))
"""


@dataclass(frozen=True)
class Machine:
    """A machine: a home, and in its environment where the others are met."""

    home: Path
    variables: dict[str, str]

    def everloop(self, *arguments: str, **how: Any) -> subprocess.Popen[str]:
        self.home.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "everloop", "--home", str(self.home), *arguments]
        environment = {**os.environ, **self.variables}  # noqa: TID251  (of a child process)
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.home.parent, env=environment, text=True, stdout=pipe, stderr=pipe, **how
        )

    def does(self, *arguments: str) -> str:
        with self.everloop(*arguments) as process:
            said, errors = process.communicate()
        assert process.returncode == 0, said + errors
        return said

    def run(self) -> PipelineRun:
        """The only run, as this machine sees it."""
        settings = load_settings(self.home, environ=self.variables)
        with open_workspace(settings=settings) as ws:
            (known,) = pipeline_runs(ws)
            return pipeline_run(ws, known.id)


@pytest.fixture
def machines(
    s3: S3Server, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Machine, Machine, Machine]:
    """Two that share everything but their disks, and one by itself on SQLite and files."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    shared = {
        "EVERLOOP_DATABASE_URL": postgres_url,
        "EVERLOOP_BLOBS": s3.bucket(),
        "EVERLOOP_BLOBS_ENDPOINT": s3.endpoint,
    }
    one, other, alone = (
        Machine(tmp_path / name / "home", variables)
        for name, variables in (("one", shared), ("other", shared), ("alone", {}))
    )
    for machine in (one, alone):
        machine.home.parent.mkdir()
        (machine.home.parent / "loop.py").write_text(textwrap.dedent(LOOP))
    return one, other, alone


def is_weighing(machine: Machine, process: subprocess.Popen[str]) -> bool:
    """Whether the second step has begun; or the process has ended, and it never will."""
    logs = (machine.home / "runs").glob("*/*/*weights*.log")
    return any("weighing" in log.read_text() for log in logs) or process.poll() is not None


def digests(run: PipelineRun) -> dict[str, str]:
    return {step.node: step.output.digest for step in run.steps if step.output is not None}


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_a_run_whose_machine_died_is_ended_by_another_with_the_same_results(
    machines: tuple[Machine, Machine, Machine], tmp_path: Path, executor: str
) -> None:
    one, other, alone = machines
    go = tmp_path / "go"
    asked = ("run", "train", "--file", "loop.py", "--param", f"wait_for={go}", "--executor", executor)
    with one.everloop(*asked, start_new_session=True) as begun:
        wait_for(lambda: is_weighing(one, begun), "the second step of the run")
        os.killpg(begun.pid, signal.SIGKILL)
        begun.communicate()

    go.touch()
    left = one.run()
    other.does("runs", "resume", left.id)

    run = other.run()
    assert run.state == "done"
    assert run.token == left.token + 1
    states = {node: [step.state for step in run.steps if step.node == node] for node in digests(run)}
    assert states == {"rows": ["done"], "weights": ["interrupted", "done"], "sums": ["done"]}
    alone.does(*asked)
    assert digests(run) == digests(alone.run()) == digests(one.run())
    assert not (other.home / "blobs").exists(), "what is on S3 is not in the home too"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(300)  # the lease of the dead worker is waited for
def test_a_job_whose_worker_died_is_ended_by_a_worker_of_another_machine(
    machines: tuple[Machine, Machine, Machine], tmp_path: Path
) -> None:
    one, other, alone = machines
    go = tmp_path / "go"
    loop = one.home.parent / "loop.py"
    loop.write_text(loop.read_text() + "\n\nel.trigger(train, when=el.called())\n")
    one.does("apply", "loop.py")
    shutil.copytree(one.home / "keys", other.home / "keys")
    one.does("triggers", "fire", "train", "--param", f"wait_for={go}")
    one.does("work", "--only", "ticks")
    with one.everloop("work", "--only", "jobs", start_new_session=True) as worker:
        wait_for(lambda: is_weighing(one, worker), "the second step of the job")
        os.killpg(worker.pid, signal.SIGKILL)
        worker.communicate()
    go.touch()
    other.does("work", "--only", "jobs", "--linger", "45")

    run = other.run()
    assert (run.state, run.token) == ("done", 2)
    alone.does("run", "train", "--file", "loop.py", "--param", f"wait_for={go}")
    assert digests(run) == digests(alone.run())


@pytest.mark.slow
def test_what_one_machine_applied_another_trains_and_doctor_is_content_with_both(
    machines: tuple[Machine, Machine, Machine], tmp_path: Path
) -> None:
    one, other, _ = machines
    go = tmp_path / "go"
    go.touch()
    one.does("apply", "loop.py")
    shutil.copytree(one.home / "keys", other.home / "keys")
    other.does("run", "train", "--param", f"wait_for={go}", "--executor", "processes")
    one.does("run", "train", "--param", f"wait_for={go}")
    for machine in (one, other):
        signs = json.loads(machine.does("--json", "doctor"))
        assert [sign for sign in signs if sign["health"] == "failed"] == []
        (about_blobs,) = (sign for sign in signs if sign["about"] == "blobs")
        assert about_blobs["found"].startswith("s3://")
