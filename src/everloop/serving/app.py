"""The prediction server: a plain ASGI application on uvicorn, without a framework.

    POST /endpoints/NAME/predict   a prediction, or one for each of several instances
    GET  /health                   {"live": true} as long as the process answers
    GET  /ready                    {"ready": true} once all routes are loaded, else 503 with the reason
    GET  /                         which endpoints there are

It reads the files of `<home>/serving` and the blobs, writes its log and its worker file, and knows no database.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import time
from datetime import datetime
from typing import Any, Literal

import msgspec
import uvicorn

from everloop.clock import SimulatedClock, SystemClock, to_micros, wall
from everloop.errors import Conflict, Denied, Invalid, StorageFailed
from everloop.ids import new_id, new_prediction_id
from everloop.serving.answer import Answer, Answerer, Question
from everloop.serving.files import remove_dead_workers
from everloop.serving.http import (
    LOOPBACK,
    Doorkeeper,
    Receive,
    Refusal,
    Reply,
    Scope,
    Send,
    TooLarge,
    json_reply,
    read_body,
)
from everloop.serving.live import LiveEndpoint, Loader
from everloop.serving.records import PredictionRecord, Worker
from everloop.serving.segments import LogWriter
from everloop.serving.watch import Watcher
from everloop.settings import Settings
from everloop.storage import open_blobs

logger = logging.getLogger(__name__)

ROUTES: tuple[tuple[str, str, Literal["predict", "public"]], ...] = (
    ("POST", "/endpoints/{name}/predict", "predict"),
    ("GET", "/health", "public"),
    ("GET", "/ready", "public"),
    ("GET", "/", "public"),
)
"""Method, path and permission of each route."""

QUEUE_LIMIT = 1_024
BODY_LIMIT_BYTES = 16 * 1024 * 1024
MOST_INSTANCES = 1_000
GRACE_S = 30


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a predict call: one question, or several as `instances`."""

    inputs: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    key: str | int | None = None
    at: datetime | None = None
    replay: bool = False
    instances: list[Question] | msgspec.UnsetType = msgspec.UNSET


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
                reply = refusal.reply()
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
            return await self._predict(parts[2], scope, receive)
        if path not in ("/", "/health", "/ready"):
            message = f"there is nothing at {path}. Predictions are at POST /endpoints/NAME/predict."
            raise Refusal(404, "not_found", message)
        _expect("GET", method)
        if path == "/health":
            return json_reply(200, {"live": True})
        return self._ready() if path == "/ready" else self._root()

    def _ready(self) -> Reply:
        reason = self._watcher.not_ready
        if reason is None:
            return json_reply(200, {"ready": True, "epoch": self._watcher.table.epoch})
        return json_reply(503, {"ready": False, "reason": reason}, ((b"retry-after", b"1"),))

    def _root(self) -> Reply:
        return json_reply(200, {"name": "everloop", "endpoints": sorted(self._watcher.table.endpoints)})

    async def _predict(self, name: str, scope: Scope, receive: Receive) -> Reply:
        self._endpoint(name)
        try:
            body = await read_body(scope["headers"], receive, limit_bytes=self._body_limit_bytes)
        except TooLarge:
            limit = f"{self._body_limit_bytes:,} bytes"
            message = f"the body is over {limit}, the limit. Send fewer instances or smaller images."
            return await self._unread(name, Refusal(413, "too_large", message))
        started_ns = time.perf_counter_ns()
        endpoint = self._endpoint(name)  # again: a slow body may outlast a change of routes
        try:
            request = _decode(body)
            questions = _questions(request)
        except msgspec.ValidationError as error:
            message = (
                f'the body is not what a prediction needs: {error}. Send {{"inputs": {{"FIELD": VALUE}}}}.'
            )
            return await self._unread(name, Refusal(422, "invalid", message))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"the body is not JSON: {error}. Send a JSON object in UTF-8."
            return await self._unread(name, Refusal(400, "malformed", message))
        if request.instances is msgspec.UNSET:
            answer = await self._answerer.answer(endpoint, questions[0], started_ns=started_ns)
            await self._log([answer.record])
            return _single(answer)
        together = new_id("req")
        answers = await asyncio.gather(
            *(
                self._answerer.answer(endpoint, question, started_ns=started_ns, request=together)
                for question in questions
            )
        )
        await self._log([answer.record for answer in answers])
        return json_reply(200, {"predictions": [_content(answer) for answer in answers]})

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

    async def _unread(self, name: str, refusal: Refusal) -> Reply:
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
        return refusal.reply()

    async def _log(self, records: list[PredictionRecord]) -> None:
        """Before any answer; without it there is none."""
        try:
            await self._answerer.log(records)
        except StorageFailed as error:
            logger.error("%s", error)
            raise Refusal(503, error.code, str(error)) from error


_decode = msgspec.json.Decoder(Request).decode


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


def _questions(request: Request) -> list[Question]:
    """The request's questions. Raises msgspec.ValidationError when it asks none, both ways or too many."""
    if request.instances is msgspec.UNSET:
        if request.inputs is msgspec.UNSET:
            raise msgspec.ValidationError("it has neither `inputs` nor `instances`")
        return [Question(request.inputs, request.key, request.at, request.replay)]
    if request.inputs is not msgspec.UNSET:
        raise msgspec.ValidationError("it has both `inputs` and `instances`")
    if not 0 < len(request.instances) <= MOST_INSTANCES:
        raise msgspec.ValidationError(
            f"it has {len(request.instances)} instances, 1 to {MOST_INSTANCES} are taken"
        )
    return request.instances


def _single(answer: Answer) -> Reply:
    record = answer.record
    headers = (
        (b"x-everloop-prediction-id", record.id.encode()),
        (b"x-everloop-version", b"%d" % record.version),
    )
    if answer.refusal is None:
        return json_reply(200, _content(answer), headers)
    reply = answer.refusal.reply()
    return Reply(reply.status, reply.body, (*reply.headers, *headers))


def _content(answer: Answer) -> dict[str, Any]:
    record = answer.record
    if answer.refusal is not None:
        refusal = answer.refusal
        return {"error": {"code": refusal.code, "message": str(refusal), **refusal.more}}
    return {
        "prediction_id": record.id,
        "output": record.output,
        "scores": record.scores,
        "model": record.model,
        "version": record.version,
        "variant": record.variant,
    }


def _expect(allowed: str, method: str) -> None:
    if method != allowed:
        raise Refusal(405, "method_not_allowed", f"{method} is not answered here. Use {allowed}.")


def _stop_if_failed(watching: asyncio.Task[None]) -> None:
    if not watching.cancelled() and (error := watching.exception()) is not None:
        logger.critical("the watcher of routes failed; stopping", exc_info=error)
        signal.raise_signal(signal.SIGTERM)


def _asked_to_stop(number: int, frame: object) -> None:
    logger.info("stopped by signal %d", number)
