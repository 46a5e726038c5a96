from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.home import go_live, title_model, write_release
from tests.serving.server import Server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with two releases of opposite answers; `control` is live."""
    write_release(tmp_path, "rel_control", title_model())
    write_release(tmp_path, "rel_canary", title_model(reverse=True), version=2)
    go_live(tmp_path, ("control", 100))
    return tmp_path


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts a real server process on a home; all are stopped after the test."""
    started: list[Server] = []

    def start(home: Path, **options: Any) -> Server:
        started.append(Server(home, **options))
        return started[-1]

    yield start
    for server in started:
        server.kill()
