"""A pipeline as a DAG file for Airflow 3: each task is one `everloop step`, and Airflow says when and how often."""

from __future__ import annotations

import json
import keyword
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from everloop.adapters.elsewhere import Exported, pod_resources
from everloop.errors import Invalid
from everloop.pipelines import PlannedStep

Operator = Literal["bash", "kubernetes"]
_WIDTH = 100  # of a line of the file
_GRACE_S = 60  # Airflow kills a task so long after everloop would have killed the step


def airflow_dag(
    exported: Exported,
    *,
    home: Path,
    command: str = "everloop",
    operator: Operator = "bash",
    image: str | None = None,
    volume: str | None = None,
    pool: str = "default_pool",
    on_data: bool = False,
    dag_id: str | None = None,
) -> str:
    """The text of a DAG file that imports nothing of ours and nothing of the user's.

    Parameters
    ----------
    home
        The workspace's folder, as Airflow's workers or the pods see it.
    command
        How everloop is called there.
    image, volume
        For the operator `kubernetes`: the image that has everloop and the pipeline's packages, and the name of the
        persistent volume claim that holds the home.
    dag_id
        The DAG's name; None: the pipeline's.
    on_data
        Run when an asset of a dataset that the pipeline reads is updated, besides at its fixed times.

    Raises
    ------
    Invalid
        The operator `kubernetes` without an image and a volume.
    """
    if operator == "kubernetes" and not (image and volume):
        raise Invalid(
            "pods need an image that has everloop and a volume that holds the home. Give --image and --volume, the name of a "
            "persistent volume claim."
        )
    lines = [
        f'"""Pipeline {exported.pipeline} of {exported.loop_file}, conducted by Airflow; written by `everloop export airflow`.',
        "",
        "Each task is one step, done by `everloop step run`: what steps hand to each other, their cache, journal and lineage",
        "are everloop's. The code is that of the applied loop file. Export again when the pipeline has other steps.",
        '"""',
        "",
        *_IMPORTS[operator],
        "from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, CronTriggerTimetable, Label, Param, TaskGroup",
        *_MODELS[operator],
        "",
        f"EVERLOOP = {_text(f'{command} --home {shlex.quote(str(home))}')}",
        f"POOL = {_text(pool)}  # says how many steps run at once",
    ]
    if operator == "kubernetes":
        lines += [
            f"IMAGE = {_text(image or '')}",
            f"VOLUME = {_text(volume or '')}",
            f"HOME = {_text(str(home))}",
        ]
    lines += [
        """RUN = "'airflow/{{ dag.dag_id }}/{{ run_id }}'"  # what everloop knows the run by""",
        "# of tasks that do no step: a process that was lost with its machine is taken for dead after 30 s",
        'AGAIN = {"retries": 1, "retry_delay": timedelta(seconds=40)}',
        "",
        *_HELPERS[operator].strip().splitlines(),
        "",
        "",
        *_Writer(
            exported, dag_id or exported.pipeline, on_data=on_data, in_pods=operator == "kubernetes"
        ).lines(),
    ]
    return "\n".join(_without_unused(lines)) + "\n"


_IMPORTS = {
    "bash": [
        "import json",
        "from datetime import timedelta",
        "",
        "from airflow.providers.standard.operators.bash import BashOperator",
    ],
    "kubernetes": [
        "from datetime import timedelta",
        "",
        "from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator",
    ],
}
_MODELS = {"bash": [], "kubernetes": ["from kubernetes.client import models as k8s"]}
_HELPERS = {
    "bash": '''
OPTIONS = {"pool": POOL, "append_env": True, "skip_on_exit_code": 3}  # 3: the step's condition does not hold


def everloop(task_id, command, **options):
    """A task that is one everloop command."""
    return BashOperator(task_id=task_id, bash_command=f"{EVERLOOP} step {command}", **OPTIONS, **options)


def listing(task_id, command, **options):
    """A task that lists the items of a map."""
    return everloop(task_id, command, output_processor=json.loads, **options)


def each(items, task_id, command, **options):
    """A task for each item that another task lists."""
    call = f'{EVERLOOP} step {command} --item "$ITEM"'
    mapped = BashOperator.partial(task_id=task_id, bash_command=call, **OPTIONS, **options)
    return mapped.expand(env=items.output.map(lambda item: {"ITEM": str(item)}))
''',
    "kubernetes": '''
DISK = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=VOLUME)
OPTIONS = {
    "pool": POOL,
    "image": IMAGE,
    "cmds": ["sh", "-c"],
    "volumes": [k8s.V1Volume(name="everloop", persistent_volume_claim=DISK)],
    "volume_mounts": [k8s.V1VolumeMount(name="everloop", mount_path=HOME)],
    "skip_on_exit_code": 3,  # the step's condition does not hold
}


def everloop(task_id, command, **options):
    """A pod that does one everloop command."""
    return KubernetesPodOperator(
        task_id=task_id, arguments=[f"{EVERLOOP} step {command}"], **OPTIONS, **options
    )


def listing(task_id, command, **options):
    """A pod that lists the items of a map."""
    return everloop(task_id, f"{command} > /airflow/xcom/return.json", do_xcom_push=True, **options)


def each(items, task_id, command, **options):
    """A pod for each item that another one lists."""
    call = f'{EVERLOOP} step {command} --item "$ITEM"'
    mapped = KubernetesPodOperator.partial(task_id=task_id, arguments=[call], **OPTIONS, **options)
    return mapped.expand(env_vars=items.output.map(lambda item: {"ITEM": str(item)}))
''',
}


class _Writer:
    """Writes the DAG itself."""

    def __init__(self, exported: Exported, dag_id: str, *, on_data: bool, in_pods: bool) -> None:
        self._exported = exported
        self._in_pods = in_pods
        self._dag_id = dag_id
        self._on_data = on_data
        self._taken = {"begin_run", "end_run", "everloop", "listing", "each", *keyword.kwlist}
        # by step the variable of the task after which its result is there
        self._ends = {step.name: self._variable(step.name) for step in exported.steps}

    def lines(self) -> Iterator[str]:
        params = [f"    {_text(name)}: Param({value!r})," for name, value in self._exported.params.items()]
        yield "with DAG("
        yield f"    dag_id={_text(self._dag_id)},"
        yield f"    schedule={self._schedule()},"
        yield "    catchup=False,"
        yield "    max_active_runs=1,"
        yield from _indented(["params={", *params, "},"] if params else [])
        yield '    tags=["everloop"],'
        yield "):"
        yield from _indented(self._body())

    def _schedule(self) -> str:
        """The fixed times, the assets that the pipeline reads, or both."""
        exported = self._exported
        zone = _text(exported.time_zone)
        cron = f"CronTriggerTimetable({_text(exported.cron)}, timezone={zone})" if exported.cron else "None"
        assets = " | ".join(_asset("dataset", name) for name in exported.datasets)
        if not (self._on_data and assets):
            return cron
        assets = f"({assets})" if " | " in assets else f"[{assets}]"
        return f"AssetOrTimeSchedule(timetable={cron}, assets={assets})" if exported.cron else assets

    def _body(self) -> Iterator[str]:
        exported = self._exported
        params = "".join(
            f" --param {name}='{{{{{{{{ params.{name} | tojson }}}}}}}}'" for name in exported.params
        )
        inlets = ", ".join(_asset("dataset", name) for name in exported.datasets)
        reads = {"inlets": f"[{inlets}]"} if inlets else {}
        makes = {"outlets": f"[{_asset('model', exported.model)}]"} if exported.model else {}
        begin = f"begin {exported.pipeline} --key {{RUN}}{params}"
        yield from _call("begin_run", "everloop", "begin_run", begin, {"**": "AGAIN", **reads})
        yield from self._group("", exported.steps)
        yield from _call(
            "end_run",
            "everloop",
            "end_run",
            "end --run {RUN}",
            {"trigger_rule": _text("all_done"), **makes, "**": "AGAIN"},
        )
        yield ""
        for step in exported.steps:
            yield from self._arrows(step)
        yield f"{_several(self._ends[name] for name in exported.leaves)} >> end_run"

    def _group(self, within: str, steps: Sequence[PlannedStep]) -> Iterator[str]:
        """The tasks of a pipeline, and below them those of the pipelines in it, each in a group."""
        nested: dict[str, list[PlannedStep]] = {}
        for step in steps:
            first, dot, _ = step.name.removeprefix(within).partition(".")
            if dot:
                nested.setdefault(first, []).append(step)
            else:
                yield from self._tasks(step, first)
        for name, its in nested.items():
            yield f"with TaskGroup({_text(name)}):"
            yield from _indented(self._group(f"{within}{name}.", its))

    def _tasks(self, step: PlannedStep, name: str) -> Iterator[str]:
        variable, options = self._ends[step.name], _options(step, in_pods=self._in_pods)
        command = f"run --run {{RUN}} --step {step.name}"
        none_failed = {"trigger_rule": _text("none_failed")}
        if step.over is None:
            rule = (
                {"trigger_rule": _text("all_done")} if step.always else none_failed if step.is_choice else {}
            )
            yield from _call(variable, "everloop", name, command, {**options, **rule})
            return
        listed, items = f"items --run {{RUN}} --step {step.name}", f"{variable}_items"
        yield f"with TaskGroup({_text(name)}):"
        yield from _indented(_call(items, "listing", "items", listed, {"**": "AGAIN"}))
        yield from _indented(_call(f"{variable}_each", "each", "each", command, options, of=items))
        yield from _indented(_call(variable, "everloop", "gathered", command, {**none_failed, "**": "AGAIN"}))

    def _arrows(self, step: PlannedStep) -> Iterator[str]:
        """What a step waits for; of the conditions that it is under the innermost says so."""
        end = self._ends[step.name]
        first = end if step.over is None else f"{end}_items"
        guards = dict(step.guards[-1:])
        before = [self._ends[name] for name in step.waits_for if name not in guards]
        if before or not guards:
            yield f"{_several(before or ['begin_run'])} >> {first}"
        for condition, holds in guards.items():
            yield f"{self._ends[condition]} >> Label({_text('if so' if holds else 'if not')}) >> {first}"
        if step.over is not None:
            yield f"{first} >> {end}_each >> {end}"

    def _variable(self, name: str) -> str:
        """A name for the variable of a step's task."""
        plain = re.sub(r"\W", "_", name)
        while plain in self._taken:
            plain += "_"
        self._taken |= {plain, f"{plain}_items", f"{plain}_each"}
        return plain


def _call(
    variable: str, function: str, task_id: str, command: str, options: Mapping[str, str], *, of: str = ""
) -> list[str]:
    """A task: on one line where it is short enough."""
    named = [f"**{value}" if name == "**" else f"{name}={value}" for name, value in options.items()]
    arguments = [*([of] if of else []), _text(task_id), f'f"{command}"', *named]
    line = f"{variable} = {function}({', '.join(arguments)})"
    if len(line) <= _WIDTH:
        return [line]
    return [f"{variable} = {function}(", *_indented(f"{one}," for one in arguments), ")"]


def _options(step: PlannedStep, *, in_pods: bool) -> dict[str, str]:
    """What a step's task is given besides its command, as Python."""
    found = {}
    if (cpus := step.resources.get("cpus", 1)) > 1:
        found["pool_slots"] = f"{cpus:g}"
    if in_pods and (wanted := pod_resources(step)):
        found["container_resources"] = f"k8s.V1ResourceRequirements(requests={wanted}, limits={wanted})"
    if step.retries:
        found |= {
            "retries": str(step.retries),
            "retry_delay": f"timedelta(seconds={step.back_off_s:g})",
            "retry_exponential_backoff": "True",
        }
    if step.timeout_s is not None:
        found["execution_timeout"] = f"timedelta(seconds={step.timeout_s + _GRACE_S:g})"
    return found


def _asset(kind: str, name: str) -> str:
    return f"Asset({_text(f'everloop://{kind}/{name}')})"


def _several(variables: Iterable[str]) -> str:
    listed = list(variables)
    return listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]"


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"    {line}" if line else line for line in lines)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _without_unused(lines: Sequence[str]) -> Iterator[str]:
    """Leave out imported names that nothing below uses."""
    text = "\n".join(line for line in lines if not line.startswith(("import ", "from ")))
    for line in lines:
        if not line.startswith(("import ", "from ")):
            yield line
            continue
        before, word, names = line.rpartition("import ")
        used = [name for name in names.split(", ") if re.search(rf"\b{name.split(' ')[-1]}\b", text)]
        if used:
            yield f"{before}{word}{', '.join(used)}"
