"""Running steps in this process, apart from those that need one of their own."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

from everloop.pipelines.executors import Executor, Inline, Work
from everloop.pipelines.perform import Outcome, Task
from everloop.pipelines.plan import Plan
from everloop.pipelines.processes import Processes


class Lean:
    """Runs steps in this process; in one of its own a step with a limit of time or memory or with an environment.

    For a process that was started for one run anyway: nothing is imported twice and no limit is broken. Of a pipeline
    that no other process can import, steps run here whatever their limits are.

    Parameters
    ----------
    resources
        As for `Processes`.
    here
        The executor in this process; None: `Inline`, one step at a time.
    """

    in_process = True

    def __init__(self, resources: Mapping[str, float] | None = None, *, here: Executor | None = None) -> None:
        self._here = here or Inline()
        self.slots = self._here.slots
        self._processes = Processes(self.slots, resources=resources)
        self.capacity = self._processes.capacity

    def start(self, work: Work, task: Task) -> Future[Outcome]:
        is_limited = task.timeout_s is not None or task.memory_gb is not None
        has_own = work.plan.by_name[task.node].environment is not None
        if (is_limited or has_own) and work.code is not None:
            return self._processes.start(work, task)
        return self._here.start(work, task)

    def stop(self) -> None:
        self._here.stop()
        self._processes.stop()

    def close(self) -> None:
        self._here.close()
        self._processes.close()


def able(executor: Executor, plan: Plan) -> Executor:
    """An executor that can run all steps of a plan: the given one, or with processes beside it for some."""
    is_needed = executor.in_process and any(step.environment for step in plan.steps)
    return Lean(here=executor) if is_needed and not isinstance(executor, Lean) else executor
