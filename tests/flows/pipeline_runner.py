"""A process that forks runners of a pipeline as it is told, so that a test can kill many of them quickly.

A line of JSON on standard input is either what to run, answered with the process number of a new runner, or
{"wait": number}, answered with its return code once it ended.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from everloop.errors import LostLease, NotReady
from everloop.pipelines import Executor, Inline, Processes, begin_run, resume, run_pipeline, run_step
from everloop.settings import load_settings
from everloop.workspace import Workspace, open_workspace

LOST = 5  # a runner's return code when the run was taken over
BUSY = 6  # ... when another has the step


def main() -> None:
    for line in sys.stdin:
        told = json.loads(line)
        if "wait" in told:
            _, status = os.waitpid(told["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201  (this is the answer)
            continue
        pid = os.fork()
        if pid == 0:
            be_runner(told)
        print(pid, flush=True)  # noqa: T201  (this is the answer)


def be_runner(told: dict[str, Any]) -> None:
    """Run to the end; while another does, wait for it to end or to die, as a worker would."""
    code = 1
    try:
        os.environ["NOTES"] = told["notes"]  # noqa: TID251  (for the user's steps)
        settings = load_settings(told["home"], environ={}, actor="tester", database_url=told["database_url"])
        with open_workspace(settings=settings) as ws:
            if told.get("step"):
                run_step(ws, told["run"], told["step"], item=told["item"], executor=Processes(1))
            else:
                while not runs(ws, told):
                    time.sleep(0.005)
        code = 0
    except LostLease:
        code = LOST
    except NotReady:
        code = BUSY
    finally:
        sys.stderr.flush()
        if code == 1:
            import traceback  # noqa: PLC0415  (of a runner that failed: shown by the test)

            Path(told["notes"] + ".error").write_text(traceback.format_exc())
        os._exit(code)


def runs(ws: Workspace, told: dict[str, Any]) -> bool:
    executor: Executor = Inline() if told["executor"] == "inline" else Processes(2)
    try:
        if told["take_over"]:
            resume(ws, told["run_id"], executor=executor, take_over=True)
            return True
        if told["project"] not in sys.path:
            sys.path.insert(0, told["project"])
        train = importlib.import_module("loop").train
        params = {"seed": told["seed"]}
        if told.get("key"):
            begin_run(ws, train, key=told["key"], params=params, reason="test")
            return True
        run_pipeline(ws, train, params=params, reason="test", run_id=told["run_id"], executor=executor)
    except NotReady:
        return False
    return True


if __name__ == "__main__":
    main()
