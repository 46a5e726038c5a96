"""Calls: idempotency keys, parameters, signatures, and what a call waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from everloop import access, jobs, ledger, pipelines, triggers
from everloop.errors import Conflict, Invalid, NotFound, NotReady
from everloop.workspace import Workspace
from tests.api.test_app import serve
from tests.triggers.made_up import applied, ended, later, look, run_jobs, standing

CALLED = "el.trigger(report, params={'month': 'May'})\n"


def test_a_call_runs_the_pipeline_with_its_parameters_beside_the_declared_ones(
    any_ws: Workspace, tmp_path: Path
) -> None:
    ws = any_ws
    applied(ws, tmp_path, CALLED)
    made = triggers.call(ws.acting_as("alice"), "report", {"rows": 7})
    assert made.firing is not None
    assert (made.firing.by, made.firing.reason) == ("alice", "called by alice")
    run_jobs(ws)
    assert pipelines.result(ws, str(made.firing.run)) == "May: 7"


def test_a_call_of_what_takes_its_instant_has_one(ws: Workspace, tmp_path: Path) -> None:
    applied(ws, tmp_path, "el.trigger(report, cron='0 3 * * *', params={'month': '{instant}'})")
    made = triggers.call(ws, "report")
    run_jobs(ws)
    assert made.firing is not None
    assert pipelines.result(ws, str(made.firing.run)) == "2026-09-01T00:00:00+00:00: 3"


def test_the_same_key_is_the_same_call_whoever_is_quicker(any_ws: Workspace, tmp_path: Path) -> None:
    applied(any_ws, tmp_path, CALLED)
    made = []

    def call() -> None:
        made.append(triggers.call(any_ws, "report", {"rows": 7}, key="may"))

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.firing.job for one in made if one.firing is not None}) == len(jobs.jobs_of(any_ws)) == 1
    assert sorted(one.is_known for one in made) == [False, *[True] * 5]


def test_a_key_with_other_parameters_is_refused(ws: Workspace, tmp_path: Path) -> None:
    applied(ws, tmp_path, CALLED)
    triggers.call(ws, "report", {"rows": 7}, key="may")
    with pytest.raises(Conflict, match="'may' was used for a call of 'report' with the parameters"):
        triggers.call(ws, "report", {"rows": 8}, key="may")
    assert len(jobs.jobs_of(ws)) == 1


@pytest.mark.parametrize(
    ("params", "key", "told"),
    [
        ({"moth": "May"}, None, "Did you mean 'month'"),
        ({"rows": "7"}, None, "takes rows as int and got '7', which is str"),
        ({}, "", "the idempotency key has 0 characters"),
        ({}, "k" * 201, "has 201 characters"),
    ],
)
def test_a_call_that_does_not_fit_starts_nothing(
    ws: Workspace, tmp_path: Path, params: dict[str, Any], key: str | None, told: str
) -> None:
    applied(ws, tmp_path, CALLED)
    with pytest.raises(Invalid, match=told):
        triggers.call(ws, "report", params, key=key)
    assert jobs.jobs_of(ws) == []


def test_an_unknown_trigger_is_not_found(ws: Workspace) -> None:
    with pytest.raises(NotFound, match="everloop triggers list"):
        triggers.call(ws, "report")


def test_a_paused_trigger_takes_no_call(ws: Workspace, tmp_path: Path) -> None:
    applied(ws, tmp_path, CALLED)
    triggers.pause(ws.acting_as("alice"), "report", reason="moving")
    with pytest.raises(Conflict, match="by alice: moving"):
        triggers.call(ws, "report")


def test_calls_settle_into_one_run_with_the_parameters_of_the_last(any_ws: Workspace, tmp_path: Path) -> None:
    ws = any_ws
    applied(ws, tmp_path, "el.trigger(report, when=el.called(), quiet_s=60)")
    for rows in (1, 2, 3):
        made = triggers.call(ws, "report", {"rows": rows}, key=f"k{rows}")
        assert "waits for quiet" in str(made.waits)
        later(ws, seconds=20)
    later(ws, seconds=40)
    (firing,) = look(ws)
    assert (firing.reason, firing.params) == ("3 calls", {"rows": 3})
    for rows in (1, 2, 3):
        assert triggers.call(ws, "report", {"rows": rows}, key=f"k{rows}").firing == firing


def test_a_call_may_have_to_meet_another_condition(ws: Workspace, tmp_path: Path) -> None:
    applied(ws, tmp_path, "el.trigger(send, when=el.called() & el.finished(report))")
    assert triggers.call(ws, "send").waits == "not enough: 1 calls and 0 runs of report ended done"
    ended(ws, "report")
    assert [one.reason for one in look(ws)] == ["1 calls and 1 run of report ended done"]


def test_a_call_that_its_limit_refuses_leaves_nothing_behind(any_ws: Workspace, tmp_path: Path) -> None:
    ws = any_ws
    applied(ws, tmp_path, CALLED + "el.limit(report, 1, when_full='refuse')")
    first = triggers.call(ws, "report", key="a")
    with pytest.raises(NotReady, match="limited to 1 at once and refuses more"):
        triggers.call(ws, "report", key="b")
    run_jobs(ws)
    second = triggers.call(ws, "report", key="b")
    assert not second.is_known
    assert [one.id for one in triggers.firings(ws)] == [
        one.firing.id for one in (second, first) if one.firing is not None
    ]


def test_a_run_ends_when_its_job_is_cancelled(ws: Workspace, tmp_path: Path) -> None:
    slow = """
import time

@el.step
def sleep(for_s: float) -> int:
    time.sleep(for_s)
    return 1

@el.pipeline
def slow() -> list[int]:
    return [sleep(0.2 + n / 10_000) for n in range(200)]

el.trigger(slow)
"""
    applied(ws, tmp_path, slow)
    firing = triggers.call(ws, "slow").firing
    assert firing is not None
    thread = threading.Thread(target=run_jobs, args=(ws,))
    thread.start()
    begun = time.monotonic()
    while not pipelines.pipeline_runs(ws) and time.monotonic() - begun < 20:
        threading.Event().wait(0.02)
    jobs.cancel(ws, str(firing.job), reason="wrong month")
    thread.join(20)
    assert not thread.is_alive()
    run = pipelines.pipeline_run(ws, str(firing.run))
    assert (run.state, run.error) == ("cancelled", f"its job {firing.job} was cancelled")


@pytest.fixture
def hook(ws: Workspace, tmp_path: Path) -> Iterator[tuple[httpx.Client, str]]:
    """A server that wants tokens, with the trigger `report`, and the trigger's secret."""
    applied(ws, tmp_path, CALLED)
    secret = triggers.secret_of(ws, "report")
    for client in serve(replace(ws, settings=replace(ws.settings, auth="token"))):
        yield client, secret


def post(
    hook: tuple[httpx.Client, str],
    body: bytes = b'{"rows": 7}',
    *,
    key: str = "",
    at: float | None = None,
    **changed: str,
) -> httpx.Response:
    client, secret = hook
    timestamp = str(int(time.time() if at is None else at))
    given = {"trigger": "report", "timestamp": timestamp, "key": key, "body": body}
    signature = triggers.sign(changed.pop("secret", secret), **given)  # type: ignore[arg-type]  # as named above
    headers = {"X-Everloop-Timestamp": timestamp, "X-Everloop-Signature": f"sha256={signature}"}
    if key:
        headers["Idempotency-Key"] = key
    return client.post("/api/triggers/report", content=body, headers={**headers, **changed})


def test_a_signed_call_needs_no_account_and_is_recorded_as_the_webhooks(
    hook: tuple[httpx.Client, str], ws: Workspace
) -> None:
    answer = post(hook).json()
    assert answer["run"] == answer["job"].replace("job_", "run_")
    (firing,) = triggers.firings(ws)
    assert (firing.by, firing.params, firing.job) == (
        "webhook:report",
        {"month": "May", "rows": 7},
        answer["job"],
    )


def test_a_request_that_is_sent_again_starts_nothing_more(
    hook: tuple[httpx.Client, str], ws: Workspace
) -> None:
    at = time.time()
    first, again = post(hook, at=at).json(), post(hook, at=at).json()
    assert (again["job"], again["is_known"]) == (first["job"], True)
    by_key = [post(hook, key="may", at=at + n).json()["job"] for n in (1, 2)]
    assert by_key[0] == by_key[1] != first["job"]
    assert len(jobs.jobs_of(ws)) == 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"secret": "guessed"}, "the signature does not fit"),
        ({"at": 1_000_000_000}, "is not of now"),
        ({"X-Everloop-Timestamp": "1764100000"}, "the signature does not fit"),
        ({"Idempotency-Key": "another"}, "the signature does not fit"),
        ({"X-Everloop-Signature": "sha256=00"}, "the signature does not fit"),
    ],
)
def test_a_forged_or_stale_call_is_refused(
    hook: tuple[httpx.Client, str], ws: Workspace, given: dict[str, Any], told: str
) -> None:
    answer = post(hook, **given)
    assert answer.status_code == 401
    assert told in answer.json()["error"]["message"]
    assert jobs.jobs_of(ws) == []


def test_a_signature_counts_for_its_body_and_its_trigger_alone(
    hook: tuple[httpx.Client, str], ws: Workspace
) -> None:
    client, secret = hook
    timestamp = str(int(time.time()))
    signature = triggers.sign(secret, trigger="report", timestamp=timestamp, body=b"{}")
    headers = {"X-Everloop-Timestamp": timestamp, "X-Everloop-Signature": signature}
    assert client.post("/api/triggers/report", content=b'{"rows": 1}', headers=headers).status_code == 401
    assert client.post("/api/triggers/other", content=b"{}", headers=headers).status_code == 401
    assert client.post("/api/triggers/report/pause", json={"reason": "x"}, headers=headers).status_code == 401
    assert client.get("/api/triggers", headers=headers).status_code == 401


def test_without_signature_a_token_that_may_run_is_needed(
    hook: tuple[httpx.Client, str], ws: Workspace
) -> None:
    client, _ = hook
    assert client.post("/api/triggers/report", json={}).status_code == 401
    for role, status in (("viewer", 403), ("engineer", 200)):
        access.add_account(ws, role, role=role)
        _, token = access.create_token(ws, role)
        answer = client.post("/api/triggers/report", json={}, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status
    assert [one.by for one in triggers.firings(ws)] == ["engineer"]


def test_a_body_that_is_too_large_or_none_is_refused(hook: tuple[httpx.Client, str]) -> None:
    large = post(hook, b'{"month": "' + b"x" * (64 << 10) + b'"}')
    assert (large.status_code, "larger than 64 KB" in large.text) == (413, True)
    for body in (b"[]", b"rows=7", b'{"rows": NaN'):
        assert post(hook, body).status_code == 422


def test_a_renewed_secret_ends_the_old_one_and_is_recorded(
    hook: tuple[httpx.Client, str], ws: Workspace
) -> None:
    client, old = hook
    new = triggers.secret_of(ws.acting_as("alice"), "report", renew=True)
    assert post((client, old)).status_code == 401
    assert post((client, new)).status_code == 200
    assert ("alice", "trigger.renew_secret") in {(one.actor, one.act) for one in ledger.entries(ws)}
    assert standing(ws, "report").told == "fires when it is called"
