"""Runners are killed at random moments, and the run still ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from everloop import tracking
from everloop.errors import NotFound
from everloop.ids import new_id
from everloop.pipelines import PipelineRun, pipeline_run, result
from everloop.pipelines.store import pipeline_runs
from everloop.storage import Tx
from everloop.workspace import Workspace
from tests.flows.pipeline_runner import LOST

LOOP = '''
    import os
    import time

    from everloop.pipelines import pipeline, step, when

    def note(what):
        """One line, whole, whoever writes beside it."""
        file = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, f"{what}\\n".encode())
        os.close(file)

    @step
    def first(seed: int) -> int:
        note("begin first")
        time.sleep(0.005)
        note("end first")
        return seed

    @step
    def is_possible(value: int) -> bool:
        note("begin is_possible")
        note("end is_possible")
        return value < 1_000_000

    @step
    def square(value: int, number: int) -> int:
        note(f"begin square {number}")
        time.sleep(0.005)
        note(f"end square {number}")
        return value + number * number

    @step
    def total(values: list) -> int:
        note("begin total")
        time.sleep(0.005)
        note("end total")
        return sum(values[:-1]) + sum(values[-1])

    @pipeline
    def train(seed: int) -> int:
        one = first(seed)

        def possible() -> int:
            singly = [square(one, number) for number in range(2)]
            return total([*singly, square.map(range(2, 6), value=one)])

        return when(is_possible(one), possible, lambda: square(one, 99))
'''
NODES = {
    "first": "first",
    "is_possible": "is_possible",
    "square": "square 0",
    "square-2": "square 1",
    **{f"square-3[{n}]": f"square {n + 2}" for n in range(4)},
    "total": "total",
}
JOINS = ("square-3", "choice")  # the map and the condition: they run nothing themselves
KILLS = 20  # for each executor on each database
ENOUGH_S = 40  # on a busy machine fewer have to do


@dataclass
class Runners:
    """Starts runners of LOOP on one workspace and kills them."""

    process: subprocess.Popen[str]
    folder: Path
    ws: Workspace
    executor: str
    random: random.Random
    seen: dict[str, Counter[str]] = field(default_factory=dict)
    alive: set[int] = field(default_factory=set)

    def start(self, run_id: str, seed: int, *, take_over: bool = False, **more: str | int | None) -> int:
        pid = self._ask(
            {
                "home": str(self.ws.home),
                "database_url": self.ws.settings.database_url,
                "project": str(self.folder / "project"),
                "notes": str(self.notes_of(run_id)),
                "executor": self.executor,
                "run_id": run_id,
                "seed": seed,
                "take_over": take_over,
                **more,
            }
        )
        self.alive.add(pid)
        return pid

    def wait(self, pid: int) -> int:
        returncode = self._ask({"wait": pid})
        self.alive.discard(pid)
        return returncode

    def put_to_sleep(self, pid: int) -> None:
        """Stop a process outside a write: one that sleeps with a lock of the database keeps everybody waiting."""
        while True:
            os.kill(pid, signal.SIGSTOP)
            writing = threading.Thread(target=self.ws.write, args=[touch], kwargs={"power_safe": False})
            writing.start()
            writing.join(timeout=1)
            if not writing.is_alive():
                return
            os.kill(pid, signal.SIGCONT)
            writing.join()

    def kill_some_time(self, pid: int, run_id: str) -> None:
        """Kill a runner after some of its notes and a moment more, wherever it then is."""
        lines = len(self.notes(run_id)) + self.random.choice([0, 0, 1, 2, 3])
        deadline = time.monotonic() + 20
        while len(self.notes(run_id)) < lines and time.monotonic() < deadline and is_running(pid):
            os.sched_yield()
        spin_until = time.monotonic() + self.random.uniform(
            0, 0.4 if lines == len(self.notes(run_id)) else 0.02
        )
        while time.monotonic() < spin_until:
            os.sched_yield()
        os.kill(pid, signal.SIGKILL)

    def notes_of(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.notes"

    def notes(self, run_id: str) -> list[str]:
        place = self.notes_of(run_id)
        return place.read_text().splitlines() if place.exists() else []

    def check_finished_stay_finished(self, run_id: str) -> None:
        """What was committed at an earlier look has not begun again since."""
        finished = self.finished(run_id)
        begun = Counter(self.notes(run_id))
        for node, count in self.seen.get(run_id, Counter()).items():
            assert node in finished, f"{node} was finished and is not any more"
            assert begun[f"begin {NODES.get(node)}"] == count, f"{node} was finished and ran again"
        self.seen[run_id] = Counter({node: begun[f"begin {NODES.get(node)}"] for node in finished})

    def finished(self, run_id: str) -> list[str]:
        try:
            return [one.node for one in pipeline_run(self.ws, run_id).steps if one.state == "done"]
        except NotFound:
            return []

    def error(self, run_id: str) -> str:
        place = Path(f"{self.notes_of(run_id)}.error")
        return place.read_text() if place.exists() else "no error was written"

    def _ask(self, what: dict[str, Any]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture(params=["inline", "processes"])
def runners(request: pytest.FixtureRequest, any_ws: Workspace, tmp_path: Path) -> Iterator[Runners]:
    project = tmp_path / "project"
    project.mkdir()
    (project / "loop.py").write_text(textwrap.dedent(LOOP))
    command = [sys.executable, "-m", "tests.flows.pipeline_runner"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        started = Runners(process, tmp_path, any_ws, request.param, random.Random(7))  # noqa: S311  (seeded)
        yield started
        for pid in [*started.alive, process.pid]:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_runs_survive_kills_at_random_moments(runners: Runners) -> None:
    kills = seed = 0
    enough_at = time.monotonic() + ENOUGH_S
    while kills < KILLS and time.monotonic() < enough_at:
        run_id, seed, returncode = new_id("run"), seed + 1, -signal.SIGKILL
        while returncode != 0:
            pid = runners.start(run_id, seed)
            if kills < KILLS:
                runners.kill_some_time(pid, run_id)
            returncode = runners.wait(pid)
            assert returncode in (0, -signal.SIGKILL), runners.error(run_id)
            runners.check_finished_stay_finished(run_id)
            kills += returncode != 0
        check_ended_well(runners, run_id, seed)
    assert kills >= 5


@pytest.mark.slow
def test_a_runner_that_was_asleep_commits_nothing_when_it_wakes(runners: Runners) -> None:
    returncodes = []
    for seed in range(1, 5):
        run_id = new_id("run")
        asleep = runners.start(run_id, seed)
        wait_until(lambda run_id=run_id, seed=seed: len(runners.notes(run_id)) >= seed)  # type: ignore[misc]  # bound per turn
        runners.put_to_sleep(asleep)
        assert runners.wait(runners.start(run_id, seed, take_over=True)) == 0, runners.error(run_id)
        before = pipeline_run(runners.ws, run_id)
        os.kill(asleep, signal.SIGCONT)
        returncodes.append(runners.wait(asleep))
        # 0: on a busy machine it was done before it could be stopped
        assert returncodes[-1] == (LOST if before.token == 2 else 0), runners.error(run_id)
        assert pipeline_run(runners.ws, run_id) == before
        check_ended_well(runners, run_id, seed)
    assert LOST in returncodes


def touch(tx: Tx) -> None:
    """A write that waits for whoever writes on any run."""
    tx.execute(sa.update(pipeline_runs).values(pipeline=pipeline_runs.c.pipeline))


def check_ended_well(runners: Runners, run_id: str, seed: int) -> None:
    run = pipeline_run(runners.ws, run_id)
    assert run.state == "done"
    assert result(runners.ws, run_id) == 6 * seed + sum(n * n for n in range(6))
    check_attempts(run, Counter(runners.notes(run_id)))
    assert tracking.run(runners.ws, run_id).status == "finished"
    assert [one for one in tracking.runs(runners.ws, parent=run_id) if one.status == "running"] == []
    wait_until(lambda: not processes_with(str(runners.notes_of(run_id))))


def check_attempts(run: PipelineRun, notes: Counter[str]) -> None:
    """Each node is finished once; each time it began was written down before; tokens only rise."""
    assert [one.node for one in run.steps if one.state == "skipped"] == ["square-4"]
    assert notes["begin square 99"] == 0
    for node in (*NODES, *JOINS):
        attempts = [one for one in run.steps if one.node == node]
        assert [one.state for one in attempts].count("done") == 1
        assert [one.attempt for one in attempts] == list(range(1, len(attempts) + 1))
        assert [one.token for one in attempts] == sorted({one.token for one in attempts})
        if node in NODES:
            assert 1 <= notes[f"begin {NODES[node]}"] <= len(attempts)
            assert notes[f"end {NODES[node]}"] >= 1
        assert {one.state for one in attempts[:-1]} <= {"interrupted"}


def processes_with(text: str) -> list[int]:
    """Processes of which the environment holds a text, other than runners that are zombies."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (place / "environ").read_bytes():
                found.append(int(place.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        os.sched_yield()
