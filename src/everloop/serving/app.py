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
import time
from importlib.metadata import version as version_of

import uvicorn

from everloop.clock import SimulatedClock, SystemClock, to_micros, wall
from everloop.errors import Conflict, Denied, Invalid, StorageFailed
from everloop.ids import new_id, new_prediction_id
from everloop.serving.answer import Answerer
from everloop.serving.files import remove_dead_workers
from everloop.serving.form import Form, about
from everloop.serving.http import (
    LOOPBACK,
    Doorkeeper,
    Receive,
    Refusal,
    Reply,
    Scope,
    Send,
    TooLarge,
    check_encoding,
    json_reply,
    read_body,
)
from everloop.serving.kserve_v1 import KSERVE_V1
from everloop.serving.live import LiveEndpoint, Loader
from everloop.serving.mlflow_scoring import MLFLOW_SCORING
from everloop.serving.one_write import OneWrite
from everloop.serving.open_inference import OPEN_INFERENCE, metadata
from everloop.serving.openapi import describe
from everloop.serving.own_json import OWN_JSON
from everloop.serving.paths import MLFLOW_VERSION
from everloop.serving.records import PredictionRecord, Worker
from everloop.serving.segments import LogWriter
from everloop.serving.watch import Watcher
from everloop.settings import Settings
from everloop.storage import open_blobs

logger = logging.getLogger(__name__)

VERSION = version_of("everloop")
QUEUE_LIMIT = 1_024
BODY_LIMIT_BYTES = 16 * 1024 * 1024
GRACE_S = 30


class App:
    """The ASGI application of one serving process."""

    def __init__(
        self,
        watcher: Watcher,
        answerer: Answerer,
        *,
        allowed_hosts: str = "",
        body_limit_bytes: int = BODY_LIMIT_BYTES,
    ) -> None:
        self._watcher = watcher
        self._answerer = answerer
        self._door = Doorkeeper(allowed_hosts)
        self._body_limit_bytes = body_limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            try:
                reply = await self._reply(scope, receive)
            except Refusal as refusal:
                reply = form_of(scope["path"]).refuse(refusal)
            await reply.send(send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        watching = asyncio.create_task(self._watcher.run())
        # a watcher that dies would serve old routes for ever: better to stop, and be started again
        watching.add_done_callback(_stop_if_failed)
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
                return json_reply(200, describe(self._endpoint(name)))
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
            _check_version(endpoint, what[1])
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
        reason = self._watcher.not_ready
        if reason is None:
            return json_reply(200, {"ready": True, "epoch": self._watcher.table.epoch})
        return json_reply(503, {"ready": False, "reason": reason}, ((b"retry-after", b"1"),))

    def _root(self) -> Reply:
        endpoints = sorted(self._watcher.table.endpoints)
        return json_reply(200, {"name": "everloop", "status": "alive", "endpoints": endpoints})

    async def _predict(
        self, name: str, form: Form, scope: Scope, receive: Receive, *, version: str | None = None
    ) -> Reply:
        self._endpoint(name)
        headers = scope["headers"]
        try:
            body = await read_body(headers, receive, limit_bytes=self._body_limit_bytes)
        except TooLarge:
            limit = f"{self._body_limit_bytes:,} bytes"
            message = f"the body is over {limit}, the limit. Send fewer instances or smaller images."
            return await self._unread(name, form, Refusal(413, "too_large", message))
        started_ns = time.perf_counter_ns()
        endpoint = self._endpoint(name)  # again: a slow body may outlast a change of routes
        _check_version(endpoint, version)
        try:
            check_encoding(headers)
            asking = form.read(endpoint, headers, body)
        except Refusal as refusal:
            return await self._unread(name, form, refusal)
        ask = self._answerer.answer
        if len(asking.questions) == 1:
            answers = [await ask(endpoint, asking.questions[0], started_ns=started_ns)]
        else:
            together = new_id("req")
            answers = await asyncio.gather(
                *(
                    ask(endpoint, question, started_ns=started_ns, request=together)
                    for question in asking.questions
                )
            )
        await self._log([answer.record for answer in answers])
        return asking.reply(answers).with_headers(about(answers))

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
        )
        await self._log([record])
        refusal.more["prediction_id"] = record.id
        return form.refuse(refusal).with_headers(((b"x-everloop-prediction-id", record.id.encode()),))

    async def _log(self, records: list[PredictionRecord]) -> None:
        """Before any answer; without it there is none."""
        try:
            await self._answerer.log(records)
        except StorageFailed as error:
            logger.error("%s", error)
            raise Refusal(503, error.code, str(error)) from error


def run(
    settings: Settings,
    *,
    host: str | None = None,
    port: int | None = None,
    queue_limit: int = QUEUE_LIMIT,
    body_limit_bytes: int = BODY_LIMIT_BYTES,
) -> None:
    """Serve predictions until SIGTERM or SIGINT, then answer what was begun and return.

    Port 0 takes a free one; the worker file says which.

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
    listener = _listen(host, settings.port if port is None else port)
    folder, simulated = home / "serving", home / "simulation.clock"
    clock = SimulatedClock(simulated) if simulated.exists() else SystemClock()
    writer = LogWriter.claim(folder, segment_s=settings.log_segment_s, is_durable=settings.log_fsync)
    remove_dead_workers(folder)
    answerer = Answerer(writer, clock, is_simulation=simulated.exists(), is_durable=settings.log_fsync)
    loader = Loader(
        folder,
        open_blobs(settings, only_reads=True),
        clock,
        queue_limit,
        settings.model_python,
        settings.compiled_models,
    )
    now = wall()
    worker = Worker(writer.writer, os.getpid(), None, now, now, host, listener.getsockname()[1])
    watcher = Watcher(loader, answerer, worker)
    app = App(watcher, answerer, allowed_hosts=settings.allowed_hosts, body_limit_bytes=body_limit_bytes)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks who the client is
        http=OneWrite,
        timeout_graceful_shutdown=GRACE_S,
        ws="none",
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(
            number, _asked_to_stop
        )  # uvicorn raises the signal again when it is done; stopping is no failure
    uvicorn.Server(config).run(sockets=[listener])


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


def form_of(path: str) -> Form:
    """The protocol whose clients ask at a path: their errors have its form."""
    if path.endswith("/invocations"):
        return MLFLOW_SCORING
    if path == "/v2" or path.startswith("/v2/"):
        return OPEN_INFERENCE
    return KSERVE_V1 if path.startswith("/v1/") else OWN_JSON


def _check_version(endpoint: LiveEndpoint, version: str | None) -> None:
    """Raises Refusal unless that version alone answers: which of several answers is the rollout's to choose."""
    if version is None:
        return
    name, live = endpoint.route.endpoint, [str(one) for one in endpoint.versions]
    if version not in live:
        raise Refusal(
            404,
            "not_found",
            f"version {version} does not answer on endpoint {name!r}; {' and '.join(live)} does. Ask without /versions/.",
        )
    if len(live) > 1:
        raise Refusal(
            409,
            "conflict",
            f"versions {' and '.join(live)} share the traffic of endpoint {name!r} during a rollout, and a request cannot "
            "choose. Ask without /versions/; the answer says which version gave it.",
        )


def _nothing_there(place: str) -> Refusal:
    message = f"there is nothing at {place}. Predictions are at POST /endpoints/NAME/predict."
    return Refusal(404, "not_found", message)


def _expect(allowed: str, method: str) -> None:
    if method != allowed:
        raise Refusal(405, "method_not_allowed", f"{method} is not answered here. Use {allowed}.")


def _stop_if_failed(watching: asyncio.Task[None]) -> None:
    if not watching.cancelled() and (error := watching.exception()) is not None:
        logger.critical("the watcher of routes failed; stopping", exc_info=error)
        signal.raise_signal(signal.SIGTERM)


def _asked_to_stop(number: int, frame: object) -> None:
    logger.info("stopped by signal %d", number)
