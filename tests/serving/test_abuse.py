"""Bodies and connections that no honest client makes, against a real serving process that others go on using."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.serving.home import COLOUR, TITLE, go_live, picky_model, write_release
from tests.serving.server import Server, wait_for

MIB = 1 << 20
PREDICTING = [
    "/endpoints/category/predict",
    "/endpoints/category/invocations",
    "/v1/models/category:predict",
    "/v2/models/category/infer",
]
GOOD = b'{"inputs": {"title": "a fridge", "colour": "red"}}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    write_release(home, "rel_control", picky_model(), inputs=(TITLE, COLOUR), version=3)
    go_live(home, ("control", 100))
    started = Server(home, body_limit_bytes=MIB, body_s=1.5, most_connections=20)
    yield started
    started.kill()


@pytest.fixture(autouse=True)
def others_are_answered_and_memory_stays(server: Server) -> Iterator[None]:
    """After each attack somebody else is answered at once, and the process has not kept what was sent."""
    server_mb = memory_mb(server)
    yield
    assert asked(server).status_code == 200
    assert memory_mb(server) < server_mb + 100


def asked(server: Server) -> httpx.Response:
    with httpx.Client(base_url=server.client.base_url, timeout=10) as client:
        return client.post("/endpoints/category/predict", content=GOOD)


def memory_mb(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1_024


def opened(server: Server) -> socket.socket:
    port = server.client.base_url.port
    assert port is not None
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def head(*lines: str, path: str = PREDICTING[0]) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: localhost", *lines, "", ""]).encode()


def answers(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    with contextlib.suppress(ConnectionError):  # closed with something of ours still unread
        while part := connection.recv(1 << 16):
            found += part
    return found


def said(server: Server, *parts: bytes) -> bytes:
    """What is answered to raw bytes, until the server closes."""
    with opened(server) as connection:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
        return answers(connection)


@pytest.mark.parametrize("path", PREDICTING)
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_over_the_limit_is_refused_before_it_is_read(
    server: Server, path: str, is_chunked: bool
) -> None:
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += MIB
            yield b" " * MIB

    headers = {} if is_chunked else {"content-length": str(64 * MIB)}
    with contextlib.suppress(httpx.WriteError, httpx.ReadError):
        got = server.client.post(path, content=parts(), headers=headers)
        assert (got.status_code, got.headers["connection"]) == (413, "close")
    assert sent < 40 * MIB


BRACKETS = b"[" * 100_000
ODD = [
    BRACKETS,
    b'{"inputs": ' + BRACKETS,
    b'{"inputs": {"title": ' + BRACKETS + b"]" * 100_000 + b"}}",
    b'{"a":' * 100_000,
    b'{"inputs": {"title": 1e999, "colour": "red"}}',
    b'{"inputs": {"title": -1e-999999999, "colour": "red"}}',
    b'{"inputs": {"title": ' + b"9" * 100_000 + b', "colour": "red"}}',
    b"\0" * 1_000,
    b'{"inputs": {"title": "\0", "colour": "red"}}',
    b"\xff\xfe" + GOOD,
    GOOD[:-1],
    GOOD + GOOD,
    b"",
]


@pytest.mark.parametrize("path", PREDICTING)
@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
def test_a_body_that_is_no_request_is_refused(server: Server, path: str, body: bytes) -> None:
    got = server.client.post(path, content=body)
    assert got.status_code in (400, 422), got.text
    assert got.json()


def test_a_nul_in_a_text_is_a_text(server: Server) -> None:
    got = server.client.post(PREDICTING[0], content=GOOD.replace(b"fridge", b"fri\\u0000dge"))
    assert got.status_code == 200
    assert server.record(got).inputs["title"] == "a fri\0dge"


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "identity, gzip"])
def test_a_compressed_body_is_refused_unread(server: Server, coding: str) -> None:
    got = server.client.post(PREDICTING[0], content=b"\x1f\x8b", headers={"content-encoding": coding})
    assert got.status_code == 415


@pytest.mark.parametrize(
    "lines",
    [
        ["content-length: 5", "content-length: 6"],
        ["content-length: 5", "transfer-encoding: chunked"],
        ["content-length: -5"],
        ["content-length: 0x5"],
        ["content-length: 99999999999999999999999"],
        ["transfer-encoding: gzip"],
        ["bad header"],
        ["x: a\0b"],
    ],
)
def test_lengths_and_headers_that_contradict_themselves_end_the_connection(
    server: Server, lines: list[str]
) -> None:
    got = said(server, head(*lines) + GOOD)
    assert got.split(b" ", 2)[1] in (b"400", b"413")
    assert got.count(b"HTTP/1.1 ") == 1


def test_the_second_of_two_hosts_does_not_count(server: Server) -> None:
    got = said(
        server, head("host: evil.example.org", f"content-length: {len(GOOD)}", "connection: close") + GOOD
    )
    assert got.split(b" ", 2)[1] == b"403"


def test_requests_that_come_at_once_are_answered_in_their_order(server: Server) -> None:
    one = head(f"content-length: {len(GOOD)}") + GOOD
    last = head("content-length: 1", "connection: close", path="/v1/models/category:predict") + b"{"
    got = said(server, one * 50 + last)
    statuses = [each[:3] for each in got.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200"] * 50 + [b"400"]


def test_a_body_that_is_cut_off_predicts_nothing(server: Server) -> None:
    before = len(server.records())
    for _ in range(5):
        with opened(server) as connection:
            connection.sendall(head("content-length: 1000") + GOOD)
    with opened(server) as connection:
        connection.sendall(head("transfer-encoding: chunked") + b"ff\r\n" + GOOD)
    asked(server)
    assert len(server.records()) == before + 1


@pytest.mark.parametrize(
    ("first", "drop", "limit_s"),
    [
        (head("content-length: 1000"), b" ", 1.5),
        (head("transfer-encoding: chunked"), b"1\r\n \r\n", 1.5),
        (head("content-length: 1000"), b"", 1.5),
    ],
    ids=["trickle", "chunks", "silence"],
)
def test_a_body_that_trickles_in_is_given_up(
    server: Server, first: bytes, drop: bytes, limit_s: float
) -> None:
    with opened(server) as connection:
        connection.sendall(first)
        connection.settimeout(0.2)
        got, began = b"", time.monotonic()
        while b"408 Request Timeout" not in got:
            with contextlib.suppress(TimeoutError):
                connection.sendall(drop)
                got += connection.recv(1_000)
            assert time.monotonic() - began < 30
        assert time.monotonic() - began >= limit_s
        assert b'"error"' in got


@pytest.mark.parametrize(
    "endless",
    [b"x-more: 1\r\n" * 1_000, b"x" * 10_000],
    ids=["headers", "one header"],
)
@pytest.mark.parametrize(
    "begun",
    [head()[:-2], head("transfer-encoding: chunked") + b"1\r\n \r\n0\r\n", b"GET /"],
    ids=["headers", "trailers", "path"],
)
def test_heads_and_trailers_without_an_end_are_refused(server: Server, begun: bytes, endless: bytes) -> None:
    got = said(server, begun, *([endless] * 100))
    assert got[9:12] in (b"431", b"400", b"")  # empty: reset before it could be read


def test_who_asks_nothing_makes_room_for_who_asks(server: Server) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(opened(server)) for _ in range(60)]
        for one in silent[::2]:
            with contextlib.suppress(ConnectionError):
                one.sendall(b"POST /endpoints/category/predict HT")
        began = time.monotonic()
        assert [asked(server).status_code for _ in range(5)] == [200] * 5
        assert time.monotonic() - began < 5
        assert connections(server) <= 21


def test_more_requests_than_connections_are_told_to_come_again(server: Server) -> None:
    with ExitStack() as stack:
        busy = [stack.enter_context(opened(server)) for _ in range(20)]
        for one in busy:
            one.sendall(head("content-length: 1000"))  # a request that has begun is not closed for another
        wait_for(lambda: said(server, head("content-length: 0")).startswith(b"HTTP/1.1 503"))
        wait_for(lambda: asked_or_none(server))
    assert connections(server) <= 21


def asked_or_none(server: Server) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return asked(server).status_code == 200
    return False


def connections(server: Server) -> int:
    """Sockets of the process: connections and what it listens on."""
    port = f":{server.client.base_url.port:04X} "
    lines = Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines()
    return sum(port in line.split()[1] + " " and line.split()[3] == "01" for line in lines)


def test_large_bodies_at_once_take_no_more_than_their_room(server: Server) -> None:
    body = b'{"inputs": {"title": "' + b"x" * (MIB - 100) + b'", "colour": "red"}}'
    with ExitStack() as stack:
        held = [stack.enter_context(opened(server)) for _ in range(19)]
        for one in held:
            with contextlib.suppress(ConnectionError):
                one.sendall(head(f"content-length: {len(body)}") + body[:-1])
        codes = [one.recv(12)[9:12] for one in held]
    assert set(codes) <= {b"408", b"503"}
    assert b"503" in codes
