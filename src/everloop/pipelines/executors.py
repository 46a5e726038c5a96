"""Where steps run: the port, and the executor that runs them in this process."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from everloop import clock
from everloop.errors import Invalid
from everloop.pipelines.graph import Graph
from everloop.pipelines.logs import kept_as_printed, log_place
from everloop.pipelines.perform import Outcome, Task, perform
from everloop.pipelines.plan import Plan
from everloop.pipelines.results import Results
from everloop.pipelines.time_limit import OutOfTime, limited
from everloop.workspace import Workspace


@dataclass(frozen=True)
class Work:
    """A run as an executor sees it.

    `graph` is what this process traced, None when it took the run over. `code` is the folder of the code's snapshot,
    None when no other process can import it. `scratch` is a folder for the run's logs and messages. `python` runs steps
    that have a process of their own, with `variables` added to its environment. `lock` is the lock file that this Python
    was made from for one step alone.
    """

    ws: Workspace
    plan: Plan
    graph: Graph | None
    code: Path | None
    scratch: Path
    python: str = sys.executable
    variables: Mapping[str, str] = field(default_factory=dict)
    lock: str | None = None


class Executor(Protocol):
    """Runs attempts. One executor serves one run at a time."""

    @property
    def slots(self) -> int:
        """How many attempts it takes at once."""
        ...

    @property
    def capacity(self) -> Mapping[str, float] | None:
        """What it has besides places, by name, for the steps that ask for some; None: whatever they ask for."""
        ...

    @property
    def in_process(self) -> bool:
        """Whether steps run in this process, which then has to import the pipeline."""
        ...

    def start(self, work: Work, task: Task) -> Future[Outcome]:
        """Begin an attempt. The future does not raise what the step raises: that is in the outcome."""
        ...

    def stop(self) -> None:
        """Kill what runs; the futures end."""
        ...

    def close(self) -> None:
        """The run is over: let go of what was kept for it."""
        ...


class Inline:
    """Runs steps in this process, one at a time: no start-up cost, and no protection from what a step does to it.

    A time limit interrupts Python code, and only in the main thread: native code and what catches everything go on. What a
    step prints goes where this process prints, and into the run's log as far as Python prints it.
    """

    slots = 1
    capacity = None
    in_process = True

    def start(self, work: Work, task: Task) -> Future[Outcome]:
        if work.graph is None:
            raise Invalid("the inline executor needs the traced pipeline. Use Processes for this run.")
        done: Future[Outcome] = Future()
        if (lock := work.plan.by_name[task.node].environment) is not None:
            text = (
                f"step {task.name} is declared with environment={lock!r}, for which another process has to import its "
                "pipeline, and that is in no file. Write it in a file."
            )
            done.set_result(Outcome(error=text, is_final=True))
            return done
        begun = clock.elapsed_s()
        results = Results(work.ws.blobs, work.scratch)
        log = log_place(work.scratch, task.name, task.attempt)
        try:
            with kept_as_printed(log), limited(task.timeout_s):
                outcome = perform(
                    work.graph, task, results=results, workspace=lambda: work.ws, home=work.ws.home
                )
        except OutOfTime:
            text = (
                f"the step took longer than its timeout_s={task.timeout_s:g} and was interrupted. Raise the limit or give it "
                "less to do."
            )
            outcome = Outcome(error=text, seconds=clock.elapsed_s() - begun)
        done.set_result(replace(outcome, log=str(log)) if log.exists() else outcome)
        return done

    def stop(self) -> None:
        """Nothing runs between two calls of `start`."""

    def close(self) -> None:
        """Nothing was kept."""
