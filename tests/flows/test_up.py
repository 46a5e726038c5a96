"""What a running everloop does by itself, seen from outside."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from everloop import jobs, pipelines, predictions
from tests.conftest import simulation
from tests.flows.running import Everloop, running, wait_for
from tests.triggers.made_up import applied

pytestmark = pytest.mark.slow


@contextmanager
def ready(home: Path) -> Iterator[Everloop]:
    with running(home) as everloop:
        everloop.wait_until_ready()
        yield everloop


def ask(everloop: Everloop) -> str:
    body = {"inputs": {"title": "red small leaf", "seller": 3}, "key": "7"}
    answer = httpx.post(
        f"http://127.0.0.1:{everloop.port}/endpoints/kind/predict", json=body, trust_env=False
    )
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["prediction_id"]
    return found


def test_the_prediction_log_is_sealed_while_it_grows_and_every_answer_stays_in_it(
    tmp_path: Path, trained_home: Path
) -> None:
    home = shutil.copytree(trained_home, tmp_path / "home")
    (home / "settings.toml").write_text("log_segment_s = 1\n")
    asked: list[str] = []
    with ready(home) as everloop:

        def is_sealed() -> bool:
            asked.append(ask(everloop))
            return bool(list(home.glob("serving/log/*/*.parquet")))

        wait_for(is_sealed, f"a segment is sealed: {everloop.said()}")
        last = ask(everloop)
        assert predictions.read(home / "serving")["id"].to_pylist() == [*asked, last]
        found = predictions.find(home / "serving", asked[0])
    assert found is not None
    assert found.key == "7"


def test_a_lost_serving_folder_is_made_again(tmp_path: Path, trained_home: Path) -> None:
    home = shutil.copytree(trained_home, tmp_path / "home")
    before = sorted(path.relative_to(home) for path in home.glob("serving/[or]*/**/*") if path.is_file())
    shutil.rmtree(home / "serving")
    with ready(home) as everloop:
        ask(everloop)
        assert "of 1 releases" in everloop.said()
    assert [path for path in before if not (home / path).exists()] == []


def answers(everloop: Everloop) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{everloop.port}/health", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


SLOW = """
import time
from pathlib import Path

@el.step(cache=False)
def wait(place: str) -> int:
    begun = time.time()
    deadline = begun + 60
    Path(place, f"{begun}.begun").touch()
    while len(list(Path(place).glob("*.begun"))) < 2 and time.time() < deadline:
        time.sleep(0.05)
    return len(list(Path(place).glob("*.begun")))

@el.pipeline
def meet(place: str) -> int:
    return wait(place)

el.trigger(meet)
el.trigger(report, when=el.finished(meet))
"""


def test_several_jobs_run_at_once_where_the_settings_say_so_and_their_end_starts_what_waits_for_it(
    tmp_path: Path,
) -> None:
    """Each of two runs ends only when it sees the other."""
    home, place = tmp_path / "home", tmp_path / "place"
    place.mkdir()
    with simulation(home) as ws:
        applied(ws, tmp_path, SLOW)
        (home / "settings.toml").write_text("job_workers = 2\n")
        with running(home) as everloop:  # without a model nothing is ever ready to predict
            wait_for(lambda: answers(everloop), "the API answers")
            for key in ("one", "two"):
                answer = httpx.post(
                    f"http://127.0.0.1:{everloop.port}/api/triggers/meet",
                    json={"place": str(place)},
                    headers={"Idempotency-Key": key},
                    trust_env=False,
                )
                assert answer.status_code == 200, answer.text
            wait_for(
                lambda: [
                    one for one in jobs.jobs_of(ws, states=["done"]) if one.payload["pipeline"] == "report"
                ],
                "report was started by the end of meet",
            )
            meetings = [one for one in jobs.jobs_of(ws) if one.payload["pipeline"] == "meet"]
            assert [one.state for one in meetings] == ["done", "done"]
            assert {pipelines.result(ws, one.result["run"]) for one in meetings} == {2}
            assert len({one.worker for one in meetings}) == 2
            assert "serve" not in everloop.parts().values()  # nothing is live: nothing waits for predictions
