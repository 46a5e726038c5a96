"""Another place than this process where a run's steps can run: a folder with its code, and a Python.

`python -m everloop.pipelines.place FILE` is asked there what a run would be in it: which software is installed, which
machine it is, and what the code of each step is once it is imported there.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everloop import tracking
from everloop.errors import EverloopError, Invalid, NotReady
from everloop.pipelines.plan import Plan, plan_run
from everloop.pipelines.project import file_of, project_of
from everloop.pipelines.snapshot import import_pipeline, use
from everloop.settings import child_environment
from everloop.workspace import Workspace

_ASKED_S = 300  # importing a project with all its libraries, on a slow disk


@dataclass(frozen=True)
class Place:
    """A folder with a run's code and a Python with what is installed for it.

    `variables` are added to the environment of its processes. `sources` are the parts of each step's code, by the
    step's name in the plan, as they are when imported there; `problem` says why they are not known.
    """

    code: Path
    python: str
    variables: Mapping[str, str]
    environment: tracking.Environment
    machine: tracking.Machine
    sources: Mapping[str, Mapping[str, str]]
    problem: str | None


def look_at(ws: Workspace, plan: Plan, code: Path, *, python: str, variables: Mapping[str, str]) -> Place:
    """Ask a Python in a folder with a plan's code what a run would be there; nothing is run.

    Raises
    ------
    Invalid
        This Python does not start, or everloop is not installed for it.
    NotReady
        Importing the project does not end.
    """
    asked = {
        "code": str(code),
        "folders": list(plan.folders),
        "entry": plan.entry,
        "params": dict(plan.params),
    }
    try:
        answer = subprocess.run(
            [python, "-P", "-m", "everloop.pipelines.place"],
            input=json.dumps(asked).encode(),
            cwd=code,
            env=child_environment(ws.settings, **variables),
            capture_output=True,
            timeout=_ASKED_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NotReady(
            f"importing {plan.entry.partition(':')[0]} took more than {_ASKED_S} s. Importing a loop file only declares; see "
            "what it does beside that, then try again."
        ) from error
    if answer.returncode != 0:
        told = answer.stderr.decode(errors="replace").strip().splitlines()
        raise Invalid(
            f"{python} cannot run everloop: {told[-1] if told else f'it exited with {answer.returncode}'}. A run is "
            "repeated by a Python that has the packages of everloop. Leave out --rebuild to use this one."
        )
    here = json.loads(answer.stdout)
    return Place(
        code,
        python,
        variables,
        tracking.Environment.from_json(here["environment"]),
        tracking.Machine(**here["machine"]),
        here["sources"],
        here["problem"],
    )


def main() -> None:
    asked = json.loads(sys.stdin.buffer.read())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # importing a project may print
    here = {
        "environment": dataclasses.asdict(tracking.installed()),
        "machine": dataclasses.asdict(tracking.machine()),
        **_sources(asked),
    }
    with answers:
        answers.write(json.dumps(here))


def _sources(asked: dict[str, Any]) -> dict[str, Any]:
    code = Path(asked["code"])
    use(code, root=code, folders=asked["folders"])
    try:
        pipeline = import_pipeline(asked["entry"])
        file = file_of(pipeline.function)
        project = None if file is None else project_of(pipeline.function.__module__, file, root=code)
        planned = plan_run(pipeline, asked["params"], project)
    except EverloopError as error:
        return {"sources": {}, "problem": str(error)}
    return {
        "sources": {step.name: planned.sources[step.source] for step in planned.plan.steps},
        "problem": None,
    }


if __name__ == "__main__":
    main()
