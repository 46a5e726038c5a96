"""The control plane over real HTTP: a uvicorn server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from everloop import access, errors
from everloop.api import Route, all_routes, create_app, exit_code_of, status_of
from everloop.cli.processes import server_of
from everloop.workspace import Workspace
from tests.servers import client_of, in_thread


def serve(ws: Workspace, *, predictions_url: str | None = None) -> Iterator[httpx.Client]:
    yield from serve_app(create_app(ws, predictions_url=predictions_url))


def serve_app(app: Starlette, **bounds: Any) -> Iterator[httpx.Client]:
    with in_thread(server_of(app, **bounds)) as url, client_of(url) as client:
        yield client


@pytest.fixture
def client(ws: Workspace) -> Iterator[httpx.Client]:
    yield from serve(ws)


@pytest.fixture
def closed(ws: Workspace) -> Iterator[httpx.Client]:
    """A server that wants tokens."""
    yield from serve(replace(ws, settings=replace(ws.settings, auth="token")))


def test_health_answers_anybody(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"live": True}
    assert client.get("/ready").json() == {"ready": True}


def test_about_names_a_simulation(client: httpx.Client, ws: Workspace) -> None:
    about = client.get("/api/about").json()
    assert (about["workspace"], about["simulation"]) == (ws.id, True)


def test_why_takes_the_id_of_a_step_with_its_slash(client: httpx.Client) -> None:
    answer = client.get(f"/api/why/run_{0:032x}/fit")
    assert answer.status_code == 404
    assert "there is no pipeline run" in answer.json()["error"]["message"]
    assert client.get("/api/why/foo").status_code == 422


def test_a_foreign_host_is_refused(client: httpx.Client) -> None:
    answer = client.get("/api/about", headers={"Host": "evil.example"})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "denied"


def test_a_token_is_needed_where_authentication_is_on(closed: httpx.Client, ws: Workspace) -> None:
    assert closed.get("/health").status_code == 200
    nobody = closed.get("/api/about")
    assert (nobody.status_code, nobody.headers["WWW-Authenticate"]) == (401, "Bearer")
    access.add_account(ws, "alice", role="viewer")
    _, secret = access.create_token(ws, "alice")
    assert closed.get("/api/about", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    assert closed.get("/api/about", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_a_role_without_the_permission_is_refused(closed: httpx.Client, ws: Workspace) -> None:
    access.add_account(ws, "shop", role="client")
    _, secret = access.create_token(ws, "shop")
    answer = closed.get("/api/about", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 403
    assert "may not see" in answer.json()["error"]["message"]


@pytest.mark.parametrize("route", all_routes(), ids=lambda route: f"{route.method} {route.path}")
def test_every_route_names_a_permission_and_says_what_it_does(route: Route) -> None:
    assert route.permission is not None or route.path in ("/health", "/ready", "/openapi.json")
    assert route.summary


def every_error() -> list[type[errors.EverloopError]]:
    known = [errors.EverloopError]
    for kind in known:
        known += kind.__subclasses__()
    return known[1:]


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_a_status_and_an_exit_code(kind: type[errors.EverloopError]) -> None:
    made = kind.__new__(kind)
    assert 400 <= status_of(made) < 600
    assert exit_code_of(made) in (1, 2, 3, 75)
