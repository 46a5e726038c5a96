"""What all routes take and answer, as an OpenAPI description made of their declarations."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.responses import Response

from everloop.api.answers import STATUSES
from everloop.api.callers import SESSION_COOKIE
from everloop.api.mlflow import MLFLOW_STATUSES, MlflowRoute, mlflow_routes
from everloop.api.mlflow.protocol import Nothing
from everloop.api.routes import MODULES, SIGNATURE, Call, File, Route, all_routes
from everloop.openapi import Operation, Refusal, describe

_ANY = "*/*"
_FILE = "application/octet-stream"
_CALLERS = ("token", "session")
_MLFLOW_CALLERS = ("token", "account", "session")
_SECURITY: dict[str, dict[str, Any]] = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token that an owner made."},
    "account": {
        "type": "http",
        "scheme": "basic",
        "description": "An account and its password, or its token, on MLflow's calls.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION_COOKIE,
        "description": "Who signed in at /sign-in; changes only from everloop's own pages.",
    },
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": SIGNATURE,
        "description": "Of the trigger's secret, over the time, the Idempotency-Key and the body.",
    },
}


class Said(msgspec.Struct, frozen=True):
    code: str
    message: str


class Error(msgspec.Struct, frozen=True):
    """How every JSON route says no."""

    error: Said


class MlflowError(msgspec.Struct, frozen=True):
    """How MLflow's calls say no."""

    error_code: str
    message: str


def show(_call: Call) -> dict[str, Any]:
    """This description of all routes, in OpenAPI 3.1."""
    return _described()


@cache
def _described() -> dict[str, Any]:
    """Made when somebody asks for it first, which takes a second."""
    refusals = {_name(status): Refusal(_meaning(status), Error) for status in _statuses()}
    refusals |= {
        f"Mlflow{_name(status)}": Refusal(_meaning(status), MlflowError) for status in _mlflow_statuses()
    }
    return describe(
        [*_ours(), *(_mlflows(route) for route in mlflow_routes())],
        title="everloop",
        version=version("everloop"),
        description=(
            "The JSON routes of the control plane, and the calls of MLflow's protocol that it answers; these are answered "
            "below /ajax-api too. Where the setting auth is off, nobody has to prove who they are."
        ),
        tags={**dict(_tags()), "mlflow": "MLflow's protocol, for unmodified clients."},
        refusals=refusals,
        security=_SECURITY,
    )


def _tags() -> Iterator[tuple[str, str]]:
    for name in MODULES:
        meaning = importlib.import_module(f"everloop.api.{name}").__doc__ or ""
        yield name, meaning.partition("\n")[0]


def _ours() -> Iterator[Operation]:
    for route in all_routes():
        is_file = isinstance(route.asked, type) and issubclass(route.asked, File)
        is_open = route.permission is None
        yield Operation(
            id=f"{route.handler.__module__.rpartition('.')[2]}_{route.handler.__name__}",
            tag=route.handler.__module__.rpartition(".")[2],
            method=route.method,
            path=route.path,
            summary=route.summary,
            asked=route.asked,
            asked_in="query" if route.asks_by_query else "body",
            body=(_FILE,) if is_file else (),
            answer=route.answer,
            errors={status: _name(status) for status in _statuses() if status != 401 or not is_open},
            security=() if is_open else (*_CALLERS, *(("signature",) if route.signer else ())),
            needs=route.permission,
            headers=route.headers,
        )


def _mlflows(route: MlflowRoute) -> Operation:
    is_open = route.permission is None
    place = route.place
    newer = "3_" if route.version == "3.0" else ""  # some calls there are in both versions
    path = re.sub(r"\W+", "_", route.path.removeprefix("mlflow/")).rstrip("_")
    return Operation(
        id=f"mlflow_{newer}{route.method.lower()}_{path}",
        tag="mlflow",
        method=route.method,
        path=place,
        summary=route.summary,
        asked=route.request if msgspec.structs.fields(route.request) else None,
        asked_in="query" if route.method == "GET" else "body",
        body=() if route.stream is None else (_FILE,),
        answer=Nothing if route.answer in (type(None), Response) else route.answer,
        answers=(_ANY,) if route.answer is Response else (),
        errors={
            status: f"Mlflow{_name(status)}" for status in _mlflow_statuses() if status != 401 or not is_open
        },
        security=() if is_open else _MLFLOW_CALLERS,
        needs=route.permission,
    )


def _statuses() -> Iterable[int]:
    return sorted({*STATUSES.values()})


def _mlflow_statuses() -> Iterable[int]:
    return sorted({*MLFLOW_STATUSES.values()} - {500})


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "")


def _meaning(status: int) -> str:
    return f"{HTTPStatus(status).phrase}."


ROUTES = [Route("GET", "/openapi.json", None, show)]
