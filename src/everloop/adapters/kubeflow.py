"""A pipeline as IR YAML for Kubeflow Pipelines: each task is one `everloop step` in a container.

Written without kfp: the file is data of a published schema (2.1.0), and kfp's loader, its local runner and its backend
read it. A branch of a condition is a DAG of its own there, as kfp's compiler has it, and so are a loop and all that the
exit task waits for.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from everloop.adapters.elsewhere import GPU, Exported, pod_resources
from everloop.pipelines import Guard, PlannedStep

_RUN = "{{$.pipeline_job_uuid}}"  # names the run: begun under it, known by it
_TYPES = {
    "bool": "BOOLEAN",
    "int": "NUMBER_INTEGER",
    "float": "NUMBER_DOUBLE",
    "str": "STRING",
    "list": "LIST",
    "dict": "STRUCT",
}
_BODY = "steps"
_OUTPUT = "Output"  # with this name of an output, and those of `_channel`, kfp's local runner finds what a task made
Scope = tuple[Guard, ...]


def kubeflow_ir(
    exported: Exported,
    *,
    image: str,
    home: Path,
    volume: str | None = None,
    command: str = "everloop",
    cpu: str | None = None,
    memory: str | None = None,
) -> str:
    """The text of a pipeline's IR YAML.

    Parameters
    ----------
    image
        The image that has everloop and the pipeline's packages.
    home
        The workspace's folder, as the containers see it.
    volume
        The name of the persistent volume claim that holds the home; None: the image or the cluster sees to that.
    command
        How everloop is called in the image.
    cpu, memory
        What a step's container asks for and may use, in Kubernetes' words: `2`, `4Gi`.
    """
    return _Writer(exported, image, home, volume, command, cpu, memory).text()


@dataclass
class _Dag:
    """A DAG of the file: its tasks, and the conditions of which it is told from above."""

    tasks: dict[str, Any] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)


class _Writer:
    """Writes one file."""

    def __init__(
        self,
        exported: Exported,
        image: str,
        home: Path,
        volume: str | None,
        command: str,
        cpu: str | None,
        memory: str | None,
    ) -> None:
        self._exported = exported
        self._image = image
        self._home = home
        self._volume = volume
        self._everloop = f"{command} --home {shlex.quote(str(home))} step"
        self._resources = {
            **({"resourceCpuRequest": cpu, "resourceCpuLimit": cpu} if cpu else {}),
            **({"resourceMemoryRequest": memory, "resourceMemoryLimit": memory} if memory else {}),
        }
        self._steps = {step.name: step for step in exported.steps}
        self._names = _names(self._steps)
        self._conditions = {node for step in exported.steps for node, _ in step.guards}
        self._components: dict[str, Any] = {}
        self._executors: dict[str, Any] = {}
        self._dags: dict[Scope, _Dag] = {(): _Dag()}

    def text(self) -> str:
        exported = self._exported
        body = self._dags[()]
        typed = {name: {"parameterType": _type_of(value)} for name, value in exported.params.items()}
        body.tasks["begin-run"] = self._task(
            "begin-run", self._begin(), {name: {"componentInputParameter": name} for name in typed}, typed
        )
        for step in exported.steps:
            self._add(step)
        for scope in sorted(filter(None, self._dags), key=len, reverse=True):
            self._close(scope)
        self._components[f"comp-{_BODY}"] = _dag_of(body.tasks, typed)
        ends = self._task(
            "end-run",
            self._end(),
            {"status": {"taskFinalStatus": {"producerTask": _BODY}}},
            {"status": {"isOptional": True, "parameterType": "TASK_FINAL_STATUS"}},
        )
        ends |= {"dependentTasks": [_BODY], "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}}
        steps = _task(_BODY, {name: {"componentInputParameter": name} for name in typed})
        defaults = {
            name: {**one, "defaultValue": exported.params[name], "isOptional": True}
            for name, one in typed.items()
        }
        document = {
            "components": self._components,
            "deploymentSpec": {"executors": self._executors},
            "pipelineInfo": {"name": _plain(exported.pipeline)},
            "root": {"dag": {"tasks": {_BODY: steps, "end-run": ends}}, **_inputs(defaults)},
            "schemaVersion": "2.1.0",
            "sdkVersion": "kfp-2.17.3",
        }
        documents = [document, *([self._platform()] if self._volume else [])]
        head = (
            f"# Pipeline {exported.pipeline} of {exported.loop_file}, conducted by Kubeflow Pipelines; written by `everloop "
            "export kubeflow`.\n# Each task is one step, done by `everloop step run`: what steps hand to each other, their "
            "cache, journal and\n# lineage are everloop's. The code is that of the applied loop file.\n"
        )
        plain = json.loads(json.dumps(documents))  # shares nothing, which YAML would write as anchors
        return head + yaml.safe_dump_all(plain, sort_keys=False, width=100, allow_unicode=True)

    def _add(self, step: PlannedStep) -> None:
        """A step's task, in the DAG of the branch that it is in."""
        scope: Scope = step.guards
        dag, name = self._dag(scope), self._names[step.name]
        run = f"{self._everloop} run --run {_key()} --step {shlex.quote(step.name)}"
        if step.over is not None:
            listed = {_OUTPUT: {"parameterType": "LIST"}}
            lists = f'mkdir -p "$(dirname "$1")" && {self._everloop} items --run {_key()} --step {shlex.quote(step.name)} > "$1"'
            dag.tasks[f"{name}-items"] = self._task(f"{name}-items", lists, {}, {}, outputs=listed)
            dag.tasks[f"{name}-each"] = self._loop(step, name, run)
            dag.tasks[name] = {**self._task(name, run, {}, {}), "dependentTasks": [f"{name}-each"]}
            first = f"{name}-items"
        elif step.name in self._conditions:
            told = f'mkdir -p "$(dirname "$1")" && {run} --value "$1"'
            dag.tasks[name] = self._task(
                name, told, {}, {}, outputs={_OUTPUT: {"parameterType": "STRING"}}, step=step
            )
            first = name
        else:
            dag.tasks[name] = self._task(name, run, {}, {}, step=step)
            first = name
        if step.over is None and step.retries:
            dag.tasks[name]["retryPolicy"] = _retry(step)
        for waited in step.waits_for:
            self._order(scope, first, step.guards, self._steps[waited])
        if not step.waits_for:
            self._depend((), scope, first, "begin-run")

    def _loop(self, step: PlannedStep, name: str, run: str) -> dict[str, Any]:
        """The calls of a map: a DAG of one task, for each item that was listed."""
        item, listed = f"{_channel(f'{name}-items')}-loop-item", _channel(f"{name}-items")
        number = {"parameterType": "NUMBER_INTEGER"}
        call = self._task(
            f"{name}-item",
            f'{run} --item "$1"',
            {"item": {"componentInputParameter": item}},
            {"item": number},
            step=step,
        )
        if step.retries:
            call["retryPolicy"] = _retry(step)
        self._components[f"comp-{name}-each"] = _dag_of(
            {f"{name}-item": call}, {listed: {"parameterType": "LIST"}, item: number}
        )
        return {
            **_task(f"{name}-each", {listed: _made_by(f"{name}-items")}),
            "dependentTasks": [f"{name}-items"],
            "parameterIterator": {"itemInput": item, "items": {"inputParameter": listed}},
        }

    def _order(self, scope: Scope, task: str, guards: Scope, waited: PlannedStep) -> None:
        """Let a task come after another step, or after the branch that this is in."""
        common = _common(scope, waited.guards)
        after = (
            self._names[waited.name] if waited.guards == common else _branch(waited.guards[: len(common) + 1])
        )
        self._depend(common, scope, task, after)

    def _depend(self, common: Scope, scope: Scope, task: str, after: str) -> None:
        """In a DAG, let a task, or the branch in it that holds the task, come after another."""
        before = task if scope == common else _branch(scope[: len(common) + 1])
        depends: list[str] = self._dags[common].tasks[before].setdefault("dependentTasks", [])
        if after not in depends and after != before:
            depends.append(after)

    def _dag(self, scope: Scope) -> _Dag:
        """The DAG of a branch; its task is put into that of the branch around it."""
        if scope not in self._dags:
            around = self._dag(scope[:-1])
            self._dags[scope] = _Dag()
            (condition, holds), name = scope[-1], _branch(scope)
            channel = _channel(self._names[condition])
            task = _task(name, {channel: self._told(scope[:-1], condition)})
            wanted = f"inputs.parameter_values['{channel}'] == 'true'"
            task["triggerPolicy"] = {"condition": wanted if holds else f"!({wanted})"}
            around.tasks[name] = task
            self._order(scope[:-1], name, scope[:-1], self._steps[condition])
        return self._dags[scope]

    def _told(self, scope: Scope, condition: str) -> dict[str, Any]:
        """Where a DAG has a condition's value from: a task of its own, or its input."""
        if self._steps[condition].guards == scope:
            return _made_by(self._names[condition])
        self._dags[scope].told.add(condition)
        return {"componentInputParameter": _channel(self._names[condition])}

    def _close(self, scope: Scope) -> None:
        """Make a branch's DAG a component, once all is in it, and give it what its conditions came to."""
        dag, name = self._dags[scope], _branch(scope)
        told = sorted({scope[-1][0], *dag.told})
        inputs = {_channel(self._names[one]): {"parameterType": "STRING"} for one in told}
        self._components[f"comp-{name}"] = _dag_of(dag.tasks, inputs)
        given = self._dags[scope[:-1]].tasks[name]["inputs"]["parameters"]
        given |= {_channel(self._names[one]): self._told(scope[:-1], one) for one in told}

    def _begin(self) -> str:
        given = "".join(
            f' {"--text" if isinstance(value, str) else "--param"} {name}="${index}"'
            for index, (name, value) in enumerate(self._exported.params.items(), start=1)
        )
        return f"{self._everloop} begin {shlex.quote(self._exported.pipeline)} --key {_key()}{given}"

    def _end(self) -> str:
        """What always runs does so at the latest here, where a failure before it does not keep it back."""
        late = [
            f"{self._everloop} run --run {_key()} --step {shlex.quote(step.name)}"
            for step in self._exported.steps
            if step.always
        ]
        return "; ".join([*late, f"{self._everloop} end --run {_key()}"])

    def _task(
        self,
        name: str,
        command: str,
        given: Mapping[str, Any],
        inputs: Mapping[str, Any],
        *,
        outputs: Mapping[str, Any] | None = None,
        step: PlannedStep | None = None,
    ) -> dict[str, Any]:
        """A task with its component and its container; `given` are its inputs, `$1` and so on in the command.

        With a `step` it asks for what that does, in place of what all do.
        """
        run = {"run": {"parameterType": "STRING"}}
        component = {"executorLabel": f"exec-{name}", **_inputs({**run, **inputs})}
        if outputs:
            component["outputDefinitions"] = {"parameters": dict(outputs)}
        self._components[f"comp-{name}"] = component
        arguments = ["{{$.inputs.parameters['run']}}"]
        arguments += [f"{{{{$.inputs.parameters['{one}']}}}}" for one in inputs if one != "status"]
        arguments += [f"{{{{$.outputs.parameters['{one}'].output_file}}}}" for one in outputs or ()]
        container: dict[str, Any] = {
            "image": self._image,
            "command": ["sh", "-c", command],
            "args": arguments,
        }
        if resources := {**self._resources, **(_resources(step) if step is not None else {})}:
            container["resources"] = resources
        self._executors[f"exec-{name}"] = {"container": container}
        return {**_task(name, {"run": {"runtimeValue": {"constant": _RUN}}, **given}), "cachingOptions": {}}

    def _platform(self) -> dict[str, Any]:
        """The volume with the home, in every container."""
        mount = {
            "constant": self._volume,
            "mountPath": str(self._home),
            "pvcNameParameter": {"runtimeValue": {"constant": self._volume}},
        }
        executors = {name: {"pvcMount": [dict(mount)]} for name in self._executors}
        return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}


def _channel(task: str) -> str:
    """The name of an input that takes what a task made, as kfp's compiler has it."""
    return f"pipelinechannel--{task}-{_OUTPUT}"


def _made_by(task: str) -> dict[str, Any]:
    return {"taskOutputParameter": {"outputParameterKey": _OUTPUT, "producerTask": task}}


def _key() -> str:
    return '"kubeflow/$0"'


def _retry(step: PlannedStep) -> dict[str, Any]:
    return {
        "backoffDuration": f"{step.back_off_s:g}s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": "3600s",
        "maxRetryCount": step.retries,
    }


def _resources(step: PlannedStep) -> dict[str, Any]:
    """What a step asks for, as the IR has it."""
    asked = pod_resources(step)
    found: dict[str, Any] = {}
    for what, name in (("cpu", "Cpu"), ("memory", "Memory")):
        if what in asked:
            found |= {f"resource{name}Request": asked[what], f"resource{name}Limit": asked[what]}
    if GPU in asked:
        found["accelerator"] = {"resourceType": GPU, "resourceCount": asked[GPU]}
    return found


def _task(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {"inputs": {"parameters": dict(given)}} if given else {}
    return {"componentRef": {"name": f"comp-{name}"}, **inputs, "taskInfo": {"name": name}}


def _dag_of(tasks: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {"dag": {"tasks": dict(tasks)}, **_inputs(inputs)}


def _inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {"inputDefinitions": {"parameters": dict(inputs)}} if inputs else {}


def _common(one: Scope, other: Scope) -> Scope:
    """The innermost branch that two are both in."""
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    return one[:shared]


def _branch(scope: Scope) -> str:
    """The name of a branch's task, of the conditions that lead there."""
    return "-".join(f"{'if' if holds else 'unless'}-{_plain(node)}" for node, holds in scope)


def _plain(name: str) -> str:
    """A name in the letters that Kubernetes takes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "step"


def _names(steps: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    """A task's name for each step, each once."""
    found: dict[str, str] = {}
    taken = {"begin-run", "end-run", _BODY}
    for step in steps:
        name = _plain(step)
        while name in taken:
            name += "-x"
        taken |= {name, f"{name}-items", f"{name}-each", f"{name}-item"}
        found[step] = name
    return found


def _type_of(value: Any) -> str:
    return _TYPES.get(type(value).__name__, "STRING")
