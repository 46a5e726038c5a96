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
from everloop.api.forward import FORWARDED
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


class KServeError(msgspec.Struct, frozen=True):
    """How calls of KServe's and the Open Inference protocol say no."""

    error: str
    code: str


_PREDICTIONS = {
    "/endpoints/{name}/predict": "One prediction, or one for each of several instances.",
    "/endpoints/{name}/openapi.json": "What the endpoint takes and gives, in all protocols, as OpenAPI.",
    "/endpoints/{name}/invocations": "A prediction for each row, as MLflow's clients ask.",
    "/invocations": "As an endpoint's, of the only endpoint that there is.",
    "/ping": "Whether the data plane is alive, as MLflow's clients ask.",
    "/v2": "What the data plane is, and its extensions of the Open Inference Protocol.",
    "/v2/health/live": "Whether the data plane is alive.",
    "/v2/health/ready": "Whether it answers as the newest routes say.",
    "/v1/models": "The endpoints.",
    "/v1/models/{name}": "Whether an endpoint answers.",
    "/v1/models/{name}:predict": "A prediction for each row, as clients of KServe's first protocol ask.",
    "/v1/models/{name}:explain": "The same, each with what every input added to its score.",
    "/v2/models": "The endpoints.",
    "/v2/models/{name}": "What a client has to know before it asks.",
    "/v2/models/{name}/ready": "Whether an endpoint answers.",
    "/v2/models/{name}/infer": "A prediction for each row, as clients of the Open Inference Protocol ask.",
}
_PREDICTING = (400, 405, 413, 415, 500)  # statuses of the data plane, beside those of all routes


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
    refusals |= {
        f"{prefix}{_name(status)}": Refusal(_meaning(status), form)
        for prefix, form in (("", Error), ("Mlflow", MlflowError), ("KServe", KServeError))
        for status in {*_statuses(), *_PREDICTING}
    }
    return describe(
        [*_ours(), *(_mlflows(route) for route in mlflow_routes()), *_predictions()],
        title="everloop",
        version=version("everloop"),
        description=(
            "The JSON routes of the control plane, and the calls of MLflow's protocol that it answers; these are answered "
            "below /ajax-api too. Where the setting auth is off, nobody has to prove who they are."
        ),
        tags={
            **dict(_tags()),
            "mlflow": "MLflow's protocol, for unmodified clients.",
            "predictions": "What the data plane answers, forwarded; each endpoint describes its own inputs.",
        },
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


def _predictions() -> Iterator[Operation]:
    for method, path, permission in FORWARDED:
        in_protocol = path.startswith(("/v1", "/v2"))
        form = "KServe" if in_protocol else "Mlflow" if path.endswith("/invocations") else ""
        statuses = {*_statuses(), *_PREDICTING} - (set() if permission else {401})
        yield Operation(
            id="predictions_" + re.sub(r"\W+", "_", f"{method.lower()}{path}").rstrip("_"),
            tag="predictions",
            method=method,
            path=path,
            summary=_PREDICTIONS[path.replace("/versions/{version}", "")],
            asked=dict[str, Any] if method == "POST" else None,
            asked_in="body",
            answer=dict[str, Any],
            errors={status: f"{form}{_name(status)}" for status in sorted(statuses)},
            security=_CALLERS if permission else (),
            needs=permission,
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
