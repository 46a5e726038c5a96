"""An executor in this process that leaves the steps with an environment of their own to processes."""

from __future__ import annotations

from concurrent.futures import Future

from everloop.pipelines.executors import Executor, Work
from everloop.pipelines.perform import Outcome, Task
from everloop.pipelines.plan import Plan
from everloop.pipelines.processes import Processes


def able(executor: Executor, plan: Plan, *, can_be_imported: bool) -> Executor:
    """An executor that can run all steps of a plan: the given one, or with processes beside it for some."""
    is_needed = executor.in_process and can_be_imported and any(step.environment for step in plan.steps)
    return _BesideProcesses(executor) if is_needed else executor


class _BesideProcesses:
    in_process = True

    def __init__(self, executor: Executor) -> None:
        self.slots = executor.slots
        self._here = executor
        self._elsewhere = Processes(executor.slots)

    def start(self, work: Work, task: Task) -> Future[Outcome]:
        has_own = work.plan.by_name[task.node].environment is not None
        return (self._elsewhere if has_own else self._here).start(work, task)

    def stop(self) -> None:
        self._here.stop()
        self._elsewhere.stop()

    def close(self) -> None:
        self._here.close()
        self._elsewhere.close()
