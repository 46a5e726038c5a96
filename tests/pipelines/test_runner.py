"""How many steps run at once, and in which order."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from everloop.pipelines import Inline, pipeline, result, run_pipeline, step
from everloop.pipelines.executors import Work
from everloop.pipelines.perform import Outcome, Task
from everloop.workspace import Workspace


class Threads:
    """Runs steps in threads of this process and counts how many at once: a third implementation of the port."""

    capacity = None
    in_process = True

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(slots)
        self._together = threading.Barrier(slots)

    def start(self, work: Work, task: Task) -> Future[Outcome]:
        return self._pool.submit(self._run, work, task)

    def _run(self, work: Work, task: Task) -> Outcome:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self._together.wait(timeout=20)  # only passed when all slots are taken
        outcome = Inline().start(work, task).result()
        with self._lock:
            self._now -= 1
        return outcome

    def stop(self) -> None:
        self._together.abort()

    def close(self) -> None:
        self._pool.shutdown()


@step
def square(number: int) -> int:
    return number * number


@pipeline
def fan_out(count: int) -> list[Any]:
    return [square(number) for number in range(count)]


def test_all_slots_are_used_and_no_more(ws: Workspace) -> None:
    executor = Threads(3)
    done = run_pipeline(ws, fan_out, params={"count": 9}, reason="test", executor=executor)
    assert executor.most == 3
    assert result(ws, done.id) == [number * number for number in range(9)]


def test_a_thousand_steps_are_no_trouble(ws: Workspace) -> None:
    done = run_pipeline(ws, fan_out, params={"count": 1_000}, reason="test", executor=Inline())
    again = run_pipeline(ws, fan_out, params={"count": 1_001}, reason="test", executor=Inline())
    assert len(done.steps) == 1_000
    assert [one.state for one in again.steps].count("cached") == 1_000
    assert result(ws, again.id)[-1] == 1_000_000
