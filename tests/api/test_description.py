"""The OpenAPI description, and that the server keeps to what it says about who may call."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import httpx
import pytest
from starlette.routing import Route as StarletteRoute

from everloop import access
from everloop.access import Role
from everloop.access.permissions import ROLES
from everloop.api import SESSION_COOKIE, all_routes, create_app, mlflow_routes
from everloop.api.forward import FORWARDED
from everloop.workspace import Workspace
from tests.api.test_app import serve
from tests.loop.living import Shop

Place = tuple[str, str]


@pytest.fixture
def closed(ws: Workspace) -> Iterator[httpx.Client]:
    """A server that wants tokens."""
    yield from serve(replace(ws, settings=replace(ws.settings, auth="token")))


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """The description as its handler makes it."""
    route = next(one for one in all_routes() if one.path == "/openapi.json")
    document: dict[str, Any] = route.handler(None)
    return document


def operations(document: dict[str, Any]) -> dict[Place, dict[str, Any]]:
    return {
        (method.upper(), path): one
        for path, methods in document["paths"].items()
        for method, one in methods.items()
    }


def plain(path: str) -> str:
    return path.replace(":path}", "}")


def test_anybody_gets_it(closed: httpx.Client, described: dict[str, Any]) -> None:
    assert closed.get("/openapi.json").json() == json.loads(json.dumps(described))


def test_every_declared_route_is_described_and_nothing_else(ws: Workspace, described: dict[str, Any]) -> None:
    declared: set[Place] = {(one.method, plain(one.path)) for one in all_routes()}
    declared |= {(one.method, plain(one.place)) for one in mlflow_routes()}
    declared |= {(method, path) for method, path, _ in FORWARDED}
    assert operations(described).keys() == declared
    served = [one for one in create_app(ws).routes if isinstance(one, StarletteRoute)]
    assert {plain(one.path) for one in served} <= described["paths"].keys()


def test_each_call_says_what_it_does_takes_and_answers(described: dict[str, Any]) -> None:
    found = operations(described)
    assert len({one["operationId"] for one in found.values()}) == len(found)
    for place, one in found.items():
        assert one["summary"].endswith("."), place
        (content,) = one["responses"]["200"]["content"].values()
        assert content["schema"], f"{place}: its handler does not say what it returns"
        refusals = {"403", "503"} | ({"401"} if one["security"] else set())
        assert refusals <= one["responses"].keys(), place
        named = {each["name"] for each in one["parameters"] if each["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", place[1])), place


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    for reference in re.findall(r"'#/components/(\w+)/([^']+)'", str(described)):
        assert reference[1] in described["components"][reference[0]], reference


def test_those_open_to_anybody_are_few_and_change_nothing(described: dict[str, Any]) -> None:
    assert {place for place, one in operations(described).items() if not one["security"]} == {
        ("GET", "/health"),
        ("GET", "/ready"),
        ("GET", "/openapi.json"),
        ("GET", "/version"),
        ("GET", "/api/3.0/mlflow/server-info"),
        ("GET", "/ping"),
        ("GET", "/v2"),
        ("GET", "/v2/health/live"),
        ("GET", "/v2/health/ready"),
    }


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer ev_guess"},
        {"Authorization": "Basic c29tZWJvZHk6Z3Vlc3M="},
        {"Authorization": "Basic"},
        {"Cookie": f"{SESSION_COOKIE}=guess", "Origin": "http://127.0.0.1"},
        {"X-Everloop-Signature": "sha256=0", "X-Everloop-Timestamp": "0"},
    ],
    ids=["nothing", "token", "account", "half", "session", "signature"],
)
def test_nobody_may_call_what_is_not_open(
    closed: httpx.Client, described: dict[str, Any], headers: dict[str, str]
) -> None:
    for (method, path), one in operations(described).items():
        status = called(closed, method, path, headers)
        if one["security"]:
            # 429: who goes on guessing is told to wait
            assert status in ({401, 403, 429} if headers else {401}), f"{method} {path} gave {status}"
        else:
            expected = 503 if "predictions" in one["tags"] else 200  # no data plane is beside this server
            assert status == expected, f"{method} {path} gave {status}"


@pytest.mark.parametrize("role", get_args(Role))
def test_a_role_may_call_what_its_permissions_say_and_nothing_else(
    closed: httpx.Client, ws: Workspace, described: dict[str, Any], role: Role
) -> None:
    access.add_account(ws, "somebody", role=role)
    _, secret = access.create_token(ws, "somebody")
    for (method, path), one in operations(described).items():
        status = called(closed, method, path, {"Authorization": f"Bearer {secret}"})
        is_allowed = not one["security"] or one["x-permission"] in ROLES[role]
        assert (status != 403) == is_allowed, f"{method} {path} gave {role} {status}"
        is_forwarded = "predictions" in one["tags"]  # there is no data plane
        assert status < 500 or status == (503 if is_forwarded else 501), (
            f"{method} {path}"
        )  # 501: not supported


def called(client: httpx.Client, method: str, path: str, headers: dict[str, str]) -> int:
    somewhere = re.sub(r"\{\w+\}", "x", path)
    return client.request(method, somewhere, headers=headers, content=b"{}").status_code


ODD: dict[Any, list[str]] = {
    "a\0b": ["string"],
    "0001-01-01T00:00:00+23:59": ["date-time"],
    "9999-12-31T23:59:59Z": ["date-time"],
    -1: ["integer", "number"],
    1 << 63: ["integer", "number"],
}
KNOWN: dict[str, Any] = {
    "name": "kind",
    "model": "kind",
    "ref": "kind@2",
    "before": "goods@1",
    "after": "goods@1",
    "reason": "odd",
    "experiment_id": "0",
    "key": "7",
    "value": "Tea",
    "metric_key": "loss",
    "timestamp": 1,
}


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_what_a_schema_allows_and_a_database_may_not_is_answered(
    any_shop: Shop, described: dict[str, Any], odd: Any
) -> None:
    """Each field of each call in turn is odd, and the others are what there is."""
    for client in serve(any_shop.ws):
        made = client.post("/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}).json()
        known = {**KNOWN, "run_id": made["run"]["info"]["run_id"]}
        for (method, path), one in operations(described).items():
            there = re.sub(r"\{(\w+)\}", lambda found: str(KNOWN.get(found[1], "x")), path)
            fields = {each["name"]: each["schema"] for each in one["parameters"] if each["in"] == "query"}
            fields |= of_body(one, described)
            asked = [
                (there, {**known, name: odd}) for name, schema in fields.items() if takes(schema, ODD[odd])
            ]
            if "\0" in str(odd):
                asked += [(there.replace(each, "a%00b"), {}) for each in ("kind", "x") if f"/{each}" in there]
            for place, values in asked:
                given = {name: value for name, value in values.items() if name in fields}
                sent: dict[str, Any] = {"params": given} if method == "GET" else {"json": given}
                answer = client.request(method, place, **sent)
                told = f"{method} {place} {given} gave {answer.status_code}"
                assert answer.status_code < 500 or answer.status_code == 501, told
                assert "\0" not in str(odd) or answer.status_code >= 400, told


def of_body(one: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    schema = one.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    fields: dict[str, Any] = (document["components"]["schemas"][name] if name else schema).get(
        "properties", {}
    )
    return fields


def takes(schema: dict[str, Any], kinds: list[str]) -> bool:
    return any(one.get("format", one.get("type")) in kinds for one in (schema, *schema.get("anyOf", ())))
