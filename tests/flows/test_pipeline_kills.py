"""Workers are killed at random moments, and the run still ends as if nothing had happened.

A few kills as it stands; `make kills` does a thousand.
"""

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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from everloop import tracking
from everloop.errors import NotFound
from everloop.ids import new_id
from everloop.pipelines import PipelineRun, StepRun, pipeline_run, result
from everloop.pipelines.store import pipeline_runs
from everloop.storage import Tx
from everloop.workspace import Workspace
from tests.flows.pipeline_runner import LOST

LOOP = '''
    import os
    import time

    from everloop.pipelines import pipeline, step, when

    TRIES = {"retries": 1_000, "back_off_s": 0.0}

    def note(what):
        """One line, whole, whoever writes beside it."""
        file = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, f"{what}\\n".encode())
        os.close(file)

    def made(node, value, *of):
        """A value with who made it and what it was made of: another try at the step makes another."""
        return {"value": value, "node": node, "by": os.urandom(8).hex(), "of": list(of)}

    @step(**TRIES)
    def first(seed: int) -> dict:
        note("begin first")
        time.sleep(0.005)
        note("end first")
        return made("first", seed)

    @step(**TRIES)
    def is_possible(one: dict) -> bool:
        note("begin is_possible")
        note("end is_possible")
        return one["value"] < 1_000_000

    @step(**TRIES, retry_on=(ConnectionError,))
    def square(one: dict, number: int) -> dict:
        note(f"begin square {number}")
        if os.urandom(1)[0] < 50:
            raise ConnectionError("the mirror is down")
        time.sleep(0.005)
        note(f"end square {number}")
        return made(f"square {number}", one["value"] + number * number, one)

    @step(**TRIES)
    def total(singly: list, mapped: list) -> dict:
        note("begin total")
        time.sleep(0.005)
        note("end total")
        values = [*singly, *mapped]
        return made("total", sum(one["value"] for one in values), *values)

    @pipeline
    def train(seed: int) -> dict:
        one = first(seed)

        def possible() -> dict:
            singly = [square(one, number) for number in range(2)]
            return total(singly, square.map(range(2, 6), one=one))

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
VARIANTS = 4  # inline and with processes, on SQLite and on PostgreSQL
KILLS = int(os.environ.get("TEST_KILLS", "80"))  # noqa: TID251  (not a setting)  of all variants together
ENOUGH_S = 40 if KILLS <= 80 else 36_000  # on a busy machine fewer of the few have to do
WORKERS = 3  # that want the same run
STUCK_S = 90  # without an end after the last kill


@dataclass
class Runners:
    """Starts runners of LOOP on one workspace and kills them."""

    process: subprocess.Popen[str]
    folder: Path
    ws: Workspace
    executor: str
    random: random.Random
    alive: set[int] = field(default_factory=set)
    deeds: Counter[str] = field(default_factory=Counter)

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

    def keep_working(self, run_id: str, seed: int) -> None:
        """See that as many workers as there should be want the run, and that those who ended ended well."""
        for pid in [one for one in self.alive if not is_running(one)]:
            assert self.wait(pid) in (0, LOST, -signal.SIGKILL), self.error(run_id)
        while len(self.alive) < WORKERS and not self.is_done(run_id):
            self.start(run_id, seed)

    def kill_one(self, run_id: str) -> None:
        """Kill the worker that has the run, one that waits for it, or a process that runs its steps."""
        self.let_some_time_pass(run_id)
        holder = self.holder(run_id) or min(self.alive)
        others = [*self.alive - {holder}]
        below = [pid for pid in processes_with(str(self.notes_of(run_id))) if pid not in self.alive]
        kind, victims = self.random.choices(
            [("holder", [holder]), ("waiting", others), ("below", below)], [6, 1, 3]
        )[0]
        for pid in self.random.sample(victims, min(1, len(victims))):
            if is_running(pid):
                with suppress(ProcessLookupError):  # of its own accord, just now
                    os.kill(pid, signal.SIGKILL)
                    self.deeds[kind] += 1

    def overtake_holder(self, run_id: str, seed: int) -> None:
        """Put the worker that has the run to sleep, let another take it, and wake the first up amidst its work."""
        holder = self.holder(run_id)
        if holder is None or not is_running(holder):
            return
        self.put_to_sleep(holder)
        self.start(run_id, seed, take_over=True)
        token = pipeline_run(self.ws, run_id).token
        wait_until(lambda: pipeline_run(self.ws, run_id).token > token or self.is_done(run_id))
        self.let_some_time_pass(run_id)
        os.kill(holder, signal.SIGCONT)
        self.deeds["overtaken"] += not self.is_done(run_id)

    def put_to_sleep(self, pid: int) -> None:
        """Stop a process outside a write: one that sleeps with a lock of the database keeps everybody waiting."""
        while True:
            os.kill(pid, signal.SIGSTOP)
            # on a busy machine its threads go on for a while, and may take the lock then
            wait_until(lambda: is_asleep(pid))
            writing = threading.Thread(target=self.ws.write, args=[touch], kwargs={"power_safe": False})
            writing.start()
            writing.join(timeout=1)
            if not writing.is_alive():
                return
            os.kill(pid, signal.SIGCONT)
            writing.join()

    def let_some_time_pass(self, run_id: str) -> None:
        """Until some steps more were begun or ended, and a moment more."""
        lines = len(self.notes(run_id)) + self.random.choice([0, 0, 1, 2, 3])
        deadline = time.monotonic() + 1
        while len(self.notes(run_id)) < lines and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(self.random.uniform(0, 0.02))

    def holder(self, run_id: str) -> int | None:
        """The worker that has the run, or had it last; None before there is a run."""
        try:
            return int(pipeline_run(self.ws, run_id).worker.rpartition(":")[2])
        except NotFound:
            return None

    def is_done(self, run_id: str) -> bool:
        try:
            return pipeline_run(self.ws, run_id).state == "done"
        except NotFound:
            return False

    def notes_of(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.notes"

    def notes(self, run_id: str) -> list[str]:
        place = self.notes_of(run_id)
        return place.read_text().splitlines() if place.exists() else []

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
@pytest.mark.timeout(
    ENOUGH_S + 260
)  # many processes, one after the other, each as slow as the machine is busy
def test_runs_survive_kills_at_random_moments(runners: Runners) -> None:
    seed, enough_at = 0, time.monotonic() + ENOUGH_S
    attempts: Counter[str] = Counter()
    while (left := KILLS // VARIANTS - kills_of(runners)) > 0 and time.monotonic() < enough_at:
        run_id, seed = new_id("run"), seed + 1
        for _ in range(min(left, runners.random.randint(1, 12))):
            runners.keep_working(run_id, seed)
            if runners.is_done(run_id):
                break
            if runners.random.random() < 0.15:
                runners.overtake_holder(run_id, seed)
            else:
                runners.kill_one(run_id)
        bring_to_end(runners, run_id, seed)
        run = check_ended_well(runners, run_id, seed)
        attempts.update(one.state for one in run.steps)
    print(f"{kills_of(runners)} kills of {seed} runs, {dict(runners.deeds)}, steps {dict(attempts)}")  # noqa: T201
    assert kills_of(runners) >= 5


@pytest.mark.slow
@pytest.mark.timeout(
    ENOUGH_S + 260
)  # many processes, one after the other, each as slow as the machine is busy
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


def kills_of(runners: Runners) -> int:
    return runners.deeds.total() - runners.deeds["overtaken"]


def bring_to_end(runners: Runners, run_id: str, seed: int) -> None:
    """Without any further kill the run ends, and so does whoever wanted it."""
    deadline = time.monotonic() + STUCK_S
    while runners.alive or not runners.is_done(run_id):
        assert time.monotonic() < deadline, f"stuck: {pipeline_run(runners.ws, run_id)}"
        runners.keep_working(run_id, seed)
        time.sleep(0.002)


def check_ended_well(runners: Runners, run_id: str, seed: int) -> PipelineRun:
    run = pipeline_run(runners.ws, run_id)
    assert run.state == "done"
    made = result(runners.ws, run_id)
    assert made["value"] == 6 * seed + sum(n * n for n in range(6))
    check_attempts(run, Counter(runners.notes(run_id)))
    check_what_it_was_made_of(run, made)
    assert tracking.run(runners.ws, run_id).status == "finished"
    assert [one for one in tracking.runs(runners.ws, parent=run_id) if one.status == "running"] == []
    wait_until(lambda: not processes_with(str(runners.notes_of(run_id))))
    return run


def check_attempts(run: PipelineRun, notes: Counter[str]) -> None:
    """Each node is finished once and not tried again then; each time it began was written down before."""
    assert [one.node for one in run.steps if one.state == "skipped"] == ["square-4"]
    assert notes["begin square 99"] == 0
    for node in (*NODES, *JOINS):
        attempts = attempts_at(run, node)
        assert [one.attempt for one in attempts] == list(range(1, len(attempts) + 1))
        assert [one.token for one in attempts] == sorted(one.token for one in attempts)
        assert attempts[-1].state == "done"
        assert {one.state for one in attempts[:-1]} <= {"interrupted", "failed"}
        if node in NODES:
            assert 1 <= notes[f"begin {NODES[node]}"] <= len(attempts)
            assert notes[f"end {NODES[node]}"] >= 1


def check_what_it_was_made_of(run: PipelineRun, made: dict[str, Any]) -> None:
    """What the result was made of is what the journal holds: no result was lost, and none was committed twice."""
    used = {(one["node"], one["by"]) for one in parts_of(made)}
    kept = set()
    for node in NODES:
        output = attempts_at(run, node)[-1].output
        assert output is not None
        value = json.loads(output.note or "")["value"]
        if node != "is_possible":
            kept.add((value["node"], value["by"]))
    assert used == kept


def parts_of(made: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield made
    for one in made["of"]:
        yield from parts_of(one)


def attempts_at(run: PipelineRun, node: str) -> list[StepRun]:
    return sorted((one for one in run.steps if one.node == node), key=lambda one: one.attempt)


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
    return state_of(Path(f"/proc/{pid}/stat")) not in ("Z", None)


def is_asleep(pid: int) -> bool:
    """Whether all threads of a process are stopped, or it is no more."""
    states = {state_of(place) for place in Path(f"/proc/{pid}/task").glob("*/stat")}
    return states <= {"T", "Z", "X", None}


def state_of(stat: Path) -> str | None:
    try:
        return stat.read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.001)
