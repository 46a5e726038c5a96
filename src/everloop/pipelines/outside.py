"""A run that an engine outside of everloop conducts: each of its tasks is one process that does one step and ends.

The engine decides when a step is begun and how often it is tried; all else is as in a run of our own: the same journal,
cache, snapshot of the code and lineage. Several processes work on one run at once, each under a share: a lease on one
step (or one call of a map) whose holder is checked in each transaction, as the run's token is. So a process that was
taken for dead commits nothing, and a runner of ours that takes the run over puts all shares out of force.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from everloop import tracking
from everloop.errors import Conflict, Invalid, LostLease, NotFound, NotReady, StepFailed
from everloop.ids import new_id
from everloop.pipelines import store
from everloop.pipelines.claim import (
    LEASE_S,
    OUTSIDE,
    beating,
    claimed,
    here,
    is_dead,
    lease_end,
    scratch_of,
)
from everloop.pipelines.conduct import write_end
from everloop.pipelines.executors import Executor, Inline, Work
from everloop.pipelines.journal import Journal
from everloop.pipelines.plan import Plan, PlannedStep
from everloop.pipelines.processes import Processes
from everloop.pipelines.reading import pipeline_run, unknown
from everloop.pipelines.records import OnProgress, PipelineRun, Share, StepRun
from everloop.pipelines.results import Results
from everloop.pipelines.runner import Part, Runner
from everloop.pipelines.snapshot import check_out
from everloop.storage import Tx
from everloop.workspace import Workspace

_SETTLED = ("done", "cached", "skipped")


def run_step(
    ws: Workspace,
    run: str,
    step: str,
    *,
    item: int | None = None,
    executor: Executor | None = None,
    on_progress: OnProgress | None = None,
    lease_s: float = LEASE_S,
) -> StepRun:
    """Make one attempt at a step of a run, unless it is settled already; what is settled is returned as it is.

    Parameters
    ----------
    run
        The run's id, or the key that it was begun under.
    item
        The number of one call of a map whose items were listed (`step_items`). Without it a map makes the calls that are
        missing and gathers their results.
    executor
        None: the step in a process of its own.

    Raises
    ------
    NotFound
        There is no such run or step.
    Invalid
        There is no such item.
    NotReady
        What it waits for is not settled, somebody else works on it, or it failed and may be tried again.
    Conflict
        The run was cancelled.
    StepFailed
        It failed, and no retry of its own is left. Called again it is tried again.
    """
    found = _found(ws, run, step)
    name = step if item is None else f"{step}[{item}]"
    _check_item(ws, found, step, item)
    if (known := _settled(found.run, step, name)) is not None:
        return known
    default = Processes(None if found.step.over is not None and item is None else 1)
    part = Part(step, None if item is None else frozenset([item]))
    return _attempt(ws, found, name, part, executor or default, on_progress=on_progress, lease_s=lease_s)


def step_items(ws: Workspace, run: str, step: str, *, lease_s: float = LEASE_S) -> Sequence[int]:
    """Begin a map and list its items, so that an outside engine calls each by itself; none where there is nothing to do.

    Raises as `run_step`; Invalid also when the step is no map.
    """
    found = _found(ws, run, step)
    if found.step.over is None:
        raise Invalid(f"step {step} of {found.plan.pipeline} is no map and has no items. Run it as a whole.")
    known = _settled(found.run, step, step)
    if known is None and not _is_open(found.run, step):
        known = _attempt(
            ws, found, step, Part(step, frozenset()), Inline(), on_progress=None, lease_s=lease_s
        )
    return () if known is not None and known.state in _SETTLED else range(_count(ws, _again(ws, found)))


def end_run(ws: Workspace, run: str, *, lease_s: float = LEASE_S) -> PipelineRun:
    """Write the end of a run that was conducted from outside; one that has ended is returned as it is.

    Raises
    ------
    NotReady
        Somebody works on a step of it.
    StepFailed
        A step failed, or was never run: the run ends as failed. The step can be run after that, and the run ended again.
    """
    known = pipeline_run(ws, run_of(ws, run))
    if known.state == "done":
        return known
    if known.state == "failed":  # and nothing was run since: that would have made it go on
        raise StepFailed(f"run {known.id} of pipeline {known.pipeline}: {known.error}", run_id=known.id)
    plan = Plan.from_json(known.plan)
    with _sharing(ws, known.id, plan, "", lease_s=lease_s) as (held, share, scratch):
        journal = Journal(ws, held.id, held.token, share)
        runner = _runner(ws, held, plan, journal, scratch, Inline(), Part(), on_progress=None)
        runner.run()
        runner.check_complete()
        write_end(ws, journal, plan, runner)
    if runner.error is not None:
        raise StepFailed(f"run {held.id} of pipeline {plan.pipeline}: {runner.error}", run_id=held.id)
    return pipeline_run(ws, held.id)


def run_of(ws: Workspace, run: str) -> str:
    """The id of a run that is named by it, or by the key that it was begun under. Raises NotFound."""
    with ws.read() as connection:
        if store.run_by_id(connection, run) is not None:
            return run
        found = store.run_under(connection, run)
    if found is None:
        raise NotFound(
            f"there is no run {run!r}, and none was begun under this key. Begin one: everloop step begin PIPELINE --key KEY"
        )
    return found


@dataclass(frozen=True)
class _Found:
    """A run, its plan and the step of it that is asked for."""

    run: PipelineRun
    plan: Plan
    step: PlannedStep


def _found(ws: Workspace, run: str, step: str) -> _Found:
    known = pipeline_run(ws, run_of(ws, run))
    plan = Plan.from_json(known.plan)
    if step not in plan.by_name:
        raise NotFound(f"run {known.id} has no step {step!r}; it has {', '.join(plan.by_name)}.")
    return _Found(known, plan, plan.by_name[step])


def _again(ws: Workspace, found: _Found) -> _Found:
    return _Found(pipeline_run(ws, found.run.id), found.plan, found.step)


def _settled(run: PipelineRun, *names: str) -> StepRun | None:
    """The attempt that settled a step, or the map that an item is of."""
    attempts = [one for one in run.steps if one.node in names]
    given_up = (one for one in attempts if one.state == "failed" and one.output is not None)
    return next((one for one in attempts if one.state in _SETTLED), next(given_up, None))


def _is_open(run: PipelineRun, step: str) -> bool:
    return any(one.node == step and one.state == "running" for one in run.steps)


def _count(ws: Workspace, found: _Found) -> int:
    """How many items a map goes over, once what makes them has ended."""
    each = found.step.bindings[found.step.over or ""]["each"]
    if "node" not in each:
        return len(each["list"])
    made = _settled(found.run, each["node"])
    if made is None or made.output is None:
        raise NotReady(
            f"step {found.step.name} goes over what {each['node']} makes, which is not made yet. Run that first."
        )
    return len(Results(ws.blobs, ws.home).items(made.output))


def _check_item(ws: Workspace, found: _Found, step: str, item: int | None) -> None:
    if item is None or _settled(found.run, step) is not None:
        return
    if found.step.over is None:
        raise Invalid(f"step {step} of {found.plan.pipeline} is no map and has no items. Leave out the item.")
    if not _is_open(found.run, step):
        raise NotReady(
            f"the items of step {step} were not listed yet. List them first: everloop step items --run {found.run.id} "
            f"--step {step}"
        )
    if not 0 <= item < (count := _count(ws, found)):
        raise Invalid(f"step {step} has {count} items, 0 to {count - 1}, and was asked for item {item}.")


def _attempt(
    ws: Workspace,
    found: _Found,
    name: str,
    part: Part,
    executor: Executor,
    *,
    on_progress: OnProgress | None,
    lease_s: float,
) -> StepRun:
    """One attempt under a share of its own; gives the journal's last line on it."""
    run_id = found.run.id
    with _sharing(ws, run_id, found.plan, name, lease_s=lease_s) as (held, share, scratch):
        if (known := _settled(held, part.step, name)) is not None:
            return known  # somebody did it just now
        journal = Journal(ws, run_id, held.token, share)
        runner = _runner(ws, held, found.plan, journal, scratch, executor, part, on_progress=on_progress)
        if not runner.can_begin:
            raise NotReady(_not_ready(found, held))
        with beating(
            lambda: journal.renew(lambda now: lease_end(now, lease_s)) is not None,
            runner.lose,
            lease_s=lease_s,
        ):
            try:
                runner.run()
            finally:
                executor.close()
    last = next((one for one in reversed(pipeline_run(ws, run_id).steps) if one.node == name), None)
    if last is None:
        raise NotReady(_not_ready(found, held))
    if runner.error is not None and last.state != "ran_anyway":
        raise StepFailed(f"run {run_id} of pipeline {found.plan.pipeline}: {runner.error}", run_id=run_id)
    if runner.is_retried:
        raise NotReady(f"{name} failed and may be tried again: {last.error}")
    return last


def _not_ready(found: _Found, held: PipelineRun) -> str:
    left = [node for node in found.step.waits_for if _settled(held, node) is None]
    return (
        f"step {found.step.name} of run {held.id} waits for {', '.join(left)}, which {'is' if len(left) == 1 else 'are'} not "
        "settled. Run what it waits for first."
    )


def _runner(
    ws: Workspace,
    run: PipelineRun,
    plan: Plan,
    journal: Journal,
    scratch: Path,
    executor: Executor,
    part: Part,
    *,
    on_progress: OnProgress | None,
) -> Runner:
    code = None if run.code is None else check_out(ws, run.code)
    return Runner(
        journal,
        Work(ws, plan, None, code, scratch),
        executor,
        environment=tracking.capture_environment(ws).digest,
        pins=run.pins,
        attempts=run.steps,
        on_progress=on_progress,
        part=part,
    )


@contextmanager
def _sharing(
    ws: Workspace, run_id: str, plan: Plan, node: str, *, lease_s: float
) -> Iterator[tuple[PipelineRun, Share, Path]]:
    """Hold a share on a step of a run while others hold others: the run as it is then, the share, and a folder.

    Raises NotReady when it turns out that somebody else has taken the step over.
    """
    holder = new_id("share")
    folder = _folder_of(ws, run_id, holder)
    with claimed(folder):
        dead = _dead_holders(ws, run_id)
        known = pipeline_run(ws, run_id)
        was_killed = is_dead(known.worker, scratch_of(ws, run_id, token=known.token))
        maps = [step.name for step in plan.steps if step.over is not None]

        def join(tx: Tx) -> tuple[Share, bool]:
            is_taken = _take(ws, tx, run_id, dead_token=known.token if was_killed else None)
            _clear(ws, tx, run_id, node, dead=dead, maps=maps)
            share = Share(run_id, node, holder, here(), lease_end(tx.wall(), lease_s))
            store.keep_share(tx, share)
            store.update_run(tx, run_id, {"lease_until": share.lease_until})
            return share, is_taken

        share, is_reopened = ws.write(join, power_safe=False)
        try:
            if is_reopened:
                tracking.resume_run(ws, run_id)
            yield pipeline_run(ws, run_id), share, folder
        except LostLease as error:
            raise NotReady(f"{error} Ask again to see how it stands.") from error
        finally:
            Journal(ws, run_id, 0, share).release()


def _folder_of(ws: Workspace, run_id: str, holder: str) -> Path:
    return ws.home.absolute() / "runs" / run_id / holder


def _dead_holders(ws: Workspace, run_id: str) -> list[str]:
    """Holders on this machine whose process is gone: nobody has to wait for the end of their leases."""
    with ws.read() as connection:
        shares = store.shares_of(connection, run_id)
    return [one.holder for one in shares if is_dead(one.worker, _folder_of(ws, run_id, one.holder))]


def _take(ws: Workspace, tx: Tx, run_id: str, *, dead_token: int | None) -> bool:
    """See that a run is conducted from outside: one that failed, or that a runner of ours left, is from now on.

    `dead_token` is that of a runner of which it is known that it is dead. Returns whether it was not before.
    """
    run = store.locked_run(tx, run_id)
    if run is None:
        raise unknown(run_id)
    if run.state == "cancelled":
        raise Conflict(f"run {run_id} was cancelled: {run.error} Begin a new one.")
    if run.state not in ("running", "failed"):
        raise NotReady(f"run {run_id} is {run.state}. Nothing of it can be run now.")
    if run.worker == OUTSIDE and run.state == "running":
        return False
    is_left = run.token == dead_token or run.lease_until is None or run.lease_until < tx.wall()
    if not is_left:
        raise NotReady(f"run {run_id} is being run by {run.worker}. Wait for it, or cancel it.")
    store.interrupt(tx, run_id, ended_at=ws.now())
    taken = {"state": "running", "token": run.token + 1, "worker": OUTSIDE, "error": None, "ended_at": None}
    store.update_run(tx, run_id, taken)
    return True


def _clear(
    ws: Workspace, tx: Tx, run_id: str, node: str, *, dead: Sequence[str], maps: Sequence[str]
) -> None:
    """End what dead processes left of a step, or refuse where one is alive that works on it or on a part of it."""
    now = tx.wall()
    meant = [one for one in store.shares_of(tx.connection, run_id) if _overlap(one.node, node)]
    alive = next((one for one in meant if one.holder not in dead and one.lease_until >= now), None)
    if alive is not None:
        raise NotReady(
            f"{alive.node or 'the end'} of run {run_id} is being worked on by {alive.worker}, whose lease ends at "
            f"{alive.lease_until:%H:%M:%S} UTC unless it is renewed. Wait for it."
        )
    store.drop_shares(tx, run_id, [one.holder for one in meant])
    # an attempt that is open was cut off; a map's own stays so, for others make its calls one by one
    left = [one for one in store.open_nodes(tx.connection, run_id) if _overlap(one, node) and one not in maps]
    store.interrupt(tx, run_id, ended_at=ws.now(), nodes=left)


def _overlap(one: str, other: str) -> bool:
    """Whether two names of steps, items or all of a run ("") mean something in common."""
    return "" in (one, other) or one == other or one.startswith(f"{other}[") or other.startswith(f"{one}[")
