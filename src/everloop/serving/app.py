"""The prediction server: a plain ASGI application on uvicorn, without a framework.

`paths` lists what it answers. It reads the files of `<home>/serving` and the blobs, writes its log and its worker file, and knows no database.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as version_of
from math import inf
from pathlib import Path
from typing import Any

import uvicorn

from everloop.clock import SimulatedClock, SystemClock, to_micros, wall
from everloop.errors import Conflict, Denied, EverloopError, Invalid, StorageFailed, TooLarge
from everloop.ids import new_id, new_prediction_id
from everloop.predictions import LogWriter, PredictionRecord
from everloop.serving.answer import Answerer
from everloop.serving.connections import BODY_S, Server
from everloop.serving.files import has_routes, note_crash, read_manifest, read_routes, remove_dead_workers
from everloop.serving.form import Form, about, invalid
from everloop.serving.group import run_together
from everloop.serving.http import (
    BODIES_AT_ONCE,
    BODY_LIMIT_BYTES,
    LOOPBACK,
    Doorkeeper,
    Headers,
    Receive,
    Refusal,
    Reply,
    Room,
    Scope,
    Send,
    check_encoding,
    header,
    json_reply,
    read_body,
)
from everloop.serving.kserve_v1 import KSERVE_V1, KSERVE_V1_EXPLAIN
from everloop.serving.live import LiveEndpoint, Loader
from everloop.serving.mlflow_scoring import MLFLOW_SCORING
from everloop.serving.open_inference import OPEN_INFERENCE, metadata
from everloop.serving.openapi import describe
from everloop.serving.own_json import OWN_JSON
from everloop.serving.paths import MLFLOW_VERSION
from everloop.serving.records import Worker
from everloop.serving.watch import CLOSE_WITHIN_S, Watcher
from everloop.settings import Settings, secret_value
from everloop.storage import open_blobs

logger = logging.getLogger(__name__)

VERSION = version_of("everloop")
QUEUE_LIMIT = 1_024
GRACE_S = 30
VERSION_HEADER = b"x-everloop-version"


class App:
    """The ASGI application of one serving process."""

    def __init__(
        self,
        watcher: Watcher,
        answerer: Answerer,
        *,
        allowed_hosts: str = "",
        body_limit_bytes: int = BODY_LIMIT_BYTES,
        loads_first: bool = False,
    ) -> None:
        self._loads_first = loads_first
        self._watcher = watcher
        self._answerer = answerer
        self._door = Doorkeeper(allowed_hosts)
        self._body_limit_bytes = body_limit_bytes
        self._room = Room(BODIES_AT_ONCE * body_limit_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            try:
                reply = await self._reply(scope, receive)
            except Refusal as refusal:
                reply = form_of(scope["path"]).refuse(refusal).with_headers(refusal.headers)
            await reply.send(send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        watching = asyncio.create_task(self._watcher.run())
        # a watcher that dies would serve old routes for ever: better to stop, and be started again
        watching.add_done_callback(_stop_if_failed)
        if self._loads_first:  # others answer meanwhile: a connection that came here now would be worse off
            loading = asyncio.create_task(self._watcher.has_loaded.wait())
            await asyncio.wait((watching, loading), return_when=asyncio.FIRST_COMPLETED)
            loading.cancel()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        watching.cancel()
        await asyncio.wait([watching])
        await self._watcher.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        method, path = scope["method"], scope["path"]
        self._door.check(scope["headers"], changes_state=method not in ("GET", "HEAD"))
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "endpoints" and parts[3] == "predict":
            _expect("POST", method)
            return await self._predict(parts[2], OWN_JSON, scope, receive)
        asked = self._asked_otherwise(parts)
        if asked is not None:
            _expect("POST", method)
            name, form, version = asked
            return await self._predict(name, form, scope, receive, version=version)
        found = self._looked_at(path, parts)
        _expect("GET", method)
        return found

    def _asked_otherwise(self, parts: list[str]) -> tuple[str, Form, str | None] | None:
        """Which endpoint is asked for predictions, in which protocol but our own, and which version if one is named."""
        match parts:
            case ["", "invocations"]:
                return self._only_endpoint(), MLFLOW_SCORING, None
            case ["", "endpoints", name, "invocations"]:
                return name, MLFLOW_SCORING, None
            case ["", "v2", "models", name, "infer"]:
                return name, OPEN_INFERENCE, None
            case ["", "v2", "models", name, "versions", version, "infer"]:
                return name, OPEN_INFERENCE, version
            case ["", "v1", "models", asked] if asked.endswith(":predict"):
                return asked.removesuffix(":predict"), KSERVE_V1, None
            case ["", "v1", "models", asked] if asked.endswith(":explain"):
                return asked.removesuffix(":explain"), KSERVE_V1_EXPLAIN, None
        return None

    def _looked_at(self, path: str, parts: list[str]) -> Reply:
        """What is found at a path that predicts nothing."""
        match parts:
            case ["", ""]:
                return self._root()
            case ["", "health" | "ping"] | ["", "v2", "health", "live"]:
                return json_reply(200, {"live": True})
            case ["", "ready"] | ["", "v2", "health", "ready"]:
                return self._ready()
            case ["", "version"]:
                return Reply(200, MLFLOW_VERSION.encode(), content_type=b"text/plain; charset=utf-8")
            case ["", "endpoints", name, "openapi.json"]:
                is_only = len(self._watcher.table.endpoints) == 1
                return json_reply(200, describe(self._endpoint(name), is_only=is_only))
            case ["", "v2"]:
                extensions = ["binary_tensor_data"]
                return json_reply(200, {"name": "everloop", "version": VERSION, "extensions": extensions})
            case ["", "v1" | "v2", "models"]:
                return json_reply(200, {"models": sorted(self._watcher.table.endpoints)})
            case ["", "v1", "models", name]:
                return self._model(name, ["ready"])
            case ["", "v2", "models", name, *what]:
                return self._model(name, what)
        raise _nothing_there(path)

    def _model(self, name: str, what: list[str]) -> Reply:
        endpoint = self._endpoint(name)
        if len(what) > 1 and what[0] == "versions":
            _pinned(endpoint, what[1])
            what = what[2:]
        if not what:
            return json_reply(200, metadata(endpoint))
        if what == ["ready"]:
            return json_reply(200, {"name": name, "ready": True})
        raise _nothing_there(f"{name}/{'/'.join(what)}")

    def _only_endpoint(self) -> str:
        names = sorted(self._watcher.table.endpoints)
        if len(names) == 1:
            return names[0]
        if not names:
            raise Refusal(503, "not_ready", f"nothing can answer: {self._watcher.not_ready}")
        raise Refusal(
            404,
            "not_found",
            f"there are {len(names)} endpoints: {', '.join(names)}. Name one: POST /endpoints/NAME/invocations.",
        )

    def _ready(self) -> Reply:
        reason = self._watcher.not_ready or self._watcher.others_not_ready()
        if reason is None:
            table, of = self._watcher.table, self._watcher.worker.of
            state: dict[str, Any] = {"ready": True, "epoch": table.epoch, "workers": of}
            if self._answerer.log_error is not None:
                state["log_error"] = self._answerer.log_error
            return json_reply(200, state)
        return json_reply(503, {"ready": False, "reason": reason}, ((b"retry-after", b"1"),))

    def _root(self) -> Reply:
        endpoints = sorted(self._watcher.table.endpoints)
        return json_reply(200, {"name": "everloop", "status": "alive", "endpoints": endpoints})

    async def _predict(
        self, name: str, form: Form, scope: Scope, receive: Receive, *, version: str | None = None
    ) -> Reply:
        self._endpoint(name)
        headers, body = scope["headers"], b""
        try:
            body = await read_body(headers, receive, limit_bytes=self._body_limit_bytes, room=self._room)
            return await self._answered(name, form, headers, body, version)
        except TooLarge as error:
            return await self._unread(name, form, Refusal(413, error.code, str(error)))
        finally:
            self._room.free(len(body))

    async def _answered(
        self, name: str, form: Form, headers: Headers, body: bytes, version: str | None
    ) -> Reply:
        started_ns = time.perf_counter_ns()
        endpoint = self._endpoint(name)  # again: a slow body may outlast a change of routes
        try:
            check_encoding(headers)
            timeout_ms = _timeout_ms(headers)
            if version is not None:
                headers = _with_version(headers, _pinned(endpoint, version))
            asking = form.read(endpoint, headers, body)
            for question in asking.questions:
                if question.version is not None:
                    _pinned(endpoint, str(question.version), path=version)
        except Refusal as refusal:
            return await self._unread(name, form, refusal)
        ask = self._answerer.answer
        ruled = _read(headers, endpoint.headers) if endpoint.headers else None
        if len(asking.questions) == 1:
            question = asking.questions[0]
            answers = [
                await ask(endpoint, question, started_ns=started_ns, timeout_ms=timeout_ms, headers=ruled)
            ]
        else:
            together = new_id("req")
            answers = await asyncio.gather(
                *(
                    ask(
                        endpoint,
                        question,
                        started_ns=started_ns,
                        request=together,
                        timeout_ms=timeout_ms,
                        headers=ruled,
                    )
                    for question in asking.questions
                )
            )
        unlogged = await self._log([answer.record for answer in answers], endpoint)
        return asking.reply(answers).with_headers((*about(answers), *unlogged))

    def _endpoint(self, name: str) -> LiveEndpoint:
        table = self._watcher.table
        endpoint = table.endpoints.get(name)
        if endpoint is not None:
            return endpoint
        reason = self._watcher.not_ready
        if reason is not None and (name in table.problems or not table.endpoints):
            raise Refusal(503, "not_ready", f"endpoint {name!r} cannot answer: {reason}")
        known = ", ".join(sorted(table.endpoints))
        raise Refusal(404, "not_found", f"there is no endpoint {name!r}; there are: {known}.")

    async def _unread(self, name: str, form: Form, refusal: Refusal) -> Reply:
        """Log a request that reached an endpoint and could not be read, and answer it."""
        endpoint = self._endpoint(name)
        record = PredictionRecord(
            id=new_prediction_id(self._answerer.writer.writer),
            endpoint=name,
            variant="",
            release="",
            model="",
            version=0,
            epoch=self._watcher.table.epoch or 0,
            at=to_micros(self._answerer.clock.now()),
            key=None,
            inputs={},
            features={},
            output=None,
            scores={},
            status="refused",
            error=f"{refusal.code}: {refusal}",
            latency_us=0,
            probability=endpoint.route.log.sample_failed,
        )
        unlogged = await self._log([record], endpoint)
        refusal.more["prediction_id"] = record.id
        return form.refuse(refusal).with_headers(
            ((b"x-everloop-prediction-id", record.id.encode()), *unlogged)
        )

    async def _log(
        self, records: list[PredictionRecord], endpoint: LiveEndpoint
    ) -> tuple[tuple[bytes, bytes], ...]:
        """Before any answer; the header of an answer that is not in the log as it should not, or cannot, be."""
        try:
            left_out = await self._answerer.log(records, endpoint.route.log)
        except StorageFailed as error:
            raise Refusal(
                503, error.code, f"{error} Predictions are refused as long as they cannot be logged."
            ) from error
        if not left_out:
            return ()
        said = ", ".join(f"{why} {count}" for why, count in left_out.items())
        return ((b"x-everloop-not-logged", said.encode()),)


def run(
    settings: Settings,
    *,
    host: str | None = None,
    port: int | None = None,
    queue_limit: int = QUEUE_LIMIT,
    body_limit_bytes: int = BODY_LIMIT_BYTES,
    body_s: float = BODY_S,
    most_connections: int | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Serve predictions until SIGTERM or SIGINT, then answer what was begun and return; `say` is told where.

    Port 0 takes a free one; the worker file says which. With the setting `serving_workers`, so many processes share it.

    Raises
    ------
    Denied
        The address is not this machine's loopback.
    Conflict
        The port is in use.
    StorageFailed
        The home cannot be written.
    """
    home, host = settings.home, settings.host if host is None else host
    if host not in LOOPBACK:
        raise Denied(
            f"the prediction server was to listen on {host}, but it checks no tokens itself: it listens on loopback only "
            "(127.0.0.1, ::1). Put 'everloop up' or a proxy that authenticates in front of it."
        )
    many, group = settings.serving_workers, os.getpid()
    listener = _listen(host, settings.port if port is None else port)
    if say is not None:
        live = "" if has_routes(home / "serving") else ", where nothing is live yet,"
        at = f"[{host}]" if ":" in host else host
        say(
            f"predictions of {home}{live} are at http://{at}:{listener.getsockname()[1]}/  (/ready says when it has loaded; stop with Ctrl-C)"
        )
    if many > 1 and sys.platform == "linux":
        # held for the processes, which bind it again
        listener = _shared(listener)
    bounds = _Bounds(queue_limit, body_limit_bytes, body_s, most_connections)
    serve = partial(_serve, settings, listener, bounds)
    if many == 1:
        serve()
        return
    _load_libraries(home / "serving")
    ended = partial(note_crash, home / "serving")
    run_together(partial(serve, group), many, grace_s=GRACE_S + CLOSE_WITHIN_S, ended=ended)


@dataclass(frozen=True)
class _Bounds:
    """What one serving process takes at most."""

    waiting: int
    body_bytes: int
    body_s: float
    connections: int | None


def _serve(
    settings: Settings,
    listener: socket.socket,
    bounds: _Bounds,
    group: int | None = None,
    starts: int = 1,
) -> None:
    """Be one serving process until it is told to stop."""
    home = settings.home
    folder, simulated = home / "serving", home / "simulation.clock"
    clock = SimulatedClock(simulated) if simulated.exists() else SystemClock()
    writer = LogWriter.claim(folder, segment_s=settings.log_segment_s, is_durable=settings.log_fsync)
    remove_dead_workers(folder)
    answerer = Answerer(writer, clock, is_simulation=simulated.exists(), is_durable=settings.log_fsync)
    loader = Loader(
        folder,
        open_blobs(settings, only_reads=True),
        clock,
        bounds.waiting,
        settings.request_deadline_ms,
        settings.model_python,
        settings.compiled_models,
        secret_value(settings, "PREDICTION_LOG_KEY"),
    )
    now = wall()
    if group is not None and sys.platform == "linux":
        listener = _shared(listener)
    host, port = listener.getsockname()[:2]
    of = 1 if group is None else settings.serving_workers
    worker = Worker(writer.writer, os.getpid(), None, now, now, host, port, group=group, of=of, starts=starts)
    watcher = Watcher(loader, answerer, worker)
    app = App(
        watcher,
        answerer,
        allowed_hosts=settings.allowed_hosts,
        body_limit_bytes=bounds.body_bytes,
        loads_first=starts > 1,
    )
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks who the client is
        timeout_graceful_shutdown=GRACE_S,
        ws="none",
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(
            number, _asked_to_stop
        )  # uvicorn raises the signal again when it is done; stopping is no failure
    Server(config, most=bounds.connections, body_s=bounds.body_s).run(sockets=[listener])
    if watcher.left_behind:
        # Python waits for each thread before it ends, and one is in a model that does not come back
        logger.critical("a model did not answer within %.0f s; it is left behind", CLOSE_WITHIN_S)
        logging.shutdown()
        os._exit(1)


def _load_libraries(folder: Path) -> None:
    """Import what each process will need: for scikit-learn's models, if one is live."""
    table = read_routes(folder)
    releases = {
        variant.release
        for route in (table.endpoints.values() if table else ())
        for variant in (*route.variants, *route.shadow)
    }
    for release in releases:
        try:
            flavor = read_manifest(folder, release).flavor
        except EverloopError:
            continue  # each process will say what is wrong with it
        if flavor == "sklearn":
            import skops.io  # noqa: F401  (brings scikit-learn, which takes seconds)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"port {port} on {host} is in use; another process listens there. Stop it or give another with --port."
            ) from error
        raise Invalid(
            f"cannot listen on {host}:{port}: {error.strerror}. Give another address or port."
        ) from error
    return listener


def _shared(listener: socket.socket) -> socket.socket:
    """A socket of this process's own at an address that others of the same server have as well.

    The kernel deals connections out to all that listen, evenly: of 32, one of two processes got 12 to 20 each time. With one
    socket for both it was 0 to 32, since whoever wakes first takes all that wait. The price: what the kernel gave to a
    process that is killed before it could accept it is lost with it.
    """
    address, family = listener.getsockname(), listener.family
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        listener.close()  # bound alone at first: so that a port which another server shares is not taken for free
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind(address)
    return found


def form_of(path: str) -> Form:
    """The protocol whose clients ask at a path: their errors have its form."""
    if path.endswith("/invocations"):
        return MLFLOW_SCORING
    if path == "/v2" or path.startswith("/v2/"):
        return OPEN_INFERENCE
    return KSERVE_V1 if path.startswith("/v1/") else OWN_JSON


def _pinned(endpoint: LiveEndpoint, version: str, *, path: str | None = None) -> str:
    """The version that a request names. Raises Refusal unless it is loaded here, and the one that its path names, if any."""
    if path not in (None, version):
        raise invalid(f"the path names version {path}, the request version {version}. Name one.")
    loaded = [str(one) for one in sorted(endpoint.by_version)]
    if version not in loaded:
        raise Refusal(
            404,
            "not_found",
            f"version {version[:20]} is not loaded on endpoint {endpoint.route.endpoint!r}; there is {', '.join(loaded)}. Name one "
            "of these, or none.",
        )
    return version


def _with_version(headers: Headers, version: str) -> Headers:
    """A path that names a version says what the header X-Everloop-Version would."""
    return [(name, value) for name, value in headers if name != VERSION_HEADER] + [
        (VERSION_HEADER, version.encode())
    ]


def _read(headers: Headers, names: frozenset[bytes]) -> dict[str, str]:
    """What the headers say that rules look at."""
    return {name.decode(): value.decode("latin-1") for name, value in headers if name in names}


def _timeout_ms(headers: Headers) -> float:
    """How long the client waits for an answer, as it says itself. Raises Refusal."""
    text = header(headers, b"x-everloop-timeout-ms")
    if text is None:
        return inf
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = 0.0
    if not milliseconds > 0:
        message = f"X-Everloop-Timeout-Ms is {text[:40]!r}; it is a number of milliseconds above 0. Give one or leave it out."
        raise Refusal(422, "invalid", message)
    return milliseconds


def _nothing_there(place: str) -> Refusal:
    message = f"there is nothing at {place}. Predictions are at POST /endpoints/NAME/predict."
    return Refusal(404, "not_found", message)


def _expect(allowed: str, method: str) -> None:
    if method != allowed:
        refusal = Refusal(405, "method_not_allowed", f"{method} is not answered here. Use {allowed}.")
        refusal.headers = ((b"allow", allowed.encode()),)
        raise refusal


def _stop_if_failed(watching: asyncio.Task[None]) -> None:
    if not watching.cancelled() and (error := watching.exception()) is not None:
        logger.critical("the watcher of routes failed; stopping", exc_info=error)
        signal.raise_signal(signal.SIGTERM)


def _asked_to_stop(number: int, frame: object) -> None:
    logger.info("stopped by signal %d", number)
