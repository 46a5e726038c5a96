"""Brings a database's schema to the form this code expects: numbered migrations, forward only.

Alembic is loaded only when there is something to do, so that opening an up-to-date workspace stays quick.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.errors import Invalid
from everloop.storage.database import Database

_FOLDER = Path(__file__).parent / "migrations"


def migrate(database: Database) -> None:
    """Apply the migrations that the database lacks; several processes may call this at once.

    Raises
    ------
    Invalid
        The database was written by a newer everloop than this one.
    """
    with database.read() as connection:
        if _applied(connection) == newest_schema():
            return
    with database.exclusively() as connection:
        found = _applied(connection)
        if found is not None and found > newest_schema():
            raise Invalid(
                f"the database {database.url} has schema {found}; this everloop knows schemas up to {newest_schema()}. "
                "A newer everloop wrote it: upgrade this installation (pip install -U everloop), nothing was changed."
            )
        if found != newest_schema():
            _upgrade(connection)


def newest_schema() -> str:
    """The revision of the last migration, read from the file names."""
    return max(path.name[:4] for path in (_FOLDER / "versions").glob("[0-9]*.py"))


def _applied(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def _upgrade(connection: Connection) -> None:
    # 0.3 s to import, and a started server must not have it: only when a schema is behind.
    from alembic import command
    from alembic.config import Config

    connection.rollback()  # reading the revision began a transaction
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
