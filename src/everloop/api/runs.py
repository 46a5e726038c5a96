"""Routes of runs and of pipelines."""

from __future__ import annotations

from typing import Any, get_args

from everloop import jobs, loop, pipelines, tracking
from everloop.api.routes import Call, Route
from everloop.clock import parse_time
from everloop.errors import Invalid


def list_runs(call: Call) -> Any:
    """Runs, newest first; `kind` pipeline, rerun, step or run, `before` a run's id to page on."""
    kind = call.query.get("kind")
    return tracking.runs(
        call.ws,
        experiment=call.query.get("experiment"),
        kind=kind,  # type: ignore[arg-type]  # an unknown kind matches no run
        before=call.query.get("before"),
        limit=call.limit(),
    )


def show_run(call: Call) -> Any:
    """One run with its parameters, metrics, files and logged models; for a pipeline's run also its steps."""
    found = tracking.run(call.ws, call.path["id"])
    steps = pipelines.pipeline_run(call.ws, found.id) if found.has_steps else None
    files, models = tracking.artifacts(call.ws, found.id), tracking.models_of_run(call.ws, found.id)
    return {"run": found, "artifacts": files, "models": models, "pipeline": steps}


def metric_history(call: Call) -> Any:
    """Every point of one metric."""
    return tracking.metric_history(call.ws, call.path["id"], call.path["metric"])


def list_pipelines(call: Call) -> Any:
    """The pipelines that ever ran, each with its newest run."""
    names = pipelines.pipeline_names(call.ws)
    newest = {name: pipelines.run_lines(call.ws, pipeline=name, limit=1)[0] for name in names}
    return [{"name": name, "newest": one} for name, one in newest.items()]


def list_pipeline_runs(call: Call) -> Any:
    """Pipelines' runs without their steps; `pipeline`, `state`, `since`, `until`, `order`, `after`, `limit` narrow it."""
    state, order = call.query.get("state"), call.query.get("order", "newest")
    if order not in get_args(pipelines.RunOrder):
        raise Invalid(f"order is {order!r}; it is one of {', '.join(get_args(pipelines.RunOrder))}.")
    since, until = (call.query.get(name) for name in ("since", "until"))
    return pipelines.run_lines(
        call.ws,
        pipeline=call.query.get("pipeline"),
        states=(state,) if state else (),  # type: ignore[arg-type]  # an unknown state matches no run
        since=parse_time(since) if since else None,
        until=parse_time(until) if until else None,
        order=order,  # type: ignore[arg-type]  # checked above
        after=call.query.get("after"),
        limit=call.limit(),
    )


def show_steps(call: Call) -> Any:
    """The plan of a pipeline's run, the attempts at its steps, and the calls of its maps counted by state."""
    seen = pipelines.run_overview(call.ws, call.path["id"])
    return {"plan": seen.plan, "attempts": seen.run.steps, "calls": seen.calls, "items": seen.items}


def show_step(call: Call) -> Any:
    """One step of a run, or one call of a map (`fit[3]`): its attempts, why it ran, what it printed."""
    run_id, node = call.path["id"], call.path["node"]
    why = pipelines.why(call.ws, run_id, node)
    attempts = pipelines.attempts_at(call.ws, run_id, node)
    printed = pipelines.printed(call.ws, attempts[-1]).decode(errors="replace")
    return {"why": why, "attempts": attempts, "printed": printed}


def compare(call: Call) -> Any:
    """What differs between the runs or model versions `before` and `after`; `limit` rows a list."""
    before, after = (call.query.get(name) for name in ("before", "after"))
    if not before or not after:
        raise Invalid(
            "two runs are compared, and the query does not name both. Give ?before=RUN&after=RUN, each a run or a "
            "model version such as category@2."
        )
    return pipelines.compare(call.ws, before, after, limit=call.limit(default=20))


def reproduce(call: Call) -> Any:
    """Do a run again in the background and say whether the same came of it: {reason, tolerance?}; answers the job."""
    given = call.fields("reason", optional=("tolerance",))
    tolerance = given.get("tolerance", pipelines.DEFAULT_TOLERANCE)
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float):
        raise Invalid(f"the tolerance is {tolerance!r}; it is a number from 0 on. Give one, such as 0.001.")
    job = pipelines.ask_to_reproduce(
        call.ws, call.path["id"], reason=str(given["reason"]), tolerance=float(tolerance)
    )
    return jobs.job(call.ws, job)


def cancel(call: Call) -> Any:
    """End a pipeline's run for good: {reason}."""
    reason = str(call.fields("reason")["reason"]).strip() or "no reason was given"
    run_id = call.path["id"]
    pipelines.cancel(call.ws, run_id, reason=f"{call.ws.actor} cancelled it: {reason}")
    return {"cancelled": run_id}


def pause(call: Call) -> Any:
    """Let a pipeline's run begin nothing more; what runs is finished."""
    call.fields()
    run_id = call.path["id"]
    pipelines.pause(call.ws, run_id)
    return {"pausing": run_id}


def resume(call: Call) -> Any:
    """Go on in the background with a run that was paused or failed; answers the job."""
    call.fields()
    return jobs.job(call.ws, loop.ask_to_go_on(call.ws, call.path["id"]))


def fork(call: Call) -> Any:
    """Run a run again in the background from one of its steps: {step, reason, params?}; answers the job."""
    given = call.fields("step", "reason", optional=("params",))
    params = given.get("params", {})
    if not isinstance(params, dict):
        raise Invalid(f"params are {params!r}; they are an object of names and values. Give one, or none.")
    job = loop.ask_to_fork(
        call.ws, call.path["id"], start=str(given["step"]), params=params, reason=str(given["reason"])
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
