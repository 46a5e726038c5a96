"""Answers leave the server in one piece, and none is kept back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

from everloop.serving.one_write import Together
from tests.serving.server import Server


class Written(asyncio.Transport):
    """Where writes end."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        self.pieces.append(bytes(data))

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self.pieces.append(b"closed")


def test_head_and_body_are_written_together_and_a_head_alone_as_soon_as_the_loop_turns() -> None:
    async def write() -> list[bytes]:
        under = Written()
        transport = Together(under, asyncio.get_running_loop())
        for piece in (b"head ", b"body", b"alone"):
            transport.write(piece)
        await asyncio.sleep(0)
        transport.write(b"last")
        transport.close()
        await asyncio.sleep(0)
        return under.pieces

    assert asyncio.run(write()) == [b"head body", b"alone", b"last", b"closed"]


def test_a_head_alone_and_the_last_answer_of_a_connection_arrive(
    home: Path, serve: Callable[..., Server]
) -> None:
    server = serve(home)
    with socket.create_connection(("127.0.0.1", server.worker().port), timeout=30) as connection:
        connection.sendall(b"HEAD /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b" 405 " in connection.recv(4096)
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            assert answer.read().endswith(b'{"live":true}')
