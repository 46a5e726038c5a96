"""MLflow's protocol over real HTTP: what each call answers, what it refuses, and who may make it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everloop import access, tracking
from everloop.api import mlflow_routes
from everloop.workspace import Workspace
from tests.api.test_app import serve

AT = 1_788_220_800_000


@dataclass
class Mlflow:
    """A client that speaks the protocol by hand."""

    client: httpx.Client
    place: str = "/api/2.0/mlflow"

    def get(self, path: str, status: int = 200, /, **query: Any) -> Any:
        return self._answer(self.client.get(f"{self.place}/{path}", params=query), status)

    def post(self, path: str, status: int = 200, /, **body: Any) -> Any:
        return self._answer(self.client.post(f"{self.place}/{path}", json=body), status)

    def refused(self, path: str, content: bytes | dict[str, Any]) -> tuple[int, str, str]:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        answer = self.client.post(f"{self.place}/{path}", content=body)
        told = answer.json()
        assert sorted(told) == ["error_code", "message"], told
        return answer.status_code, told["error_code"], told["message"]

    def run(self, **body: Any) -> str:
        made = self.post("runs/create", **{"experiment_id": "0", "start_time": AT, **body})
        run_id: str = made["run"]["info"]["run_id"]
        return run_id

    @staticmethod
    def _answer(answer: httpx.Response, status: int) -> Any:
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
def api(any_ws: Workspace) -> Iterator[Mlflow]:
    for client in serve(any_ws):
        yield Mlflow(client)


@pytest.fixture
def lite(ws: Workspace) -> Iterator[Mlflow]:
    """As `api` on SQLite alone: for what does not depend on the database."""
    for client in serve(ws):
        yield Mlflow(client)


def test_a_fresh_store_holds_the_default_experiment_alone(lite: Mlflow) -> None:
    (only,) = lite.get("experiments/list", max_results=10)["experiments"]
    assert lite.post("experiments/search") == {"experiments": [only]}
    assert only == {
        "experiment_id": "0",
        "name": "Default",
        "artifact_location": "mlflow-artifacts:/0",
        "lifecycle_stage": "active",
        "tags": [],
    }


def test_an_experiment_is_made_changed_deleted_and_restored(api: Mlflow) -> None:
    tags = [{"key": "team", "value": "vision"}, {"key": "empty"}]
    made = api.post("experiments/create", name="photos", tags=tags)["experiment_id"]
    api.post("experiments/update", experiment_id=made, new_name="pictures")
    api.post("experiments/set-experiment-tag", experiment_id=made, key="team", value="x" * 20_000)
    api.post("experiments/delete-experiment-tag", experiment_id=made, key="empty")
    found = api.get("experiments/get-by-name", experiment_name="pictures")["experiment"]
    assert (found["experiment_id"], found["tags"]) == (made, [{"key": "team", "value": "x" * 20_000}])
    run = api.run(experiment_id=made)
    api.post("experiments/delete", experiment_id=made)
    assert api.get("experiments/get", experiment_id=made)["experiment"]["lifecycle_stage"] == "deleted"
    assert api.get("runs/get", run_id=run)["run"]["info"]["lifecycle_stage"] == "deleted"
    api.post("experiments/restore", experiment_id=made)
    assert api.get("runs/get", run_id=run)["run"]["info"]["lifecycle_stage"] == "active"


def test_a_run_deleted_before_its_experiment_stays_deleted_when_that_comes_back(
    lite: Mlflow, ws: Workspace
) -> None:
    made = lite.post("experiments/create", name="photos")["experiment_id"]
    run = lite.run(experiment_id=made)
    lite.post("runs/delete", run_id=run)
    ws.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]  # a simulation's clock
    lite.post("experiments/delete", experiment_id=made)
    lite.post("experiments/restore", experiment_id=made)
    assert lite.get("runs/get", run_id=run)["run"]["info"]["lifecycle_stage"] == "deleted"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("experiments/create", {"name": "Default"}, 400, "RESOURCE_ALREADY_EXISTS"),
        ("experiments/create", {}, 400, "INVALID_PARAMETER_VALUE"),
        ("experiments/create", {"name": ""}, 400, "INVALID_PARAMETER_VALUE"),
        ("experiments/create", {"name": "x" * 501}, 400, "INVALID_PARAMETER_VALUE"),
        ("experiments/create", {"name": 7}, 400, "INVALID_PARAMETER_VALUE"),
        ("experiments/create", {"name": "a", "artifact_location": "s3://b/../c"}, 400, "INVALID_PARAMETER_VALUE"),
        ("experiments/create", {"name": "a", "artifact_location": "file:///%2525%32%65./x#y"}, 400, "INVALID_PARAMETER_VALUE"),
        ("experiments/create", {"name": "a", "artifact_location": "http://h/?x=1"}, 400, "INVALID_PARAMETER_VALUE"),
        ("experiments/update", {"experiment_id": "99", "new_name": "b"}, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("experiments/delete", {"experiment_id": "0"}, 400, "INVALID_PARAMETER_VALUE"),
        ("experiments/delete", {"experiment_id": "0; DROP"}, 400, "INVALID_PARAMETER_VALUE"),
        ("experiments/delete", {"experiment_id": "9" * 30}, 400, "INVALID_PARAMETER_VALUE"),
        ("experiments/restore", {"experiment_id": "0"}, 400, "INVALID_PARAMETER_VALUE"),
        ("experiments/search", {"max_results": 0}, 400, "INVALID_PARAMETER_VALUE"),
        ("experiments/search", {"max_results": 10, "view_type": "SOME"}, 400, "BAD_REQUEST"),
        ("runs/create", {"experiment_id": "42"}, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("runs/create", {"start_time": -1}, 400, "INVALID_PARAMETER_VALUE"),
        ("runs/create", {"start_time": 10**15}, 400, "INVALID_PARAMETER_VALUE"),
        ("runs/create", {"run_name": "x" * 251}, 400, "INVALID_PARAMETER_VALUE"),
        ("runs/create", {"tags": [{"key": "x" * 251}]}, 400, "INVALID_PARAMETER_VALUE"),
        ("runs/create", {"tags": [{"key": "x", "value": "y" * 8_001}]}, 400, "INVALID_PARAMETER_VALUE"),
        ("runs/create", {"tags": [{"key": "mlflow.parentRunId", "value": "0" * 32}]}, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("runs/update", {"run_id": "0" * 32, "status": "FINISHED"}, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("runs/update", {"run_id": "../etc/passwd"}, 400, "INVALID_PARAMETER_VALUE"),
        ("runs/log-metric", {"run_id": "0" * 32, "key": "a", "value": 1, "timestamp": 1}, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("runs/search", {"experiment_ids": ["0"], "filter": "nonsense"}, 400, "INVALID_PARAMETER_VALUE"),
        ("runs/search", {"experiment_ids": ["zero"]}, 400, "INVALID_PARAMETER_VALUE"),
        ("runs/search", {"experiment_ids": ["0"], "max_results": 50_001}, 400, "INVALID_PARAMETER_VALUE"),
        ("runs/search", {"experiment_ids": ["0"], "page_token": "junk"}, 400, "INVALID_PARAMETER_VALUE"),
        ("runs/search", b"{", 400, "BAD_REQUEST"),
        ("runs/search", b"\xff", 400, "BAD_REQUEST"),
        ("runs/search", b'{"x": ' + b"[" * 100_000, 400, "BAD_REQUEST"),
        ("runs/search", b"[]", 400, "INVALID_PARAMETER_VALUE"),
        ("runs/search", b'{"filter": "\\u0000"}', 400, "BAD_REQUEST"),
        ("runs/log-batch", b'{"x": "' + b"x" * 1_000_000 + b'"}', 400, "INVALID_PARAMETER_VALUE"),
        ("runs/nonsense", {}, 404, "ENDPOINT_NOT_FOUND"),
        ("gateway/endpoints/create", {}, 404, "ENDPOINT_NOT_FOUND"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_with_mlflows_code(
    lite: Mlflow, path: str, body: bytes | dict[str, Any], status: int, code: str
) -> None:
    assert lite.refused(path, body)[:2] == (status, code)


def test_a_deleted_experiment_keeps_its_name_and_takes_no_runs(lite: Mlflow) -> None:
    made = lite.post("experiments/create", name="photos")["experiment_id"]
    lite.post("experiments/delete", experiment_id=made)
    status, code, message = lite.refused("experiments/create", {"name": "photos"})
    assert (status, code) == (400, "RESOURCE_ALREADY_EXISTS")
    assert "is deleted. Restore it, or choose another name" in message
    assert lite.refused("runs/create", {"experiment_id": made})[1] == "INVALID_PARAMETER_VALUE"


def test_a_run_goes_through_its_life(api: Mlflow) -> None:
    run = api.run(run_name="first", user_id="ann", tags=[{"key": "mlflow.user", "value": "ann"}])
    api.post("runs/set-tag", run_id=run, key="mlflow.runName", value="renamed")
    api.post("runs/set-tag", run_uuid=run, key="note", value="")
    ended = api.post("runs/update", run_id=run, status="FINISHED", end_time=AT + 5)["run_info"]
    assert ended == {
        "run_id": run,
        "run_uuid": run,
        "run_name": "renamed",
        "experiment_id": "0",
        "user_id": "ann",
        "status": "FINISHED",
        "start_time": AT,
        "end_time": AT + 5,
        "artifact_uri": f"mlflow-artifacts:/0/{run}/artifacts",
        "lifecycle_stage": "active",
    }
    tags = {tag["key"]: tag["value"] for tag in api.get("runs/get", run_id=run)["run"]["data"]["tags"]}
    assert tags == {"mlflow.user": "ann", "mlflow.runName": "renamed", "note": ""}
    api.post("runs/delete-tag", run_id=run, key="note")
    assert api.post("runs/delete-tag", 404, run_id=run, key="note")["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    resumed = api.post("runs/update", run_id=run, status="RUNNING")["run_info"]
    assert (resumed["status"], "end_time" in resumed) == ("RUNNING", False)


def test_a_nested_run_names_its_parent(api: Mlflow) -> None:
    parent = api.run()
    child = api.run(tags=[{"key": "mlflow.parentRunId", "value": parent}])
    asked = {"experiment_ids": ["0"], "filter": f"tags.mlflow.parentRunId = '{parent}'"}
    (found,) = api.post("runs/search", **asked)["runs"]
    assert found["info"]["run_id"] == child
    assert {"key": "mlflow.parentRunId", "value": parent} in found["data"]["tags"]
    api.post("runs/delete-tag", run_id=child, key="mlflow.parentRunId")
    assert api.post("runs/search", **asked) == {"runs": []}


def test_a_deleted_run_takes_nothing_more(api: Mlflow) -> None:
    run = api.run()
    api.post("runs/delete", run_id=run)
    for path, body in (
        ("runs/log-metric", {"key": "a", "value": 1, "timestamp": AT}),
        ("runs/log-parameter", {"key": "a", "value": "1"}),
        ("runs/set-tag", {"key": "a", "value": "1"}),
        ("runs/log-batch", {}),
        ("runs/update", {"status": "FINISHED"}),
        ("runs/outputs", {"models": [{"model_id": "m-1"}]}),
    ):
        status, code, message = api.refused(path, {"run_id": run, **body})
        assert (status, code, "is deleted" in message) == (400, "INVALID_PARAMETER_VALUE", True)
    api.post("runs/restore", run_id=run)
    api.post("runs/log-parameter", run_id=run, key="a", value="1")


def test_numbers_that_json_has_no_form_for_travel_as_texts(api: Mlflow) -> None:
    run = api.run()
    for step, value in enumerate(["NaN", "Infinity", "-Infinity", 1e308, 0.1]):
        api.post("runs/log-metric", run_id=run, key="loss", value=value, timestamp=str(AT), step=step)
    history = api.get("metrics/get-history", run_id=run, metric_key="loss")["metrics"]
    assert [point["value"] for point in history] == ["NaN", "Infinity", "-Infinity", 1e308, 0.1]
    assert history[0] == {"key": "loss", "value": "NaN", "timestamp": AT, "step": 0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": "much"},
        {"value": None},
        {"value": True},
        {"timestamp": -1},
        {"timestamp": 10**18},
        {"step": 1 << 63},
        {"step": "x"},
        {"key": ""},
        {"key": "a\nb"},
        {"key": "k" * 251},
    ],
)
def test_a_point_that_is_none_is_refused_and_nothing_of_its_batch_is_kept(
    lite: Mlflow, wrong: dict[str, Any]
) -> None:
    run = lite.run()
    fine = {"key": "a", "value": 1, "timestamp": AT}
    batch = {"run_id": run, "metrics": [fine, {**fine, **wrong}], "params": [{"key": "p", "value": "1"}]}
    for path, body in (("runs/log-batch", batch), ("runs/log-metric", {"run_id": run, **fine, **wrong})):
        assert lite.refused(path, body)[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert lite.get("runs/get", run_id=run)["run"]["data"] == {
        "metrics": [],
        "params": [],
        "tags": [{"key": "mlflow.runName", "value": f"run-{run[-8:]}"}],
    }


def test_a_batch_is_kept_whole_or_not_at_all(api: Mlflow) -> None:
    run = api.run()
    points = [{"key": "loss", "value": n, "timestamp": AT, "step": -n} for n in range(800)]
    texts = [{"key": f"k{n}", "value": "v"} for n in range(100)]
    api.post("runs/log-batch", run_id=run, metrics=points, params=texts, tags=texts)
    changed = [{"key": "new", "value": "1"}, {"key": "k0", "value": "other"}]
    refused = api.post("runs/log-batch", 400, run_id=run, params=changed, metrics=points[:1])
    assert "cannot become 'other'" in refused["message"]
    data = api.get("runs/get", run_id=run)["run"]["data"]
    assert (len(data["params"]), len(data["tags"]), data["metrics"][0]["step"]) == (100, 101, 0)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"metrics": [{"key": "a", "value": 1, "timestamp": 1}] * 1_001}, "1,001 metrics; 1,000 is the most"),
        ({"params": [{"key": str(n)} for n in range(101)]}, "101 params; 100 is the most"),
        ({"tags": [{"key": str(n)} for n in range(101)]}, "101 tags; 100 is the most"),
        ({"metrics": [{"key": "a", "value": 1, "timestamp": 1}] * 950, "tags": [{"key": str(n)} for n in range(51)]}, "1,001 things"),
        ({"params": [{"key": "a", "value": "1"}, {"key": "a", "value": "1"}]}, "names a parameter twice"),
        ({"params": [{"key": "a", "value": "x" * 6_001}]}, "holds up to 6000"),
    ],
)  # fmt: skip
def test_a_batch_has_mlflows_limits(lite: Mlflow, body: dict[str, Any], told: str) -> None:
    status, code, message = lite.refused("runs/log-batch", {"run_id": lite.run(), **body})
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert told in message


def test_a_history_comes_in_pages(api: Mlflow) -> None:
    run = api.run()
    points = [{"key": "loss", "value": 1 / (n + 1), "timestamp": AT + n, "step": n} for n in range(7)]
    api.post("runs/log-batch", run_id=run, metrics=points)
    seen: list[Any] = []
    page: dict[str, Any] = {}
    while not seen or page.get("next_page_token"):
        token = page.get("next_page_token", "")
        page = api.get("metrics/get-history", run_id=run, metric_key="loss", max_results=3, page_token=token)
        seen += page["metrics"]
    assert seen == points
    assert api.get("metrics/get-history", run_id=run, metric_key="none") == {"metrics": []}
    assert api.get("metrics/get-history", 404, run_id="0" * 32, metric_key="loss")["error_code"]


def test_histories_of_several_runs_come_together(api: Mlflow) -> None:
    first, second = api.run(), api.run()
    for run in (first, second):
        points = [{"key": "loss", "value": n, "timestamp": AT, "step": n} for n in range(20)]
        api.post("runs/log-batch", run_id=run, metrics=points)
    bulk = api.get("metrics/get-history-bulk", run_id=[first, second], metric_key="loss")["metrics"]
    assert [point["run_id"] for point in bulk] == [first] * 20 + [second] * 20
    asked = {"run_ids": [first, second], "metric_key": "loss"}
    some = api.get("metrics/get-history-bulk-interval", **asked, max_results=4)["metrics"]
    assert [point["step"] for point in some] == [0, 5, 10, 15, 19] * 2
    between = api.get("metrics/get-history-bulk-interval", **asked, start_step=3, end_step=4)["metrics"]
    assert [point["step"] for point in between] == [3, 4, 3, 4]
    wrongs: list[dict[str, Any]] = [
        {"start_step": 1},
        {"start_step": 2, "end_step": 1},
        {"max_results": 0},
        {"run_ids": []},
    ]
    for wrong in wrongs:
        assert api.get("metrics/get-history-bulk-interval", 400, **{**asked, **wrong})["error_code"]


def test_the_datasets_that_the_runs_of_experiments_read_are_told_once(api: Mlflow) -> None:
    other = api.post("experiments/create", name="other")["experiment_id"]
    for run, digest, context in (
        (api.run(), "d1", "train"),
        (api.run(), "d1", "train"),
        (api.run(), "d2", None),
        (api.run(experiment_id=other), "d1", "test"),
    ):
        rows = {"name": "rows", "digest": digest, "source_type": "local", "source": "{}"}
        tags = [] if context is None else [{"key": "mlflow.data.context", "value": context}]
        api.post("runs/log-inputs", run_id=run, datasets=[{"dataset": rows, "tags": tags}])
    told = [
        {"experiment_id": "0", "name": "rows", "digest": "d1", "context": "train"},
        {"experiment_id": "0", "name": "rows", "digest": "d2"},
    ]
    assert api.post("experiments/search-datasets", experiment_ids=["0"])["dataset_summaries"] == told
    pages = replace(api, place="/ajax-api/2.0/mlflow")
    of_both = pages.post("experiments/search-datasets", experiment_ids=["0", other])["dataset_summaries"]
    assert of_both == [*told, {"experiment_id": other, "name": "rows", "digest": "d1", "context": "test"}]
    for wrong in ([], ["x"], ["0"] * 21):
        assert api.post("experiments/search-datasets", 400, experiment_ids=wrong)["error_code"]


def test_what_a_run_read_and_made_is_told(api: Mlflow) -> None:
    run = api.run()
    rows = {"name": "rows", "digest": "d1", "source_type": "local", "source": "{}", "profile": "x" * 100_000}
    tags = [{"key": "mlflow.data.context", "value": "train"}]
    for _ in range(2):
        api.post(
            "runs/log-inputs",
            run_id=run,
            datasets=[{"dataset": rows, "tags": tags}],
            models=[{"model_id": "m-1"}],
        )
    api.post("runs/outputs", run_id=run, models=[{"model_id": "m-2", "step": 3}])
    found = api.get("runs/get", run_id=run)["run"]
    assert found["inputs"] == {
        "dataset_inputs": [{"dataset": rows, "tags": tags}],
        "model_inputs": [{"model_id": "m-1"}],
    }
    assert found["outputs"] == {"model_outputs": [{"model_id": "m-2", "step": 3}]}
    too_long = {"dataset": {**rows, "digest": "d" * 37}}
    assert "up to 36" in api.refused("runs/log-inputs", {"run_id": run, "datasets": [too_long]})[2]


def test_an_old_client_notes_its_models_in_a_tag(lite: Mlflow) -> None:
    run = lite.run()
    model = {"artifact_path": "model", "flavors": {}, "utc_time_created": "now", "run_id": run}
    for _ in range(2):
        lite.post("runs/log-model", run_id=run, model_json=json.dumps(model))
    tags = {tag["key"]: tag["value"] for tag in lite.get("runs/get", run_id=run)["run"]["data"]["tags"]}
    assert json.loads(tags["mlflow.log-model.history"]) == [model, model]
    for wrong in ("{", "[]", "[" * 100_000, "{}"):
        assert lite.refused("runs/log-model", {"run_id": run, "model_json": wrong})[0] == 400


def test_a_parameter_does_not_change(lite: Mlflow) -> None:
    run = lite.run()
    lite.post("runs/log-parameter", run_id=run, key="lr", value="0.1")
    lite.post("runs/log-parameter", run_id=run, key="lr", value="0.1")
    refused = lite.post("runs/log-parameter", 400, run_id=run, key="lr", value="0.2")
    assert refused["error_code"] == "INVALID_PARAMETER_VALUE"


def test_a_pipelines_run_is_the_same_run_and_says_itself_how_it_stands(lite: Mlflow, ws: Workspace) -> None:
    parent = tracking.start_run(ws, kind="pipeline", name="train")
    step = tracking.start_run(ws, kind="step", name="fit", parent=parent.id)
    lite.post("runs/log-metric", run_id=step.mlflow_id, key="acc", value=0.9, timestamp=AT)
    assert tracking.run(ws, step.id).metrics == {"acc": 0.9}
    found = lite.get("runs/get", run_id=step.mlflow_id)["run"]
    assert {"key": "mlflow.parentRunId", "value": parent.mlflow_id} in found["data"]["tags"]
    lite.post("runs/update", run_id=parent.mlflow_id, status="RUNNING")
    refused = lite.post("runs/update", 400, run_id=parent.mlflow_id, status="FINISHED")
    assert "says itself how it stands" in refused["message"]


def test_many_writers_on_one_run_lose_nothing(api: Mlflow) -> None:
    run = api.run()

    def log(writer: int) -> None:
        for step in range(10):
            point = {"key": f"m{writer % 3}", "value": writer, "timestamp": AT + writer, "step": step}
            api.post("runs/log-batch", run_id=run, metrics=[point], params=[{"key": f"p{writer}.{step}"}])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(log, range(8)))
    data = api.get("runs/get", run_id=run)["run"]["data"]
    assert (len(data["params"]), [point["value"] for point in data["metrics"]]) == (80, [6, 7, 5])
    counts = [
        len(api.get("metrics/get-history", run_id=run, metric_key=f"m{n}")["metrics"]) for n in range(3)
    ]
    assert counts == [30, 30, 20]


def test_a_run_deleted_while_others_write_to_it_refuses_them_from_then_on(api: Mlflow) -> None:
    run, refusals = api.run(), threading.Event()

    def log(writer: int) -> int:
        for step in range(1_000):
            body = {"run_id": run, "key": f"m{writer}", "value": 1, "timestamp": AT, "step": step}
            answer = api.client.post("/api/2.0/mlflow/runs/log-metric", json=body)
            if answer.status_code != 200:
                assert "is deleted" in answer.json()["message"]
                refusals.set()
                return step
        return -1

    with ThreadPoolExecutor(3) as pool:
        writing = [pool.submit(log, writer) for writer in range(2)]
        api.post("runs/delete", run_id=run)
        acknowledged = [one.result() for one in writing]
    for writer, count in enumerate(acknowledged):
        history = api.get("metrics/get-history", run_id=run, metric_key=f"m{writer}")["metrics"]
        assert len(history) == count


def test_all_is_answered_below_both_prefixes_and_nothing_elsewhere(lite: Mlflow) -> None:
    pages = Mlflow(lite.client, "/ajax-api/2.0/mlflow")
    assert pages.get("experiments/get", experiment_id="0")["experiment"]["name"] == "Default"
    assert lite.client.get("/api/3.0/mlflow/server-info").json()["store_type"] == "SqlStore"
    assert lite.client.get("/version").text == "3.17.2"
    for place in ("/api/3.0/mlflow", "/api/2.1/mlflow", "/mlflow"):
        assert lite.client.get(f"{place}/experiments/get?experiment_id=0").status_code == 404


def test_an_unknown_call_is_refused_by_name(lite: Mlflow) -> None:
    _, code, message = lite.refused("runs/fly", {})
    assert code == "ENDPOINT_NOT_FOUND"
    assert message.startswith("POST /api/2.0/mlflow/runs/fly is not supported by this server.")


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_a_foreign_page_is_refused(lite: Mlflow, headers: dict[str, str]) -> None:
    answer = lite.client.post("/api/2.0/mlflow/experiments/create", json={"name": "x"}, headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED")


@pytest.fixture
def closed(ws: Workspace) -> Iterator[httpx.Client]:
    """A server that wants tokens, with an account `ann` of an engineer."""
    access.add_account(ws, "ann", role="engineer")
    yield from serve(replace(ws, settings=replace(ws.settings, auth="token")))


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}


def test_clients_sign_in_with_a_token_or_with_a_name_and_a_token(closed: httpx.Client, ws: Workspace) -> None:
    _, secret = access.create_token(ws, "ann")
    create = "/api/2.0/mlflow/runs/create"
    for headers in ({"Authorization": f"Bearer {secret}"}, basic("ann", secret)):
        made = closed.post(create, json={"experiment_id": "0"}, headers=headers).json()
        assert tracking.run(ws, f"run_{made['run']['info']['run_id']}").actor == "ann"
    wrong: list[dict[str, str]] = [
        {},
        basic("ann", "guess"),
        basic("bob", secret),
        {"Authorization": "Basic ???"},
        {"Authorization": f"Bearer {secret}x"},
    ]
    for headers in wrong:
        answer = closed.post(create, json={"experiment_id": "0"}, headers=headers)
        assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED")


def test_clients_sign_in_with_a_name_and_a_password_until_another_process_changes_it(
    closed: httpx.Client, ws: Workspace
) -> None:
    access.set_password(ws, "ann", "four words, one lake")
    create, headers = "/api/2.0/mlflow/runs/create", basic("ann", "four words, one lake")
    made = closed.post(create, json={"experiment_id": "0"}, headers=headers).json()
    assert tracking.run(ws, f"run_{made['run']['info']['run_id']}").actor == "ann"
    change = [sys.executable, "-m", "everloop", "access", "password", "ann", "--home", str(ws.home)]
    done = subprocess.run(
        change, input="another lake, four words\n", text=True, capture_output=True, check=True
    )
    assert "another lake" not in done.stdout + done.stderr
    assert closed.post(create, json={"experiment_id": "0"}, headers=headers).status_code == 401


def test_who_guesses_passwords_is_told_when_to_try_again(closed: httpx.Client, ws: Workspace) -> None:
    access.set_password(ws, "ann", "four words, one lake")
    answers = [
        closed.get("/api/2.0/mlflow/experiments/get?experiment_id=0", headers=basic("ann", f"guess {number}"))
        for number in range(7)
    ]
    assert [one.status_code for one in answers] == [401] * 5 + [429] * 2
    assert answers[-1].json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 30


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["run_id", "experiment_id", "experiment_ids", "key", "value", "timestamp", "step", "filter", "order_by", "page_token",
     "max_results", "metrics", "params", "tags", "name", "status", "datasets", "models", "model_json", "view_type", "run_ids",
     "metric_key", "artifact_location", "new_name", "start_time", "end_time",
     "model_type", "source_run_id", "path"]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(
    st.sampled_from([one for one in mlflow_routes() if one.version]),
    st.dictionaries(FIELDS, JSON, max_size=6),
)
def test_whatever_is_sent_is_answered(api: Mlflow, route: Any, body: dict[str, Any]) -> None:
    query = {name: value for name, value in body.items() if isinstance(value, str | int | float | list)}
    sent = {"params": query} if route.method == "GET" else {"content": json.dumps(body).encode()}
    answer = api.client.request(route.method, f"/api/{route.version}/{route.path}", **sent)
    assert answer.status_code < 500 or answer.status_code == 501, answer.text


SEARCHES = [
    (method, f"{noun}/search")
    for noun in ("experiments", "runs", "logged-models", "registered-models", "model-versions")
    for method in ("GET", "POST")
    if (noun, method)
    not in {
        ("runs", "GET"),
        ("logged-models", "GET"),
        ("registered-models", "POST"),
        ("model-versions", "POST"),
    }
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(
    st.sampled_from(SEARCHES),
    st.sampled_from(["filter", "page_token", "order_by"]),
    st.binary(max_size=60) | st.text(max_size=40).map(str.encode),
    st.booleans(),
)
def test_random_bytes_for_a_filter_an_order_or_a_token_get_an_answer(
    api: Mlflow, search: tuple[str, str], field: str, sent: bytes, is_escaped: bool
) -> None:
    method, path = search
    if method == "GET":
        answer = api.client.get(f"{api.place}/{path}?{field}={quote(sent, safe='' if is_escaped else '=&+')}")
    else:
        # as they are, which may be no JSON at all, or each as the character of its number
        text = json.dumps(sent.decode("latin-1")).encode() if is_escaped else b'"%b"' % sent
        value = b"[%b]" % text if field == "order_by" else text
        answer = api.client.post(f"{api.place}/{path}", content=b'{"%b": %b}' % (field.encode(), value))
    assert answer.status_code in (200, 400), answer.text
    told = answer.json()
    assert ("error_code" in told) == (answer.status_code == 400), told
