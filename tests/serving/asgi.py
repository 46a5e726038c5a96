"""The prediction server's application inside the test's own process: real releases and a real log, no socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from everloop.clock import SystemClock, wall
from everloop.predictions import LogWriter, PredictionRecord, log
from everloop.serving import Worker
from everloop.serving.answer import Answerer
from everloop.serving.app import App
from everloop.serving.live import Loader
from everloop.serving.watch import Watcher
from everloop.settings import load_settings
from everloop.storage import open_blobs

Result = TypeVar("Result")


@dataclass(frozen=True)
class Got:
    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.content)


class InProcess:
    """An application over a home, in a `with` block."""

    def __init__(
        self,
        home: Path,
        *,
        queue_limit: int = 1_024,
        body_limit_bytes: int = 1 << 20,
        is_durable: bool = False,
    ) -> None:
        self.folder = home / "serving"
        clock = SystemClock()
        self.writer = writer = LogWriter.claim(self.folder, is_durable=is_durable)
        answerer = Answerer(writer, clock, is_simulation=False, is_durable=is_durable)
        blobs = open_blobs(load_settings(home), only_reads=True)
        worker = Worker(writer.writer, os.getpid(), None, wall(), wall(), "in process", 0)
        self._watcher = Watcher(Loader(self.folder, blobs, clock, queue_limit), answerer, worker)
        self._app = App(self._watcher, answerer, body_limit_bytes=body_limit_bytes)
        self._runner = asyncio.Runner()
        self.reload()

    def reload(self) -> None:
        """Take in the routes in force."""
        self._runner.run(self._watcher.reload())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        with self._runner:
            self._runner.run(self._watcher.close())

    def get(self, path: str) -> Got:
        return self.request("GET", path)

    def post(self, path: str, body: Any, /, **headers: str) -> Got:
        """`body` as bytes, or as what is made JSON; headers with _ for -."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self.request("POST", path, content, headers)

    def request(
        self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Got:
        return self.run(self.ask(method, path, content, headers or {}))

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(work)

    def record(self, got: Got) -> PredictionRecord:
        found = log.find(self.folder, got.headers["x-everloop-prediction-id"])
        assert found is not None
        return found

    async def ask(self, method: str, path: str, content: bytes, headers: Mapping[str, str]) -> Got:
        given = {"host": "localhost", **headers}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [
                (name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in given.items()
            ],
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> Mapping[str, Any]:
            return {"type": "http.request", "body": content}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        start, body = sent
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        return Got(start["status"], found, body["body"])
