"""The control plane's ASGI app: each request is checked, authorised, handed to one verb, and answered as JSON."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute

from everloop import access
from everloop.access import Permission, Principal
from everloop.api import mlflow
from everloop.api.answers import retry_headers, status_of
from everloop.api.callers import recognise
from everloop.api.forward import FORWARDED, Forwarder
from everloop.api.guard import check_origin, check_text, read_body
from everloop.api.mlflow.protocol import error_answer as mlflow_error_answer
from everloop.api.routes import SIGNATURE, Call, Route, all_routes
from everloop.errors import EverloopError, Invalid
from everloop.workspace import Workspace

_log = logging.getLogger("everloop.api")
_encode = msgspec.json.Encoder(order="deterministic").encode
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(
    ws: Workspace,
    *,
    predictions_url: str | None = None,
    pages: Sequence[BaseRoute] = (),
    handlers: Mapping[Any, Callable[..., Any]] | None = None,
) -> Starlette:
    """The app over a workspace.

    `predictions_url` is the data plane's address, where predictions are forwarded, None where there is none; `pages` are routes that a room
    above answers, and `handlers` its answers by status or exception to what no route answers.
    """
    routes = mlflow.mounted(ws)  # first: training loops wait for these
    by_path: dict[str, dict[str, Endpoint]] = {}
    for route in all_routes():
        by_path.setdefault(route.path, {})[route.method] = _json_endpoint(ws, route)
    routes += [
        StarletteRoute(path, _by_method(endpoints), methods=[*endpoints])
        for path, endpoints in by_path.items()
    ]
    forwarder = Forwarder(predictions_url, ws.home / "serving")
    routes += [
        StarletteRoute(
            path,
            guarded(ws, permission, forwarder.forward, refuse=refused_as_asked),
            methods=[method],
        )
        for method, path, permission in FORWARDED
    ]

    @asynccontextmanager
    async def living(_app: Starlette) -> AsyncIterator[None]:
        yield
        await forwarder.close()

    return Starlette(routes=[*routes, *pages], exception_handlers=handlers, lifespan=living)


def guarded(
    ws: Workspace,
    permission: Permission | None,
    answer: Callable[[Request, Principal], Awaitable[Response]],
    *,
    refuse: Callable[[Request, EverloopError], Response] | None = None,
) -> Endpoint:
    """An endpoint that answers only requests that come from us and from somebody with the permission.

    `refuse` makes the answer to an error; JSON without it.
    """

    async def endpoint(request: Request) -> Response:
        try:
            check_origin(request, ws.settings)
            check_text(request)
            principal = await run_in_threadpool(_recognise, ws, request, permission)
            return await answer(request, principal)
        except EverloopError as error:
            return error_answer(error) if refuse is None else refuse(request, error)

    return endpoint


def error_answer(error: EverloopError) -> Response:
    """The JSON answer for an error: its code and its message, as every client may rely on."""
    return _error_answer(error, {"error": {"code": error.code, "message": str(error)}})


def refused_as_asked(request: Request, error: EverloopError) -> Response:
    """The answer for an error in the form of the protocol in which a prediction was asked for."""
    path = request.url.path
    if path.endswith("/invocations"):
        answer = mlflow_error_answer(error)
        return _error_answer(error, msgspec.json.decode(answer.body))
    if path == "/v2" or path.startswith(("/v1/", "/v2/")):
        return _error_answer(error, {"error": str(error), "code": error.code})
    return error_answer(error)


def _error_answer(error: EverloopError, content: Any) -> Response:
    status = status_of(error)
    headers = {**retry_headers(error), **(_CHALLENGE if status == 401 else {})}
    if status == 413:
        headers["Connection"] = "close"  # the rest of the body is not read
    return Response(_encode(content), status_code=status, headers=headers, media_type="application/json")


def _by_method(endpoints: Mapping[str, Endpoint]) -> Endpoint:
    """One endpoint for all methods of a path, so that a wrong one is told of them all."""

    async def endpoint(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


def _json_endpoint(ws: Workspace, route: Route) -> Endpoint:
    async def answer(
        request: Request, principal: Principal, body: bytes | None = None, signature: str | None = None
    ) -> Response:
        call = Call(
            ws=ws.acting_as(principal.name),
            principal=principal,
            path=_path_of(request),
            query=_query_of(request),
            body=await read_body(request, route.most_bytes) if body is None else body,
            headers=request.headers,
            signature=signature,
        )
        return await run_in_threadpool(_deal, route, call)

    with_token = guarded(ws, route.permission, answer)
    signer = route.signer
    if signer is None:
        return with_token

    async def signed(request: Request) -> Response:
        if SIGNATURE not in request.headers:
            return await with_token(request)
        try:
            check_origin(request, ws.settings)
            check_text(request)
            body = await read_body(request, route.most_bytes)
            principal, signature = await run_in_threadpool(
                signer, ws, _path_of(request), request.headers, body
            )
            return await answer(request, principal, body, signature)
        except EverloopError as error:
            return error_answer(error)

    return signed


def _deal(route: Route, call: Call) -> Response:
    asked = () if route.asked is None else (route.read(call.query, call.body),)
    return Response(_encode(route.handler(call, *asked)), media_type="application/json")


def _path_of(request: Request) -> dict[str, str]:
    return {name: str(value) for name, value in request.path_params.items()}


def _query_of(request: Request) -> dict[str, str]:
    query = dict(request.query_params)
    given = [name for name, _ in request.query_params.multi_items()]
    if twice := [name for name in query if given.count(name) > 1]:
        raise Invalid(f"the query names {twice[0][:60]!r} more than once. Say it once.")
    return query


def _recognise(ws: Workspace, request: Request, permission: Permission | None) -> Principal:
    """Who asks, once they are known to be allowed."""
    if permission is None:
        return Principal("anybody", frozenset())
    principal = recognise(ws, request)
    access.require(principal, permission)
    return principal
