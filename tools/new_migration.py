"""Write the next migration: what the rooms' tables have and the migrated schema lacks.

    python tools/new_migration.py INTENT        for example: labels_have_duration

Read the result before committing it: it must be safe while the version before it still runs (add first, remove a
release later).
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.runtime.migration import MigrationContext

import everloop
from everloop.storage import metadata, open_database
from everloop.storage.schema import migrate, newest_schema

VERSIONS = Path(everloop.__file__).parent / "storage" / "migrations" / "versions"
TEMPLATE = '''"""{title}."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "{number}"
down_revision = {before}


def upgrade() -> None:
    {body}
'''


def main(intent: str) -> None:
    for module in pkgutil.walk_packages(everloop.__path__, "everloop."):
        if module.name.rpartition(".")[2] not in ("__main__", "env") and ".versions" not in module.name:
            importlib.import_module(module.name)
    before = newest_schema() if any(VERSIONS.glob("[0-9]*.py")) else None
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/schema.db"
        if before is not None:
            database = open_database(url)
            migrate(database)
            database.close()
        with sa.create_engine(url).connect() as connection:
            script = produce_migrations(MigrationContext.configure(connection), metadata)
    assert script.upgrade_ops is not None
    body = render_python_code(
        script.upgrade_ops,
        user_module_prefix="",
        render_item=lambda kind, item, _context: (
            f"{type(item).__name__}()"
            if kind == "type" and type(item).__module__ == "everloop.storage.columns"
            else False
        ),
    )
    body = "\n".join(line for line in body.splitlines() if "###" not in line)
    number = f"{int(before or 0) + 1:04d}"
    path = VERSIONS / f"{number}_{intent}.py"
    title = intent.replace("_", " ").capitalize()
    path.write_text(TEMPLATE.format(title=title, number=number, before=repr(before), body=body.strip()))
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(sys.argv[1])
