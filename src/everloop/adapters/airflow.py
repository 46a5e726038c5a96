"""A pipeline as a DAG file for Airflow 3: each task is one `everloop step`, and Airflow says when and how often."""

from __future__ import annotations

import itertools
import json
import keyword
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from everloop.adapters.elsewhere import Exported
from everloop.errors import Invalid
from everloop.pipelines import PlannedStep

Operator = Literal["bash", "kubernetes"]
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
        "import json",
        "from datetime import timedelta",
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
        "",
        *_HELPERS[operator].splitlines(),
        "",
        "",
        *_Writer(exported, on_data=on_data).lines(),
    ]
    return "\n".join(_without_unused(lines)) + "\n"


_IMPORTS = {
    "bash": ["from airflow.providers.standard.operators.bash import BashOperator"],
    "kubernetes": ["from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator"],
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

    def __init__(self, exported: Exported, *, on_data: bool) -> None:
        self._exported = exported
        self._on_data = on_data
        self._taken = {"begin_run", "end_run", "everloop", "listing", "each", *keyword.kwlist}
        self._ends: dict[str, str] = {}  # by step the variable of the task after which its result is there
        self._arrows: list[str] = []

    def lines(self) -> Iterator[str]:
        exported = self._exported
        yield "with DAG("
        yield f"    dag_id={_text(exported.pipeline)},"
        yield f"    schedule={self._schedule()},"
        yield "    catchup=False,"
        yield "    max_active_runs=1,"
        if exported.params:
            yield "    params={"
            yield from (
                f"        {_text(name)}: Param({_value(value)})," for name, value in exported.params.items()
            )
            yield "    },"
        yield '    tags=["everloop"],'
        yield "):"
        yield from _indented(self._body())

    def _schedule(self) -> str:
        exported = self._exported
        cron = (
            f"CronTriggerTimetable({_text(exported.cron)}, timezone={_text(exported.time_zone)})"
            if exported.cron
            else "None"
        )
        if not (self._on_data and exported.datasets):
            return cron
        assets = (
            " | ".join(map(_asset, exported.datasets))
            if len(exported.datasets) > 1
            else f"[{_asset(exported.datasets[0])}]"
        )
        return f"AssetOrTimeSchedule(timetable={cron}, assets={assets})" if exported.cron else assets

    def _body(self) -> Iterator[str]:
        exported = self._exported
        params = "".join(
            f" --param {name}='{{{{{{{{ params.{name} | tojson }}}}}}}}'" for name in exported.params
        )
        inlets = ", ".join(map(_asset, exported.datasets))
        yield self._call(
            "begin_run",
            "everloop",
            "begin_run",
            f"begin {exported.pipeline} --key {{RUN}}{params}",
            {"retries": "2", **({"inlets": f"[{inlets}]"} if inlets else {})},
        )
        for group, steps in itertools.groupby(exported.steps, lambda step: step.name.rpartition(".")[0]):
            inside = [line for step in steps for line in self._step(step, group)]
            for name in reversed(group.split(".")) if group else ():
                inside = [f"with TaskGroup({_text(name)}):", *_indented(inside)]
            yield from inside
        outlets = {"outlets": f"[{_model_asset(exported.model)}]"} if exported.model else {}
        yield self._call(
            "end_run",
            "everloop",
            "end_run",
            "end --run {RUN}",
            {"trigger_rule": _text("all_done"), **outlets},
        )
        yield ""
        yield from self._arrows
        yield f"[{', '.join(self._ends[name] for name in exported.leaves)}] >> end_run"

    def _step(self, step: PlannedStep, group: str) -> Iterator[str]:
        name = step.name.removeprefix(f"{group}.") if group else step.name
        variable = self._variable(step.name)
        self._ends[step.name] = variable
        options = _options(step)
        command = f"run --run {{RUN}} --step {step.name}"
        if step.over is None:
            rule = (
                {"trigger_rule": _text("all_done")}
                if step.always
                else {"trigger_rule": _text("none_failed")}
                if step.is_choice
                else {}
            )
            self._connect(step, variable)
            yield self._call(variable, "everloop", name, command, {**options, **rule})
            return
        items, each = f"{variable}_items", f"{variable}_each"
        self._connect(step, items)
        self._arrows.append(f"{items} >> {each} >> {variable}")
        yield f"with TaskGroup({_text(name)}):"
        yield "    " + self._call(items, "listing", "items", f"items --run {{RUN}} --step {step.name}", {})
        yield "    " + self._call(each, "each", "each", command, options, first=items)
        yield "    " + self._call(
            variable, "everloop", "gathered", command, {"trigger_rule": _text("none_failed")}
        )

    def _connect(self, step: PlannedStep, variable: str) -> None:
        guards = dict(step.guards[-1:])
        before = [self._ends[name] for name in step.waits_for if name not in guards] or (
            [] if guards else ["begin_run"]
        )
        if before:
            self._arrows.append(
                f"{before[0] if len(before) == 1 else '[' + ', '.join(before) + ']'} >> {variable}"
            )
        for condition, holds in guards.items():
            self._arrows.append(
                f"{self._ends[condition]} >> Label({_text('if so' if holds else 'if not')}) >> {variable}"
            )

    def _variable(self, name: str) -> str:
        """A name for the variable of a step's task."""
        plain = re.sub(r"\W", "_", name)
        plain = f"step_{plain}" if plain[:1].isdigit() else plain
        while plain in self._taken:
            plain += "_"
        self._taken |= {plain, f"{plain}_items", f"{plain}_each"}
        return plain

    def _call(
        self,
        variable: str,
        function: str,
        task_id: str,
        command: str,
        options: Mapping[str, str],
        *,
        first: str = "",
    ) -> str:
        arguments = [
            *([first] if first else []),
            _text(task_id),
            f'f"{command}"',
            *(f"{key}={value}" for key, value in options.items()),
        ]
        return f"{variable} = {function}({', '.join(arguments)})"


def _options(step: PlannedStep) -> dict[str, str]:
    found = {}
    if step.retries:
        found = {
            "retries": str(step.retries),
            "retry_delay": f"timedelta(seconds={step.back_off_s:g})",
            "retry_exponential_backoff": "True",
        }
    if step.timeout_s is not None:
        found["execution_timeout"] = f"timedelta(seconds={step.timeout_s + _GRACE_S:g})"
    return found


def _asset(dataset: str) -> str:
    return f"Asset({_text(f'everloop://dataset/{dataset}')})"


def _model_asset(model: str) -> str:
    return f"Asset({_text(f'everloop://model/{model}')})"


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"    {line}" if line else line for line in lines)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _value(value: Any) -> str:
    """A parameter's value, as Python."""
    return repr(value)


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
