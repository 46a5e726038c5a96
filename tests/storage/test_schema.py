from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from everloop.errors import Invalid
from everloop.storage import open_database
from everloop.storage.schema import migrate, newest_schema


def test_a_database_newer_than_the_code_is_refused_and_left_alone(database_url: str) -> None:
    database = open_database(database_url)
    migrate(database)
    database.write(lambda tx: tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(Invalid, match="upgrade this installation"):
        migrate(database)
    database.close()


def test_processes_that_open_a_new_database_together_migrate_it_once(database_url: str) -> None:
    databases = [open_database(database_url) for _ in range(3)]
    threads = [threading.Thread(target=migrate, args=(one,)) for one in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with databases[0].read() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all() == [
            newest_schema()
        ]
    for one in databases:
        one.close()
