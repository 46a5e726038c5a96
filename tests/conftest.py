"""Fixtures that every room's tests may use."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from everloop.settings import Settings
from tests.browser import chromium
from tests.needs import missing, required
from tests.postgres import PostgresServer, postgres_server
from tests.s3 import VARIABLES, S3Server, s3_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from everloop.workspace import Workspace
    from tests.loop.living import Shop

REPOSITORY = Path(__file__).resolve().parent.parent
START = datetime(2026, 9, 1, tzinfo=UTC)


def pytest_configure() -> None:
    required()  # a misspelt TEST_REQUIRE stops the run before its first test


@pytest.fixture(autouse=True)
def _no_module_outlives_its_files(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forget what a test imported out of its own folder, which is removed after it."""
    folder = str(request.getfixturevalue("tmp_path")) if "tmp_path" in request.fixturenames else None
    yield
    if folder is not None:
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(folder):
                del sys.modules[name]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        missing("data", "the real data sets are not there: ../shared/data, seen from the repository")
    return folder


@pytest.fixture(scope="session")
def _postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(_postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of the test's own."""
    with _postgres.database() as url:
        yield url


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_settings(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a home whose blobs are in a new bucket; the credentials are in the environment."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    return Settings(home=tmp_path / "home", blobs=s3.bucket(), blobs_endpoint=s3.endpoint)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database; the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'everloop.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def _new_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as it is just after its creation: a copy takes a few ms, running all migrations 200 ms and more."""
    home = tmp_path_factory.mktemp("new") / "home"
    simulation(home).close()
    return home


@pytest.fixture
def ws(tmp_path: Path, _new_home: Path) -> Iterator[Workspace]:
    """An empty simulated workspace on SQLite; `ws.clock.advance` moves its time, which starts at START."""
    shutil.copytree(_new_home, tmp_path / "home")
    with simulation(tmp_path / "home") as workspace:
        yield workspace


@pytest.fixture(scope="session")
def _new_postgres(_postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a PostgreSQL database as it is just after a workspace was created in it."""
    with _postgres.database() as url:
        simulation(tmp_path_factory.mktemp("new") / "home", database_url=url).close()
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture(params=["sqlite", "postgres"])
def any_ws(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    """As `ws`, once on SQLite and once on PostgreSQL: for what the databases might do differently."""
    if request.param == "sqlite":
        yield request.getfixturevalue("ws")
        return
    server, new = request.getfixturevalue("_postgres"), request.getfixturevalue("_new_postgres")
    with server.database(copy_of=new) as url, simulation(tmp_path / "home", database_url=url) as workspace:
        yield workspace


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the small shop of tests.loop was trained and went live: training takes 4 s, a copy 20 ms."""
    from tests.loop import living  # noqa: PLC0415  (scikit-learn: for tests of pure functions too slow to import)

    folder = tmp_path_factory.mktemp("trained")
    with simulation(folder / "home") as workspace:
        living.begin(workspace, folder)
    return folder / "home"


@pytest.fixture
def shop(tmp_path: Path, trained_home: Path) -> Iterator[Shop]:
    """A copy of the small shop whose version `kind@1` is live; see tests.loop.living."""
    from tests.loop import living  # noqa: PLC0415  (as above)

    shutil.copytree(trained_home, tmp_path / "home")
    with simulation(tmp_path / "home") as workspace, living.opened(workspace) as found:
        yield found


@pytest.fixture(scope="session")
def _trained_postgres(
    _postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """As `trained_home`, with the name of its PostgreSQL database."""
    from tests.loop import living  # noqa: PLC0415  (as above)

    folder = tmp_path_factory.mktemp("trained")
    with _postgres.database() as url:
        with simulation(folder / "home", database_url=url) as workspace:
            living.begin(workspace, folder)
        yield folder / "home", urlsplit(url).path.removeprefix("/")


@pytest.fixture(params=["sqlite", "postgres"])
def any_trained(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A copy of the trained shop's home and the URL of its database, once on SQLite and once on PostgreSQL."""
    home = tmp_path / "home"
    if request.param == "sqlite":
        shutil.copytree(request.getfixturevalue("trained_home"), home)
        yield home, ""
        return
    trained, name = request.getfixturevalue("_trained_postgres")
    shutil.copytree(trained, home)
    with request.getfixturevalue("_postgres").database(copy_of=name) as url:
        yield home, url


@pytest.fixture
def any_shop(any_trained: tuple[Path, str]) -> Iterator[Shop]:
    """As `shop`, on both databases."""
    from tests.loop import living  # noqa: PLC0415  (as above)

    home, url = any_trained
    with simulation(home, database_url=url) as workspace, living.opened(workspace) as found:
        yield found


def simulation(home: Path, **settings: str) -> Workspace:
    # here, so that tests of pure functions start without the 0.6 s that SQLAlchemy takes to import
    from everloop.settings import load_settings  # noqa: PLC0415
    from everloop.workspace import open_workspace  # noqa: PLC0415

    return open_workspace(
        actor="tester",
        simulation_from=START,
        settings=load_settings(home, environ={}, actor="tester", **settings),
    )


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page with cookies and storage of its own."""
    context = browser.new_context()
    try:
        yield context.new_page()
    finally:
        context.close()
