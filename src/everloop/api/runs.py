"""Routes of runs."""

from __future__ import annotations

from typing import Any

from everloop import pipelines, tracking
from everloop.api.routes import Call, Route


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
    """One run with its parameters, metrics and files; for a pipeline's run also its steps."""
    found = tracking.run(call.ws, call.path["id"])
    steps = pipelines.pipeline_run(call.ws, found.id) if found.has_steps else None
    return {"run": found, "artifacts": tracking.artifacts(call.ws, found.id), "pipeline": steps}


def metric_history(call: Call) -> Any:
    """Every point of one metric."""
    return tracking.metric_history(call.ws, call.path["id"], call.path["metric"])


ROUTES = [
    Route("GET", "/api/runs", "see", list_runs),
    Route("GET", "/api/runs/{id}", "see", show_run),
    Route("GET", "/api/runs/{id}/metrics/{metric:path}", "see", metric_history),
]
