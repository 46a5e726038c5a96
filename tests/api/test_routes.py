"""Every JSON route over real HTTP on a live shop: what it answers, what it changes, and who may call it."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from everloop import (
    access,
    background,
    checks,
    jobs,
    ledger,
    loop,
    registry,
    rollout,
    searches,
    tracking,
    triggers,
)
from everloop.api import all_routes
from everloop.errors import Invalid
from everloop.searches import Plan, choice
from everloop.triggers import Trigger
from everloop.workspace import Workspace
from tests.api.test_app import serve
from tests.conftest import simulation
from tests.loop import living, shop
from tests.loop.living import Shop
from tests.registry.versions import check, register

Answer = Any


@dataclass
class Api:
    """A client of the server over a shop."""

    shop: Shop
    client: httpx.Client

    def get(self, path: str) -> Answer:
        return self._json(self.client.get(path))

    def post(self, path: str, content: bytes | None = None, /, status: int = 200, **body: Any) -> Answer:
        answer = self.client.post(path, content=content) if content else self.client.post(path, json=body)
        return self._json(answer, status)

    @staticmethod
    def _json(answer: httpx.Response, status: int = 200) -> Answer:
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
def api(shop: Shop) -> Iterator[Api]:
    for client in serve(shop.ws):
        yield Api(shop, client)


@pytest.fixture(scope="module")
def reading(trained_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all tests that only look."""
    home = shutil.copytree(trained_home, tmp_path_factory.mktemp("reading") / "home")
    with simulation(home) as ws, living.opened(ws) as found:
        found.ask(3, key="7")
        for client in serve(ws):
            yield Api(found, client)


def run_of(api: Api) -> str:
    run = registry.version(api.shop.ws, "kind@1").run
    assert run is not None
    return run


def fit_of(api: Api) -> str:
    """The run of the step that measured macro_f1."""
    steps = api.get(f"/api/runs/{run_of(api)}")["pipeline"]["steps"]
    return str(next(one["tracking_run"] for one in steps if one["step"].endswith("fit")))


def job_of(api: Api) -> str:
    ws = api.shop.ws
    return ws.write(lambda tx: jobs.put(ws, tx, "train", {"model": "kind"}, reason="a test"))


def report_of(api: Api) -> str:
    return checks.reports_of(api.shop.ws, "kind@2")[0].id


def first_rollout(api: Api) -> str:
    return rollout.rollouts(api.shop.ws)[0].id


def a_prediction(api: Api) -> str:
    return api.shop.ask(1)[0].id


def trigger_of(api: Api) -> str:
    ws = api.shop.ws
    ws.write(lambda tx: triggers.set_triggers(ws, tx, [Trigger("nightly", "train", {}, {})]))
    return "nightly"


def search_of(api: Api) -> str:
    """A search of one trial, which cannot work: the pipeline has no such parameter value."""
    ws = api.shop.ws
    plan = Plan({"picky": choice(True)}, by="nothing", method="grid")
    with pytest.raises(Invalid):
        searches.run_search(ws, loop.loaded(ws).pipelines["train"], plan)
    return searches.searches(ws)[0].id


LOOKS: list[tuple[str, Callable[[Api], str] | None, Callable[[Answer], Any], Any]] = [
    # path, what stands for {it}, what of the answer is looked at, what it is
    ("/health", None, lambda one: one["live"], True),
    ("/ready", None, lambda one: one["ready"], True),
    ("/openapi.json", None, lambda one: one["openapi"], "3.1.0"),
    ("/api/about", None, lambda one: one["simulation"], True),
    ("/api/datasets", None, lambda one: [each["name"] for each in one], ["goods"]),
    ("/api/datasets/goods/versions", None, lambda one: [each["rows"] for each in one], [240]),
    ("/api/versions/goods@1", None, lambda one: one["number"], 1),
    ("/api/versions/goods/profile", None, bool, True),
    ("/api/versions/goods@1/diff/goods@1", None, lambda one: one["changed"]["count"], 0),
    ("/api/labels", None, lambda one: [each["name"] for each in one], ["kind"]),
    ("/api/labels/kind/quality", None, lambda one: one["labelled"], 240),
    ("/api/labels/kind/snapshots", None, lambda one: [each["count"] for each in one], [240]),
    ("/api/labels/kind/events?limit=2", None, lambda one: {each["annotator"] for each in one}, {"catalogue"}),
    ("/api/runs?kind=pipeline", None, len, 2),
    ("/api/runs/{it}", run_of, lambda one: one["pipeline"]["state"], "done"),
    ("/api/runs/{it}/metrics/macro_f1", fit_of, len, 1),
    ("/api/pipelines", None, lambda one: [each["name"] for each in one], ["train"]),
    ("/api/pipeline-runs?order=longest&state=done", None, len, 2),
    ("/api/pipeline-runs?until=2020-01-01T00:00:00Z", None, list, []),
    (
        "/api/runs/{it}/steps",
        run_of,
        lambda one: [each["name"] for each in one["plan"]["steps"]][:2],
        ["split", "fit"],
    ),
    ("/api/runs/{it}/steps/split", run_of, lambda one: one["why"]["answer"], "first"),
    (
        "/api/comparison?before=kind@1&after=kind@2",
        None,
        lambda one: one["parameters"][0]["name"],
        "picky",
    ),
    ("/api/gate-reports/{it}", report_of, lambda one: one["is_clear"], True),
    ("/api/models", None, lambda one: [each["name"] for each in one], ["kind"]),
    ("/api/models/kind/versions", None, lambda one: [each["number"] for each in one], [2, 1]),
    ("/api/models/kind/live", None, lambda one: [each["version"] for each in one], ["kind@1"]),
    ("/api/models/kind/live?at=2020-01-01T00:00:00Z", None, list, []),
    ("/api/models/kind/history", None, lambda one: {each["name"] for each in one}, {"production"}),
    ("/api/model-versions/kind@2/verification", None, lambda one: one["problems"], []),
    ("/api/model-keys", None, lambda one: [each["is_current"] for each in one], [True]),
    ("/api/model-versions/kind@2", None, lambda one: one["gate_report"]["verdict"], "passed"),
    ("/api/endpoints", None, lambda one: [each["name"] for each in one], ["kind"]),
    ("/api/endpoints/kind", None, lambda one: one["model"], "kind"),
    ("/api/endpoints/kind/live", None, lambda one: [each["version"] for each in one], ["kind@1"]),
    ("/api/endpoints/kind/live?at=2020-01-01T00:00:00Z", None, list, []),
    ("/api/rollouts?endpoint=kind&state=done", None, len, 1),
    ("/api/rollouts/{it}", first_rollout, lambda one: [each["act"] for each in one["events"]], ["first"]),
    ("/api/endpoints/kind/corrections", None, list, []),
    ("/api/endpoints/kind/contradictions", None, lambda one: one["contradicted"], 0),
    (
        "/api/predictions?endpoint=kind&version=kind@1&status=ok",
        None,
        lambda one: {each["version"] for each in one["predictions"]},
        {"kind@1"},
    ),
    ("/api/review", None, list, []),
    ("/api/endpoints/kind/measures", None, list, []),
    ("/api/findings", None, list, []),
    ("/api/events?kind=rollout.", None, lambda one: [each["kind"] for each in one], ["rollout.started"]),
    ("/api/retrainings", None, list, []),
    ("/api/jobs?state=failed", None, list, []),
    ("/api/jobs/{it}", job_of, lambda one: one["reason"], "a test"),
    ("/api/searches", None, list, []),
    ("/api/searches/{it}", search_of, lambda one: one["trials"][0]["state"], "failed"),
    ("/api/schedules", None, list, []),
    ("/api/limits", None, lambda one: one["pools"], {}),
    ("/api/triggers/{it}/firings", trigger_of, list, []),
    ("/api/triggers", None, lambda one: {each["pipeline"] for each in one} <= {"train"}, True),
    (
        "/api/agenda?since=2026-09-01T00:00:00Z",
        None,
        lambda one: one["waiting"][0]["conditions"][0]["needs"],
        1,
    ),
    ("/api/background", None, sorted, ["has_jobs", "is_due"]),
    ("/api/why/kind@1", None, lambda one: "kind@1" in one["answer"], True),
    ("/api/trace/{it}", a_prediction, lambda one: one["gaps"], []),
    ("/api/impact/goods:7", None, lambda one: one["reached"]["dataset_version"], ["goods@1"]),
    ("/api/audit?limit=1", None, len, 1),
    ("/api/audit/verify", None, lambda one: one["is_intact"], True),
    ("/api/accounts", None, list, []),
]


@pytest.mark.parametrize(("path", "it", "part", "expected"), LOOKS, ids=[one[0] for one in LOOKS])
def test_a_look(
    reading: Api, path: str, it: Callable[[Api], str] | None, part: Callable[[Answer], Any], expected: Any
) -> None:
    found = reading.get(path if it is None else path.replace("{it}", it(reading)))
    assert part(found) == expected


def test_each_route_that_looks_is_looked_at() -> None:
    looked_at = [one[0].partition("?")[0] for one in LOOKS]
    looked_at += ["/api/endpoints/kind/split"]  # by a test of its own, since a split changes what others see
    for route in all_routes():
        shape = re.compile(re.sub(r"\{[^}]+\}", "[^/]+", route.path) + "$")
        assert route.method != "GET" or any(map(shape.match, looked_at)), route.path


def test_a_key_is_added_and_distrusted(api: Api) -> None:
    key = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
    assert api.post("/api/model-keys", key=key, name="trainer-2", reason="our second machine")["is_trusted"]
    assert not api.post(f"/api/model-keys/{key[:9]}/distrust", reason="sold")["is_trusted"]
    refused = api.post("/api/model-versions/kind@2/trust", status=422, reason="x")
    assert "was trained here" in refused["error"]["message"]


def parquet(ws: Workspace, *columns: str, first: int) -> bytes:
    file = io.BytesIO()
    pq.write_table(shop.goods(ws, 10, first=first).select(list(columns)), file)
    return file.getvalue()


def test_a_run_is_reproduced_in_the_background(api: Api) -> None:
    where = f"/api/runs/{run_of(api)}/reproduce"
    assert "reason is empty" in api.post(where, status=422, reason=" ")["error"]["message"]
    assert (
        "`float`, got `str`" in api.post(where, status=422, reason="x", tolerance="much")["error"]["message"]
    )
    job = api.post(where, reason="an auditor asked")
    assert (job["state"], job["max_attempts"]) == ("waiting", 1)
    background.run_jobs(api.shop.ws.acting_as("system:background"))
    ended = api.get(f"/api/jobs/{job['id']}")
    assert ended["result"]["verdict"] == "identical", ended
    assert tracking.run(api.shop.ws, ended["result"]["rerun"]).actor == "tester"  # who asked


def test_a_run_that_ended_cannot_be_cancelled(api: Api) -> None:
    refused = api.post(f"/api/runs/{run_of(api)}/cancel", status=409, reason="too late")
    assert "is done" in refused["error"]["message"]


def test_a_run_is_forked_in_the_background(api: Api) -> None:
    where = f"/api/runs/{run_of(api)}/fork"
    assert "reason is empty" in api.post(where, status=422, step="fit", reason=" ")["error"]["message"]
    job = api.post(where, step="fit", params={"picky": True}, reason="a reviewer asked")
    background.run_jobs(api.shop.ws.acting_as("system:background"))
    ended = api.get(f"/api/jobs/{job['id']}")
    assert ended["result"]["version"] == "kind@3", ended
    assert tracking.run(api.shop.ws, ended["result"]["run"]).actor == "tester"  # who asked
    assert ended["result"]["run"].removeprefix("run_") == job["id"].removeprefix("job_")


def test_a_run_is_paused_and_gone_on_with_in_the_background(api: Api) -> None:
    run = run_of(api)
    refused = api.post(f"/api/runs/{run}/pause", status=409)
    assert "only a running one can be paused" in refused["error"]["message"]
    job = api.post(f"/api/runs/{run}/resume")
    background.run_jobs(api.shop.ws.acting_as("system:background"))
    assert api.get(f"/api/jobs/{job['id']}")["result"] == {"run": run, "version": "kind@1", "passed": True}


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/comparison?before=kind@1", "missing required field `after`"),
        ("/api/pipeline-runs?order=best", "order (newest, oldest, longest)"),
        ("/api/pipeline-runs?limit=0", ">= 1"),
        ("/api/pipeline-runs?order=null", "order"),
        ("/api/pipeline-runs?state=null", "state is 'null'"),
        ("/api/pipeline-runs?until=", "'' is not a time"),
        ("/api/pipeline-runs?limit=1&limit=2", "'limit' more than once"),
    ],
)
def test_a_wrong_question_about_runs_is_told(reading: Api, path: str, told: str) -> None:
    assert told in reading._json(reading.client.get(path), 422)["error"]["message"]


def test_goods_are_ingested(api: Api) -> None:
    content = parquet(api.shop.ws, "sku", "title", "seller", "listed_at", "product", first=240)
    made = api.post("/api/datasets/goods/ingest?format=parquet", content)
    assert (made["number"], made["rows"]) == (2, 250)
    refused = api.post("/api/datasets/goods/ingest", content, status=422)["error"]["message"]
    assert "`format`. It takes format (csv, jsonl, parquet)" in refused


def test_labels_are_given_and_imported(api: Api) -> None:
    given = [{"key": 7, "value": "Lamps", "annotator": "ann"}]
    (event,) = api.post("/api/labels/kind/events", labels=given)["events"]
    assert event
    assert api.get("/api/labels/kind/events?limit=1")[0]["value"] == "Lamps"
    unknown = api.post("/api/labels/kind/events", status=422, labels=[{"key": 7, "value": "Lamp"}])
    assert "Lamps" in unknown["error"]["message"]
    query = "key=sku&value=kind&annotator=bob&format=parquet"
    imported = api.post(f"/api/labels/kind/import?{query}", parquet(api.shop.ws, "sku", "kind", first=0))
    assert imported["imported"] == 10


def test_versions_are_approved_by_others_rejected_and_promoted(api: Api) -> None:
    assert api.post("/api/model-versions/kind@2/promote", status=409, stage="production")["error"]["code"]
    refused = api.post("/api/model-versions/kind@2/approve", status=403, reason="mine")
    assert "Ask somebody else" in refused["error"]["message"]
    living.approve(api.shop.ws, "kind@2")
    assert api.post("/api/model-versions/kind@2/promote", stage="production")["name"] == "production"
    assert api.post("/api/model-versions/kind@2/reject", reason="too picky")["verdict"] == "rejected"


def test_a_version_is_described_tagged_put_aside_and_deleted(api: Api) -> None:
    where = "/api/model-versions/kind@2"
    assert api.post(f"{where}/describe", description="picky")["description"] == "picky"
    assert api.client.put(f"{where}/tags/team", json={"value": "vision"}).json() == {"team": "vision"}
    assert api.client.delete(f"{where}/tags/team").json() == {"team": None}
    refused = api.post(f"{where}/demote", status=409, stage="production", reason="x")
    assert "is not in production" in refused["error"]["message"]
    assert api.post(f"{where}/archive", reason="old")["archived_at"] is not None
    assert api.client.delete(where).json()["number"] == 2
    assert api.client.delete("/api/model-versions/kind@1").status_code == 409


def test_a_failed_check_is_waived(api: Api) -> None:
    ws = api.shop.ws
    report = check(ws, register(ws, name="elsewhere"), leaks=True)
    waiver = api.post(
        f"/api/gate-reports/{report.id}/waive",
        check=report.failed[0].name,
        reason="known",
        until="2026-12-31T00:00:00Z",
    )
    assert waiver["reason"] == "known"


def test_a_rollout_is_planned_started_and_turned(api: Api) -> None:
    living.release(api.shop.ws, "kind@2")
    planned = api.post("/api/endpoints/kind/plan", version="kind@2")
    assert [one["weight"] for one in planned["stages"]] == [50, 100]
    started = api.post("/api/endpoints/kind/rollouts", version="kind@2", reason="a test")
    turns = f"/api/rollouts/{started['id']}"
    states = [
        api.post(f"{turns}/{verb}", reason="a test")["state"] for verb in ("pause", "resume", "rollback")
    ]
    assert states == ["paused", "running", "rolled_back"]
    again = api.post("/api/endpoints/kind/rollouts", version="kind@2", reason="a test", again=True)
    assert api.post(f"/api/rollouts/{again['id']}/promote", reason="a test")["state"] == "done"


def test_traffic_is_split_compared_and_given_to_one_arm(api: Api) -> None:
    living.release(api.shop.ws, "kind@2")
    asked: dict[str, Any] = {"shares": {"kind@1": 50, "kind@2": 50}, "reason": "which is better"}
    where = "/api/endpoints/kind/split"
    assert [one["version"] for one in api.post(f"{where}/plan", **asked)["arms"]] == ["kind@1", "kind@2"]
    assert api.client.get(where).status_code == 404
    assert api.post(where, **asked)["state"] == "running"
    api.shop.ask(20)
    results = api.get(where)
    assert sum(arm["n"] for arm in results["arms"]) == 20
    assert "errors" in [one["measure"] for one in results["arms"][1]["measures"]]
    assert api.post(f"{where}/end", keep="kind@2", reason="it is better")["state"] == "ended"
    assert [one["version"] for one in api.get("/api/endpoints/kind/live")] == ["kind@2"]


def test_a_rule_is_put_shown_and_dropped(api: Api) -> None:
    where = "/api/endpoints/kind/rules/staff"
    rule = {"to": "candidate", "header": "X-Staff", "values": ["yes"], "reason": "staff look first"}
    assert api.client.put(where, json=rule).json()["rules"][0]["name"] == "staff"
    (shown,) = api.get("/api/endpoints/kind")["rules"]
    assert (shown["to"], shown["header"], shown["values"]) == ("candidate", "X-Staff", ["yes"])
    assert api.client.put(where, json={**rule, "header": "Cookie"}).status_code == 422
    assert api.client.request("DELETE", where, json={"reason": "over"}).json()["rules"] == []
    assert api.client.request("DELETE", where, json={"reason": "over"}).status_code == 404


def test_limits_are_put_whole_audited_and_taken_off(api: Api) -> None:
    where = "/api/endpoints/kind/limits"
    assert api.client.put(where, json={"deadline_ms": 200, "cores": 1}).json()["limits"]["cores"] == 1
    assert api.client.put(where, json={"queue": 9}).json()["limits"] == {"queue": 9}
    newest = ledger.entries(api.shop.ws, subject=ledger.Node("endpoint", "kind"))[:2]
    assert [one.act for one in newest] == ["endpoint.limit"] * 2
    for wrong, said in (
        ({"memory_mb": 1}, "from 64 to"),
        ({"memory": 500}, "memory"),
        ({"queue": "9"}, "int"),
    ):
        refused = api.client.put(where, json=wrong)
        assert (refused.status_code, said in refused.json()["error"]["message"]) == (422, True)
    assert api.client.put(where, json={}).json()["limits"] == {}
    assert api.client.put("/api/endpoints/none/limits", json={}).status_code == 404


def test_an_answer_is_corrected_and_a_review_settled(api: Api) -> None:
    (asked,) = api.shop.ask(1, key="7")
    where = "/api/endpoints/kind/corrections"
    assert api.post(where, value="Lamps", prediction_id=asked.id, reporter="seller")["contradicts"]
    sold = api.post("/api/endpoints/kind/values", name="revenue", value=12.5, prediction_id=asked.id)
    assert (sold["prediction_id"], sold["value"]) == (asked.id, 12.5)
    (item,) = api.get("/api/review")
    assert api.post(f"/api/review/{item['id']}", value="Tea")["value"] == "Tea"
    assert api.get("/api/endpoints/kind/contradictions")["contradicted"] == 0


def test_corrections_come_in_a_file_and_reviews_are_settled_together(api: Api) -> None:
    asked = [api.shop.ask(1, key=key)[0] for key in ("7", "8")]
    file = b"prediction_id,value,reporter\n" + b"".join(f"{one.id},Lamps,seller\n".encode() for one in asked)
    where = "/api/endpoints/kind/corrections/import?prediction_id=prediction_id"
    assert "field `format`" in api.post(where, file, status=422)["error"]["message"]
    assert "names one column" in api.post(f"{where[:-28]}?format=csv", file, status=422)["error"]["message"]
    assert api.post(f"{where}&format=csv", file)["recorded"] == 2
    answers = {one["id"]: "Tea" for one in api.get("/api/review")}
    assert len(answers) == 2
    assert "Expected `object`" in api.post("/api/review", status=422, answers=["Tea"])["error"]["message"]
    assert [one["value"] for one in api.post("/api/review", answers=answers)] == ["Tea", "Tea"]
    assert api.get("/api/review") == []


def test_a_simulations_time_moves_forward_only(api: Api) -> None:
    assert api.post("/api/simulation/clock", to="2026-10-01T00:00:00Z")["now"] == "2026-10-01T00:00:00Z"
    assert (
        "cannot go back"
        in api.post("/api/simulation/clock", status=422, to="2026-09-01T00:00:00Z")["error"]["message"]
    )


def test_a_trigger_is_called_paused_and_resumed_and_its_job_cancelled(api: Api) -> None:
    trigger_of(api)
    made = api.post("/api/triggers/nightly")
    assert api.get("/api/triggers/nightly/firings")[0]["job"] == made["job"]
    (waiting,) = api.get("/api/jobs?state=waiting")
    assert waiting["waits"].startswith("waits for a worker")
    assert api.post(f"/api/jobs/{made['job']}/cancel", reason="a test") == {"cancelled": made["job"]}
    assert api.get(f"/api/jobs/{made['job']}")["waits"] is None
    assert api.post("/api/triggers/nightly/pause", reason="moving") == {"paused": "nightly"}
    assert "by tester: moving" in api.post("/api/triggers/nightly", status=409)["error"]["message"]
    assert api.post("/api/triggers/nightly/resume") == {"resumed": "nightly"}
    assert "is not paused" in api.post("/api/triggers/nightly/resume", status=409)["error"]["message"]


def test_a_schedule_is_paused_and_resumed(api: Api) -> None:
    ws = api.shop.ws
    ws.write(lambda tx: jobs.schedule(ws, tx, "train kind", cron="0 3 * * *", kind="train", payload={}))
    api.post("/api/schedules/train kind/pause", reason="moving")
    (paused,) = api.get("/api/schedules")
    assert (paused["paused_by"], paused["pause_reason"]) == ("tester", "moving")
    api.post("/api/schedules/train kind/resume")
    assert api.get("/api/schedules")[0]["paused_at"] is None
    assert (
        "there is no schedule"
        in api.post("/api/schedules/x/pause", status=404, reason="y")["error"]["message"]
    )


def test_accounts_and_tokens_come_and_go(api: Api) -> None:
    assert api.post("/api/accounts", name="alice", role="viewer")["role"] == "viewer"
    made = api.post("/api/accounts/alice/tokens")
    assert access.authenticate(api.shop.ws, made["token"]).name == "alice"
    assert api.client.delete(f"/api/tokens/{made['id']}").json() == {"revoked": made["id"]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "not JSON"),
        (b"[]", "got `array`"),
        (b"{}", "missing required field `reason`. It takes reason."),
        (b'{"reason": "x", "y": 1}', "unknown field `y`"),
    ],
)
def test_a_body_that_is_wrong_is_told(api: Api, content: bytes, told: str) -> None:
    assert told in api.post("/api/model-versions/kind@2/approve", content, status=422)["error"]["message"]
