"""Running a pipeline, going on with a run that a dead process left, and ending one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from everloop import tracking
from everloop.errors import Conflict, Invalid, LostLease, NotReady, StepFailed
from everloop.ids import new_id
from everloop.ledger import Node, link
from everloop.pipelines import store
from everloop.pipelines.admission import check_fits, resources_of
from everloop.pipelines.cells import text_of_cells
from everloop.pipelines.claim import (
    LEASE_S,
    OUTSIDE,
    claimed,
    here,
    is_dead,
    lease_end,
    scratch_of,
)
from everloop.pipelines.conduct import conduct
from everloop.pipelines.executors import Executor, Inline
from everloop.pipelines.graph import Graph
from everloop.pipelines.notebook import progress_here
from everloop.pipelines.parsing import OURS
from everloop.pipelines.place import Place
from everloop.pipelines.plan import Plan, Planned, forced, plan_run
from everloop.pipelines.processes import Processes
from everloop.pipelines.project import Project, file_of, in_notebook, project_of
from everloop.pipelines.reading import pipeline_run, unknown
from everloop.pipelines.records import OnProgress, Pinned, PipelineRun, StepRun
from everloop.pipelines.secrets import missing
from everloop.pipelines.seeds import DEFAULT_SEED
from everloop.pipelines.snapshot import capture
from everloop.pipelines.step_environments import settled
from everloop.pipelines.tracing import Pipeline
from everloop.settings import has_secret
from everloop.storage import Tx
from everloop.workspace import Workspace

CELLS = "code/cells.py"  # a notebook's cells, among the run's files
SEED_TAG = "everloop.seed"
REPEATED = "repeated"  # the role of a run in the lineage of what shows that it can be reproduced
FORKED = "forked"  # and of those that were begun from one of its steps


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
    force: Collection[str] = (),
    parent: str | None = None,
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
        Called in this thread as things happen; None: in a notebook a display that is written over, elsewhere nothing.
    root
        The project's folder; None: see `project_of`.
    code
        What was captured of `root` before and the pipeline was imported from; None: its modules are captured now.
    seed
        What the random numbers of its steps begin with; another than the default is part of each step's cache key.
    force
        Steps, or functions, that are run whatever the cache holds; `all` means each.
    parent
        The tracking run that this one is part of, such as a search.

    Raises
    ------
    Invalid
        The parameters or the pipeline's body are wrong, or a secret is not there; nothing was recorded.
    NotFound
        `force` names no step of the pipeline; nothing was recorded.
    StepFailed
        A step failed for good. The run is kept as failed; what was finished stays, for `resume` and for the cache.
    Conflict
        The code in memory is not the code in the files.
    NotReady
        Another process runs this `run_id`, or it was paused.
    LostLease
        Another process took the run over, or it was cancelled.
    """
    if run_id is not None and is_known(ws, run_id):
        return resume(ws, run_id, executor=executor, on_progress=on_progress, lease_s=lease_s)
    on_progress = on_progress or progress_here()
    begun = _prepared(ws, pipeline, params or {}, root=root, code=code, seed=seed)
    begun = replace(begun, plan=forced(begun.plan, force))
    executor = executor or _default_executor(ws, can_be_imported=begun.code is not None)
    check_fits(begun.plan.steps, executor)
    run_id = run_id or new_id("run")
    with claimed(scratch_of(ws, run_id, token=1)) as is_ours:
        if not is_ours or not ws.write(
            lambda tx: _begin(ws, tx, run_id, begun, reason=reason, lease_s=lease_s, parent=parent),
            power_safe=False,
        ):
            raise NotReady(f"run {run_id} is being begun by another process. Wait for it.")
        if begun.cells is not None:
            tracking.log_artifact(ws, run_id, CELLS, begun.cells)
        return conduct(
            ws,
            _under(ws, run_id, token=1),
            executor,
            graph=begun.graph,
            on_progress=on_progress,
            lease_s=lease_s,
        )


def begin_run(
    ws: Workspace,
    pipeline: Pipeline[..., Any],
    *,
    key: str,
    params: Mapping[str, Any] | None = None,
    reason: str,
    root: Path | None = None,
    seed: int = DEFAULT_SEED,
) -> PipelineRun:
    """Begin a run that an engine outside of everloop conducts, step by step with `run_step`; nothing is run yet.

    Parameters
    ----------
    key
        The engine's own name for its run. A run that was begun under it before is returned: to begin is to find.

    Raises
    ------
    Invalid
        As `run_pipeline`; also when no other process can import the pipeline.
    Conflict
        Another pipeline was begun under this key, or this one with other parameters.
    """
    with ws.read() as connection:
        known = store.run_under(connection, key)
    run = pipeline_run(
        ws, known or _enter(ws, pipeline, params or {}, key=key, reason=reason, root=root, seed=seed)
    )
    if (run.pipeline, run.params) != (pipeline.name, dict(params or {})):
        raise Conflict(
            f"run {run.id} of {run.pipeline} with {run.params} was begun under the key {key!r} before. Each run has a key of "
            "its own."
        )
    return run


def _enter(
    ws: Workspace,
    pipeline: Pipeline[..., Any],
    params: Mapping[str, Any],
    *,
    key: str,
    reason: str,
    root: Path | None,
    seed: int,
) -> str:
    """Write a run's beginning, unless somebody else did just now under this key; its id."""
    begun = _prepared(ws, pipeline, params, root=root, code=None, seed=seed)
    if begun.code is None:
        raise Invalid(
            f"{begun.plan.entry} cannot be imported by another process: it is not at the top level of a file. Write it in a "
            "file to have it conducted from outside."
        )
    new = new_id("run")

    def change(tx: Tx) -> str:
        tx.lock("outside_run")
        known = store.run_under(tx.connection, key)
        if known is None:
            _begin(ws, tx, new, begun, reason=reason, lease_s=0.0, worker=OUTSIDE)
            store.keep_key(tx, key, new)
        return known or new

    return ws.write(change)


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
    paused: bool = False,
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
    paused
        Also go on with a run that somebody paused.

    Raises
    ------
    NotFound
    NotReady
        Its runner is alive, or on another machine and its lease has not ended; or it is paused.
    Conflict
        The run was cancelled.
    StepFailed, LostLease
        As `run_pipeline`.
    """
    known = pipeline_run(ws, run_id)
    if known.state == "done":
        return known
    executor = executor or _default_executor(ws, can_be_imported=known.code is not None)
    check_fits(Plan.from_json(known.plan).steps, executor)
    token = known.token + 1
    was_killed = is_dead(known.worker, scratch_of(ws, run_id, token=known.token))
    with claimed(scratch_of(ws, run_id, token=token)) as is_ours:
        if not is_ours:
            raise NotReady(f"run {run_id} is being taken over by another process. Wait for it.")
        may_take = take_over or was_killed
        ws.write(
            lambda tx: _take(ws, tx, run_id, token=token, may_take=may_take, paused=paused, lease_s=lease_s)
        )
        tracking.resume_run(ws, run_id)
        return conduct(
            ws,
            _under(ws, run_id, token=token),
            executor,
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
                _under(ws, run_id, token=1),
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


def run_from(
    ws: Workspace,
    original: PipelineRun,
    plan: Plan,
    kept: Sequence[StepRun],
    *,
    reason: str,
    run_id: str | None,
    executor: Executor | None,
    on_progress: OnProgress | None,
) -> PipelineRun:
    """Run a plan with the code and the pinned inputs of an earlier run, of which the attempts `kept` are taken over."""
    code = None if original.code is None else tracking.code(ws, original.code)
    if code is None:
        raise Invalid(
            f"{original.entry} is not in a file, so it cannot be run from its code again. Run the pipeline."
        )
    begun = _Prepared(
        plan, None, {}, original.pins, code, tracking.capture_environment(ws), tracking.machine()
    )
    executor = executor or _default_executor(ws, can_be_imported=True)
    check_fits(plan.steps, executor)
    run_id = run_id or new_id("run")

    def begin(tx: Tx) -> None:
        _begin(ws, tx, run_id, begun, reason=reason, lease_s=LEASE_S)
        link(tx, Node("run", original.id), Node("run", run_id), role=FORKED, at=ws.now())
        rows = [{**vars(one), "id": new_id("step"), "run": run_id, "attempt": 1, "token": 1} for one in kept]
        for row in rows:
            ended = {"log": None, "tracking_run": None, "error": None, "seconds": 0.0, "touched": None}
            state = "skipped" if row["state"] == "skipped" else "cached"
            at = {"started_at": ws.now(), "ended_at": ws.now()}
            row.update(**ended, **at, state=state, output=store.stored_json(row["output"]))
        store.insert_step_runs(tx, rows)

    with claimed(scratch_of(ws, run_id, token=1)):
        ws.write(begin, power_safe=False)
        return conduct(
            ws,
            pipeline_run(ws, run_id),
            executor,
            graph=None,
            on_progress=on_progress,
            lease_s=LEASE_S,
        )


def pause(ws: Workspace, run_id: str) -> None:
    """Let a run begin no further step. Its runner notices within two seconds; what runs is finished first.

    Raises
    ------
    NotFound
    Conflict
        The run is not running.
    """

    def change(tx: Tx) -> None:
        run = store.locked_run(tx, run_id)
        if run is None:
            raise unknown(run_id)
        if run.state != "running":
            raise Conflict(f"run {run_id} is {run.state}; only a running one can be paused.")
        is_left = run.lease_until is None or run.lease_until < tx.wall()
        store.update_run(tx, run_id, {"state": "paused" if is_left else "pausing"})

    ws.write(change)


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
        if run.state not in (*store.UNDER_WAY, "paused"):
            raise Conflict(f"run {run_id} is {run.state}; only one that has not ended can be cancelled.")
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
    cells: bytes | None = None


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
    for name in {name for one in planned.plan.steps for name in one.secrets}:
        if not has_secret(ws.settings, name):
            raise missing(ws.settings, name)
    if project is not None:
        code = capture(ws, project, planned.plan.entry.partition(":")[0], known=code)
    pins = {name: source.pin(ws) for name, source in planned.graph.sources.items()}
    return _Prepared(
        settled(ws, planned.plan, Path(planned.plan.root)),
        planned.graph,
        planned.sources,
        pins,
        code,
        tracking.capture_environment(ws),
        tracking.machine(),
        _cells(pipeline, planned.graph),
    )


def _cells(pipeline: Pipeline[..., Any], graph: Graph) -> bytes | None:
    """The text of a notebook's cells that a pipeline comes from; None: it comes from a file."""
    if pipeline.function.__module__ != "__main__" or not in_notebook():
        return None
    return text_of_cells([pipeline.function, *(node.step.function for node in graph.nodes)]).encode()


def _project(pipeline: Pipeline[..., Any], root: Path | None) -> Project | None:
    """The project of a pipeline that another process can import; None for one in a notebook or inside a function.

    A pipeline that everloop brings along belongs to none either: it is run with the code that it is given.
    """
    file = file_of(pipeline.function)
    is_ours = pipeline.function.__module__.partition(".")[0] == OURS
    if file is None or is_ours or "<locals>" in pipeline.function.__qualname__:
        return None
    return project_of(pipeline.function.__module__, file, root=root)


def _default_executor(ws: Workspace, *, can_be_imported: bool) -> Executor:
    return Processes(resources=resources_of(ws.settings.resources)) if can_be_imported else Inline()


def _begin(
    ws: Workspace,
    tx: Tx,
    run_id: str,
    begun: _Prepared,
    *,
    reason: str,
    lease_s: float,
    worker: str | None = None,
    parent: str | None = None,
) -> bool:
    """Write a run down; False when another process was quicker with the same id."""
    plan = begun.plan
    tx.lock(run_id)
    if store.has_run(tx.connection, run_id):
        return False
    tracking.start_run_in(
        ws,
        tx,
        experiment=plan.pipeline,
        kind="pipeline" if plan.repeats is None else "rerun",
        parent=parent,
        code=begun.code,
        environment=begun.environment,
        params=plan.params,
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
        "worker": worker or here(),
        "lease_until": lease_end(tx.wall(), lease_s),
        "started_at": ws.now(),
    }
    store.insert_run(tx, values)
    for name, pinned in begun.pins.items():
        link(tx, Node(pinned.kind, pinned.ref), Node("run", run_id), role=name[:60], at=ws.now())
    if plan.repeats is not None:
        link(tx, Node("run", plan.repeats), Node("run", run_id), role=REPEATED, at=ws.now())
    return True


def _seed_tag(plan: Plan) -> dict[str, str]:
    return {} if plan.seed is None else {SEED_TAG: str(plan.seed)}


def _take(
    ws: Workspace, tx: Tx, run_id: str, *, token: int, may_take: bool, paused: bool, lease_s: float
) -> None:
    """Make a run this process's, under the next token.

    `may_take` says that its runner is dead, or that it does not matter whether it is.
    """
    run = store.locked_run(tx, run_id)
    if run is None:
        raise unknown(run_id)
    if run.state == "cancelled":
        raise Conflict(f"run {run_id} was cancelled: {run.error} Start a new one.")
    if run.state in ("pausing", "paused") and not paused:
        raise NotReady(f"run {run_id} is {run.state}. Go on with it: everloop runs resume {run_id}")
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


def _under(ws: Workspace, run_id: str, *, token: int) -> PipelineRun:
    """A run under the token that this process took; whoever took it over since has a higher one, which is not ours."""
    return replace(pipeline_run(ws, run_id), token=token)


def is_known(ws: Workspace, run_id: str) -> bool:
    """Whether there is a run of this id."""
    with ws.read() as connection:
        return store.has_run(connection, run_id)
