"""The executor for a process that was started for one run anyway."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

from everloop.pipelines.executors import Inline, Work
from everloop.pipelines.perform import Outcome, Task
from everloop.pipelines.processes import Processes


class Lean:
    """Runs steps in this process, one at a time; in a process of its own a step that has a limit of time or memory.

    So nothing is imported twice and no limit is broken. Of a pipeline that no other process can import, steps run here
    whatever their limits are.
    """

    slots = 1
    in_process = True

    def __init__(self, resources: Mapping[str, float] | None = None) -> None:
        self._inline = Inline()
        self._processes = Processes(1, resources=resources)
        self.capacity = self._processes.capacity

    def start(self, work: Work, task: Task) -> Future[Outcome]:
        is_limited = task.timeout_s is not None or task.memory_gb is not None
        if is_limited and work.code is not None:
            return self._processes.start(work, task)
        return self._inline.start(work, task)

    def stop(self) -> None:
        self._processes.stop()

    def close(self) -> None:
        self._processes.close()
