"""Features in live requests: what a merchant sent before, as training would have counted it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everloop.clock import SimulatedClock, to_micros
from everloop.features import FeatureView, materialise, training_values
from everloop.features.source import _digest
from everloop.predictions import log
from everloop.serving import Field, code_folder, online_path
from tests.features.views import view_of, volume
from tests.serving.home import TITLE, go_live, title_model, write_release
from tests.serving.records import route
from tests.serving.server import Server, wait_for

Serve = Callable[..., Server]
INPUTS = (TITLE, Field("merchant_id", "integer"), Field("price", "number"))
START = datetime(2026, 10, 1, tzinfo=UTC)
CODE = "def volume(past) -> int:\n    return past.num_rows\n"
FAILING = "def volume(past) -> int:\n    return 10 // (3 - past.num_rows)\n"


def a_view(code: str = CODE, **given: Any) -> FeatureView:
    view = dataclasses.replace(view_of(volume), module="loop_served", source_digest=_digest(code, "volume"))
    return dataclasses.replace(view, **given)


def release(home: Path, name: str, view: FeatureView, *, code: str = CODE, version: int = 1) -> None:
    folder = code_folder(home / "serving", f"code_{name}")
    folder.mkdir(parents=True)
    (folder / "loop_served.py").write_text(code)
    model = title_model(columns=4)
    write_release(
        home, f"rel_{name}", model, inputs=INPUTS, features=(view,), version=version, code=f"code_{name}"
    )


@pytest.fixture
def simulated(tmp_path: Path) -> Path:
    """A simulation whose live release counts what a merchant sent in the week before."""
    SimulatedClock.create(tmp_path / "simulation.clock", at=START)
    release(tmp_path, "control", a_view())
    go_live(tmp_path, ("control", 100))
    return tmp_path


def send(server: Server, number: int, merchant: int, hours: float, **given: Any) -> tuple[Any, Any]:
    """The feature's value and its time, as logged for a listing sent at START + hours."""
    reply = server.client.post(
        "/endpoints/category/predict",
        json={
            "inputs": {"title": f"fridge {number}", "merchant_id": merchant, "price": number},
            "key": number,
            "at": (START + timedelta(hours=hours)).isoformat(),
            **given,
        },
    )
    assert reply.status_code == 200, reply.text
    return server.record(reply).features["volume"]


def at(hours: float) -> int:
    return to_micros(START + timedelta(hours=hours))


def test_a_request_sees_earlier_requests_of_its_entity_and_their_time(simulated: Path, serve: Serve) -> None:
    server = serve(simulated)
    assert send(server, 1, 7, 0) == (0, None)
    assert send(server, 2, 8, 1) == (0, None)
    assert send(server, 3, 7, 2) == (1, at(0))
    assert send(server, 4, 7, 3) == (2, at(2))
    assert send(server, 5, 7, 7 * 24 + 1) == (2, at(3))  # the first has left the window


def test_a_listing_sent_twice_counts_once(simulated: Path, serve: Serve) -> None:
    server = serve(simulated)
    send(server, 1, 7, 0)
    send(server, 1, 7, 1)
    assert send(server, 2, 7, 2) == (1, at(0))


def test_replays_and_refusals_leave_no_trace_in_later_features(simulated: Path, serve: Serve) -> None:
    server = serve(simulated)
    send(server, 1, 7, 0)
    assert send(server, 2, 7, 1, replay=True) == (1, at(0))
    inputs = {"title": "a fridge", "merchant_id": 7, "price": 1, "colour": "not an input"}
    refused = server.client.post("/endpoints/category/predict", json={"inputs": inputs, "key": 3})
    assert refused.status_code == 422
    assert send(server, 4, 7, 2) == (1, at(0))
    server.kill()
    assert send(serve(simulated), 5, 7, 3) == (2, at(2))


def test_a_shadow_does_not_count_a_request_again(simulated: Path, serve: Serve) -> None:
    release(simulated, "canary", a_view(), version=2)
    server = serve(simulated)
    server.wait_for_epoch(go_live(simulated, ("control", 100), shadow=route(("canary", 100)).variants))
    send(server, 1, 7, 0)
    assert send(server, 2, 7, 1) == (1, at(0))
    wait_for(lambda: log.read(server.folder).num_rows == 4)
    assert {one.features["volume"] for one in server.records() if one.key == "2"} == {(1, at(0))}


def test_without_keys_each_request_counts_once_though_a_shadow_answers_it_too(
    tmp_path: Path, serve: Serve
) -> None:
    SimulatedClock.create(tmp_path / "simulation.clock", at=START)
    for name in ("control", "canary"):
        release(tmp_path, name, a_view(key=None))
    go_live(tmp_path, ("control", 100), shadow=route(("canary", 100)).variants)
    server = serve(tmp_path)
    for number in range(3):
        assert send(server, number, 7, number, key=None)[0] == number
        wait_for(partial(_has_rows, server, 2 * number + 2))
    server.kill()
    assert send(serve(tmp_path), 4, 7, 4, key=None)[0] == 3


def _has_rows(server: Server, count: int) -> bool:
    return log.read(server.folder).num_rows == count


@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_killed_server_remembers_what_it_answered(simulated: Path, serve: Serve, is_sealed: bool) -> None:
    """From the materialised file, then from the log: rows in both count once."""
    rows = pa.table(
        {
            "title": ["old"] * 3,
            "merchant_id": [7, 7, 8],
            "price": [1.0] * 3,
            "listing_id": [101, 1, 103],
            "received_at": pa.array([at(-24), at(0), at(-1)], pa.timestamp("us", tz="UTC")),
        }
    )
    materialise(a_view(), rows, online_path(simulated / "serving", a_view()))
    server = serve(simulated)
    send(server, 1, 7, 0)
    assert send(server, 2, 7, 1) == (2, at(0))
    server.kill()
    if is_sealed:
        log.seal(server.folder)
    server = serve(simulated)
    assert send(server, 3, 7, 2) == (3, at(1))


def test_a_canary_with_another_window_starts_with_what_was_asked_before(
    simulated: Path, serve: Serve
) -> None:
    server = serve(simulated)
    send(server, 1, 7, 0)
    send(server, 2, 7, 30)
    release(simulated, "canary", a_view(window_s=86_400.0), version=2)
    server.wait_for_epoch(go_live(simulated, ("canary", 100)))
    assert send(server, 3, 7, 31) == (1, at(30))


def test_a_feature_that_raises_is_a_failed_prediction_with_its_reason(tmp_path: Path, serve: Serve) -> None:
    SimulatedClock.create(tmp_path / "simulation.clock", at=START)
    release(tmp_path, "control", a_view(FAILING), code=FAILING)
    go_live(tmp_path, ("control", 100))
    server = serve(tmp_path)
    for number in range(3):
        send(server, number, 7, number)
    body = {
        "inputs": {"title": "x", "merchant_id": 7, "price": 1},
        "at": (START + timedelta(days=1)).isoformat(),
    }
    reply = server.client.post("/endpoints/category/predict", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "feature_failed")
    assert "ZeroDivisionError" in str(server.record(reply).error)


def test_changed_code_is_not_served(simulated: Path, serve: Serve) -> None:
    (code_folder(simulated / "serving", "code_control") / "loop_served.py").write_text(
        CODE.replace("rows", "columns")
    )
    server = serve(simulated, ready=False)
    wait_for(lambda: "was trained with" in str(server.worker().error))


def test_live_values_are_those_of_training_on_real_listings(
    simulated: Path, serve: Serve, shared_data: Path
) -> None:
    """A month of real listings through the server: every logged value equals the offline one."""
    rows = (
        pq.read_table(shared_data / "marketplace" / "month_1.parquet").sort_by("received_at").slice(0, 1500)
    )
    rows = rows.append_column("price", pa.nulls(rows.num_rows, pa.float64()).fill_null(0.0))
    expected = training_values(view_of(volume), volume, rows).to_pylist()
    server = serve(simulated)
    for start in range(0, rows.num_rows, 50):
        instances = [
            {
                "inputs": {"title": row["title"], "merchant_id": row["merchant_id"], "price": row["price"]},
                "key": row["listing_id"],
                "at": row["received_at"].replace(tzinfo=UTC).isoformat(),
            }
            for row in rows.slice(start, 50).to_pylist()
        ]
        reply = server.client.post("/endpoints/category/predict", json={"instances": instances})
        assert reply.status_code == 200
    logged = {one.key: one.features["volume"][0] for one in server.records()}
    assert [logged[str(key)] for key in rows["listing_id"].to_pylist()] == expected
    assert max(value for value in expected if value) > 10


def test_what_another_process_answered_is_known_here_soon_and_counts_once(
    simulated: Path, serve: Serve
) -> None:
    first, second = serve(simulated), serve(simulated)
    send(first, 1, 7, 0)
    wait_for(lambda: send(second, 2, 7, 1, replay=True) == (1, at(0)))
    send(second, 3, 7, 2)
    wait_for(lambda: send(first, 4, 7, 3, replay=True) == (2, at(2)))
    first.kill()
    third = serve(simulated)  # in the place of the first
    assert send(third, 5, 7, 4) == (2, at(2))
    wait_for(lambda: send(second, 6, 7, 5, replay=True) == (3, at(4)))
