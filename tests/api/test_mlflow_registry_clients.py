"""Unmodified clients of MLflow's, the newest and the oldest that we say we support, and the model registry.

One process of each client does all its calls; the tests look at what came of them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from everloop import events, registry, tracking
from everloop.ledger import verify
from everloop.workspace import Workspace
from tests.api.test_app import serve
from tests.conftest import simulation
from tests.peer import REPOSITORY, peer
from tests.receiver import Receiver, receiving
from tests.registry.versions import check, register

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SCRIPT = REPOSITORY / "tests" / "peers" / "mlflow_registry_calls.py"
CASES = [("mlflow", "sqlite"), ("mlflow", "postgres"), ("mlflow_oldest", "sqlite")]


class Client:
    """What came of a client's calls, the workspace they were made on, and what its webhooks were told."""

    def __init__(self, name: str, ws: Workspace, root: Path) -> None:
        root.mkdir()
        settings = replace(ws.settings, artifact_root=str(root), webhook_allow_private=True)
        self.ws, self.is_oldest = replace(ws, settings=settings), name == "mlflow_oldest"
        run = tracking.start_run(self.ws)
        tracking.log_artifact(self.ws, run.id, "model/MLmodel", b"flavors: {}")
        check(self.ws, register(self.ws, name="gated"))
        with receiving() as self.receiver:
            self.answers = self._ask(peer(name) / "python", run.mlflow_id, self.receiver)

    def _ask(self, python: Path, run: str, receiver: Receiver) -> dict[str, Any]:
        words = [str(python), str(SCRIPT), run, receiver.url, *(["oldest"] if self.is_oldest else [])]
        for http in serve(self.ws):
            environment = {
                **os.environ,  # noqa: TID251  (for another program)
                "MLFLOW_TRACKING_URI": str(http.base_url),
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
                "OMP_NUM_THREADS": "1",
            }
            done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        events.deliver(self.ws)
        assert done.returncode == 0, done.stderr[-2_000:]
        (line,) = (one for one in done.stdout.splitlines() if one.startswith("ANSWERS "))
        answers: dict[str, Any] = json.loads(line.removeprefix("ANSWERS "))
        return answers


@pytest.fixture(scope="module", params=CASES, ids=[" on ".join(case) for case in CASES])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    name, database = request.param
    folder = tmp_path_factory.mktemp("clients")
    if database == "sqlite":
        with simulation(folder / "home") as ws:
            yield Client(name, ws, folder / "artifacts")
        return
    server = request.getfixturevalue("_postgres")
    with server.database() as url, simulation(folder / "home", database_url=url) as ws:
        yield Client(name, ws, folder / "artifacts")


def test_models_are_made_described_found_renamed_and_deleted(client: Client) -> None:
    assert client.answers["models"] == {
        "shop": ["shop", "what it sells", {"team": "vision", "since": "2026"}],
        "names": ["shop", "renamed", "gated"],
        "again": "RESOURCE_ALREADY_EXISTS",
        "gone": "RESOURCE_DOES_NOT_EXIST",
    }


def test_versions_are_made_described_found_and_deleted(client: Client) -> None:
    told = client.answers["versions"]
    assert told.pop("second") == ["changed", {"b": "3"}, registry.version(client.ws, "versions@2").source]
    assert told == {
        "first": ["versions", "1", "None", "READY", True],
        "by_name": ["2", "1"],
        "by_run": True,
        "uri": "mlflow-artifacts:/versions/versions/2",
        "gone": "RESOURCE_DOES_NOT_EXIST",
        "elsewhere": "INVALID_PARAMETER_VALUE",
    }


def test_stages_are_entered_by_those_who_meet_their_terms(client: Client) -> None:
    told = client.answers["stages"]
    assert "stages@1 has no gate report; only a checked version leaves dev" in told.pop("refused")
    assert told == {"gated": "Production", "latest": ["1"], "archived": "Archived", "ungated": ["None"]}


def test_a_model_that_a_run_logged_is_registered(client: Client) -> None:
    assert client.answers["fluent"] == {"version": "1", "status": "READY", "run": True}
    version = registry.version(client.ws, "fluent@1")
    assert "MLmodel" in version.files
    assert all(client.ws.blobs.verify(digest) for digest in version.files.values())


def test_aliases_mean_versions(client: Client) -> None:
    if client.is_oldest:
        pytest.skip("the oldest client knows no aliases")
    assert client.answers["aliases"] == {
        "version": "2",
        "of": ["champion"],
        "model": {"champion": "2"},
        "gone": "INVALID_PARAMETER_VALUE",
        "copied": ["copies", "1", True],
    }


def test_webhooks_are_told(client: Client) -> None:
    if client.is_oldest:
        pytest.skip("the oldest client knows no webhooks")
    assert client.answers["webhooks"] == {
        "made": [
            "ci",
            client.receiver.url,
            "ACTIVE",
            ["registered_model.created", "model_version_alias.created"],
        ],
        "tried": [True, 200],
        "changed": "for builds",
        "names": ["ci", "off"],
        "gone": "RESOURCE_DOES_NOT_EXIST",
    }
    told = [(one["entity"], one["data"]["name"]) for one in client.receiver.got]
    assert told == [("registered_model", "example_model"), ("registered_model", "told")]


def test_all_of_it_is_in_the_audit_chain(client: Client) -> None:
    assert verify(client.ws).is_intact
