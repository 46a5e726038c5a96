"""The whole story through commands, real processes and HTTP, on both databases; only the clock is moved.

Apply, ingest, labels, train, approve, serve, correct, drift, retrain, canary, a bad version rolled back, trace, impact.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from everloop.settings import load_settings
from everloop.workspace import open_workspace
from tests.conftest import START
from tests.flows.running import Everloop, running, wait_for
from tests.loop import shop

KNOWN = {"title": "red small leaf", "seller": 3}
STRANGE = {"title": "entirely unheard syllables", "seller": 99}


@dataclass
class Shell:
    """Somebody at a shell: `everloop ...` on one home."""

    home: Path
    database_url: str

    def __call__(self, *words: str, actor: str = "robin", code: int = 0) -> Any:
        """Run a command as `actor` and read its JSON; it must end with `code`."""
        command = [sys.executable, "-m", "everloop", *words, "--home", str(self.home), "--json"]
        ended = subprocess.run(
            [*command, "--actor", actor],
            env=Everloop(self.home, self.database_url, port=1).environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == code, f"{words}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return json.loads(ended.stdout) if ended.stdout else ended.stderr


@dataclass
class Http:
    """A program that talks to the running everloop."""

    client: httpx.Client

    def get(self, path: str, **query: str) -> Any:
        answer = self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, status: int = 200, **body: Any) -> Any:
        answer = self.client.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def predict(self, inputs: dict[str, Any], key: str = "7") -> dict[str, Any]:
        """One prediction; a failure of the model's own is an answer too."""
        answer = self.client.post("/endpoints/kind/predict", json={"inputs": inputs, "key": key})
        assert answer.status_code in (200, 500), answer.text
        found: dict[str, Any] = answer.json()
        return found

    def live(self) -> dict[str, float]:
        return {one["version"]: one["weight"] for one in self.get("/api/endpoints/kind/live")}

    def wait_until_live(self, *versions: str, asking: dict[str, Any] | None = None) -> None:
        """Until these versions and no others answer, asking meanwhile."""

        def is_so() -> bool:
            for _ in range(20 if asking else 0):
                self.predict(asking or {})
            return set(self.live()) == set(versions)

        wait_for(is_so, f"{versions} are live")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(  # on SQLite the demo tells it too
    "database_url", [pytest.param("sqlite", marks=pytest.mark.long), "postgres"], indirect=True
)
def test_the_loop_closes(database_url: str, tmp_path: Path) -> None:
    home, url = tmp_path / "home", database_url if database_url.startswith("postgres") else ""
    everloop = Shell(home, url)
    goods, labels = begin(home, url, tmp_path)
    loop_file = str(tmp_path / "shop_loop.py")

    planned = everloop("apply", loop_file, "--dry-run")
    assert {one["action"] for one in planned} == {"create"}
    assert everloop("apply", loop_file) == planned
    assert everloop("data", "ingest", "goods", str(goods))["rows"] == 240
    given = ("--key", "sku", "--value", "kind", "--annotator", "catalogue")
    everloop("labels", "import", "kind", str(labels), *given)
    assert everloop("labels", "import", "kind", str(tmp_path / "none.csv"), *given, code=2)

    trained = everloop("run", "train", "--reason", "the first")
    assert (trained["version"], trained["passed"]) == ("kind@1", True)
    everloop("rollouts", "start", "kind", "kind@1", "--reason", "too early", code=2)
    assert everloop("models", "release", "kind@1", code=3), "nobody approved it"
    everloop("models", "approve", "kind@1", "--reason", "looks right", actor="alice")

    with running(home, url) as processes, httpx.Client(trust_env=False, timeout=60) as client:
        client.base_url = httpx.URL(f"http://127.0.0.1:{processes.port}")
        http = Http(client)
        wait_for(lambda: is_up(client), "the API answers")
        http.wait_until_live("kind@1")
        processes.wait_until_ready()

        first = http.predict(KNOWN)
        assert first["output"] == "Tea"
        for _ in range(60):
            http.predict(STRANGE)
        said = everloop(
            "feedback", "correct", "kind", first["prediction_id"], "Lamps", "--reporter", "moderator"
        )
        assert said["contradicts"]
        by_key = http.post("/api/endpoints/kind/corrections", value="Lamps", key="7", reporter="moderator")
        assert by_key["prediction_id"] != first["prediction_id"]

        to = (START + timedelta(hours=25)).isoformat()
        http.post("/api/simulation/clock", to=to)
        second = wait_for(lambda: version_of_retraining(http), "the retraining makes a version")
        assert second == "kind@2"
        assert "input_drift" in {one["kind"] for one in http.get("/api/findings")}
        (decision,) = http.get("/api/retrainings")
        assert "2 answers of kind contradicted" in decision["reason"]
        card = http.get("/api/model-versions/kind@2")
        assert [one["kind"] for one in card["readiness"]["obstacles"]] == ["approvals"]

        http.post("/api/model-versions/kind@2/approve", status=200, reason="better on lamps")
        http.wait_until_live("kind@1", "kind@2")
        http.wait_until_live("kind@2", asking=KNOWN)

        picky = everloop("run", "train", "--param", "picky=true", "--reason", "try sellers")
        assert (picky["version"], picky["passed"]) == ("kind@3", True)
        everloop("models", "approve", "kind@3", "--reason", "fine offline", actor="alice")
        http.wait_until_live("kind@2", "kind@3")
        http.wait_until_live("kind@2", asking=STRANGE)
        assert processes.stop() == 0

    rolled_back, ramped, begun = everloop("rollouts", "list")  # newest first
    assert [one["state"] for one in (rolled_back, ramped, begun)] == ["rolled_back", "done", "done"]
    assert everloop("rollouts", "start", "kind", "kind@3", "--reason", "again", code=2)
    acts = [one["act"] for one in everloop("rollouts", "show", ramped["id"]) if one["act"] != "look"]
    assert acts == ["started", "finished"]

    trace = everloop("trace", first["prediction_id"])
    assert trace["gaps"] == []
    titles = {one["title"] for one in trace["steps"]}
    assert {"prediction", "correction", "gates", "approval", "code", "data", "label of this row"} <= titles
    assert everloop("trace", "pred_none", code=2)
    impact = everloop("impact", "goods:7")
    assert set(impact["reached"]["model_version"]) == {"kind@1", "kind@2", "kind@3"}
    assert sum(impact["predictions"].values()) > 60
    assert everloop("audit", "verify")["is_intact"]


def begin(home: Path, url: str, folder: Path) -> tuple[Path, Path]:
    """An empty simulation, the loop file, and files of goods and their labels."""
    (folder / "shop_loop.py").write_text(shop.LOOP)
    settings = load_settings(home, environ={}, actor="robin", database_url=url)
    with open_workspace(settings=settings, simulation_from=START) as ws:
        table = shop.goods(ws)
    goods, labels = folder / "goods.parquet", folder / "labels.parquet"
    pq.write_table(table.drop_columns(["kind"]), goods)
    pq.write_table(table.select(["sku", "kind"]), labels)
    return goods, labels


def is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/ready").status_code == 200
    except httpx.HTTPError:
        return False


def version_of_retraining(http: Http) -> str | None:
    """What the retraining's job made, once it is done."""
    for job in http.get("/api/jobs", kind="train"):
        assert job["state"] != "failed", job["error"]
        if job["state"] == "done":
            version: str = job["result"]["version"]
            return version
    return None
