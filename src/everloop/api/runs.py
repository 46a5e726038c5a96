"""Routes of runs and of pipelines."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from everloop import jobs, loop, pipelines, tracking
from everloop.api.routes import Body, Call, Limited, Reason, Route, Time, moment
from everloop.jobs import Job
from everloop.pipelines import Comparison, PipelineRun, RunLine, RunOrder, RunState, StepRun, Why
from everloop.tracking import Artifact, LoggedModel, MetricPoint, Run, RunKind


class Listed(Limited, frozen=True):
    kind: RunKind | None = None
    experiment: str | None = None
    before: str | None = None


class Shown(msgspec.Struct, frozen=True):
    run: Run
    artifacts: list[Artifact]
    models: list[LoggedModel]
    pipeline: PipelineRun | None


class NewestRun(msgspec.Struct, frozen=True):
    name: str
    newest: RunLine


class OfPipelines(Limited, frozen=True):
    pipeline: str | None = None
    state: RunState | None = None
    since: Time | None = None
    until: Time | None = None
    order: RunOrder = "newest"
    after: str | None = None


class Steps(msgspec.Struct, frozen=True):
    plan: Any
    attempts: Any
    calls: Any
    items: Any


class Step(msgspec.Struct, frozen=True):
    why: Why
    attempts: list[StepRun]
    printed: str


class Two(Limited, frozen=True, kw_only=True):
    before: str
    after: str
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 20


class Reproduced(Reason, frozen=True):
    tolerance: float = pipelines.DEFAULT_TOLERANCE


class Nothing(Body, frozen=True):
    """No fields."""


class Forked(Reason, frozen=True, kw_only=True):
    step: str
    params: dict[str, Any] = {}


def list_runs(call: Call, asked: Listed) -> list[Run]:
    """Runs, newest first; `kind` pipeline, rerun, step or run, `before` a run's id to page on."""
    return tracking.runs(
        call.ws, experiment=asked.experiment, kind=asked.kind, before=asked.before, limit=asked.limit
    )


def show_run(call: Call) -> Shown:
    """One run with its parameters, metrics, files and logged models; for a pipeline's run also its steps."""
    found = tracking.run(call.ws, call.path["id"])
    steps = pipelines.pipeline_run(call.ws, found.id) if found.has_steps else None
    files, models = tracking.artifacts(call.ws, found.id), tracking.models_of_run(call.ws, found.id)
    return Shown(found, files, models, steps)


def metric_history(call: Call) -> list[MetricPoint]:
    """Every point of one metric."""
    return tracking.metric_history(call.ws, call.path["id"], call.path["metric"])


def list_pipelines(call: Call) -> list[NewestRun]:
    """The pipelines that ever ran, each with its newest run."""
    names = pipelines.pipeline_names(call.ws)
    return [NewestRun(name, pipelines.run_lines(call.ws, pipeline=name, limit=1)[0]) for name in names]


def list_pipeline_runs(call: Call, asked: OfPipelines) -> list[RunLine]:
    """Pipelines' runs without their steps; `pipeline`, `state`, `since`, `until`, `order`, `after`, `limit` narrow it."""
    return pipelines.run_lines(
        call.ws,
        pipeline=asked.pipeline,
        states=(asked.state,) if asked.state else (),
        since=moment(asked.since),
        until=moment(asked.until),
        order=asked.order,
        after=asked.after,
        limit=asked.limit,
    )


def show_steps(call: Call) -> Steps:
    """The plan of a pipeline's run, the attempts at its steps, and the calls of its maps counted by state."""
    seen = pipelines.run_overview(call.ws, call.path["id"])
    return Steps(seen.plan, seen.run.steps, seen.calls, seen.items)


def show_step(call: Call) -> Step:
    """One step of a run, or one call of a map (`fit[3]`): its attempts, why it ran, what it printed."""
    run_id, node = call.path["id"], call.path["node"]
    why = pipelines.why(call.ws, run_id, node)
    attempts = pipelines.attempts_at(call.ws, run_id, node)
    printed = pipelines.printed(call.ws, attempts[-1]).decode(errors="replace")
    return Step(why, attempts, printed)


def compare(call: Call, asked: Two) -> Comparison:
    """What differs between the runs or model versions `before` and `after`; `limit` rows a list."""
    return pipelines.compare(call.ws, asked.before, asked.after, limit=asked.limit)


def reproduce(call: Call, asked: Reproduced) -> Job:
    """Do a run again in the background and say whether the same came of it: {reason, tolerance?}; answers the job."""
    job = pipelines.ask_to_reproduce(call.ws, call.path["id"], reason=asked.reason, tolerance=asked.tolerance)
    return jobs.job(call.ws, job)


def cancel(call: Call, asked: Reason) -> dict[str, str]:
    """End a pipeline's run for good: {reason}."""
    reason = asked.reason.strip() or "no reason was given"
    run_id = call.path["id"]
    pipelines.cancel(call.ws, run_id, reason=f"{call.ws.actor} cancelled it: {reason}")
    return {"cancelled": run_id}


def pause(call: Call, _asked: Nothing) -> dict[str, str]:
    """Let a pipeline's run begin nothing more; what runs is finished."""
    run_id = call.path["id"]
    pipelines.pause(call.ws, run_id)
    return {"pausing": run_id}


def resume(call: Call, _asked: Nothing) -> Job:
    """Go on in the background with a run that was paused or failed; answers the job."""
    return jobs.job(call.ws, loop.ask_to_go_on(call.ws, call.path["id"]))


def fork(call: Call, asked: Forked) -> Job:
    """Run a run again in the background from one of its steps: {step, reason, params?}; answers the job."""
    job = loop.ask_to_fork(
        call.ws, call.path["id"], start=asked.step, params=asked.params, reason=asked.reason
    )
    return jobs.job(call.ws, job)


ROUTES = [
    Route("GET", "/api/runs", "see", list_runs),
    Route("GET", "/api/runs/{id}", "see", show_run),
    Route("GET", "/api/runs/{id}/metrics/{metric:path}", "see", metric_history),
    Route("GET", "/api/pipelines", "see", list_pipelines),
    Route("GET", "/api/pipeline-runs", "see", list_pipeline_runs),
    Route("GET", "/api/runs/{id}/steps", "see", show_steps),
    Route("GET", "/api/runs/{id}/steps/{node:path}", "see", show_step),
    Route("GET", "/api/comparison", "see", compare),
    Route("POST", "/api/runs/{id}/reproduce", "run", reproduce),
    Route("POST", "/api/runs/{id}/cancel", "run", cancel),
    Route("POST", "/api/runs/{id}/pause", "run", pause),
    Route("POST", "/api/runs/{id}/resume", "run", resume),
    Route("POST", "/api/runs/{id}/fork", "run", fork),
]
