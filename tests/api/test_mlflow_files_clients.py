"""Unmodified clients of MLflow's keep files and models here, behind the proxy and below a root of their own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from everloop import tracking
from everloop.workspace import Workspace
from tests.api.test_app import serve
from tests.conftest import simulation
from tests.peer import REPOSITORY, peer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SCRIPT = REPOSITORY / "tests" / "peers" / "mlflow_files.py"
CASES = [
    ("mlflow", "postgres", "proxy"),
    ("mlflow", "sqlite", "root"),
    ("mlflow_oldest", "sqlite", "proxy"),
]


class Client:
    """What came of a client's calls, and the workspace they were made on. `root` is the folder it writes to, if it does."""

    def __init__(self, name: str, ws: Workspace, root: Path | None) -> None:
        self.ws, self.root, self.is_oldest = ws, root, name == "mlflow_oldest"
        for http in serve(ws):
            arguments = [str(peer(name) / "python"), str(SCRIPT), *(["oldest"] if self.is_oldest else [])]
            environment = {
                **os.environ,  # noqa: TID251  (for another program)
                "MLFLOW_TRACKING_URI": str(http.base_url),
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
                "OMP_NUM_THREADS": "1",
                # what a client sends in parts from 500 MB on, it sends so from 1 MB on
                "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "1000000",
                "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": "1000000",
            }
            done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-2_000:]
            (line,) = (one for one in done.stdout.splitlines() if one.startswith("ANSWERS "))
            self.answers: dict[str, Any] = json.loads(line.removeprefix("ANSWERS "))
            self.log = done.stderr


@pytest.fixture(scope="module", params=CASES, ids=[" ".join(case) for case in CASES])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    name, database, place = request.param
    folder = tmp_path_factory.mktemp("clients")
    root = folder / "artifacts" if place == "root" else None
    settings = {"artifact_root": root.as_uri()} if root else {}
    if database == "sqlite":
        with simulation(folder / "home", **settings) as ws:
            yield Client(name, ws, root)
        return
    server = request.getfixturevalue("_postgres")
    with server.database() as url, simulation(folder / "home", database_url=url, **settings) as ws:
        yield Client(name, ws, root)


def test_files_come_back_as_they_were_logged(client: Client) -> None:
    told = client.answers["files"]
    assert told["listed"] == {
        "": ["all", "notes", "told.json"],
        "all": ["all/deep", "all/large.bin"],
        "all/deep": ["all/deep/caf\u00e9 1.txt"],
        "told.json": [],
        "nothing": [],
    }
    assert (told["is_same"], told["text"]) == (True, "black")


def test_the_newest_client_sends_large_files_in_parts(client: Client) -> None:
    parts = client.ws.home / "parts"
    assert parts.is_dir() == (not client.is_oldest and client.root is None)
    assert not parts.is_dir() or list(parts.iterdir()) == []


def test_they_are_where_the_settings_say(client: Client) -> None:
    told = client.answers["files"]
    run_id = f"run_{told['run_id']}"
    if client.root is None:
        assert told["uri"] == f"mlflow-artifacts:/0/{told['run_id']}/artifacts"
        assert tracking.read_artifact(client.ws, run_id, "notes/hello.txt") == b"hello"
        return
    assert (client.root / "0" / told["run_id"] / "artifacts" / "notes" / "hello.txt").read_text() == "hello"
    assert [one.path for one in tracking.artifact_entries(client.ws, run_id, "notes")] == ["notes/hello.txt"]
    assert list(client.ws.blobs) == []


def test_a_folder_is_removed(client: Client) -> None:
    assert client.answers["removal"] == ["a.txt"]


def test_a_client_before_mlflow_3_keeps_a_model_among_its_runs_files(client: Client) -> None:
    if not client.is_oldest:
        pytest.skip("the newest client keeps models beside runs")
    assert client.answers["old_model"] == {
        "history": [["model", ["weights"]]],
        "run": True,
        "weights": "1 2 3",
    }


@pytest.mark.parametrize("flavor", ["sklearn", "xgboost", "lightgbm"])
def test_a_logged_model_is_loaded_by_its_own_id_and_by_its_run(client: Client, flavor: str) -> None:
    _newest(client)
    assert client.answers["new_models"][flavor] == {"answers": [True, True], "outputs": [True]}


def test_logged_models_are_told_searched_and_deleted(client: Client) -> None:
    _newest(client)
    told = client.answers["logged_models"]
    name, kind, status, tags, params = told.pop("found")
    assert (name, kind, status, tags["team"], tags["note"], "gone" in tags, params) == (
        "high", "tree", "READY", "vision", "a b/c", False, 151
    )  # fmt: skip
    assert told == {
        "metrics": [["acc", 0.9, "rows"]],
        "all": ["failed", "high", "low"],
        "filtered": ["high"],
        "ordered": ["low", "high", "failed"],
        "on dataset": ["high", "low"],
        "on another": [],
        "paged": ["failed", "high"],
        "left": ["failed", "low"],
    }


def test_a_trace_has_its_spans_behind_the_proxy_and_below_the_root_and_takes_no_feedback(
    client: Client,
) -> None:
    _newest(client)
    assert client.answers["traces"] == {"answer": 8, "outputs": [8], "feedback": "ENDPOINT_NOT_FOUND"}


def _newest(client: Client) -> None:
    if client.is_oldest:
        pytest.skip("the oldest client has no such call")
