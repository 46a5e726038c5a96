"""Going on with a run, or running one again from a step, to a gated version; now, or in the background for the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everloop import jobs, pipelines
from everloop.errors import Invalid
from everloop.jobs import Lease
from everloop.loop.applying import loaded, newest
from everloop.loop.training import Trained, judged
from everloop.pipelines import OnProgress, PipelineRun
from everloop.workspace import Workspace

GO_ON = "resume_run"
FORK = "fork_run"


def go_on(
    ws: Workspace, run_id: str, *, executor: str | None = None, on_progress: OnProgress | None = None
) -> Trained:
    """Go on with a run that was paused, failed or lost its process; then as `train`. Raises as `pipelines.resume`.

    Without an `executor` each step has a process of its own on this machine.
    """
    place = None if executor is None else pipelines.executor_named(ws.settings, executor)
    run = pipelines.resume(ws, run_id, paused=True, executor=place, on_progress=on_progress)
    return _delivered(ws, run)


def fork(
    ws: Workspace,
    run_id: str,
    *,
    start: str,
    params: Mapping[str, Any] | None = None,
    reason: str,
    new_id: str | None = None,
    on_progress: OnProgress | None = None,
) -> Trained:
    """Run a run again from one of its steps; then as `train`. Raises as `pipelines.fork`."""
    run = pipelines.fork(
        ws, run_id, start=start, params=params, reason=reason, new_id=new_id, on_progress=on_progress
    )
    return _delivered(ws, run)


def ask_to_go_on(ws: Workspace, run_id: str) -> str:
    """Put the job that goes on with a run, and return its id. Raises NotFound."""
    run = pipelines.pipeline_run(ws, run_id)
    payload = {"run": run.id, "by": ws.actor}
    return ws.write(lambda tx: jobs.put(ws, tx, GO_ON, payload, reason=f"to go on with {run.id}"))


def ask_to_fork(ws: Workspace, run_id: str, *, start: str, params: Mapping[str, Any], reason: str) -> str:
    """Put the job that runs a run again from a step, and return its id; what is wrong with it the job will say.

    Raises
    ------
    NotFound
        There is no such run.
    Invalid
        The reason is empty.
    """
    run = pipelines.pipeline_run(ws, run_id)
    if not reason.strip():
        raise Invalid("the reason is empty; whoever reads the run later needs one. Say why it is run again.")
    payload = {"run": run.id, "start": start, "params": dict(params), "by": ws.actor}
    return ws.write(lambda tx: jobs.put(ws, tx, FORK, payload, reason=reason.strip()))


def go_on_job(ws: Workspace, lease: Lease) -> dict[str, Any]:
    """The job behind `ask_to_go_on`, done as whoever asked."""
    asked = lease.job.payload
    return _told(go_on(ws.acting_as(str(asked["by"])), str(asked["run"])))


def fork_job(ws: Workspace, lease: Lease) -> dict[str, Any]:
    """The job behind `ask_to_fork`, done as whoever asked; repeated after a kill it goes on with the run it had begun."""
    asked = lease.job.payload
    ended = fork(
        ws.acting_as(str(asked["by"])),
        str(asked["run"]),
        start=str(asked["start"]),
        params=dict(asked["params"]),
        reason=lease.job.reason,
        new_id=lease.job.id.replace("job_", "run_"),
    )
    return _told(ended)


def _told(ended: Trained) -> dict[str, Any]:
    return {"run": ended.run, "version": ended.version, "passed": ended.passed}


def _delivered(ws: Workspace, run: PipelineRun) -> Trained:
    """What follows on a run's end when its pipeline is one of the applied loop's."""
    applied = newest(ws)
    loop = None if applied is None else loaded(ws)
    if loop is None or run.pipeline not in loop.pipelines:
        return Trained(run.id)
    return judged(ws, loop, run)
