"""The demo's hands: a real server process, real HTTP, real commands. It uses everloop as any program would."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

_PATIENCE_S = 240.0
_ANSWER_IS_NO = 3  # the exit code of a failed gate
_AT_ONCE = 8  # requests on their way at the same time


class ShopError(Exception):
    """The server or a command said no where the story needs a yes."""


@dataclass(frozen=True)
class Tokens:
    """Who acts: an engineer, a reviewer who approves and settles, and the shop's own system."""

    robin: str
    alice: str
    shop: str


class Shop:
    """A running everloop with people who use it."""

    def __init__(self, home: Path, project: Path, port: int, tokens: Tokens) -> None:
        self.home = home
        self.project = project
        self.tokens = tokens
        self.now: datetime | None = None  # where the clock was moved to last
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0, trust_env=False)
        self._port = port
        self._begun: list[Command] = []

    def get(self, path: str, **query: Any) -> Any:
        """Ask as the engineer."""
        return self._answer(self._http.get(path, params=query, headers=_as(self.tokens.robin)))

    def post(self, path: str, body: Mapping[str, Any], *, token: str | None = None) -> Any:
        return self._answer(self._http.post(path, json=body, headers=_as(token or self.tokens.robin)))

    def post_all(self, requests: Sequence[tuple[str, Mapping[str, Any]]], *, token: str) -> None:
        """Post several things that people do at about the same time."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda request: self.post(*request, token=token), requests))

    def send(self, path: str, table: pa.Table, **query: str) -> Any:
        """Upload a table as a Parquet file."""
        file = io.BytesIO()
        pq.write_table(table, file)
        query["format"] = "parquet"
        return self._answer(
            self._http.post(path, params=query, content=file.getvalue(), headers=_as(self.tokens.robin))
        )

    def predict(self, endpoint: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Ask for predictions as the shop does, a listing a request; a failed one comes back as {"error": ...}."""
        path = f"/endpoints/{endpoint}/predict"
        with _PredictionPort(self._port + 1) as predictions, ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda row: predictions.ask(path, row), rows))

    def move_clock(self, to: datetime) -> None:
        self.now = to
        self.post("/api/simulation/clock", {"to": to.isoformat()})

    def settle(self, *, jobs: bool = True) -> None:
        """Wait until the server has dealt with what the clock or we have caused; jobs may go on if they are left out."""
        deadline = time.monotonic() + _PATIENCE_S
        quiet = 0
        while quiet < 2:
            work = self.get("/api/background")
            quiet = 0 if work["is_due"] or (jobs and work["has_jobs"]) else quiet + 1
            if time.monotonic() > deadline:
                raise ShopError("background work did not come to an end; see server.log in the home")
            time.sleep(0.02 if quiet else 0.1)  # one look is over before the next is due: so once more

    def begin(self, *arguments: str, actor: str = "robin") -> Command:
        """Start an everloop command."""
        begun = Command(arguments, ("--home", str(self.home), "--actor", actor, "--json"))
        self._begun.append(begun)
        return begun

    def command(self, *arguments: str, actor: str = "robin") -> Any:
        """Run an everloop command and return its JSON answer."""
        return self.begin(*arguments, actor=actor).answer()

    def close(self) -> None:
        for one in self._begun:
            one.stop()
        self._http.close()

    def _answer(self, answer: httpx.Response) -> Any:
        if answer.status_code >= 400:
            raise ShopError(
                f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:600]}"
            )
        return answer.json()


class Command:
    """An everloop command that runs."""

    def __init__(self, arguments: tuple[str, ...], options: tuple[str, ...]) -> None:
        self._name = " ".join(arguments)
        self._process = subprocess.Popen(
            [*_EVERLOOP, *arguments, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def answer(self) -> Any:
        """Wait for its end and return its JSON answer, which may be that a gate failed."""
        told, errors = self._process.communicate()
        if self._process.returncode not in (0, _ANSWER_IS_NO):
            raise ShopError(
                f"everloop {self._name} ended with {self._process.returncode}: {errors.strip()[-600:]}"
            )
        return json.loads(told)

    def stop(self) -> None:
        """End it, if it has not ended."""
        self._process.terminate()
        self._process.wait(30)


class _PredictionPort:
    """The data plane's own port, asked over one connection a thread until the last answer is there."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._of_thread = threading.local()
        self._open: list[http.client.HTTPConnection] = []

    def __enter__(self) -> _PredictionPort:
        return self

    def __exit__(self, *_exc: object) -> None:
        for connection in self._open:
            connection.close()

    def ask(self, path: str, row: Mapping[str, Any]) -> dict[str, Any]:
        body = json.dumps(row, default=_as_text)
        deadline = time.monotonic() + 30
        while True:
            status, answer = self._send(path, body)
            if status != 503 or time.monotonic() > deadline:
                break
            time.sleep(0.1)  # a new release is being loaded
        if status >= 400 and "prediction_id" not in answer.get("error", {}):
            raise ShopError(f"POST {path}: {status} {json.dumps(answer)[:600]}")
        return answer

    def _send(self, path: str, body: str) -> tuple[int, dict[str, Any]]:
        connection: http.client.HTTPConnection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            self._of_thread.connection = connection
            self._open.append(connection)
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found: dict[str, Any] = json.loads(answer.read())
        return answer.status, found


def _as_text(value: object) -> str:
    """How bytes travel in JSON: pictures as base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


_EVERLOOP = [sys.executable, "-m", "everloop"]


@contextmanager
def running_shop(home: Path, project: Path) -> Iterator[Shop]:
    """Start `everloop up` on the home, with accounts for the people of the story; stop it in the end."""
    (home / "settings.toml").write_text('auth = "token"\n')
    port = _free_port()
    log = (home / "server.log").open("wb")
    command = [*_EVERLOOP, "up", "--home", str(home), "--port", str(port), "--actor", "robin"]
    command += ["--with-parent", str(os.getpid())]
    server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    owner = _first_token(home)  # while the server starts
    shop = Shop(home, project, port, Tokens(owner, owner, owner))
    try:
        _wait_until_ready(shop, server)
        shop.tokens = Tokens(owner, _token(shop, "alice", "reviewer"), _token(shop, "shop", "client"))
        yield shop
    finally:
        shop.close()
        server.terminate()
        server.wait(30)
        log.close()
        # the story's people needed tokens; whoever looks at its home afterwards, on this machine, needs none
        (home / "settings.toml").unlink()


def _first_token(home: Path) -> str:
    """The owner's token: made on the command line, since nobody can ask the server for it yet."""
    options = ("--home", str(home), "--json")
    Command(("access", "add", "robin", "--role", "owner"), options).answer()
    return str(Command(("access", "token", "robin"), options).answer()["token"])


def _token(shop: Shop, name: str, role: str) -> str:
    shop.post("/api/accounts", {"name": name, "role": role})
    return str(shop.post(f"/api/accounts/{name}/tokens", {})["token"])


def _wait_until_ready(shop: Shop, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            shop.get("/ready")
            return
        except (httpx.HTTPError, ShopError):
            if server.poll() is not None or time.monotonic() > deadline:
                raise ShopError(f"the server did not start; see {shop.home / 'server.log'}") from None
            time.sleep(0.1)


def _free_port() -> int:
    """A port that is free, and the next one too; below those that the kernel gives to whoever connects."""
    while True:
        port = 20_000 + 2 * secrets.randbelow(6_000)
        with socket.socket() as one, socket.socket() as two, suppress(OSError):
            one.bind(("127.0.0.1", port))
            two.bind(("127.0.0.1", port + 1))
            return port


def _as(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
