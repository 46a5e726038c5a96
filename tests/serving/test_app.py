"""What a client of the prediction API sees, from a real process over real HTTP."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from everloop.clock import SimulatedClock, to_micros
from everloop.features.images import ImageFeatures
from everloop.ids import writer_of
from everloop.predictions import log
from everloop.serving import Field
from tests.serving.asgi import InProcess
from tests.serving.home import COLOUR, TITLE, go_live, object_array, picky_model, write_release
from tests.serving.server import Server

AT = datetime(2026, 10, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that only ask it; its model fails on colours that it has not seen."""
    home = tmp_path_factory.mktemp("home")
    write_release(home, "rel_control", picky_model(), inputs=(TITLE, COLOUR), version=3)
    go_live(home, ("control", 100))
    server = Server(home, body_limit_bytes=10_000)
    yield server
    server.kill()


def ask(server: Server, colour: Any = "red", **given: Any) -> httpx.Response:
    return server.client.post(
        "/endpoints/category/predict", json={"inputs": {"title": "a fridge", "colour": colour}, **given}
    )


def picture(colour: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(content, "PNG")
    return content.getvalue()


def post(server: Server, content: bytes, **headers: str) -> httpx.Response:
    return server.client.post("/endpoints/category/predict", content=content, headers=headers)


def test_a_prediction_names_what_answered_and_is_in_the_log(server: Server) -> None:
    reply = ask(server, key="listing 7")
    assert reply.status_code == 200
    answer = reply.json()
    assert (answer["output"], answer["model"], answer["version"], answer["variant"]) == (
        "Fridges",
        "category",
        3,
        "control",
    )
    assert list(answer["scores"]) == ["Fridges", "Freezers"]
    assert reply.headers["x-everloop-prediction-id"] == answer["prediction_id"]
    assert reply.headers["x-everloop-version"] == "3"
    record = server.record(reply)
    assert (record.status, record.key, record.release, record.epoch) == ("ok", "listing 7", "rel_control", 1)
    assert record.inputs == {"title": "a fridge", "colour": "red"}
    assert (record.output, record.scores) == (answer["output"], answer["scores"])
    assert 0 < record.latency_us < 60_000_000
    assert writer_of(record.id) == server.writer


def test_wrong_fields_are_named_and_the_refusal_is_logged(server: Server) -> None:
    reply = server.client.post("/endpoints/category/predict", json={"inputs": {"title": 3, "price": 1}})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (422, "invalid")
    assert [field["field"] for field in error["fields"]] == ["title", "colour", "price"]
    record = server.record(reply)
    assert (record.status, record.output, record.inputs) == ("refused", None, {"title": 3, "price": 1})
    assert record.error is not None
    assert "colour is missing" in record.error


def test_a_number_of_any_size_is_refused_and_logged(server: Server) -> None:
    reply = server.client.post(
        "/endpoints/category/predict", content=b'{"inputs": {"title": 1%s, "colour": "red"}}' % (b"0" * 40)
    )
    assert reply.status_code == 422
    assert server.record(reply).inputs == {"title": f"1{'0' * 40}", "colour": '"red"'}


def test_a_model_that_raises_is_a_500_and_logged_as_failed(server: Server) -> None:
    reply = ask(server, "green")
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (500, "model_failed")
    assert error["prediction_id"] == reply.headers["x-everloop-prediction-id"]
    record = server.record(reply)
    assert record.status == "failed"
    assert record.error is not None
    assert "ValueError" in record.error


def test_rows_that_fail_do_not_fail_the_others(server: Server) -> None:
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda n: ask(server, "green" if n % 4 == 0 else "red"), range(200)))
    assert [reply.status_code for reply in replies] == [500 if n % 4 == 0 else 200 for n in range(200)]
    assert len({reply.headers["x-everloop-prediction-id"] for reply in replies}) == 200


def test_instances_are_answered_in_order_each_for_itself(server: Server) -> None:
    instances = [
        {"inputs": {"title": "a freezer", "colour": "red"}, "key": 1},
        {"inputs": {"title": "a fridge", "colour": "green"}},
        {"inputs": {"title": "a fridge"}},
        {"inputs": {"title": "a fridge", "colour": "white"}},
    ]
    reply = server.client.post("/endpoints/category/predict", json={"instances": instances})
    answers = reply.json()["predictions"]
    assert reply.status_code == 200
    assert [answer.get("output") or answer["error"]["code"] for answer in answers] == [
        "Freezers",
        "model_failed",
        "invalid",
        "Fridges",
    ]
    record = log.find(server.folder, answers[0]["prediction_id"])
    assert record is not None
    assert record.key == "1"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b'{"inputs": {"title": "\xff"}}', 400, "malformed"),
        (b'{"inputs": {"title": ' + b"[" * 5_000, 400, "malformed"),
        (b"[]", 422, "invalid"),
        (b"{}", 422, "invalid"),
        (b'{"inputs": []}', 422, "invalid"),
        (b'{"inputs": {}, "instances": []}', 422, "invalid"),
        (b'{"instances": []}', 422, "invalid"),
        (b'{"inputs": {}, "kee": "7"}', 422, "invalid"),
        (b'{"inputs": {}, "key": 1.5}', 422, "invalid"),
        (b'{"inputs": {}, "at": "yesterday"}', 422, "invalid"),
        (b'{"inputs": {"title": "' + b"x" * 10_000 + b'"}}', 413, "too_large"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_and_logged(
    server: Server, body: bytes, status: int, code: str
) -> None:
    reply = post(server, body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code)
    record = log.find(server.folder, error["prediction_id"])
    assert record is not None
    assert (record.status, record.endpoint, record.release, record.inputs) == ("refused", "category", "", {})


def test_a_body_without_a_length_is_stopped_at_the_limit(server: Server) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    reply = server.client.post("/endpoints/category/predict", content=endless())
    assert reply.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/endpoints/price/predict", 404),
        ("POST", "/endpoints//predict", 404),
        ("POST", "/endpoints/category", 404),
        ("GET", "/endpoints/category/predict", 405),
        ("POST", "/health", 405),
        ("GET", "/health", 200),
        ("GET", "/ready", 200),
        ("GET", "/", 200),
        ("GET", "/nothing", 404),
    ],
)
def test_paths_and_methods(server: Server, method: str, path: str, status: int) -> None:
    reply = server.client.request(method, path, json={"inputs": {}} if method == "POST" else None)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/json"
    assert ("error" in reply.json()) == (status >= 400)


def test_health_and_readiness_are_what_probes_of_others_look_for(server: Server) -> None:
    assert server.client.get("/health").json() == {"live": True}
    assert server.client.get("/ready").json() == {"ready": True, "epoch": 1, "workers": 1}
    assert server.client.get("/").json() == {
        "name": "everloop",
        "status": "alive",
        "endpoints": ["category"],
    }


@pytest.mark.parametrize("headers", [{"host": "evil.example.org"}, {"origin": "https://evil.example.org"}])
def test_other_names_and_pages_are_refused_and_predict_nothing(
    server: Server, headers: dict[str, str]
) -> None:
    before = log.read(server.folder).num_rows
    reply = post(server, b'{"inputs": {"title": "a fridge", "colour": "red"}}', **headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "denied")
    assert log.read(server.folder).num_rows == before


def test_the_time_of_a_request_is_not_the_clients_to_choose(server: Server) -> None:
    reply = ask(server, at=AT.isoformat())
    assert reply.status_code == 422
    assert reply.json()["error"]["fields"][0]["field"] == "at"


def test_a_replayed_request_is_marked_in_the_log(server: Server) -> None:
    assert server.record(ask(server, replay=True)).replay


def test_no_training_reporting_or_database_package_is_loaded(home: Path) -> None:
    """Looked at in a real process that has answered a prediction."""
    code = (
        "import os, signal, sys, threading, time, httpx\n"
        "from everloop.serving import run, workers\n"
        "from everloop.settings import load_settings\n"
        "settings = load_settings(sys.argv[1])\n"
        "def look():\n"
        "    while not (found := workers(settings.home / 'serving')): time.sleep(0.01)\n"
        "    client = httpx.Client(base_url=f'http://127.0.0.1:{found[0].port}', timeout=60)\n"
        "    while client.get('/ready').status_code != 200: time.sleep(0.01)\n"
        "    reply = client.post('/endpoints/category/predict', json={'inputs': {'title': 'a fridge'}})\n"
        "    print(reply.status_code, *sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "threading.Thread(target=look).start()\n"
        "run(settings, port=0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, home], check=False, capture_output=True, text=True, timeout=100
    )
    status, *loaded = done.stdout.split()
    assert (done.returncode, status) == (0, "200"), done.stderr
    unwanted = {
        "pandas",
        "duckdb",
        "alembic",
        "jinja2",
        "sqlalchemy",
        "starlette",
        "plotly",
        "fastapi",
        "matplotlib",
    }
    assert unwanted & set(loaded) == set()


def test_a_simulation_takes_the_time_of_a_request(home: Path, serve: Callable[..., Server]) -> None:
    clock = SimulatedClock.create(home / "simulation.clock", at=datetime(2026, 9, 5, tzinfo=UTC))
    server = serve(home)
    assert server.record(server.predict(at=AT.isoformat())).at == to_micros(AT)
    assert server.record(server.predict()).at == to_micros(clock.now())
    clock.set(AT)
    assert server.record(server.predict()).at == to_micros(AT)
    refused = server.predict(at="2026-10-01T12:00:00")
    assert refused.status_code == 422
    assert "has no zone" in refused.json()["error"]["message"]


def test_before_anything_is_live_a_prediction_says_what_to_do(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    server = serve(tmp_path, ready=False)
    reply = server.predict()
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert server.client.get("/health").status_code == 200
    assert server.client.get("/ready").status_code == 503
    assert "nothing is live yet" in server.client.get("/ready").json()["reason"]


def test_a_full_queue_is_a_503_that_is_logged(home: Path, serve: Callable[..., Server]) -> None:
    server = serve(home, queue_limit=2)
    reply = server.client.post(
        "/endpoints/category/predict", json={"instances": [{"inputs": {"title": "a fridge"}}] * 5}
    )
    codes = [answer.get("output") or answer["error"]["code"] for answer in reply.json()["predictions"]]
    assert codes == ["Fridges", "Fridges", "overloaded", "overloaded", "overloaded"]
    assert [one.status for one in server.records()] == ["ok", "ok", "failed", "failed", "failed"]


def test_a_queue_without_room_answers_a_single_request_with_503(
    home: Path, serve: Callable[..., Server]
) -> None:
    reply = serve(home, queue_limit=0).predict()
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "overloaded")
    assert reply.headers["retry-after"] == "1"


def test_an_image_reaches_the_model_as_bytes_and_the_log_as_a_digest(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    red, white = picture("red"), picture("white")
    columns = ColumnTransformer([("photo", ImageFeatures(), 0)])
    model = make_pipeline(columns, LogisticRegression(C=100)).fit(
        object_array([[red], [white]] * 3), ["red", "white"] * 3
    )
    write_release(tmp_path, "rel_control", model, inputs=(Field("photo", "image"),), classes=("red", "white"))
    go_live(tmp_path, ("control", 100))
    server = serve(tmp_path)
    for content, answer in ((red, "red"), (white, "white")):
        reply = server.client.post(
            "/endpoints/category/predict", json={"inputs": {"photo": base64.b64encode(content).decode()}}
        )
        assert reply.json()["output"] == answer
        assert str(server.record(reply).inputs["photo"]).startswith("blake3:")


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        ("run(settings, host='0.0.0.0')", "Denied.*listens on loopback only"),
        (
            "import socket; s = socket.create_server(('127.0.0.1', 0)); run(settings, port=s.getsockname()[1])",
            "in use",
        ),
        (
            "(settings.home / 'serving').write_text(''); run(settings, port=0)",
            "StorageFailed.*cannot be written",
        ),
    ],
)
def test_what_cannot_be_served_is_said_at_once(tmp_path: Path, arrange: str, message: str) -> None:
    code = (
        "import sys; from everloop.serving import run; from everloop.settings import load_settings\n"
        f"settings = load_settings(sys.argv[1])\n{arrange}"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(message, done.stderr)


def test_stopping_answers_what_was_begun_and_takes_its_file_away(
    home: Path, serve: Callable[..., Server]
) -> None:
    server = serve(home)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(server.predict) for _ in range(100)]
        waiting[5].result()
        code = pool.submit(server.stop)
        answered = [one.result().json()["prediction_id"] for one in waiting if one.exception() is None]
    assert code.result() == 0
    assert not (home / "serving" / "workers" / f"{server.writer:05d}.json").exists()
    assert set(answered) <= {one.id for one in server.records()}


@pytest.mark.parametrize(("is_durable", "status"), [(False, 200), (True, 503)])
def test_where_power_cuts_are_to_be_survived_nothing_is_answered_that_the_disk_was_not_made_to_keep(
    home: Path, is_durable: bool, status: int
) -> None:
    """A pipe in the segment's place takes what is written, and cannot be forced to any disk."""
    asked = {"inputs": {"title": "a fridge"}}
    with InProcess(home, is_durable=is_durable) as app:
        assert app.post("/endpoints/category/predict", asked).status == 200
        segment = app.writer._segment
        assert segment is not None
        disk, (_, pipe) = os.dup(segment), os.pipe()
        os.dup2(pipe, segment)
        assert app.post("/endpoints/category/predict", asked).status == status
        os.dup2(disk, segment)
        assert app.post("/endpoints/category/predict", asked).status == 200
