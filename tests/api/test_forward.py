"""Predictions in every protocol through the control port, with a real data plane behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from everloop import access
from everloop.serving import Rule, Variant
from everloop.workspace import Workspace
from tests.api.test_app import serve
from tests.conftest import simulation
from tests.serving.home import go_live, title_model, write_release
from tests.serving.server import Server

ASKED = [
    ("/endpoints/category/predict", {"inputs": {"title": "a fridge"}}),
    ("/endpoints/category/invocations", {"inputs": ["a fridge"]}),
    ("/invocations", {"inputs": ["a fridge"]}),
    ("/v1/models/category:predict", {"instances": ["a fridge"]}),
    (
        "/v2/models/category/versions/1/infer",
        {"inputs": [{"name": "title", "datatype": "BYTES", "shape": [1], "data": ["a fridge"]}]},
    ),
]
SEEN = ["/endpoints/category/openapi.json", "/v2/models/category", "/v1/models"]


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with simulation(tmp_path_factory.mktemp("home")) as ws:
        write_release(ws.settings.home, "rel_control", title_model())
        go_live(ws.settings.home, ("control", 100))
        yield ws


@pytest.fixture(scope="module")
def server(ws: Workspace) -> Iterator[Server]:
    server = Server(ws.settings.home)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def client(ws: Workspace, server: Server) -> Iterator[httpx.Client]:
    yield from serve(ws, predictions_url=str(server.client.base_url))


@pytest.fixture(scope="module")
def closed(ws: Workspace, server: Server) -> Iterator[httpx.Client]:
    """A control plane that wants tokens."""
    settings = replace(ws.settings, auth="token")
    yield from serve(replace(ws, settings=settings), predictions_url=str(server.client.base_url))


@pytest.mark.parametrize(("path", "body"), ASKED)
def test_each_protocol_is_passed_on_with_its_headers(
    client: httpx.Client, server: Server, path: str, body: object
) -> None:
    answer = client.post(path, json=body, headers={"X-Everloop-Replay": "true"})
    assert answer.status_code == 200, answer.text
    assert "Fridges" in answer.text
    assert server.record(answer).replay == (path != ASKED[0][0])


@pytest.mark.parametrize("path", [path for path, _ in ASKED])
def test_a_wrong_method_is_told_the_one_that_there_is(client: httpx.Client, path: str) -> None:
    answer = client.options(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_the_headers_of_rules_are_passed_on_and_no_others(
    client: httpx.Client, server: Server, ws: Workspace
) -> None:
    home = ws.settings.home
    write_release(home, "rel_canary", title_model(reverse=True), version=2)
    staff = Rule("staff", Variant("canary", "rel_canary", 0.0), header="x-staff", values=("yes",))
    path, body = ASKED[0]
    headers = {"X-Staff": "yes", "X-Other": "yes"}
    assert client.post(path, json=body, headers=headers).json()["version"] == 1
    server.wait_for_epoch(go_live(home, ("control", 100), rules=(staff,)))
    answer = client.post(path, json=body, headers=headers)
    assert server.record(answer).assigned == "rule:staff"
    pinned = client.post("/v1/models/category:predict", json=ASKED[3][1], headers={"X-Everloop-Version": "2"})
    assert server.record(pinned).assigned == "pinned"
    server.wait_for_epoch(go_live(home, ("control", 100)))
    assert client.post(path, json=body, headers=headers).json()["version"] == 1


def test_bytes_pass_through_both_ways(client: httpx.Client) -> None:
    head = (
        b'{"inputs": [{"name": "title", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 12}}],'
        b' "outputs": [{"name": "output", "parameters": {"binary_data": true}}]}'
    )
    answer = client.post(
        "/v2/models/category/infer",
        content=head + b"\x08\0\0\0a fridge",
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert answer.content[int(answer.headers["Inference-Header-Content-Length"]) :] == b"\x07\0\0\0Fridges"
    assert answer.headers["content-type"] == "application/octet-stream"


def test_predictions_in_any_protocol_need_the_same_permission(closed: httpx.Client, ws: Workspace) -> None:
    secrets = {}
    for role in ("client", "annotator"):
        access.add_account(ws, role, role=role)
        secrets[role] = {"Authorization": f"Bearer {access.create_token(ws, role)[1]}"}
    for path, body in ASKED:
        assert closed.post(path, json=body).status_code in (401, 403)
        assert closed.post(path, json=body, headers=secrets["annotator"]).status_code == 403
        assert closed.post(path, json=body, headers=secrets["client"]).status_code == 200
    for path in SEEN:
        assert closed.get(path).status_code in (401, 403)
        assert closed.get(path, headers=secrets["client"]).status_code == 200


@pytest.mark.parametrize("path", ["/ping", "/v2/health/live", "/v2/health/ready", "/v2"])
def test_probes_need_no_token(closed: httpx.Client, path: str) -> None:
    assert closed.get(path).status_code == 200


def test_who_may_not_ask_is_told_in_the_protocols_form(closed: httpx.Client) -> None:
    told = [closed.post(path, json=body).json() for path, body in ASKED]
    messages = [
        told[0]["error"]["message"],
        *(one["message"] for one in told[1:3]),
        *(one["error"] for one in told[3:]),
    ]
    assert len(set(messages)) == 1
    assert "wants a token" in messages[0]


def test_a_data_plane_that_is_not_there_is_a_503_in_the_protocols_form(ws: Workspace) -> None:
    for client in serve(ws, predictions_url="http://127.0.0.1:9"):
        for path, body in ASKED:
            answer = client.post(path, json=body)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert client.post("/invocations", json={}).json()["error_code"] == "TEMPORARILY_UNAVAILABLE"


def test_a_body_that_is_too_large_is_refused_before_it_is_passed_on(client: httpx.Client) -> None:
    for path, _ in ASKED:
        answer = client.post(path, content=(b" " * (1 << 20) for _ in range(17)))
        assert (answer.status_code, answer.headers["connection"]) == (413, "close")
        assert "the body is over 16,777,216 bytes" in answer.text


def test_a_strange_name_stays_a_name(client: httpx.Client) -> None:
    for name in ("..", "a%2Fb", "a%3Fb", "%2e%2e"):
        assert client.post(f"/v2/models/{name}/infer", json={"inputs": []}).status_code == 404
