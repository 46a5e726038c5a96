"""Running a run once more from one of its steps, with the same code, data and labels, and other parameters if asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from everloop.errors import Invalid, NotFound, NotReady
from everloop.pipelines.canonical import literal
from everloop.pipelines.executors import Executor
from everloop.pipelines.plan import Plan, PlannedStep, plan_run
from everloop.pipelines.project import file_of, project_of
from everloop.pipelines.reading import pipeline_run
from everloop.pipelines.records import OnProgress, PipelineRun, StepRun
from everloop.pipelines.run import is_known, resume, run_from
from everloop.pipelines.seeds import DEFAULT_SEED
from everloop.pipelines.snapshot import check_out, imported_from
from everloop.workspace import Workspace


def fork(
    ws: Workspace,
    run_id: str,
    *,
    start: str,
    params: Mapping[str, Any] | None = None,
    reason: str,
    new_id: str | None = None,
    executor: Executor | None = None,
    on_progress: OnProgress | None = None,
) -> PipelineRun:
    """Run a run's pipeline again from the step `start`, as a run of its own.

    Code, data, labels and seed are those of the first run. `start` and all that follows from it run anew, whatever the
    cache holds. Everything else that the first run made is taken over, apart from what a changed parameter makes another
    step; that runs as well, and so does what was never finished.

    Parameters
    ----------
    start
        A step's name in the run's plan, such as `fit-2`.
    params
        Parameters with other values than the first run's.
    new_id
        An id made before with `ids.new_id("run")`. If a run of this id exists it is resumed.

    Raises
    ------
    NotFound
        There is no such run, or it has no such step.
    NotReady
        The run has not ended.
    Invalid
        A step before `start` takes one of the changed parameters; or the run's code is in no file.
    StepFailed, LostLease
        As `run_pipeline`.
    """
    if new_id is not None and is_known(ws, new_id):
        return resume(ws, new_id, executor=executor, on_progress=on_progress)
    original = pipeline_run(ws, run_id)
    if original.state not in ("done", "failed", "cancelled"):
        raise NotReady(
            f"run {run_id} is {original.state}; what has not ended is not run again. Wait, or cancel it."
        )
    before = Plan.from_json(original.plan)
    plan = before if not params else _planned_with(ws, original, before, {**original.params, **params})
    _check_start(plan, start)
    others = {step.name for step in plan.steps if not _is_same(before.by_name.get(step.name), step)}
    _check_before(plan, start, others, params or {})
    anew = _followers(plan, {start})
    gone = _followers(plan, {start, *others})
    kept = [one for one in _settled(original) if one.node in plan.by_name and one.node not in gone]
    steps = (replace(step, cache=False) if step.name in anew else step for step in plan.steps)
    return run_from(
        ws,
        original,
        replace(plan, steps=tuple(steps)),
        kept,
        reason=reason,
        run_id=new_id,
        executor=executor,
        on_progress=on_progress,
    )


def _planned_with(ws: Workspace, original: PipelineRun, before: Plan, params: Mapping[str, Any]) -> Plan:
    """The plan of the run's own code with other parameters."""
    if original.code is None:
        raise Invalid(
            f"{before.entry} is not in a file, so run {original.id} cannot be planned with other parameters. Run the pipeline."
        )
    code = check_out(ws, original.code)
    pipeline = imported_from(code, before)
    file = Path(file_of(pipeline.function) or code)
    module = pipeline.function.__module__
    project = project_of(module, file, root=_root_of(file, module, code, before))
    seed = DEFAULT_SEED if before.seed is None else before.seed
    plan = plan_run(pipeline, params, project, seed=seed).plan
    known = {step.step: step.source for step in before.steps}
    steps = tuple(replace(step, source=known.get(step.step, step.source)) for step in plan.steps)
    return replace(plan, root=before.root, seed=before.seed, steps=steps)


def _root_of(file: Path, module: str, code: Path, plan: Plan) -> Path:
    """The folder with the project that a module's file is in: the snapshot, or one of the same form, imported before."""
    depth = len(module.split(".")) + (file.name == "__init__.py")
    inside = file.parents[depth - 1]  # the import folder, one of the plan's
    found = [folder for folder in plan.folders if (code / folder / file.relative_to(inside)).exists()]
    return file.parents[depth - 1 + len(Path(found[0]).parts)] if found else inside


def _check_start(plan: Plan, start: str) -> None:
    if start not in plan.by_name:
        raise NotFound(f"the run has no step {start!r}; its steps are {', '.join(plan.by_name)}.")


def _is_same(before: PlannedStep | None, after: PlannedStep) -> bool:
    return before is not None and before.described() == after.described()


def _check_before(plan: Plan, start: str, others: set[str], params: Mapping[str, Any]) -> None:
    """What `start` builds on has to be what the first run made."""
    waiting, seen = [start], set()
    while waiting:
        for name in plan.by_name[waiting.pop()].waits_for:
            if name in others:
                changed = ", ".join(f"{key}={literal(value)}" for key, value in params.items())
                raise Invalid(
                    f"with {changed} the step {name}, which comes before {start}, is another one: "
                    f"{plan.by_name[name].label}. Start from {name}, or from a step before it."
                )
            if name not in seen:
                seen.add(name)
                waiting.append(name)


def _followers(plan: Plan, starts: set[str]) -> set[str]:
    """Steps and all that wait for them, directly or not."""
    found = set(starts)
    for step in plan.steps:  # a step comes after those that it waits for
        if not found.isdisjoint(step.waits_for):
            found.add(step.name)
    return found


def _settled(run: PipelineRun) -> Iterable[StepRun]:
    """The attempts that settled the run's steps; a map's stands for its calls."""
    for one in run.steps:
        is_settled = one.output is not None or one.state == "skipped"
        if is_settled and one.state != "ran_anyway" and not one.is_call:
            yield one
