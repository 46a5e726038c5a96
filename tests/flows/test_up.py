"""What a running everloop does by itself, seen from outside."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from everloop import serving
from tests.flows.running import Everloop, running, wait_for

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
        assert serving.log.read(home / "serving")["id"].to_pylist() == [*asked, last]
        found = serving.log.find(home / "serving", asked[0])
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
