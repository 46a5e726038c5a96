"""Connections to `everloop up` that no honest client makes, and slow ones that are honest."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from everloop import tracking
from everloop.api import create_app
from everloop.workspace import Workspace
from tests.api.test_app import serve_app

STEP_BYTES = 64 << 10


@pytest.fixture
def client(ws: Workspace) -> Iterator[httpx.Client]:
    yield from serve_app(create_app(ws), most=5, head_s=1.5, body_s=1.5, step_bytes=STEP_BYTES)


@pytest.fixture
def file(ws: Workspace) -> str:
    """Where a file of a run is put and got."""
    run = tracking.start_run(ws)
    return f"/api/2.0/mlflow-artifacts/artifacts/0/{run.mlflow_id}/artifacts/slow.bin"


def put_9_bytes(file: str) -> bytes:
    return f"PUT {file} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n".encode()


def opened(client: httpx.Client) -> socket.socket:
    assert client.base_url.port is not None
    return socket.create_connection(("127.0.0.1", client.base_url.port), timeout=30)


def answer(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):  # closed with something of ours still unread
        while part := connection.recv(1 << 16):
            found += part
    return found


def test_a_head_without_an_end_is_refused(client: httpx.Client) -> None:
    with opened(client) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET / HTTP/1.1\r\nx: " + b"x" * 100_000)
        assert answer(connection)[9:12] in (b"431", b"400", b"")  # empty: reset before it could be read


@pytest.mark.parametrize(
    ("begun", "told"), [(b"GET / HTTP/1.1\r\nhost: loc", b"HTTP/1.1 408 "), (b"", b"")], ids=["half", "none"]
)
def test_a_head_that_does_not_come_is_given_up_and_who_said_nothing_is_told_nothing(
    client: httpx.Client, begun: bytes, told: bytes
) -> None:
    """Browsers open connections to have them ready: a 408 there would be taken for the answer to the next request."""
    with opened(client) as connection:
        connection.sendall(begun)
        assert answer(connection)[: len(b"HTTP/1.1 408 ")] == told


def test_more_requests_than_connections_are_told_to_come_again(client: httpx.Client, file: str) -> None:
    with ExitStack() as stack:
        for _ in range(5):
            busy = stack.enter_context(opened(client))
            busy.sendall(put_9_bytes(file))
        with opened(client) as one_more:
            got = answer(one_more)
    assert got.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in got


def test_a_body_that_trickles_in_is_given_up(client: httpx.Client, file: str) -> None:
    with opened(client) as connection:
        connection.sendall(put_9_bytes(file) + b"1")
        assert answer(connection).startswith(b"HTTP/1.1 408 ")


def test_a_file_that_goes_on_arriving_and_leaving_is_not_given_up(client: httpx.Client, file: str) -> None:
    """Longer than a body without progress has, and at more than the least rate."""

    def slowly() -> Iterator[bytes]:
        for _ in range(7):
            time.sleep(0.5)
            yield b"x" * STEP_BYTES

    put = client.put(file, content=slowly(), headers={"content-length": str(7 * STEP_BYTES)})
    assert put.status_code == 200, put.text
    content = b"x" * (64 << 20)
    assert client.put(file, content=content).status_code == 200
    with client.stream("GET", file) as response:
        parts = response.iter_bytes(1 << 20)
        got = 0
        for _ in range(7):
            time.sleep(0.5)
            got += len(next(parts))
        assert got + sum(map(len, parts)) == len(content)
