"""Pages over real HTTP, for a browser: an empty workspace, and one with two weeks of history."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import uvicorn

from everloop import web
from everloop.api import create_app
from everloop.predictions import LogWriter
from everloop.settings import load_settings
from everloop.workspace import Workspace, open_workspace
from tests.conftest import START, simulation
from tests.loop import living
from tests.servers import in_thread, tls
from tests.web.story import Shop, told


@dataclass(frozen=True)
class Site:
    """A running server over a workspace."""

    url: str
    ws: Workspace

    def get(self, path: str, **headers: str) -> httpx.Response:
        accept = {"Accept": "text/html", **headers}
        return httpx.get(f"{self.url}{path}", headers=accept, trust_env=False, verify=tls())


@contextmanager
def serve(ws: Workspace, *, predictions_url: str | None = None) -> Iterator[Site]:
    app = create_app(
        ws, predictions_url=predictions_url, pages=web.routes(ws), handlers=web.error_handlers(ws)
    )
    with in_thread(uvicorn.Server(uvicorn.Config(app, log_level="critical"))) as url:
        yield Site(url, ws)


@pytest.fixture
def empty(ws: Workspace) -> Iterator[Site]:
    """Nothing was declared yet."""
    with serve(ws) as site:
        yield site


@pytest.fixture
def closed(ws: Workspace) -> Iterator[Site]:
    """A server that wants to know who asks."""
    with serve(replace(ws, settings=replace(ws.settings, auth="token"))) as site:
        yield site


@pytest.fixture(scope="session")
def _told_home(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The story takes some ten seconds to live through: one test process does, each test gets a copy."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "story"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "told").exists():
            (folder / "project").mkdir()
            with _opened(folder / "home") as ws, told(ws, folder / "project"):
                pass
            (folder / "told").touch()
    return folder / "home"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever comes first lives through the story, and the others wait."""
    for item in items:
        if isinstance(item, pytest.Function) and "story" in item.fixturenames:
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture
def story(tmp_path: Path, _told_home: Path) -> Iterator[Site]:
    """Two weeks old: a canary is under way, a version waits for approval, findings and reviews are open."""
    shutil.copytree(_told_home, tmp_path / "home")
    with _opened(tmp_path / "home") as ws, serve(ws) as site:
        yield site


@pytest.fixture
def shop(story: Site) -> Iterator[Shop]:
    """The story's customers, who may go on."""
    writer = LogWriter.claim(story.ws.home / "serving")
    try:
        going_on = Shop(story.ws, writer, per_hour=24)
        going_on.follow()
        yield going_on
    finally:
        writer.close()


@pytest.fixture
def small(tmp_path: Path, trained_home: Path) -> Iterator[living.Shop]:
    """A shop whose first version is live, and nobody has asked."""
    shutil.copytree(trained_home, tmp_path / "home")
    with simulation(tmp_path / "home") as workspace, living.opened(workspace) as found:
        yield found


def _opened(home: Path) -> Workspace:
    settings = load_settings(home, environ={}, actor="tester")
    return open_workspace(actor="tester", simulation_from=START, settings=settings)
