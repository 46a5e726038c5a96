from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from starlette.requests import HTTPConnection

from everloop.api.guard import check_address, check_origin
from everloop.errors import Denied, Invalid
from everloop.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(tmp_path, environ={})


def request(host: str, *, origin: str | None = None, method: str = "POST") -> HTTPConnection:
    headers = [(b"host", host.encode())] + ([(b"origin", origin.encode())] if origin is not None else [])
    return HTTPConnection({"type": "http", "method": method, "headers": headers})


@pytest.mark.parametrize("host", ["localhost:8400", "127.0.0.1:8400", "127.0.0.1", "[::1]:8400"])
def test_a_loopback_host_is_ours(settings: Settings, host: str) -> None:
    check_origin(request(host), settings)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8400", "127.0.0.1.evil.example", "", "0.0.0.0:8400", "localhost.evil"],
)
def test_another_host_is_refused_against_dns_rebinding(settings: Settings, host: str) -> None:
    with pytest.raises(Denied, match="not this server's"):
        check_origin(request(host, method="GET"), settings)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost.evil.example", "null", "file://"]
)
def test_a_change_from_another_origin_is_refused(settings: Settings, origin: str) -> None:
    with pytest.raises(Denied, match="may not change anything"):
        check_origin(request("localhost:8400", origin=origin), settings)


def test_our_own_pages_and_programs_without_origin_may_change_things(settings: Settings) -> None:
    check_origin(request("localhost:8400", origin="http://localhost:8400"), settings)
    check_origin(request("localhost:8400"), settings)


def test_a_named_host_is_ours(settings: Settings) -> None:
    check_origin(request("loop.example:8400"), replace(settings, allowed_hosts="loop.example, other.example"))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "loop.example"])
def test_an_open_address_needs_authentication(settings: Settings, host: str) -> None:
    with pytest.raises(Invalid, match="auth is off"):
        check_address(replace(settings, host=host))
    check_address(replace(settings, host=host, auth="token"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_loopback_needs_none(settings: Settings, host: str) -> None:
    check_address(replace(settings, host=host))
