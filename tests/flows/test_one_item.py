"""One listing goes the whole way: file, row, label, run, gate, version, endpoint, prediction, correction, finding,
retrain job, trace. Real files, a real serving process, real HTTP; only the clock is moved."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from everloop import (
    background,
    data,
    events,
    feedback,
    governance,
    jobs,
    ledger,
    monitoring,
    registry,
    retraining,
    rollout,
)
from everloop.clock import SimulatedClock
from everloop.settings import Settings, child_environment
from everloop.workspace import Workspace
from tests.conftest import simulation
from tests.loop import shop

LOOP = shop.LOOP.replace("when=el.contradicted(live, 1)", "when=el.drifted(live) & el.contradicted(live, 1)")


@pytest.fixture(params=["files", "s3"])
def ws(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    """As everywhere, and with its blobs on S3."""
    if request.param == "files":
        yield request.getfixturevalue("ws")
        return
    s3: Settings = request.getfixturevalue("s3_settings")
    with simulation(tmp_path / "home", blobs=s3.blobs, blobs_endpoint=s3.blobs_endpoint) as workspace:
        yield workspace
    assert not (tmp_path / "home" / "blobs").exists()


def test_one_listing_travels_through_every_record(ws: Workspace, tmp_path: Path) -> None:
    loop = shop.set_up(ws, tmp_path, text=LOOP)
    row = data.rows_by_key(ws, "goods", ["7"])
    assert row.num_rows == 1

    trained = shop.train(ws, loop)
    assert trained.passed, governance.version_card(ws, "kind@1")["readiness"].obstacles
    assert trained.version == "kind@1"
    registry.approve(ws.acting_as("alice"), "kind@1", reason="looks right")
    with serving_process(ws) as ask:
        background.turn(ws)
        assert [one.version for one in rollout.live(ws, "kind")] == ["kind@1"]

        answers = [ask({"title": "red small leaf", "seller": 3}, key="7") for _ in range(60)]
        prediction = answers[0]["prediction_id"]
        assert answers[0]["output"] == "Tea"
        correction = feedback.correct(
            ws, endpoint="kind", value="Lamps", reporter="moderator", prediction_id=prediction
        )
        assert correction.contradicts

        move(ws, hours=25)
        background.turn(ws)
        findings = monitoring.findings(ws, "kind")
        assert "prediction_drift" in {finding.kind for finding in findings}

        (decision,) = retraining.decisions(ws)
        assert "1 answers of kind contradicted" in decision.reason
        assert background.run_jobs(ws) == 1
        job = jobs.job(ws, decision.job)
        assert (job.state, job.error) == ("done", None)
        assert job.result["version"] == "kind@2"

    trace = governance.trace(ws, prediction)
    assert trace.gaps == ()
    titles = [step.title for step in trace.steps]
    assert titles[:4] == ["prediction", "correction", "what was live", "model version"]
    assert {"gates", "approval", "run", "code", "environment", "data", "labels", "label of this row"} <= set(
        titles
    )
    said = {step.facts["annotator"] for step in trace.steps if step.title == "label of this row"}
    assert {"catalogue"} < said, "the import and the correction are both on record"
    reached = governance.impact(ws, "goods:7").reached
    assert {"kind@1", "kind@2"} <= set(reached["model_version"])
    assert ledger.verify(ws).is_intact
    check_reasons(ws, decision)


def check_reasons(ws: Workspace, decision: retraining.Decision) -> None:
    """Each act names its reason, and from the last one leads back to the first."""
    told = governance.why(ws, decision.id)
    assert "1 answers of kind contradicted" in told.answer
    assert told.numbers["contradicted kind"] == 1
    finding = next(one for one in told.go_on if one.startswith("find_"))
    assert decision.id in governance.why(ws, finding).go_on
    assert "chance of a false alarm" in " ".join(governance.why(ws, finding).because)
    job = governance.why(ws, decision.job)
    assert decision.reason in job.answer
    run = next(one for one in job.go_on if one.startswith("run_"))
    assert {decision.job, decision.id, "kind@2"} <= governance.why(ws, run).go_on.keys()
    (started,) = rollout.rollouts(ws)
    assert "kind@1 passed its gates and was approved" in governance.why(ws, started.id).answer
    alert = next(one for one in events.newest(ws, kind="monitoring.") if one.payload["finding"] == finding)
    assert finding in governance.why(ws, alert.id).go_on


@contextmanager
def serving_process(ws: Workspace) -> Iterator[Any]:
    """A real `everloop serve` beside the test; yields a function that asks it until it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "everloop", "serve", "--home", str(ws.home), "--port", str(port)]
    with (
        subprocess.Popen(command, env=child_environment(ws.settings)) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):

        def ask(inputs: dict[str, Any], *, key: str) -> dict[str, Any]:
            deadline = time.monotonic() + 30
            while True:
                try:
                    body = {"inputs": inputs, "key": key, "at": ws.now().isoformat()}
                    answer = client.post("/endpoints/kind/predict", json=body)
                except httpx.ConnectError:
                    answer = None
                if answer is not None and answer.status_code == 200:
                    found: dict[str, Any] = answer.json()
                    return found
                # not listening yet, or the release is being loaded
                assert answer is None or answer.status_code in (404, 503), answer.text
                assert time.monotonic() < deadline, "the serving process does not answer"

        try:
            yield ask
        finally:
            server.terminate()


def move(ws: Workspace, **by: float) -> None:
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(**by))
