"""HTTP as the prediction server needs it: who may ask, the body, the answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from everloop.errors import TooLarge

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = b"application/json"
BODY_LIMIT_BYTES = 16 * 1024 * 1024
BODIES_AT_ONCE = 16  # of the largest size, that are being read or answered
SMALL_BYTES = 64 * 1024  # of a body: what one read of a connection gives, for which no room is taken
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_encode = msgspec.json.Encoder().encode


class Reply(msgspec.Struct, frozen=True):
    """An answer. A struct is made in a seventh of the time of a frozen dataclass (56 ns against 400)."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = JSON

    def with_headers(self, headers: tuple[tuple[bytes, bytes], ...]) -> Reply:
        return Reply(self.status, self.body, (*self.headers, *headers), self.content_type)

    async def send(self, send: Send) -> None:
        headers = [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class Refusal(Exception):  # noqa: N818  (an answer on its way to the client)
    """An answer instead of a prediction."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.more = more
        self.headers: tuple[tuple[bytes, bytes], ...] = ()

    def reply(self) -> Reply:
        return error_reply(self.status, self.code, str(self), **self.more)


def json_reply(status: int, content: Any, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    return Reply(status, _encode(content), headers)


def error_reply(status: int, code: str, message: str, **more: Any) -> Reply:
    """The form of errors of our own protocol."""
    return refusal_reply(status, {"error": {"code": code, "message": message, **more}})


def refusal_reply(status: int, content: Any) -> Reply:
    """An error in any protocol's form; a 503 says when to try again."""
    headers = ((b"retry-after", b"1"),) if status == 503 else ()
    if status == 413:
        headers = ((b"connection", b"close"),)  # the rest of the body is not read
    return json_reply(status, content, headers)


def header(headers: Headers, name: bytes) -> str | None:
    """The first header of that name, which is in small letters."""
    for found, value in headers:
        if found == name:
            return value.decode("latin-1")
    return None


def check_encoding(headers: Headers) -> None:
    """Raises Refusal for a compressed body: a few bytes of it may be gigabytes."""
    coding = header(headers, b"content-encoding")
    if coding is not None and coding.lower() != "identity":
        message = f"the body is compressed ({coding[:40]}). Send it as it is, without Content-Encoding."
        raise Refusal(415, "unsupported", message)


class Doorkeeper:
    """Whether a request names this server and comes from it.

    A page in a browser can send requests here, by a name of its own that it points at this machine (DNS
    rebinding: Host gives it away) or across origins (Origin does). A program sets neither wrongly.
    """

    def __init__(self, allowed_hosts: str) -> None:
        named = [name.strip().lower() for name in allowed_hosts.split(",") if name.strip()]
        self._hosts = frozenset((*LOOPBACK, *named))

    def check(self, headers: Headers, *, changes_state: bool) -> None:
        """Raises Refusal."""
        host = origin = None
        for name, value in headers:
            if name == b"host":
                host = value.decode("latin-1").lower()
            elif name == b"origin":
                origin = value.decode("latin-1").lower()
        if host is None or _host_name(host) not in self._hosts:
            raise Refusal(
                403,
                "denied",
                f"the request is for host {host!r}; this server answers for {', '.join(sorted(self._hosts))}. "
                "Add the name to the setting allowed_hosts.",
            )
        if changes_state and origin is not None and not self._is_own(origin, host):
            raise Refusal(
                403,
                "denied",
                f"the request comes from a page of {origin!r}; only pages of this server may ask for predictions. "
                "Add its host to the setting allowed_hosts.",
            )

    def _is_own(self, origin: str, host: str) -> bool:
        place = urlsplit(origin)
        return place.netloc == host or (place.hostname in self._hosts and place.hostname not in LOOPBACK)


class Room:
    """Memory for large bodies that are being read or answered: as much as all of them together may take."""

    def __init__(self, limit_bytes: int) -> None:
        self._free = limit_bytes

    def take(self, size: int) -> None:
        """Raises Refusal when there is no room for so many bytes more."""
        if size > self._free:
            raise Refusal(
                503,
                "overloaded",
                "the large bodies that are in hand leave no room for this one. Try again in a second.",
            )
        self._free -= size

    def free(self, size: int) -> None:
        """Give back what was taken for a body of that size."""
        self._free += size if size > SMALL_BYTES else 0


async def read_body(headers: Headers, receive: Receive, *, limit_bytes: int, room: Room) -> bytes:
    """The whole body, which a large one has taken room for. Raises TooLarge as soon as it is known to be over the limit."""
    for name, value in headers:
        if name == b"content-length" and (not value.isdigit() or int(value) > limit_bytes):
            raise _too_large(limit_bytes)
    parts: list[bytes] = []
    size = taken = 0
    has_more = True
    try:
        while has_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refusal(400, "malformed", "the connection was closed before the body was whole.")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit_bytes:
                raise _too_large(limit_bytes)
            if size > SMALL_BYTES:
                room.take(size - taken)
                taken = size
            has_more = message.get("more_body", False)
    except BaseException:
        room.free(taken)
        raise
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"the body is over {limit_bytes:,} bytes, the limit. Send fewer instances or smaller images."
    )


def _host_name(host: str) -> str:
    """The name in a Host header, without its port and the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
