"""What a process does that was started for one step, whoever started it.

The result goes into a file, whole or not at all. The process holds no right to write on the run: what came of the step
is journaled by the runner. As soon as nobody waits for the result any more, it ends itself with all it started.

`python -m everloop.pipelines.child FILE` does one step and ends; the file says all about it.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from everloop.errors import EverloopError, Invalid
from everloop.pipelines.graph import Graph
from everloop.pipelines.perform import Outcome, Task, perform
from everloop.pipelines.plan import described
from everloop.pipelines.records import Pinned, Stored
from everloop.pipelines.results import Results
from everloop.pipelines.snapshot import import_pipeline, use
from everloop.pipelines.touched import prepare

if TYPE_CHECKING:
    from everloop.workspace import Workspace

OVER_MEMORY = 79  # what a process ends with that used more memory than its step may
_MEMORY_LOOK_S = 0.1
UNTOLD = os.EX_IOERR  # exit code of a process that could not write what came of its step


def traced(spec: dict[str, Any]) -> Graph | str:
    """Import the project from its snapshot and trace the pipeline: its graph, or why there is none."""
    prepare([Path(spec["scratch"]), Path(spec["home"])])
    use(Path(spec["code"]), root=Path(spec["root"]), folders=spec["folders"])
    try:
        return import_pipeline(spec["entry"]).trace(spec["params"])
    except EverloopError as error:
        if spec["lock"] is None:
            return str(error)
        return (
            f"{error} The step has an environment of its own, so what its file imports at the top has to be in {spec['lock']}; "
            "import what only other steps use inside them."
        )


def carry_out(order: dict[str, Any], spec: dict[str, Any], graph: Graph | str) -> bool:
    """Do one step and tell what came of it; whether it made something.

    Ends the process with UNTOLD when the disk does not take even that.
    """
    faulthandler.enable()  # a crash in native code then shows the Python lines that led there, in the log
    outcome = _outcome(order, spec, graph)
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        _tell(outcome, Path(order["result"]))
    except OSError:
        os._exit(UNTOLD)
    return outcome.error is None


def end_with(pipe: int, *, memory_gb: float | None = None) -> None:
    """Watch a pipe whose other end is held by who waits for this process; when it closes, end the process's group.

    The process is also ended, with OVER_MEMORY, when it uses more memory than it may; looked at ten times a second.
    """

    def watch() -> None:
        while not select.select([pipe], [], [], None if memory_gb is None else _MEMORY_LOOK_S)[0]:
            if memory_gb is not None and resident_gb() > memory_gb:
                os._exit(OVER_MEMORY)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, name="everloop-watch", daemon=True).start()


def resident_gb() -> float:
    """Memory that this process has now, in 10^9 bytes; zero where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9 if statm.exists() else 0.0


def without_input() -> None:
    """Leave a step an empty standard input."""
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)


def _outcome(order: dict[str, Any], spec: dict[str, Any], graph: Graph | str) -> Outcome:
    from everloop.settings import load_settings  # noqa: PLC0415  (after the watch on the parent has begun)
    from everloop.storage import open_blobs  # noqa: PLC0415  (as above)

    if isinstance(graph, str):
        return Outcome(error=graph, is_final=True)
    home = Path(spec["home"])
    task = _task(order["task"])
    try:
        _check_same(described(graph.node(task.node), task.index), task.call, task.name)
    except EverloopError as error:
        return Outcome(error=str(error), is_final=True)
    results = Results(open_blobs(load_settings(home)), Path(spec["scratch"]))
    return perform(
        graph,
        task,
        results=results,
        workspace=functools.partial(_opened, home),
        home=home,
        own_process=True,
    )


@functools.cache
def _opened(home: Path) -> Workspace:
    from everloop.workspace import open_workspace  # noqa: PLC0415  (only for steps with declared inputs)

    return open_workspace(home)


def _check_same(here: dict[str, Any], planned: Mapping[str, Any], node: str) -> None:
    if here != planned:
        raise Invalid(
            f"the pipeline's body gives another step {node} here than when the run was planned: {here} instead of "
            f"{planned}. A body gives the same graph each time; take out what differs, such as time, randomness, the "
            "environment or the machine, or pass it as a parameter of the run."
        )


def _task(told: dict[str, Any]) -> Task:
    inputs = {node: Stored(**stored) for node, stored in told["inputs"].items()}
    pins = {name: Pinned(**pinned) for name, pinned in told["pins"].items()}
    item = None if told["item"] is None else Stored(**told["item"])
    return Task(**{**told, "inputs": inputs, "pins": pins, "item": item})


def _tell(outcome: Outcome, place: Path) -> None:
    half_done = place.with_suffix(".half")
    half_done.write_text(json.dumps(asdict(outcome)))
    half_done.rename(place)


def main(file: str) -> NoReturn:
    told = json.loads(Path(file).read_bytes())
    end_with(os.dup(0), memory_gb=told["order"]["task"]["memory_gb"])
    without_input()
    carry_out(told["order"], told["spec"], traced(told["spec"]))
    os._exit(0)  # whatever the step left running, threads included, ends here


if __name__ == "__main__":
    main(sys.argv[1])
