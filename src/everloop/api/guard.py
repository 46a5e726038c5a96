"""Who may speak to the control plane at all: Host, Origin, size of the body.

A page on any site can make a browser send requests to a loopback port (DNS rebinding, cross-site posts). A request is
answered only when its Host is this server's, and one that changes something only when its Origin, if it has one, is.
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import HTTPConnection, Request

from everloop.errors import Denied, Invalid, TooLarge
from everloop.settings import Settings

MAX_BODY_BYTES = 64 << 20
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def check_address(settings: Settings) -> None:
    """Refuse to listen beyond loopback without authentication. Raises Invalid."""
    if settings.auth == "off" and not _is_loopback(settings.host):
        raise Invalid(
            f"host is {settings.host}, which others can reach, and auth is off. Turn authentication on (auth = 'token' "
            "in settings.toml, then: everloop access add NAME --role owner), or listen on 127.0.0.1."
        )


def check_origin(request: HTTPConnection, settings: Settings) -> None:
    """Raises Denied for a Host that is not ours, or a change asked for from another origin."""
    host = _name_of(request.headers.get("host", ""))
    if not _is_ours(host, settings):
        raise Denied(
            f"the request is for the host {host!r}, which is not this server's. "
            "Add it to allowed_hosts in settings.toml if it should be."
        )
    origin = request.headers.get("origin")
    changes = request.scope.get("method") not in ("GET", "HEAD", "OPTIONS")
    if changes and origin is not None and not _is_ours(urlsplit(origin).hostname or origin, settings):
        raise Denied(f"a page from {origin} may not change anything here. Open everloop's own pages instead.")


def check_text(request: Request) -> None:
    """Raises Invalid for a NUL in the path or the query, which no name has and PostgreSQL takes in none."""
    if any("\0" in str(text) for text in (*request.path_params.values(), *request.query_params.values())):
        raise Invalid(
            "the path or the query holds a NUL character, which no name or value may have. Leave it out."
        )


def holds_nul(body: bytes) -> bool:
    """Whether a text in a JSON body holds a NUL. Raises msgspec's DecodeError."""
    return b"\\u0000" in body and _holds_nul(msgspec.json.decode(body))


def _holds_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_nul(one) for pair in value.items() for one in pair)
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value


def check_same_origin(request: HTTPConnection) -> None:
    """Raises Denied for a change that a browser's cookie asks for, unless a page of this very server asks.

    A cookie is sent by every page on the same host, whatever its port: the origin must be ours to the port.
    """
    if request.scope.get("method") in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("origin", "")
    if not origin or urlsplit(origin).netloc != request.headers.get("host", ""):
        raise Denied(
            f"a page from {origin or 'nowhere'} may not change anything with a browser's session. "
            "Use everloop's own pages, or send a token."
        )


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The whole body. Raises TooLarge as soon as it is known to be too large."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most_bytes:
            most = f"{most_bytes >> 20} MB" if most_bytes >= 1 << 20 else f"{most_bytes >> 10} KB"
            raise TooLarge(f"the body is larger than {most}. Send it in parts, or use the command line.")
        chunks.append(chunk)
    return b"".join(chunks)


def _is_ours(host: str, settings: Settings) -> bool:
    allowed = {name.strip() for name in settings.allowed_hosts.split(",") if name.strip()}
    return host in _LOOPBACK or host in allowed or (host == settings.host and host != "0.0.0.0")  # noqa: S104  (compared)


def _name_of(host_header: str) -> str:
    return urlsplit(f"//{host_header}").hostname or ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
