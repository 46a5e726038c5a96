"""The table of pages, and how one is answered: authorise, read, draw; as HTML or, at the same address, as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from everloop.access import Permission, Principal
from everloop.api import error_answer, guarded, recognise, status_of
from everloop.errors import EverloopError, NotFound, NotRecognised
from everloop.web import (
    audit_page,
    calendar_page,
    compare_page,
    endpoint_page,
    experiments_page,
    gate_page,
    lists,
    loop_page,
    models_page,
    pipelines_page,
    plan_page,
    predictions_page,
    review_page,
    rollout_page,
    row_page,
    run_page,
    search,
    searches_page,
    split_page,
    trace_page,
    tracked_page,
    triggers_page,
    try_page,
    version_page,
)
from everloop.web.rendering import headers, page_answer
from everloop.web.sign_in import show_sign_in, sign_in, sign_out
from everloop.web.static_files import static_route
from everloop.web.visits import Moved, Rows, View, Visit
from everloop.workspace import Workspace

_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True)
class Page:
    """A page: who may see it, what it reads, what draws it. `plots`: it loads plotly.js. `rows`: what `?as=csv` gives."""

    path: str
    permission: Permission
    view: View
    template: str
    plots: bool = False
    rows: Rows | None = None


_PAGES = (
    Page("/", "see", loop_page.view, "loop.html"),
    Page("/endpoints", "see", lists.view_endpoints, "endpoints.html"),
    Page("/endpoints/{name}", "see", endpoint_page.view, "endpoint.html", plots=True),
    Page(
        "/endpoints/{name}/predictions",
        "see",
        predictions_page.view,
        "predictions.html",
        rows=predictions_page.rows_of,
    ),
    Page("/endpoints/{name}/plan", "see", plan_page.view, "plan.html"),
    Page("/endpoints/{name}/split", "see", split_page.view, "split.html"),
    Page("/endpoints/{name}/try", "see", try_page.view, "try.html"),
    Page("/predictions", "see", predictions_page.view, "predictions.html", rows=predictions_page.rows_of),
    Page("/rollouts/{id}", "see", rollout_page.view, "rollout.html"),
    Page("/trace", "see", trace_page.view_search, "trace_search.html"),
    Page("/trace/{id}", "see", trace_page.view, "trace.html"),
    Page("/rows/{ref:path}", "see", row_page.view, "row.html"),
    Page("/experiments", "see", experiments_page.view, "experiments.html"),
    Page(
        "/experiments/{id}",
        "see",
        experiments_page.view_one,
        "experiment.html",
        rows=experiments_page.rows_of,
    ),
    Page("/runs/{id}", "see", tracked_page.view, "tracked.html", plots=True),
    Page("/models", "see", models_page.view, "models.html"),
    Page("/models/{model}", "see", models_page.view_one, "model.html"),
    Page("/models/{model}/{number}", "see", version_page.view, "version.html"),
    Page("/pipelines", "see", pipelines_page.view, "pipelines.html"),
    Page("/pipelines/runs", "see", pipelines_page.view_runs, "pipeline_runs.html"),
    Page("/pipelines/{name}", "see", pipelines_page.view_one, "pipeline_runs.html"),
    Page("/pipelines/runs/{id}", "see", run_page.view, "run.html"),
    Page("/compare", "see", compare_page.view, "compare.html", plots=True),
    Page("/searches", "see", searches_page.view, "searches.html"),
    Page("/searches/{id}", "see", searches_page.view_one, "searched.html"),
    Page("/triggers", "see", triggers_page.view, "triggers.html"),
    Page("/calendar", "see", calendar_page.view, "calendar.html"),
    Page("/gates/{id}", "see", gate_page.view, "gate.html"),
    Page("/review", "see", review_page.view, "review.html"),
    Page("/audit", "see", audit_page.view, "audit.html"),
    Page("/search", "see", search.view, "search.html"),
)


def all_pages() -> tuple[Page, ...]:
    """Every page that needs somebody to be known; besides, anybody may sign in."""
    return _PAGES


def routes(ws: Workspace) -> list[BaseRoute]:
    """The routes of all pages over a workspace, to be given to the app."""
    found: list[BaseRoute] = [Route(page.path, _endpoint(ws, page), methods=["GET"]) for page in _PAGES]
    found += [
        Route("/sign-in", _open(ws, show_sign_in), methods=["GET"]),
        Route("/sign-in", _open(ws, sign_in), methods=["POST"]),
        Route("/sign-out", _open(ws, sign_out), methods=["POST"]),
        static_route(),
    ]
    return found


def error_handlers(ws: Workspace) -> dict[Any, Callable[[Request, Exception], Response]]:
    """Answers to what no route answers, and to faults of everloop itself."""

    def unanswered(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  (starlette calls it for these alone)
        told = NotFound(
            f"nothing is at {request.method} {request.url.path} here. The loop's pages start at /, the JSON routes at "
            "/api/about."
        )
        if not _wants_page(request):
            answer = error_answer(told)
            answer.status_code = error.status_code
            answer.headers.update(error.headers or {})  # Allow, where the method is none of the path's
            return answer
        return _error_page(ws, request, told, status=error.status_code)

    def failed(request: Request, _error: Exception) -> Response:  # the server logs it besides
        told = EverloopError(
            "everloop failed while it answered this. Nothing was half-written; what is live goes on. "
            "The cause is in the server's log: look there, or try again."
        )
        return _error_page(ws, request, told, status=500) if _wants_page(request) else error_answer(told)

    return {404: unanswered, 405: unanswered, Exception: failed}


def _endpoint(ws: Workspace, page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request, principal: Principal) -> Response:
        return await run_in_threadpool(_draw, ws, page, request, principal)

    def refuse(request: Request, error: EverloopError) -> Response:
        if request.query_params.get("as") == "json":
            return error_answer(error)
        if isinstance(error, NotRecognised):
            return RedirectResponse(f"/sign-in?next={quote(_here(request), safe='')}", 303, headers())
        return _error_page(ws, request, error)

    return guarded(ws, page.permission, answer, refuse=refuse)


def _draw(ws: Workspace, page: Page, request: Request, principal: Principal) -> Response:
    visit = Visit(
        ws=ws,
        principal=principal,
        path={name: str(value) for name, value in request.path_params.items()},
        query=dict(request.query_params),
    )
    shown = page.view(visit)
    if isinstance(shown, Moved):
        return RedirectResponse(shown.to, 303, headers())
    if visit.query.get("as") == "json":
        return Response(_encode(shown), headers=headers(), media_type="application/json")
    if visit.query.get("as") == "csv" and page.rows is not None:
        return _csv(page.rows(shown), name=page.template.removesuffix(".html"))
    return page_answer(
        page.template,
        plots=page.plots,
        **shown,
        **_frame(ws, request, principal),
    )


def _csv(rows: Iterable[Sequence[object]], *, name: str) -> Response:
    file = io.StringIO()
    csv.writer(file).writerows([_cell(one) for one in row] for row in rows)
    kept = {**headers(), "Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(file.getvalue(), headers=kept, media_type="text/csv")


def _cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula, whoever named what stands in it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _frame(ws: Workspace, request: Request, principal: Principal | None) -> dict[str, Any]:
    """What the frame around every page shows."""
    return {
        "now": ws.now(),
        "is_simulation": ws.is_simulation,
        "who": principal,
        "may": frozenset() if principal is None else principal.permissions,
        "signs_in": ws.settings.auth == "token",
        "here": request.url.path,
        "address": f"{request.url.scheme}://{request.url.netloc}",
        "as_json": str(request.url.include_query_params(**{"as": "json"}).replace(scheme="", netloc="")),
    }


def _open(
    ws: Workspace, answer: Callable[[Workspace, Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """A page for anybody: the sign-in alone."""

    async def to_anybody(request: Request, _principal: Principal) -> Response:
        return await answer(ws, request)

    def refuse(request: Request, error: EverloopError) -> Response:
        return _error_page(ws, request, error)

    return guarded(ws, None, to_anybody, refuse=refuse)


def _error_page(
    ws: Workspace, request: Request, error: EverloopError, *, status: int | None = None
) -> Response:
    try:
        principal = recognise(ws, request)
    except EverloopError:
        principal = None
    return page_answer(
        "error.html",
        status=status or status_of(error),
        code=error.code,
        message=str(error),
        status_code=status or status_of(error),
        **_frame(ws, request, principal) | {"as_json": None},
    )


def _wants_page(request: Request) -> bool:
    return not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", "")


def _here(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")
