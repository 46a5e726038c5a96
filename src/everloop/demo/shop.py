"""The demo's hands: a real server process, real HTTP, real commands. It uses everloop as any program would."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

_PATIENCE_S = 240.0
_BATCH = 25  # listings in one request


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
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0, trust_env=False)

    def get(self, path: str, **query: Any) -> Any:
        """Ask as the engineer."""
        return self._answer(self._http.get(path, params=query, headers=_as(self.tokens.robin)))

    def post(self, path: str, body: Mapping[str, Any], *, token: str | None = None) -> Any:
        return self._answer(self._http.post(path, json=body, headers=_as(token or self.tokens.robin)))

    def send(self, path: str, table: pa.Table, **query: str) -> Any:
        """Upload a table as a Parquet file."""
        file = io.BytesIO()
        pq.write_table(table, file)
        query["format"] = "parquet"
        return self._answer(
            self._http.post(path, params=query, content=file.getvalue(), headers=_as(self.tokens.robin))
        )

    def predict(self, endpoint: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Ask for predictions as the shop does, a few listings at a time; failed ones come back as errors."""
        answers: list[dict[str, Any]] = []
        for start in range(0, len(rows), _BATCH):
            batch = list(rows[start : start + _BATCH])
            answer = self._http.post(
                f"/endpoints/{endpoint}/predict", json={"instances": batch}, headers=_as(self.tokens.shop)
            )
            if answer.status_code == 503:
                time.sleep(0.5)
                answer = self._http.post(
                    f"/endpoints/{endpoint}/predict", json={"instances": batch}, headers=_as(self.tokens.shop)
                )
            answers += self._answer(answer)["predictions"]
        return answers

    def move_clock(self, to: datetime) -> None:
        self.post("/api/simulation/clock", {"to": to.isoformat()})

    def settle(self) -> None:
        """Wait until the server has dealt with everything that the clock or we have caused."""
        deadline = time.monotonic() + _PATIENCE_S
        quiet = 0
        while quiet < 2:
            quiet = 0 if self.get("/api/background")["is_busy"] else quiet + 1
            if time.monotonic() > deadline:
                raise ShopError("background work did not come to an end; see server.log in the home")
            time.sleep(0.1)

    def command(self, *arguments: str, actor: str = "robin") -> Any:
        """Run an everloop command and return its JSON answer."""
        ran = subprocess.run(
            [*_EVERLOOP, *arguments, "--home", str(self.home), "--actor", actor, "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode != 0:
            raise ShopError(
                f"everloop {' '.join(arguments)} ended with {ran.returncode}: {ran.stderr.strip()[-600:]}"
            )
        return json.loads(ran.stdout)

    def close(self) -> None:
        self._http.close()

    def _answer(self, answer: httpx.Response) -> Any:
        if answer.status_code >= 400:
            raise ShopError(
                f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:600]}"
            )
        return answer.json()


_EVERLOOP = [sys.executable, "-m", "everloop"]


@contextmanager
def running_shop(home: Path, project: Path) -> Iterator[Shop]:
    """Start `everloop up` on the home, with accounts for the people of the story; stop it in the end."""
    (home / "settings.toml").write_text('auth = "token"\n')
    owner = _first_token(home)
    port = _free_port()
    log = (home / "server.log").open("wb")
    command = [*_EVERLOOP, "up", "--home", str(home), "--port", str(port), "--actor", "robin"]
    server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
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


def _first_token(home: Path) -> str:
    """The owner's token: made on the command line, since nobody can ask the server for it yet."""
    for arguments in (("access", "add", "robin", "--role", "owner"), ("access", "token", "robin")):
        ran = subprocess.run(
            [*_EVERLOOP, *arguments, "--home", str(home), "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode != 0:
            raise ShopError(ran.stderr.strip())
    return str(json.loads(ran.stdout)["token"])


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
    """A port that is free, and the next one too."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def _as(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
