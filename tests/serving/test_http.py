from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from everloop.errors import TooLarge
from everloop.serving.http import SMALL_BYTES, Doorkeeper, Refusal, Room, error_reply, read_body


def headers(**values: str) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in values.items()]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1:8400",
        "[::1]:8400",
        "LOCALHOST:1",
        "models.example.org",
        "models.example.org:443",
    ],
)
def test_own_names_are_let_in(host: str) -> None:
    Doorkeeper("models.example.org, other").check(headers(host=host), changes_state=True)


@pytest.mark.parametrize(
    "host", ["evil.example.org", "127.0.0.1.evil.org", "", "[::2]:8400", "localhost.evil.org:8400"]
)
@pytest.mark.parametrize("changes_state", [True, False])
def test_a_foreign_host_is_refused_always(host: str, changes_state: bool) -> None:
    with pytest.raises(Refusal, match="allowed_hosts"):
        Doorkeeper("").check(headers(host=host), changes_state=changes_state)


def test_a_request_without_a_host_is_refused() -> None:
    with pytest.raises(Refusal, match="host None"):
        Doorkeeper("").check([], changes_state=False)


@pytest.mark.parametrize(
    "origin", ["http://127.0.0.1:8400", "https://models.example.org", "https://models.example.org:9999"]
)
def test_own_pages_may_ask(origin: str) -> None:
    Doorkeeper("models.example.org").check(headers(host="127.0.0.1:8400", origin=origin), changes_state=True)


@pytest.mark.parametrize(
    "origin", ["https://evil.example.org", "null", "http://127.0.0.1:3000", "http://localhost:8400"]
)
def test_foreign_pages_may_look_and_not_ask(origin: str) -> None:
    door = Doorkeeper("")
    door.check(headers(host="127.0.0.1:8400", origin=origin), changes_state=False)
    with pytest.raises(Refusal, match="comes from a page of"):
        door.check(headers(host="127.0.0.1:8400", origin=origin), changes_state=True)


def body_of(*parts: bytes, limit: int = 10, length: str | None = None, then: str = "http.request") -> bytes:
    messages: list[Mapping[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": index < len(parts) - 1}
        for index, part in enumerate(parts)
    ]
    if then != "http.request":
        messages[-1] = {"type": then}
    arriving = iter(messages)

    async def receive() -> Mapping[str, Any]:
        return next(arriving)

    given = [] if length is None else [(b"content-length", length.encode())]
    return asyncio.run(read_body(given, receive, limit_bytes=limit, room=Room(1_000_000)))


def test_a_body_comes_in_any_number_of_parts() -> None:
    assert body_of(b"12345") == b"12345"
    assert body_of(b"123", b"", b"45", b"67890") == b"1234567890"


@pytest.mark.parametrize("length", ["11", "-1", "ten"])
def test_a_body_that_says_it_is_too_large_is_not_read(length: str) -> None:
    with pytest.raises(TooLarge):
        body_of(length=length)


def test_a_body_that_says_nothing_is_read_to_the_limit() -> None:
    assert body_of(b"12345", b"67890") == b"1234567890"
    with pytest.raises(TooLarge):
        body_of(b"12345", b"678901", b"never read")


def test_a_client_that_leaves_is_not_answered_with_a_prediction() -> None:
    with pytest.raises(Refusal, match="closed before"):
        body_of(b"123", b"", then="http.disconnect")


def test_large_bodies_share_one_room_and_leave_it_when_they_are_not_whole() -> None:
    room, large = Room(2 * SMALL_BYTES), b" " * (SMALL_BYTES + 1)

    def read(*messages: dict[str, Any]) -> bytes:
        arriving = iter(messages)

        async def receive() -> Mapping[str, Any]:
            return next(arriving)

        return asyncio.run(read_body([], receive, limit_bytes=1 << 30, room=room))

    first = read({"type": "http.request", "body": large})
    with pytest.raises(Refusal, match="leave no room"):
        read({"type": "http.request", "body": large})
    assert read({"type": "http.request", "body": b"small"}) == b"small"
    room.free(len(first))
    with pytest.raises(Refusal, match="closed before"):
        read({"type": "http.request", "body": large, "more_body": True}, {"type": "http.disconnect"})
    assert read({"type": "http.request", "body": large}) == large


def test_errors_have_one_form_and_a_503_says_when_to_try_again() -> None:
    reply = error_reply(503, "overloaded", "full", prediction_id="pred_1")
    assert msgspec.json.decode(reply.body) == {
        "error": {"code": "overloaded", "message": "full", "prediction_id": "pred_1"}
    }
    assert (b"retry-after", b"1") in reply.headers
    assert error_reply(422, "invalid", "x").headers == ()
