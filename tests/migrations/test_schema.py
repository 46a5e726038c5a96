"""The migrated schema is the one that the rooms declare, on both databases."""

from __future__ import annotations

import importlib
import pkgutil

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

import everloop
from everloop.storage import metadata, open_database
from everloop.storage.schema import migrate


def import_all_rooms() -> None:
    for module in pkgutil.walk_packages(everloop.__path__, "everloop."):
        if module.name.rpartition(".")[2] in (
            "store",
            "outbox",
            "accounts",
            "tokens",
            "lineage",
            "audit",
            "workspace",
        ):
            importlib.import_module(module.name)


def test_the_migrated_schema_is_the_declared_one(database_url: str) -> None:
    import_all_rooms()
    database = open_database(database_url)
    migrate(database)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    database.close()
