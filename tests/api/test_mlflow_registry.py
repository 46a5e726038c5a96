"""MLflow's calls for models, versions and webhooks, over real HTTP; the clients themselves: test_mlflow_clients.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from everloop import access, events, registry, tracking
from everloop.ledger import Node, entries
from everloop.registry import people
from everloop.workspace import Workspace
from tests.api.test_app import serve
from tests.receiver import Receiver, receiving
from tests.registry.versions import check, evidence_of, register

API = "/api/2.0/mlflow"
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"


class Client:
    """Calls of the protocol: the answer, or MLflow's code of the error and its message."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def __call__(self, method: str, path: str, **fields: Any) -> dict[str, Any]:
        answer = self.answer(method, path, **fields)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def refused(self, method: str, path: str, **fields: Any) -> tuple[str, str]:
        answer = self.answer(method, path, **fields)
        assert 400 <= answer.status_code < 429, answer.text  # clients try others again
        return answer.json()["error_code"], answer.json()["message"]

    def answer(self, method: str, path: str, **fields: Any) -> httpx.Response:
        if method == "GET":
            return self.http.get(f"{API}/{path}", params=fields)
        return self.http.request(method, f"{API}/{path}", json=fields)


@pytest.fixture
def client(any_ws: Workspace) -> Iterator[Client]:
    for http in serve(replace(any_ws, settings=replace(any_ws.settings, webhook_allow_private=True))):
        yield Client(http)


@pytest.fixture
def source(any_ws: Workspace) -> str:
    """A run's files, and the model `category`."""
    run = tracking.start_run(any_ws)
    tracking.log_artifact(any_ws, run.id, "model/MLmodel", b"flavors: {}")
    registry.create(any_ws, "category")
    return f"runs:/{run.mlflow_id}/model"


def test_a_model_from_its_making_to_its_deletion(client: Client) -> None:
    tags = [{"key": "team", "value": "vision"}]
    made = client("POST", "registered-models/create", name="category", tags=tags, description="kinds")
    assert made["registered_model"]["tags"] == tags
    assert client.refused("POST", "registered-models/create", name="category")[0] == "RESOURCE_ALREADY_EXISTS"
    client("PATCH", "registered-models/update", name="category", description="other")
    client("POST", "registered-models/set-tag", name="category", key="a", value="b")
    client("DELETE", "registered-models/delete-tag", name="category", key="team")
    client("POST", "registered-models/rename", name="category", new_name="kind")
    found = client("GET", "registered-models/get", name="kind")["registered_model"]
    assert (found["description"], found["tags"]) == ("other", [{"key": "a", "value": "b"}])
    client("DELETE", "registered-models/delete", name="kind")
    assert client.refused("GET", "registered-models/get", name="kind")[0] == "RESOURCE_DOES_NOT_EXIST"


def test_a_logged_model_says_which_versions_were_registered_from_it(client: Client, source: str) -> None:
    model = client("POST", "logged-models", experiment_id="0", name="tree")["model"]["info"]["model_id"]

    def told() -> list[list[dict[str, str]]]:
        found = client("POST", "logged-models/search", experiment_ids=["0"])["models"]
        found.append(client("GET", f"logged-models/{model}")["model"])
        return [
            json.loads(tag["value"])
            for one in found
            for tag in one["info"]["tags"]
            if tag["key"] == "mlflow.modelVersions"
        ]

    assert told() == []
    for _ in range(2):
        client("POST", "model-versions/create", name="category", source=source, model_id=model)
    assert told() == [[{"name": "category", "version": "1"}, {"name": "category", "version": "2"}]] * 2
    client("POST", "registered-models/rename", name="category", new_name="kind")
    client("DELETE", "model-versions/delete", name="kind", version="1")
    assert told() == [[{"name": "kind", "version": "2"}]] * 2


def test_a_version_from_its_making_to_its_deletion(client: Client, source: str) -> None:
    made = client("POST", "model-versions/create", name="category", source=source, description="first")
    version = made["model_version"]
    assert (version["version"], version["status"], version["source"]) == ("1", "READY", source)
    of = {"name": "category", "version": "1"}
    client("POST", "model-versions/set-tag", **of, key="a", value="b")
    client("PATCH", "model-versions/update", **of, description="second")
    client("POST", "registered-models/alias", **of, alias="champion")
    by_alias = client("GET", "registered-models/alias", name="category", alias="champion")["model_version"]
    assert (by_alias["tags"], by_alias["description"], by_alias["aliases"]) == (
        [{"key": "a", "value": "b"}],
        "second",
        ["champion"],
    )
    assert client("GET", "model-versions/get-download-uri", **of) == {
        "artifact_uri": "mlflow-artifacts:/versions/category/1"
    }
    client("DELETE", "model-versions/delete-tag", **of, key="a")
    client("DELETE", "registered-models/alias", name="category", alias="champion")
    gone = client.refused("GET", "registered-models/alias", name="category", alias="champion")
    assert gone[0] == "INVALID_PARAMETER_VALUE"
    client("DELETE", "model-versions/delete", **of)
    assert client.refused("GET", "model-versions/get", **of)[0] == "RESOURCE_DOES_NOT_EXIST"
    assert (
        client("POST", "model-versions/create", name="category", source=source)["model_version"]["version"]
        == "2"
    )


def test_searches_come_in_pages(client: Client, source: str) -> None:
    for _ in range(3):
        client("POST", "model-versions/create", name="category", source=source)
    numbers, token = [], ""
    for _ in range(3):
        page = client(
            "GET", "model-versions/search", filter="name = 'category'", max_results=1, page_token=token
        )
        numbers += [one["version"] for one in page["model_versions"]]
        token = page.get("next_page_token", "")
    assert (numbers, token) == (["3", "2", "1"], "")
    models = client("GET", "registered-models/search", filter="name LIKE 'cat%'", order_by=["name DESC"])
    assert [one["name"] for one in models["registered_models"]] == ["category"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("registered-models/search", {"filter": "name = "}),
        ("registered-models/search", {"max_results": 1_001}),
        ("registered-models/search", {"max_results": 0}),
        ("registered-models/search", {"page_token": "x" * 10_000}),
        ("registered-models/search", {"page_token": "OTk5OTk5OTk5OTk5OTk5"}),
        ("registered-models/search", {"page_token": "LTE="}),
        ("model-versions/search", {"order_by": ["nothing ASC"]}),
        ("model-versions/search", {"max_results": "many"}),
        ("registered-models/get", {}),
        ("registered-models/get-latest-versions", {"name": "category", "stages": ["Elsewhere"]}),
        ("model-versions/get", {"name": "category", "version": "champion"}),
        ("model-versions/get", {"name": "category", "version": "1 OR 1=1"}),
        ("model-versions/get", {"name": "category", "version": "²"}),
    ],
)
def test_what_cannot_be_asked_is_refused(
    client: Client, source: str, path: str, fields: dict[str, Any]
) -> None:
    assert client.refused("GET", path, **fields)[0] == "INVALID_PARAMETER_VALUE"


def test_a_version_number_beyond_all_numbers_is_not_there(client: Client, source: str) -> None:
    for version in ("9" * 9, "9" * 30, "9" * 5_000):
        assert (
            client.refused("GET", "model-versions/get", name="category", version=version)[0]
            == "RESOURCE_DOES_NOT_EXIST"
        )


def test_a_stage_whose_terms_are_not_met_is_never_entered(client: Client, any_ws: Workspace) -> None:
    version = register(any_ws, approval=people(1, not_author=True))
    of = {"name": "category", "version": "1"}
    code, message = client.refused("POST", "model-versions/transition-stage", **of, stage="Production")
    assert code == "PERMISSION_DENIED"
    assert "category@1 has no gate report" in message
    assert "asks for the approval of 1 person other than tester" in message
    check(any_ws, version)
    registry.approve(any_ws.acting_as("bea"), version.ref, reason="ok")
    client("POST", "model-versions/transition-stage", **of, stage="staging")
    moved = client("POST", "model-versions/transition-stage", **of, stage="Production")["model_version"]
    assert (moved["current_stage"], registry.stages(any_ws, "category")) == ("Production", {"production": 1})
    assert "is in production" in client.refused("DELETE", "model-versions/delete", **of)[1]


def test_a_version_that_a_client_logged_is_gated_as_any_other(
    client: Client, any_ws: Workspace, source: str
) -> None:
    registry.define(any_ws, "category", approval=people(1))
    client("POST", "model-versions/create", name="category", source=source)
    kinds = {one.kind for one in registry.readiness(any_ws, "category@1").obstacles}
    assert kinds == {"no_report", "approvals"}
    assert evidence_of(registry.version(any_ws, "category@1")).model is not None


def test_mlflows_four_stages(client: Client, any_ws: Workspace) -> None:
    for content in (b"1", b"2"):
        check(any_ws, register(any_ws, content))

    def move(version: str, stage: str) -> str:
        moved = client(
            "POST", "model-versions/transition-stage", name="category", version=version, stage=stage
        )
        return str(moved["model_version"]["current_stage"])

    def now() -> dict[str, str]:
        found = client("GET", "registered-models/get-latest-versions", name="category")["model_versions"]
        return {one["version"]: one["current_stage"] for one in found}

    assert now() == {"2": "None"}
    assert [move("1", "Production"), move("2", "Staging")] == ["Production", "Staging"]
    assert now() == {"1": "Production", "2": "Staging"}
    assert move("2", "Production") == "Production"
    assert now() == {"1": "Archived", "2": "Production"}
    assert [move("1", "None"), move("2", "Archived")] == ["None", "Archived"]
    asked = client("POST", "registered-models/get-latest-versions", name="category", stages=["None"])
    assert [one["version"] for one in asked["model_versions"]] == ["1"]
    refused = client.refused(
        "POST", "model-versions/transition-stage", name="category", version="1", stage="Elsewhere"
    )
    assert refused[0] == "INVALID_PARAMETER_VALUE"
    assert entries(any_ws, subject=Node("model_version", "category@2"))[0].act == "registry.archive"


@pytest.mark.parametrize(
    "source",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "file:///etc/%2e%2e/etc/passwd",
        "runs:/" + "a" * 32 + "/..%252f..%252fetc",
        "http://169.254.169.254/latest",
        "s3://bucket/key",
        "../../etc",
        "mlflow-artifacts:/../../etc",
    ],
)
@pytest.mark.parametrize(
    "tags", [[], [{"key": "mlflow.prompt.is_prompt", "value": "true"}]], ids=["model", "prompt"]
)
def test_no_source_leads_out(
    client: Client, any_ws: Workspace, source: str, tags: list[dict[str, str]]
) -> None:
    registry.create(any_ws, "category")
    answer = client.answer("POST", "model-versions/create", name="category", source=source, tags=tags)
    assert answer.json()["error_code"] == ("NOT_IMPLEMENTED" if tags else "INVALID_PARAMETER_VALUE")
    assert registry.versions(any_ws, "category") == []


def test_a_tag_set_afterwards_opens_no_source(client: Client, any_ws: Workspace, source: str) -> None:
    client("POST", "registered-models/set-tag", name="category", key="mlflow.prompt.is_prompt", value="true")
    refused = client.refused("POST", "model-versions/create", name="category", source="/etc")
    assert refused[0] == "INVALID_PARAMETER_VALUE"


def test_prompts_are_refused_by_name(client: Client) -> None:
    answer = client.answer(
        "POST",
        "registered-models/create",
        name="greeting",
        tags=[{"key": "mlflow.prompt.is_prompt", "value": "true"}],
    )
    assert (answer.status_code, answer.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert "prompts are not supported by this server" in answer.json()["message"]


def test_stored_scripts_come_back_as_data_alone(client: Client, any_ws: Workspace) -> None:
    name = SCRIPT.replace("/", "")
    client(
        "POST",
        "registered-models/create",
        name=name,
        description=SCRIPT,
        tags=[{"key": SCRIPT, "value": SCRIPT}],
    )
    answers = [
        client.answer("GET", "registered-models/get", name=name),
        client.answer("GET", "registered-models/get", name=f"{SCRIPT}no"),
        client.answer("GET", "registered-models/search", filter=SCRIPT),
        client.http.get(f"{API}/{SCRIPT}"),
    ]
    assert {one.headers["content-type"].partition(";")[0] for one in answers} == {"application/json"}


def test_what_happens_in_the_registry_is_told_to_webhooks(
    client: Client, any_ws: Workspace, source: str
) -> None:
    told = [
        ("REGISTERED_MODEL", "CREATED"),
        ("MODEL_VERSION", "CREATED"),
        ("MODEL_VERSION_TAG", "SET"),
        ("MODEL_VERSION_TAG", "DELETED"),
        ("MODEL_VERSION_ALIAS", "CREATED"),
        ("MODEL_VERSION_ALIAS", "DELETED"),
    ]
    asked = [{"entity": entity, "action": action} for entity, action in told]
    with receiving() as receiver:
        made = client("POST", "webhooks", name="ci", url=receiver.url, events=asked, secret="s")["webhook"]
        assert made["events"] == asked
        assert "secret" not in made
        client("POST", "registered-models/create", name="kind")
        client("POST", "model-versions/create", name="kind", source=source)
        of = {"name": "kind", "version": "1"}
        client("POST", "model-versions/set-tag", **of, key="a", value="b")
        client("DELETE", "model-versions/delete-tag", **of, key="a")
        client("POST", "registered-models/alias", **of, alias="champion")
        client("DELETE", "registered-models/alias", name="kind", alias="champion")
        near = replace(any_ws, settings=replace(any_ws.settings, webhook_allow_private=True))
        events.deliver(near)
        assert [(one["entity"].upper(), one["action"].upper()) for one in receiver.got] == told
        assert receiver.got[1]["data"]["source"] == source
        tried(client, made["webhook_id"], receiver)


def tried(client: Client, webhook_id: str, receiver: Receiver) -> None:
    receiver.statuses = [200, 500]
    results = [client("POST", f"webhooks/{webhook_id}/test")["result"] for _ in range(2)]
    assert [(one["success"], one["response_status"]) for one in results] == [(True, 200), (False, 500)]
    assert "what nobody is told" not in str(results)


def test_webhooks_are_listed_changed_and_removed(client: Client) -> None:
    event = [{"entity": "MODEL_VERSION", "action": "CREATED"}]
    made = [
        client("POST", "webhooks", name=name, url="https://example.org/hook", events=event)["webhook"]
        for name in ("a", "b")
    ]
    page = client("GET", "webhooks", max_results=1)
    assert [one["name"] for one in page["webhooks"]] == ["a"]
    following = client("GET", "webhooks", page_token=page["next_page_token"])
    assert [one["name"] for one in following["webhooks"]] == ["b"]
    place = f"webhooks/{made[0]['webhook_id']}"
    assert client("PATCH", place, status="DISABLED")["webhook"]["status"] == "DISABLED"
    assert client("GET", place)["webhook"]["url"] == "https://example.org/hook"
    client("DELETE", place)
    assert client.refused("GET", place)[0] == "RESOURCE_DOES_NOT_EXIST"


@pytest.mark.parametrize("event", [("PROMPT", "CREATED"), ("MODEL_VERSION", "EXCEEDED"), ("", "")])
def test_an_event_that_does_not_happen_here_is_refused(client: Client, event: tuple[str, str]) -> None:
    asked = [{"entity": event[0], "action": event[1]}]
    answer = client.answer("POST", "webhooks", name="x", url="https://example.org", events=asked)
    assert answer.json()["error_code"] == "NOT_IMPLEMENTED"


def test_each_call_asks_for_its_permission(ws: Workspace) -> None:
    """A viewer reads; changing a model, moving it and making webhooks are three more rights."""
    register(ws)
    access.add_account(ws, "vera", role="viewer")
    access.add_account(ws, "eve", role="engineer")
    secrets = {name: access.create_token(ws, name)[1] for name in ("vera", "eve")}
    event = [{"entity": "MODEL_VERSION", "action": "CREATED"}]
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "registered-models/get", {"name": "category"}),
        ("POST", "registered-models/set-tag", {"name": "category", "key": "a", "value": "b"}),
        ("POST", "registered-models/alias", {"name": "category", "alias": "c", "version": "1"}),
        ("POST", "webhooks", {"name": "w", "url": "https://example.org", "events": event}),
    ]
    for http in serve(replace(ws, settings=replace(ws.settings, auth="token"))):
        client = Client(http)
        seen: dict[str, list[int]] = {}
        for name, secret in secrets.items():
            http.headers["Authorization"] = f"Bearer {secret}"
            seen[name] = [client.answer(*call[:2], **call[2]).status_code for call in calls]
        del http.headers["Authorization"]
        assert client.answer("GET", "registered-models/get", name="category").status_code == 401
    assert seen == {"vera": [200, 403, 403, 403], "eve": [200, 200, 200, 403]}
