"""The server over HTTP as schemathesis meets it, which asks whatever the OpenAPI description allows and does not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from everloop import access, web
from everloop.api import create_app
from tests.api.test_app import serve_app
from tests.conftest import simulation
from tests.loop import living
from tests.peer import peer

SETTINGS = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def address(trained_home: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Where a server with trained models, runs and predictions is, and the token of an owner."""
    with simulation(shutil.copytree(trained_home, tmp_path / "home")) as ws, living.opened(ws) as shop:
        shop.ask(3, key="7")
        access.add_account(ws, "fuzz", role="owner")
        closed = replace(ws, settings=replace(ws.settings, auth="token"))
        app = create_app(closed, pages=web.routes(closed), handlers=web.error_handlers(closed))
        for client in serve_app(app):
            yield str(client.base_url), access.create_token(ws, "fuzz")[1]


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize(
    "how",
    [
        pytest.param(["--phases", "fuzzing", "-n", "4", "--seed", "1"], marks=pytest.mark.slow, id="quick"),
        pytest.param(["-n", "30"], marks=pytest.mark.long, id="deep"),
    ],
)
def test_every_answer_is_one_that_the_description_has(
    address: tuple[str, str], how: list[str], tmp_path: Path
) -> None:
    url, token = address
    done = subprocess.run(
        [
            *(
                peer("schemathesis") / "st",
                "--no-color",
                "--config-file",
                SETTINGS,
                "run",
                f"{url}/openapi.json",
            ),
            *(
                "--header",
                f"Authorization: Bearer {token}",
                "--continue-on-failure",
                "--warnings",
                "off",
                *how,
            ),
        ],
        cwd=tmp_path,  # where it keeps what it found
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
