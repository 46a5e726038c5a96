"""A serving process as schemathesis meets it: what an endpoint's description allows, and what it does not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peer import peer
from tests.serving.home import go_live, title_model, write_release
from tests.serving.server import Server
from tests.serving.test_openapi import INPUTS

SETTINGS = Path(__file__).parent.parent / "api" / "schemathesis.toml"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """An endpoint that takes every type of input, nullable too, with limits and allowed values."""
    write_release(tmp_path, "rel_control", title_model(columns=len(INPUTS)), inputs=INPUTS, version=7)
    go_live(tmp_path, ("control", 100))
    started = Server(tmp_path)
    yield started
    started.kill()


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize(
    "how",
    [
        pytest.param(["--phases", "fuzzing", "-n", "12", "--seed", "1"], marks=pytest.mark.slow, id="quick"),
        pytest.param(["-n", "100"], marks=pytest.mark.long, id="deep"),
    ],
)
def test_every_answer_is_one_that_the_description_has(server: Server, how: list[str], tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{server.client.base_url.port}/endpoints/category/openapi.json"
    command: list[str | Path] = [
        peer("schemathesis") / "st",
        "--no-color",
        "--config-file",
        SETTINGS,
        "run",
        address,
    ]
    done = subprocess.run(
        [*command, "--continue-on-failure", "--warnings", "off", *how],
        cwd=tmp_path,  # where it keeps what it found
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert server.process.is_alive()
