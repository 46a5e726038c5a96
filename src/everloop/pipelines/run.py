"""Running a pipeline, going on with a run that a dead process left, and ending one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from everloop import tracking
from everloop.errors import Conflict, LostLease, NotReady, StepFailed
from everloop.ids import new_id
from everloop.ledger import Node, link
from everloop.pipelines import store
from everloop.pipelines.claim import LEASE_S, claimed, here, is_free, is_here, lease_end
from everloop.pipelines.conduct import conduct, scratch_of
from everloop.pipelines.executors import Executor, Inline
from everloop.pipelines.graph import Graph
from everloop.pipelines.place import Place
from everloop.pipelines.plan import Plan, Planned, plan_run
from everloop.pipelines.processes import Processes
from everloop.pipelines.project import Project, file_of, project_of
from everloop.pipelines.reading import pipeline_run, unknown
from everloop.pipelines.records import OnProgress, Pinned, PipelineRun
from everloop.pipelines.seeds import DEFAULT_SEED
from everloop.pipelines.snapshot import capture
from everloop.pipelines.tracing import Pipeline
from everloop.storage import Tx
from everloop.workspace import Workspace

SEED_TAG = "everloop.seed"
REPEATED = "repeated"  # the role of a run in the lineage of its reruns


def run_pipeline(
    ws: Workspace,
    pipeline: Pipeline[..., Any],
    *,
    params: Mapping[str, Any] | None = None,
    reason: str,
    run_id: str | None = None,
    executor: Executor | None = None,
    on_progress: OnProgress | None = None,
    root: Path | None = None,
    code: tracking.Code | None = None,
    lease_s: float = LEASE_S,
    seed: int = DEFAULT_SEED,
) -> PipelineRun:
    """Run a pipeline to its end.

    Its declared inputs are pinned first, once: data that arrives meanwhile belongs to the next run. Steps whose code,
    environment, parameters and inputs were seen before are taken from the cache. The run is a tracking run of the
    same id; a step that makes a model gets a tracking run below it, with its parameters and metrics.

    Parameters
    ----------
    params
        Values for the pipeline's parameters, as JSON can hold them.
    reason
        Why it is run, in words; kept with the run.
    run_id
        An id made before with `ids.new_id("run")`. If a run of this id exists it is resumed, so that a job that is
        repeated after a kill goes on where it was.
    executor
        None: each step in a process of its own, or in this process when no other can import the pipeline (it was made
        in a notebook or inside a function).
    on_progress
        Called in this thread as things happen.
    root
        The project's folder; None: see `project_of`.
    code
        What was captured of `root` before and the pipeline was imported from; None: its modules are captured now.
    seed
        What the random numbers of its steps begin with; another than the default is part of each step's cache key.

    Raises
    ------
    Invalid
        The parameters or the pipeline's body are wrong; nothing was recorded.
    StepFailed
        A step failed for good. The run is kept as failed; what was finished stays, for `resume` and for the cache.
    Conflict
        The code in memory is not the code in the files.
    LostLease
        Another process took the run over, or it was cancelled.
    """
    if run_id is not None and _is_known(ws, run_id):
        return resume(ws, run_id, executor=executor, on_progress=on_progress, lease_s=lease_s)
    begun = _prepared(ws, pipeline, params or {}, root=root, code=code, seed=seed)
    run_id = run_id or new_id("run")
    with claimed(scratch_of(ws, run_id, token=1)):
        ws.write(lambda tx: _begin(ws, tx, run_id, begun, reason=reason, lease_s=lease_s), power_safe=False)
        return conduct(
            ws,
            pipeline_run(ws, run_id),
            executor or _default_executor(begun.code is not None),
            graph=begun.graph,
            on_progress=on_progress,
            lease_s=lease_s,
        )


def planned(
    pipeline: Pipeline[..., Any], params: Mapping[str, Any] | None = None, *, root: Path | None = None
) -> Planned:
    """What a run would call, with the code of each step; nothing is run and nothing is stored.

    Raises
    ------
    Invalid
        The parameters or the pipeline's body are wrong.
    Conflict
        The code in memory is not the code in the files.
    """
    return plan_run(pipeline, params or {}, _project(pipeline, root))


def resume(
    ws: Workspace,
    run_id: str,
    *,
    executor: Executor | None = None,
    on_progress: OnProgress | None = None,
    take_over: bool = False,
    lease_s: float = LEASE_S,
) -> PipelineRun:
    """Go on with a run that was interrupted or that failed; a run that is done is returned as it is.

    Finished steps are not run again; one that was interrupted runs again under a new fencing token, after which
    nothing that its first process still does is kept. The code is that of the run's snapshot: to try mended code, run
    the pipeline again, and finished steps come from the cache.

    Parameters
    ----------
    take_over
        Do not wait for a runner that may still live: for a worker to whom the run's job was given anew.

    Raises
    ------
    NotFound
    NotReady
        Its runner is alive, or on another machine and its lease has not ended.
    Conflict
        The run was cancelled.
    StepFailed, LostLease
        As `run_pipeline`.
    """
    known = pipeline_run(ws, run_id)
    if known.state == "done":
        return known
    token = known.token + 1
    is_dead = is_here(known.worker) and is_free(scratch_of(ws, run_id, token=known.token))
    with claimed(scratch_of(ws, run_id, token=token)) as is_ours:
        if not is_ours:
            raise NotReady(f"run {run_id} is being taken over by another process. Wait for it.")
        may_take = take_over or is_dead
        ws.write(lambda tx: _take(ws, tx, run_id, token=token, may_take=may_take, lease_s=lease_s))
        tracking.resume_run(ws, run_id)
        return conduct(
            ws,
            pipeline_run(ws, run_id),
            executor or _default_executor(known.code is not None),
            graph=None,
            on_progress=on_progress,
            lease_s=lease_s,
        )


def run_again(
    ws: Workspace, original: PipelineRun, place: Place, *, on_progress: OnProgress | None = None
) -> PipelineRun:
    """Run what a run ran once more: its plan, with what it was pinned to, in another place and without the cache.

    The rerun is a run of its own kind, with lineage from the original. When it is cut off it is cancelled: to try again
    is to begin a new one.

    Raises
    ------
    StepFailed
        A step failed; the rerun is kept as failed.
    """
    plan = Plan.from_json(original.plan)
    plan = replace(plan, root=str(place.code), repeats=original.id)
    code = None if original.code is None else tracking.code(ws, original.code)
    begun = _Prepared(plan, None, {}, original.pins, code, place.environment, place.machine)
    run_id = new_id("run")
    reason = f"to reproduce {original.id}"
    with claimed(scratch_of(ws, run_id, token=1)):
        ws.write(lambda tx: _begin(ws, tx, run_id, begun, reason=reason, lease_s=LEASE_S), power_safe=False)
        try:
            return conduct(
                ws,
                pipeline_run(ws, run_id),
                Processes(),
                graph=None,
                on_progress=on_progress,
                lease_s=LEASE_S,
                place=place,
            )
        except (StepFailed, LostLease):
            raise
        except BaseException as error:
            cancel(ws, run_id, reason=f"The rerun was cut off: {type(error).__name__}.")
            raise


def cancel(ws: Workspace, run_id: str, *, reason: str) -> None:
    """End a run for good. Its runner notices within two seconds and kills what runs; nothing more of it is kept.

    Raises
    ------
    NotFound
    Conflict
        The run has ended.
    """

    def change(tx: Tx) -> None:
        run = store.locked_run(tx, run_id)
        if run is None:
            raise unknown(run_id)
        if run.state != "running":
            raise Conflict(f"run {run_id} is {run.state}; only a running one can be cancelled.")
        store.interrupt(tx, run_id, ended_at=ws.now())
        values = {"state": "cancelled", "token": run.token + 1, "error": reason, "ended_at": ws.now()}
        store.update_run(tx, run_id, {**values, "lease_until": None})
        tracking.finish_run_in(ws, tx, run_id, "killed", error=reason)

    ws.write(change)


@dataclass(frozen=True)
class _Prepared:
    """All that a run depends on, settled."""

    plan: Plan
    graph: Graph | None
    sources: Mapping[str, Mapping[str, str]]
    pins: Mapping[str, Pinned]
    code: tracking.Code | None
    environment: tracking.Environment
    machine: tracking.Machine


def _prepared(
    ws: Workspace,
    pipeline: Pipeline[..., Any],
    params: Mapping[str, Any],
    *,
    root: Path | None,
    code: tracking.Code | None,
    seed: int,
) -> _Prepared:
    project = _project(pipeline, root)
    planned = plan_run(pipeline, params, project, seed=seed)
    if project is not None:
        code = capture(ws, project, planned.plan.entry.partition(":")[0], known=code)
    pins = {name: source.pin(ws) for name, source in planned.graph.sources.items()}
    return _Prepared(
        planned.plan,
        planned.graph,
        planned.sources,
        pins,
        code,
        tracking.capture_environment(ws),
        tracking.machine(),
    )


def _project(pipeline: Pipeline[..., Any], root: Path | None) -> Project | None:
    """The project of a pipeline that another process can import; None for one in a notebook or inside a function."""
    file = file_of(pipeline.function)
    if file is None or "<locals>" in pipeline.function.__qualname__:
        return None
    return project_of(pipeline.function.__module__, file, root=root)


def _default_executor(can_be_imported: bool) -> Executor:
    return Processes() if can_be_imported else Inline()


def _begin(ws: Workspace, tx: Tx, run_id: str, begun: _Prepared, *, reason: str, lease_s: float) -> None:
    plan = begun.plan
    tracking.start_run_in(
        ws,
        tx,
        experiment=plan.pipeline,
        kind="pipeline" if plan.repeats is None else "rerun",
        code=begun.code,
        environment=begun.environment,
        tags={"reason": reason, **_seed_tag(plan), **tracking.machine_tags(begun.machine)},
        run_id=run_id,
    )
    store.keep_sources(tx, begun.sources)
    values = {
        "id": run_id,
        "pipeline": plan.pipeline,
        "entry": plan.entry,
        "reason": reason,
        "state": "running",
        "params": dict(plan.params),
        "pins": {name: asdict(pinned) for name, pinned in begun.pins.items()},
        "plan": plan.to_json(),
        "code": begun.code.digest if begun.code else None,
        "environment": begun.environment.digest,
        "token": 1,
        "worker": here(),
        "lease_until": lease_end(tx.wall(), lease_s),
        "started_at": ws.now(),
    }
    store.insert_run(tx, values)
    for name, pinned in begun.pins.items():
        link(tx, Node(pinned.kind, pinned.ref), Node("run", run_id), role=name[:60], at=ws.now())
    if plan.repeats is not None:
        link(tx, Node("run", plan.repeats), Node("run", run_id), role=REPEATED, at=ws.now())


def _seed_tag(plan: Plan) -> dict[str, str]:
    return {} if plan.seed is None else {SEED_TAG: str(plan.seed)}


def _take(ws: Workspace, tx: Tx, run_id: str, *, token: int, may_take: bool, lease_s: float) -> None:
    """Make a run this process's, under the next token.

    `may_take` says that its runner is dead, or that it does not matter whether it is.
    """
    run = store.locked_run(tx, run_id)
    if run is None:
        raise unknown(run_id)
    if run.state == "cancelled":
        raise Conflict(f"run {run_id} was cancelled: {run.error} Start a new one.")
    now = tx.wall()
    is_open = run.token == token - 1 and run.state != "done"
    if not is_open or not (may_take or run.lease_until is None or run.lease_until < now):
        raise NotReady(
            f"run {run_id} is being run by {run.worker}, whose lease ends at {run.lease_until or now:%H:%M:%S} UTC unless "
            "it is renewed. Wait for it, or cancel it."
        )
    store.interrupt(tx, run_id, ended_at=ws.now())
    values = {"state": "running", "token": token, "worker": here(), "error": None, "ended_at": None}
    store.update_run(tx, run_id, {**values, "lease_until": lease_end(now, lease_s)})


def _is_known(ws: Workspace, run_id: str) -> bool:
    with ws.read() as connection:
        return store.run_by_id(connection, run_id) is not None
