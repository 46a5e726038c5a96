"""Traces over MLflow's protocol, and attacks on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from everloop import access, tracking
from everloop.workspace import Workspace
from tests.api.test_app import serve
from tests.api.test_mlflow_artifacts import PROXY, Server, started

ID = "tr-" + "0" * 31 + "1"
TRACES = "/api/3.0/mlflow/traces"
FILES = f"{PROXY}/0/traces/{ID}/artifacts"


@pytest.fixture
def server(ws: Workspace) -> Iterator[Server]:
    yield from started(ws)


def told(**said: Any) -> dict[str, Any]:
    """A trace as clients send it."""
    info = {
        "trace_id": ID,
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}},
        "request_time": "2026-09-01T00:00:01.250Z",
        "execution_duration": "1.5s",
        "state": "OK",
        "request_preview": "question",
        "trace_metadata": {"mlflow.sourceRun": "r"},
        "tags": {"mlflow.traceName": "answer"},
    }
    return {"trace": {"trace_info": {**info, **said}}}


def test_a_trace_is_told_back_with_the_place_of_its_spans(server: Server) -> None:
    made = server.json("POST", TRACES, told())["trace"]["trace_info"]
    assert made == {
        **told()["trace"]["trace_info"],
        "execution_duration": "1.500s",
        "tags": {
            "mlflow.traceName": "answer",
            "mlflow.artifactLocation": f"mlflow-artifacts:/0/traces/{ID}/artifacts",
        },
    }
    assert server.ask("PUT", f"{FILES}/traces.json", b'{"spans": []}')[0] == 200
    assert server.ask("GET", f"{FILES}/traces.json")[::2] == (200, b'{"spans": []}')
    assert server.json("GET", f"{TRACES}/{ID}")["trace"]["trace_info"] == made
    for prefix in ("/api", "/ajax-api"):
        asked = {"locations": [made["trace_location"]], "filter": "name = 'answer'"}
        assert server.json("POST", f"{prefix}/3.0/mlflow/traces/search", asked) == {"traces": [made]}
    assert server.json("POST", f"{TRACES}/batchGetInfos", {"trace_ids": [ID, "tr-x"]}) == {
        "trace_infos": [made]
    }


def test_spans_one_by_one_are_refused_in_the_words_that_clients_look_for(server: Server) -> None:
    status, _, body = server.ask(
        "POST", "/v1/traces", b"\x0a\x00", {"Content-Type": "application/x-protobuf"}
    )
    answer = json.loads(body)
    assert (status, answer["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert "REST OTLP span logging is not supported" in answer["message"]


@pytest.mark.parametrize(
    "trace_id", ["../../../planted", "..", "tr-../../x", "", f"{ID}/../x", "C:\\x", f"{ID}%00", f"{ID}\n"]
)
def test_the_id_of_a_trace_leads_nowhere(server: Server, trace_id: str) -> None:
    answer = server.json("POST", TRACES, told(trace_id=trace_id), status=400)
    assert answer["error_code"] == "INVALID_PARAMETER_VALUE"
    assert tracking.search_traces(server.ws, experiment_ids=[0]).found == []


@pytest.mark.parametrize(
    "path", ["../../planted", "..%2fplanted", "..%252fplanted", "/etc/passwd", "a//b", "%5c..%5cx"]
)
def test_a_path_among_the_files_of_a_trace_leads_nowhere_else(server: Server, path: str) -> None:
    server.json("POST", TRACES, told())
    assert server.ask("PUT", f"{FILES}/{path}", b"x")[0] in (400, 404)
    assert tracking.artifacts(server.ws, ID) == []


def test_nobody_but_the_server_says_where_the_spans_of_a_trace_are(server: Server) -> None:
    elsewhere = {"mlflow.artifactLocation": "file:///etc", "mlflow.trace.spansLocation": "TRACKING_STORE"}
    tags = server.json("POST", TRACES, told(tags=elsewhere))["trace"]["trace_info"]["tags"]
    assert tags == {"mlflow.artifactLocation": f"mlflow-artifacts:/0/traces/{ID}/artifacts"}
    for name in elsewhere:
        place, given = f"/api/2.0/mlflow/traces/{ID}/tags", {"key": name, "value": "file:///etc"}
        assert "the server decides" in server.json("PATCH", place, given, status=400)["message"]
        assert "the server decides" in server.json("DELETE", place, given, status=400)["message"]


def test_tags_change_and_traces_are_deleted_with_their_files(server: Server) -> None:
    server.json("POST", TRACES, told())
    server.ask("PUT", f"{FILES}/traces.json", b"x")
    for version in ("2.0", "3.0"):
        place = f"/api/{version}/mlflow/traces/{ID}/tags"
        server.json("PATCH", place, {"key": "quality", "value": "good"})
        assert tracking.trace(server.ws, ID).tags["quality"] == "good"
        server.json("DELETE", place, {"key": "quality"})
        assert (
            server.json("DELETE", place, {"key": "quality"}, status=404)["error_code"]
            == "RESOURCE_DOES_NOT_EXIST"
        )
    delete = "/api/2.0/mlflow/traces/delete-traces"
    assert server.json("POST", delete, {"experiment_id": "0", "request_ids": [ID]}) == {"traces_deleted": 1}
    assert server.json("GET", f"{TRACES}/{ID}", status=404)["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert server.ask("GET", f"{FILES}/traces.json")[0] == 404
    assert server.json("POST", delete, {"experiment_id": "0", "max_timestamp_millis": 1}) == {
        "traces_deleted": 0
    }


@pytest.mark.parametrize(
    "said",
    [
        {"state": "FINE"},
        {"execution_duration": "-1s"},
        {"execution_duration": "soon"},
        {"request_time": "2026-09-01T00:00:01"},
        {"request_time": "1969-12-31T00:00:00Z"},
        {"trace_location": {}},
        {"trace_location": {"mlflow_experiment": {"experiment_id": "x"}}},
        {"tags": {"a": 1}},
        {"tags": {"t": "x" * 8_001}},
        {"request_preview": "x" * 10_001},
    ],
)
def test_a_trace_that_is_none_is_refused_with_mlflows_code(server: Server, said: dict[str, Any]) -> None:
    assert server.json("POST", TRACES, told(**said), status=400)["error_code"] == "INVALID_PARAMETER_VALUE"


def test_what_is_not_kept_of_traces_is_refused_by_name(server: Server) -> None:
    server.json("POST", TRACES, told())
    answer = server.json("POST", TRACES, told(assessments=[{"assessment_name": "ok"}]), status=501)
    assert answer["error_code"] == "NOT_IMPLEMENTED"
    for place, status in (
        (f"{TRACES}/{ID}/assessments", 404),
        (f"{TRACES}/metrics", 405),  # a trace of that name could be got
        ("/api/2.0/mlflow/traces/link-to-run", 404),
    ):
        assert "is not supported by this server" in server.json("POST", place, {}, status=status)["message"]


def test_traces_and_their_files_ask_for_permission(ws: Workspace) -> None:
    for name, role in (("viewer", "viewer"), ("shop", "client")):
        access.add_account(ws, name, role=role)
    tracking.log_trace(ws, tracking.Trace(ID, 0, "OK", ws.now(), 1, None, None, None))
    tracking.log_artifact(ws, ID, "traces.json", b"secret")
    reading = [("GET", f"{TRACES}/{ID}"), ("POST", f"{TRACES}/search"), ("GET", f"{FILES}/traces.json")]
    writing = [
        ("POST", TRACES),
        ("PUT", f"{FILES}/traces.json"),
        ("PATCH", f"/api/2.0/mlflow/traces/{ID}/tags"),
        ("POST", "/api/2.0/mlflow/traces/delete-traces"),
        ("POST", "/v1/traces"),
    ]
    for client in serve(replace(ws, settings=replace(ws.settings, auth="token"))):
        for who, no in (("viewer", 403), ("shop", 403), ("", 401)):
            headers = {"Authorization": f"Bearer {access.create_token(ws, who)[1]}"} if who else {}
            for method, place in reading:
                assert client.request(method, place, headers=headers).status_code == (
                    200 if who == "viewer" else no
                )
            for method, place in writing:
                assert client.request(method, place, headers=headers, json={}).status_code == no, place
    assert tracking.read_artifact(ws, ID, "traces.json") == b"secret"
