"""Unmodified clients of MLflow's, Triton's and KServe's against a serving process; one run of each for all tests."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from everloop.predictions import PredictionRecord, log
from everloop.serving import Field
from tests.peer import REPOSITORY, peer
from tests.serving.home import CLASSES, TITLE, TITLES, go_live, object_array, write_release
from tests.serving.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAGE = REPOSITORY / "docs" / "how-to" / "call-an-endpoint-from-other-clients.md"
INPUTS = (TITLE, Field("size", "number", nullable=True), Field("count", "integer"))
ROWS = [{"title": "a fridge", "size": 1.5, "count": 1}, {"title": "a freezer", "size": 2.5, "count": 2}]
WITH_GAP = [ROWS[0], {**ROWS[1], "size": None}]


@dataclass
class Clients:
    """What each client got, and the server that it asked."""

    server: Server
    got: dict[str, Any]

    def records(self, ids: list[str]) -> list[PredictionRecord]:
        found = [log.find(self.server.folder, each) for each in ids]
        return [one for one in found if one is not None]


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    home = tmp_path_factory.mktemp("home")
    columns = ColumnTransformer([("title", TfidfVectorizer(), 0), ("rest", SimpleImputer(), [1, 2])])
    rows = [[title, 1.0 + place % 2, place % 2] for place, title in enumerate(TITLES)]
    labels = [CLASSES["fridge" in title] for title in TITLES]
    model = make_pipeline(columns, LogisticRegression(C=100)).fit(object_array(rows), labels)
    write_release(home, "rel_control", model, inputs=INPUTS, version=3)
    go_live(home, ("control", 100))
    server = Server(home)
    script = REPOSITORY / "tests" / "peers" / "serving_calls.py"
    address = [str(server.client.base_url.host), str(server.client.base_url.port)]
    try:
        done = subprocess.run(
            [str(peer("serving_clients") / "python"), str(script), *address, str(PAGE)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3_000:]
        (line,) = (one for one in done.stdout.splitlines() if one.startswith("ANSWERS "))
        yield Clients(server, json.loads(line.removeprefix("ANSWERS ")))
    finally:
        server.kill()


def test_mlflows_scoring_client_scores_a_table_with_a_gap(clients: Clients) -> None:
    got = clients.got["mlflow"]
    assert got["version"] == "3.17.2"
    assert got["predictions"] == ["Fridges", "Freezers"]
    assert got["list"] == ["Fridges"]
    records = clients.records(got["ids"])
    assert [one.inputs for one in records] == WITH_GAP
    assert [one.key for one in records] == ["listing 7"] * 2
    assert len({one.request for one in records}) == 1


def test_mlflows_scoring_client_shows_what_is_wrong(clients: Clients) -> None:
    assert "error code 422" in clients.got["mlflow"]["refused"]
    assert "size is 'large'; it must be a number" in clients.got["mlflow"]["refused"]


def test_tritons_client_finds_the_server_and_the_model(clients: Clients) -> None:
    got = clients.got["triton"]
    assert [got[name] for name in ("live", "ready", "model_ready", "other_ready")] == [
        True,
        True,
        True,
        False,
    ]
    assert got["server"]["extensions"] == ["binary_tensor_data"]
    assert [one["datatype"] for one in got["model"]["inputs"]] == ["BYTES", "FP64", "INT64"]


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_is_answered_in_binary_and_in_json(clients: Clients, binary: bool) -> None:
    got = clients.got["triton"][f"binary {binary}"]
    assert (got["output"], got["version"], got["model_version"]) == (["Fridges", "Freezers"], [3, 3], "3")
    records = clients.records(got["prediction_id"])
    assert [one.inputs for one in records] == (WITH_GAP if binary else ROWS)
    assert [one.key for one in records] == ["listing 8"] * 2
    assert got["top_scores"][0] == records[0].scores["Fridges"]


def test_tritons_client_gets_the_outputs_that_it_wants(clients: Clients) -> None:
    got = clients.got["triton"]["wanted"]
    assert (got["id"], got["output"]) == ("mine", ["Fridges", "Freezers"])
    assert len(got["top_scores"]) == 4
    assert "version" not in got


def test_tritons_client_shows_what_is_wrong(clients: Clients) -> None:
    status, message = clients.got["triton"]["refused"]
    assert status == "422"
    assert "count is missing" in message


def test_kserves_client_speaks_its_first_protocol(clients: Clients) -> None:
    got = clients.got["kserve"]["v1"]
    assert (got["live"], got["ready"], got["answer"]["predictions"]) == (True, True, ["Fridges", "Freezers"])
    records = clients.records([each["prediction_id"] for each in got["answer"]["everloop"]])
    assert [one.key for one in records] == ["listing 9"] * 2
    assert "title is 1; it must be a text" in got["refused"]


@pytest.mark.parametrize("binary", [True, False])
def test_kserves_client_speaks_the_open_inference_protocol(clients: Clients, binary: bool) -> None:
    got = clients.got["kserve"]["v2"]
    assert [got[name] for name in ("live", "ready", "model_ready", "other_ready")] == [
        True,
        True,
        True,
        False,
    ]
    answer = got[f"binary {binary}"]
    assert (answer["outputs"]["output"], answer["version"]) == (["Fridges", "Freezers"], "3")
    records = clients.records(answer["outputs"]["prediction_id"])
    assert [one.inputs for one in records] == ROWS
    assert {one.request for one in records} == {answer["request"]}


def test_the_page_for_users_shows_what_its_clients_print(clients: Clients) -> None:
    shown = re.findall(
        r"^```python\n.*?^```\n\n```text\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL
    )
    assert len(shown) == 4
    ids = re.compile(r"(pred|req)_[0-9a-f]{32}")
    assert [ids.sub(r"\1_...", each) for each in clients.got["page"]] == shown
