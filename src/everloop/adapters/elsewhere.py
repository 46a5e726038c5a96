"""A pipeline as another engine has to know it: which steps wait for which, and when it is run."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from everloop.loop import DeclaredDataset, DeclaredModel, DeclaredRetraining, Loop
from everloop.pipelines import PlannedStep, plan_run


@dataclass(frozen=True)
class Exported:
    """What an export says of a pipeline.

    `params` are its parameters with the values that stand for them; `datasets` those that it reads, and `model` the one
    that is declared on it.
    """

    pipeline: str
    loop_file: str
    steps: tuple[PlannedStep, ...]
    params: Mapping[str, Any]
    datasets: tuple[str, ...]
    model: str | None
    cron: str | None
    time_zone: str

    @property
    def leaves(self) -> list[str]:
        """The steps that nothing waits for."""
        awaited = {name for step in self.steps for name in step.waits_for}
        return [step.name for step in self.steps if step.name not in awaited]


GPU = "nvidia.com/gpu"


def pod_resources(step: PlannedStep) -> dict[str, str]:
    """What a step asks for in Kubernetes' words. Resources of a machine's own have none there."""
    found = {}
    if (cpus := step.resources.get("cpus")) is not None:
        found["cpu"] = f"{cpus:g}"
    if (memory_gb := step.resources.get("memory_gb")) is not None:
        found["memory"] = f"{memory_gb:g}G"
    if (gpus := step.resources.get("gpus")) is not None:
        found[GPU] = f"{gpus:g}"
    return found


def exported(loop: Loop, pipeline: str | None, params: Mapping[str, Any]) -> Exported:
    """What is to be exported of a loop file; without a name its only pipeline.

    Raises
    ------
    NotFound
        There is no such pipeline, or there are several and none is named.
    Invalid
        A parameter without a default is not given, or the pipeline's body is wrong.
    """
    found = loop.pipeline(pipeline or _only(loop.pipelines))
    defaults = {
        name: one.default
        for name, one in found.signature.parameters.items()
        if one.default is not inspect.Parameter.empty
    }
    given = {**defaults, **params}
    planned = plan_run(found, given, None)
    models = [one for one in loop.declared.of(DeclaredModel) if one.pipeline.name == found.name]
    model = models[0].name if models else None
    crons = [one for one in loop.declared.of(DeclaredRetraining) if one.model.name == model and one.cron]
    sources = planned.graph.sources.values()
    return Exported(
        found.name,
        loop.file.name,
        planned.plan.steps,
        given,
        tuple(one.name for one in sources if isinstance(one, DeclaredDataset)),
        model,
        crons[0].cron if crons else None,
        crons[0].time_zone if crons else "UTC",
    )


def _only(names: Iterable[str]) -> str:
    """The name, if there is one only; else one that is not there, so that the message lists them."""
    found = list(names)
    return found[0] if len(found) == 1 else ""
