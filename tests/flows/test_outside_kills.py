"""Processes that each do one step of a run, several at once and some of them twice, are killed at random moments."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from everloop.errors import NotReady
from everloop.pipelines import end_run, pipeline_run, result, run_of, step_items
from everloop.workspace import Workspace
from tests.flows.pipeline_runner import BUSY
from tests.flows.test_pipeline_kills import (
    JOINS,
    NODES,
    Runners,
    processes_with,
    runners,
    wait_until,
)

__all__ = ["runners"]  # the fixture
KILLS = 12  # on each database
ENOUGH_S = 15  # on a busy machine fewer have to do
MAP = "square-3"


@pytest.mark.slow
@pytest.mark.parametrize("runners", ["processes"], indirect=True)
def test_steps_conducted_from_outside_survive_kills_at_random_moments(runners: Runners) -> None:
    kills = seed = 0
    enough_at = time.monotonic() + ENOUGH_S
    while kills < KILLS and time.monotonic() < enough_at:
        seed += 1
        kills += conducted(runners, f"night-{seed}", seed)
        run_id = run_of(runners.ws, f"night-{seed}")
        ended = end_run(runners.ws, run_id)
        assert (ended.state, ended.token) == ("done", 1)
        assert result(runners.ws, run_id)["value"] == 6 * seed + sum(n * n for n in range(6))
        attempts = [one for one in ended.steps if one.state in ("done", "interrupted", "failed")]
        finished = Counter(one.node for one in attempts if one.state == "done")
        assert finished == dict.fromkeys((*NODES, *JOINS), 1)
        begun = Counter(runners.notes(f"night-{seed}"))
        assert all(begun[f"begin {NODES[one]}"] <= Counter(a.node for a in attempts)[one] for one in NODES)
        wait_until(lambda run=f"night-{seed}": not processes_with(str(runners.notes_of(run))))  # type: ignore[misc]  # bound per turn
    assert kills >= 5


def conducted(runners: Runners, key: str, seed: int) -> int:
    """Begin whatever can be begun, up to three at a time and the same more than once, and kill some; how many."""
    assert runners.wait(runners.start(key, seed, key=key)) == 0, runners.error(key)
    run_id, kills = run_of(runners.ws, key), 0
    seen: Counter[str] = Counter()
    while left := unsettled(runners.ws, run_id):
        wanted = [runners.random.choice(left[:3]) for _ in range(3)]
        started = [start(runners, run_id, key, seed, node) for node in wanted]
        for pid in started:
            if runners.random.random() < 0.3:
                time.sleep(runners.random.uniform(0, 0.4))
                os.kill(pid, signal.SIGKILL)
        codes = [runners.wait(pid) for pid in started]
        assert set(codes) <= {0, BUSY, -signal.SIGKILL}, runners.error(key)
        kills += codes.count(-signal.SIGKILL)
        begun = Counter(runners.notes(key))
        for node, count in seen.items():
            assert begun[f"begin {NODES[node]}"] == count, f"{node} was finished and ran again"
        done = [one.node for one in pipeline_run(runners.ws, run_id).steps if one.state == "done"]
        seen = Counter({node: begun[f"begin {NODES[node]}"] for node in done if node in NODES})
    return kills


def start(runners: Runners, run_id: str, key: str, seed: int, node: str) -> int:
    step, _, item = node.rstrip("]").partition("[")
    return runners.start(key, seed, run=run_id, step=step, item=int(item) if item else None)


def unsettled(ws: Workspace, run_id: str) -> list[str]:
    """What an outside engine would begin next, in the order of the plan."""
    done = {one.node for one in pipeline_run(ws, run_id).steps if one.state in ("done", "skipped")}
    return list(_unsettled(ws, run_id, done))


def _unsettled(ws: Workspace, run_id: str, done: set[str]) -> Iterator[str]:
    for node in ("first", "is_possible", "square", "square-2", MAP, "total", "choice"):
        if node == MAP and node not in done and "is_possible" in done:
            try:
                items = [f"{MAP}[{item}]" for item in step_items(ws, run_id, MAP)]
            except NotReady:
                continue
            yield from (one for one in items if one not in done)
            if not done.issuperset(items):
                continue
        if node not in done:
            yield node
