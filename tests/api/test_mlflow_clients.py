"""Unmodified clients of MLflow's, the newest and the oldest that we say we support, against a running server.

One process of each client does all its calls; the tests look at what came of them.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from everloop import tracking
from everloop.workspace import Workspace
from tests.api.test_app import serve
from tests.conftest import simulation
from tests.peer import REPOSITORY, peer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SCRIPT = REPOSITORY / "tests" / "peers" / "mlflow_calls.py"
CASES = [("mlflow", "sqlite"), ("mlflow", "postgres"), ("mlflow_oldest", "sqlite")]


class Client:
    """What came of a client's calls, and the workspace they were made on."""

    def __init__(self, name: str, ws: Workspace, root: Path) -> None:
        self.ws, self.root = ws, root
        for http in serve(ws):
            arguments = [
                str(peer(name) / "python"),
                str(SCRIPT),
                *(["oldest"] if name == "mlflow_oldest" else []),
            ]
            environment = {
                **os.environ,  # noqa: TID251  (for another program)
                "MLFLOW_TRACKING_URI": str(http.base_url),
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
                "OMP_NUM_THREADS": "1",
            }
            done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-2_000:]
            (line,) = (one for one in done.stdout.splitlines() if one.startswith("ANSWERS "))
            self.answers: dict[str, Any] = json.loads(line.removeprefix("ANSWERS "))


Clients = Callable[[str, str], Client]


@pytest.fixture(scope="module")
def clients(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """What came of a client's calls on a database; each is asked for once."""
    with ExitStack() as open_until_the_end:

        @functools.cache
        def client_of(name: str, database: str) -> Client:
            folder = tmp_path_factory.mktemp("clients")
            settings = {"artifact_root": (folder / "artifacts").as_uri()}
            if database == "postgres":
                server = request.getfixturevalue("_postgres")
                settings["database_url"] = open_until_the_end.enter_context(server.database())
            ws = open_until_the_end.enter_context(simulation(folder / "home", **settings))
            return Client(name, ws, folder / "artifacts")

        yield client_of


@pytest.fixture(params=CASES, ids=[" on ".join(case) for case in CASES])
def client(request: pytest.FixtureRequest, clients: Clients) -> Client:
    return clients(*request.param)


@pytest.fixture(params=CASES[:2], ids=[" on ".join(case) for case in CASES[:2]])
def newest(request: pytest.FixtureRequest, clients: Clients) -> Client:
    """For calls that the oldest client has not."""
    return clients(*request.param)


def test_the_fluent_calls_make_the_runs_they_say(client: Client) -> None:
    told = client.answers["fluent"]
    run_id = told.pop("run_id")
    assert told == {
        "status": "FINISHED",
        "params": {"lr": "0.1", "depth": "3", "text": "a 'quoted' \"text\" with é and\nlines"},
        "metrics": {"loss": "0.2", "nan": "nan", "up": "inf", "down": "-inf", "tiny": "5e-324"},
        "tags": {"team": "vision", "stage": "kept"},
        "children": ["child"],
        "broken": ["broken"],
    }
    run = tracking.run(client.ws, f"run_{run_id}")
    assert (run.name, run.experiment, run.params["lr"]) == ("parent", "fluent", "0.1")


def test_experiments_are_made_renamed_deleted_and_restored(client: Client) -> None:
    assert client.answers["experiments"] == {
        "deleted": "deleted",
        "found": [["renamed", "active", {"kind": "b"}]],
        "unknown": True,
        "default": "Default",
    }


def test_batches_and_histories_come_back_as_they_were_sent(client: Client) -> None:
    assert client.answers["batches"] == {
        "same": True,
        "params": 100,
        "ended": ["KILLED", 1_700_000_000_000, 1_700_000_009_000],
        "stages": ["deleted", "active"],
    }


def test_searches_come_in_order_and_in_pages(client: Client) -> None:
    assert client.answers["searches"] == [
        ["r04", "r14", "r24", "r08"],
        ["r18", "r02", "r12", "r22"],
        ["r06", "r16"],
    ]


def test_refusals_carry_the_codes_that_clients_look_for(client: Client) -> None:
    assert client.answers["refusals"] == {
        "changed parameter": "INVALID_PARAMETER_VALUE",
        "unknown run": "RESOURCE_DOES_NOT_EXIST",
        "unknown experiment": "RESOURCE_DOES_NOT_EXIST",
        "taken name": "RESOURCE_ALREADY_EXISTS",
        "wrong filter": "INVALID_PARAMETER_VALUE",
    }


def test_datasets_are_told_and_searched_for(newest: Client) -> None:
    assert newest.answers["datasets"] == {
        "name": "rows",
        "is_same": True,
        "tags": {"mlflow.data.context": "training", "source": "test"},
        "found": [True],
    }


def test_traces_are_written_found_tagged_and_deleted(newest: Client) -> None:
    assert newest.answers["traces"] == {
        "spans": ["answer", "look up"],
        "inputs": {"question": "first"},
        "outputs": "FIRST",
        "tagged": [True],
        "untagged": True,
        "of the run": [True],
        "failed": [True],
        "deleted": 1,
        "left": 2,
        "gone": "RESOURCE_DOES_NOT_EXIST",
    }


def test_a_search_comes_as_a_data_frame(newest: Client) -> None:
    assert newest.answers["frames"] == {"rows": True, "lr": "0.1", "loss": 0.2}


def test_metrics_are_logged_in_the_background(newest: Client) -> None:
    assert newest.answers["in_the_background"] == {"steps": True, "params": {"a": "1"}}


def test_system_metrics_are_logged(newest: Client) -> None:
    assert "system/cpu_utilization_percentage" in newest.answers["system_metrics"]


def test_scikit_learn_is_logged_by_itself_and_the_client_keeps_files_below_the_root(newest: Client) -> None:
    assert newest.answers["autolog_sklearn"] == {
        "best": "1.0",
        "score": True,
        "children": ["0.1", "1.0"],
        "dataset": ["dataset"],
    }
    assert [file.name for file in newest.root.rglob("estimator.html")] == ["estimator.html"]


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_boosted_trees_are_logged_by_themselves(newest: Client, library: str) -> None:
    assert newest.answers[f"autolog_{library}"] == {"steps": [0, 1, 2, 3, 4], "falls": True}
