"""How MLflow's REST protocol is spoken: finding the route, reading the request, answering, and saying no.

A route is found by one look in a table, its request decoded straight into a record, and the whole call is dealt with
in one hop to a worker thread: training loops wait for these calls.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict, get_origin, get_type_hints
from urllib.parse import parse_qsl

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from everloop import access, errors
from everloop.access import Permission, Principal
from everloop.api.answers import retry_headers
from everloop.api.callers import address_of, recognise
from everloop.api.guard import check_origin, holds_nul
from everloop.api.routes import Call, read_query
from everloop.clock import from_micros, to_micros
from everloop.errors import EverloopError, Invalid
from everloop.workspace import Workspace

_log = logging.getLogger("everloop.api.mlflow")
_encode = msgspec.json.Encoder().encode

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Version = Literal["2.0", "3.0"]
MAX_BODY_BYTES = 2_000_000
_MOST_FIELDS = 4_000  # of a query
_LAST_MILLISECOND = 253_402_300_799_999  # of the year 9999
_RUN_ID = re.compile(r"(run_)?[0-9a-zA-Z-]{1,36}", re.ASCII)

# MLflow's names for what can go wrong, with their statuses. Its client tries again after a 429 and from 500 on: what
# will not be otherwise the next time must not be one of those.
STATUSES = {
    "BAD_REQUEST": 400,
    "INVALID_PARAMETER_VALUE": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "ENDPOINT_NOT_FOUND": 404,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "REQUEST_LIMIT_EXCEEDED": 429,
    "INTERNAL_ERROR": 500,
    "NOT_IMPLEMENTED": 501,
    "TEMPORARILY_UNAVAILABLE": 503,
}
_CODES: dict[type[EverloopError], str] = {
    errors.Invalid: "INVALID_PARAMETER_VALUE",
    errors.NotFound: "RESOURCE_DOES_NOT_EXIST",
    errors.AlreadyExists: "RESOURCE_ALREADY_EXISTS",
    errors.Conflict: "INVALID_PARAMETER_VALUE",  # as MLflow says of a parameter that changes, or of a deleted run
    errors.NotRecognised: "UNAUTHENTICATED",
    errors.Denied: "PERMISSION_DENIED",
    errors.GateFailed: "PERMISSION_DENIED",
    errors.TooOften: "REQUEST_LIMIT_EXCEEDED",
    errors.NotReady: "TEMPORARILY_UNAVAILABLE",
    errors.MissingExtra: "NOT_IMPLEMENTED",
}


class MlflowError(EverloopError):
    """A refusal under the MLflow code that its clients look for, where an error of everloop's does not say it."""

    def __init__(self, code: str, message: str, *, allow: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.allow = allow  # the methods of the path, where the method is none of them


class Nothing(msgspec.Struct):
    """A request without fields."""


Handler = Callable[[Call, Any], Any]
Stream = Callable[[Call, Request], Awaitable[Response]]


@dataclass(frozen=True)
class MlflowRoute:
    """One call of the protocol, below `/api/VERSION/` and `/ajax-api/VERSION/`; a path may hold `{name}` or `{name:path}`.
    `version` None: at the server's root.

    Its request, of the type `request`, is put together of the path, the query (GET) or the body (others). `handler` is
    given it and returns what is answered as JSON; None is `{}`, and a Response is sent as it is. With `stream` that reads
    the body and answers instead. `permission` None: anybody may call it.
    """

    method: Method
    path: str
    permission: Permission | None
    handler: Handler = lambda _call, _asked: None  # its return type says what is answered
    request: type[msgspec.Struct] = Nothing
    version: Version | None = "2.0"
    most_bytes: int = MAX_BODY_BYTES
    stream: Stream | None = None

    @property
    def place(self) -> str:
        """The path at which it is answered."""
        return f"/{self.path}" if self.version is None else f"/api/{self.version}/{self.path}"

    @property
    def answer(self) -> Any:
        """The type of what the handler answers; Response for something else than JSON."""
        return Nothing if self.stream else get_type_hints(self.handler)["return"]

    @property
    def summary(self) -> str:
        return ((self.stream or self.handler).__doc__ or "").partition("\n")[0]


class Protocol:
    """The ASGI app that answers all routes of one version below a prefix such as `/api/2.0/`."""

    def __init__(self, ws: Workspace, routes: list[MlflowRoute], *, prefix: str) -> None:
        self._ws = ws
        self._prefix = prefix
        readers = [_Reader(route) for route in routes]
        self._plain: dict[tuple[str, str], _Reader] = {
            (one.route.method, one.route.path): one for one in readers if "{" not in one.route.path
        }
        self._templated = [(_pattern(one.route.path), one) for one in readers if "{" in one.route.path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        try:
            check_origin(request, self._ws.settings)
            reader, path = self._find(request)
            route = reader.route
            if route.stream is not None:
                call = await run_in_threadpool(self._call, route, request, path, b"")
                return await route.stream(call, request)
            body = await _body(request, route.most_bytes)
            return await run_in_threadpool(self._deal, reader, request, path, body)
        except EverloopError as error:
            return error_answer(error)
        except Exception:  # noqa: BLE001  (it is in the log, and the client waits for an answer it can read)
            _log.exception("%s %s failed", request.method, request.url.path)
            return _refusal("INTERNAL_ERROR", "the server failed at this call; its log says how.")

    def _find(self, request: Request) -> tuple[_Reader, dict[str, str]]:
        path = request.scope["path"].removeprefix(self._prefix)
        found = self._plain.get((request.method, path))
        if found is not None:
            return found, {}
        for pattern, reader in self._templated:
            if reader.route.method == request.method and (match := pattern.fullmatch(path)):
                return reader, match.groupdict()
        raise unsupported(request.method, f"{self._prefix}{path}", allow=self._methods_of(path))

    def _methods_of(self, path: str) -> list[str]:
        """The methods of a path; where it is one by itself, not those of a template that it would fit too."""
        plain = {method for method, known in self._plain if known == path}
        return sorted(
            plain or {one.route.method for pattern, one in self._templated if pattern.fullmatch(path)}
        )

    def _deal(self, reader: _Reader, request: Request, path: dict[str, str], body: bytes) -> Response:
        call = self._call(reader.route, request, path, body)
        result = reader.route.handler(call, reader.read(request, path, body))
        if isinstance(result, Response):
            return result
        content = b"{}" if result is None else _encode(result)
        return Response(content, media_type="application/json")

    def _call(self, route: MlflowRoute, request: Request, path: dict[str, str], body: bytes) -> Call:
        principal = _principal(self._ws, request, route.permission)
        query = dict(request.query_params) if route.stream else {}
        return Call(self._ws.acting_as(principal.name), principal, path, query, body, request.headers)


class _Reader:
    """Reads the requests of one route."""

    def __init__(self, route: MlflowRoute) -> None:
        self.route = route
        self._decode = msgspec.json.Decoder(route.request, strict=False).decode
        fields = msgspec.structs.fields(route.request)
        self._lists = frozenset(one.encode_name for one in fields if get_origin(one.type) is list)

    def read(self, request: Request, path: Mapping[str, str], body: bytes) -> Any:
        """The request as its record. Raises Invalid or MlflowError."""
        try:
            _check_nul(request, path, body)
            if self.route.method == "GET":
                return read_query({**self._query(request.scope["query_string"]), **path}, self.route.request)
            elif not path:
                return self._decode(body or b"{}")
            else:
                given = msgspec.json.decode(body or b"{}", type=dict[str, Any])
            return msgspec.convert({**given, **path}, self.route.request, strict=False)
        except msgspec.ValidationError as error:
            raise Invalid(
                f"the request to {self.route.path} is wrong: {error}. Send the fields that MLflow's protocol names."
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MlflowError("BAD_REQUEST", f"the body is not JSON: {error}. Send an object.") from error
        except RecursionError as error:
            raise MlflowError(
                "BAD_REQUEST", "the body is nested too deeply to read. Send a flat object."
            ) from error

    def _query(self, query: bytes) -> dict[str, Any]:
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except (ValueError, UnicodeDecodeError) as error:
            raise MlflowError(
                "BAD_REQUEST", f"the query cannot be read: {error}. Send name=value pairs."
            ) from error
        given: dict[str, Any] = {}
        for name, value in pairs:
            if name in self._lists:
                given.setdefault(name, []).append(value)
            else:
                given[name] = value
        return given


def error_answer(error: EverloopError) -> Response:
    """The answer to an error in MLflow's form."""
    if isinstance(error, MlflowError):
        answer = _refusal(error.code, str(error))
        if error.allow:
            answer.status_code, answer.headers["Allow"] = 405, ", ".join(error.allow)
        return answer
    code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), "INTERNAL_ERROR")
    return _refusal(code, str(error), headers=retry_headers(error))


def unsupported(method: str, path: str, *, allow: Sequence[str] = ()) -> MlflowError:
    """What is said of a call that everloop does not answer."""
    return MlflowError(
        "ENDPOINT_NOT_FOUND",
        f"{method} {path[:200]} is not supported by this server. everloop answers MLflow's calls for experiments, runs, "
        "artifacts and models; the reference page of MLflow's protocol lists them.",
        allow=allow,
    )


class Named(msgspec.Struct):
    """A tag or a parameter. Protobuf leaves out a text that is empty."""

    key: str
    value: str = ""


def named(pairs: list[Named]) -> dict[str, str]:
    """Tags or parameters by their names; the last of a name counts."""
    return {pair.key: pair.value for pair in pairs}


class KeyValue(TypedDict):
    """A tag or a parameter that is told."""

    key: str
    value: str


def keyed(values: Mapping[str, str]) -> list[KeyValue]:
    """Named texts as the protocol writes them."""
    return [{"key": key, "value": value} for key, value in values.items()]


def milliseconds(at: datetime) -> int:
    """A time as the protocol writes it: milliseconds since 1970."""
    return to_micros(at) // 1_000


def moment(given: int | None) -> datetime | None:
    """The time that milliseconds since 1970 stand for. Raises Invalid beyond the years from 1970 to 9999."""
    if given is None:
        return None
    if not 0 <= given <= _LAST_MILLISECOND:
        raise Invalid(
            f"the time {given} is not between the years 1970 and 9999; times are milliseconds since 1970. "
            "Look at the clock or at the unit."
        )
    return from_micros(given * 1_000)


def experiment_number(given: str) -> int:
    """The number that an experiment's id stands for. Raises Invalid."""
    if not (given.isascii() and given.isdigit() and len(given) <= 9):
        raise Invalid(
            f"{given[:40]!r} is no experiment's id; that is a whole number such as '0'. Search for experiments to find it."
        )
    return int(given)


def run_key(given: str) -> str:
    """The id by which everloop knows the run that a client names. Raises Invalid for what cannot be one."""
    if not _RUN_ID.fullmatch(given):
        raise Invalid(f"{given[:60]!r} is no run's id; that has 32 hex digits. Search for runs to find it.")
    return given if given.startswith("run_") else f"run_{given}"


def number(value: float) -> float | str:
    """A number as protobuf writes it in JSON: those that JSON has no form for are texts."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _refusal(code: str, message: str, *, headers: Mapping[str, str] | None = None) -> Response:
    body = _encode({"error_code": code, "message": message})
    return Response(body, status_code=STATUSES[code], headers=headers, media_type="application/json")


def _principal(ws: Workspace, request: HTTPConnection, permission: Permission | None) -> Principal:
    if permission is None:
        return Principal("anybody", frozenset())
    principal = _by_password(ws, request) or recognise(ws, request)
    access.require(principal, permission)
    return principal


def _by_password(ws: Workspace, request: HTTPConnection) -> Principal | None:
    """Who signs in as MLflow's clients do with a user name and a password: an account, and its password or a token."""
    scheme, _, told = request.headers.get("authorization", "").partition(" ")
    if ws.settings.auth == "off" or scheme.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(told, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        name, secret = "", ""
    return access.sign_in(ws, name, secret, address=address_of(request))[1]


def _check_nul(request: Request, path: Mapping[str, str], body: bytes) -> None:
    """Refuse NUL, which no name or value has and PostgreSQL takes in none."""
    if (
        b"%00" in request.scope["query_string"]
        or any("\0" in text for text in path.values())
        or holds_nul(body)
    ):
        raise MlflowError(
            "BAD_REQUEST", "the request holds a NUL character, which no name or value may have."
        )


async def _body(request: Request, most_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most_bytes:
            raise Invalid(
                f"the body is larger than {most_bytes:,} bytes, which is the most for this call. Send it in parts."
            )
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)(:path)?\}", path)
    # parts: text, name, ':path' or None, text, name, ...
    pattern = re.escape(parts[0])
    for name, whole, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        pattern += f"(?P<{name}>{'.*' if whole else '[^/]+'}){re.escape(text)}"
    return re.compile(pattern, re.DOTALL)
