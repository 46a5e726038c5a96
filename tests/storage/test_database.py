from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from everloop.errors import Invalid, MissingExtra, StorageFailed
from everloop.storage import Database, Tx, open_database

counter = sa.Table(
    "counter", sa.MetaData(), sa.Column("name", sa.String(40), primary_key=True), sa.Column("n", sa.Integer)
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = open_database(database_url)
    database.write(lambda tx: counter.create(tx.connection))
    yield database
    database.close()


def test_a_file_that_is_no_database_says_to_restore_it(tmp_path: Path) -> None:
    (tmp_path / "everloop.db").write_bytes(b"garbage" * 1_000)
    with pytest.raises(StorageFailed, match=r"Restore the file from a backup"):
        open_database(f"sqlite:///{tmp_path / 'everloop.db'}").write(
            lambda tx: tx.execute(sa.text("SELECT 1"))
        )


def add(database: Database, name: str, n: int = 0) -> None:
    database.write(lambda tx: tx.execute(sa.insert(counter).values(name=name, n=n)))


def names(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(sa.select(counter.c.name).order_by(counter.c.name)).scalars())


def test_a_change_is_there_once_write_returns(database: Database) -> None:
    add(database, "a")
    assert names(database) == ["a"]


def test_a_changes_error_undoes_only_itself(database: Database) -> None:
    def fails(tx: Tx) -> None:
        tx.execute(sa.insert(counter).values(name="gone", n=0))
        raise ZeroDivisionError

    threads = [threading.Thread(target=add, args=(database, f"kept{i}")) for i in range(20)]
    for thread in threads:
        thread.start()
    with pytest.raises(ZeroDivisionError):
        database.write(fails)
    for thread in threads:
        thread.join()
    assert names(database) == sorted(f"kept{i}" for i in range(20))


def test_an_error_in_the_statement_does_not_reach_other_changes(database: Database) -> None:
    with pytest.raises(sa.exc.SQLAlchemyError):
        database.write(lambda tx: tx.execute(sa.text("SELECT * FROM nowhere")))
    with pytest.raises(sa.exc.IntegrityError):
        database.write(
            lambda tx: [tx.execute(sa.insert(counter).values(name="twice", n=i)) for i in range(2)]
        )
    add(database, "after")
    assert names(database) == ["after"]


def test_changes_of_many_threads_are_all_kept(database: Database) -> None:
    add(database, "n", 0)

    def increment(tx: Tx) -> None:
        tx.lock("n")
        n = tx.execute(sa.select(counter.c.n)).scalar_one()
        tx.execute(sa.update(counter).values(n=n + 1))

    def work() -> None:
        for _ in range(25):
            database.write(increment)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert connection.execute(sa.select(counter.c.n)).scalar_one() == 100


def test_reading_cannot_change_anything(database: Database) -> None:
    with pytest.raises((sa.exc.SQLAlchemyError, StorageFailed)), database.read() as connection:
        connection.execute(sa.insert(counter).values(name="x", n=0))


def test_a_reader_sees_one_state(database: Database) -> None:
    with database.read() as connection:
        before = connection.execute(sa.select(sa.func.count()).select_from(counter)).scalar_one()
        add(database, "meanwhile")
        after = connection.execute(sa.select(sa.func.count()).select_from(counter)).scalar_one()
    assert before == after == 0


def test_last_acts_run_inside_and_later_acts_after_the_commit(database: Database) -> None:
    order: list[str] = []

    def change(tx: Tx) -> None:
        tx.finally_do("last", lambda: order.append("last"))
        tx.afterwards("later", lambda: order.append(f"later: {names(database)}"))
        tx.execute(sa.insert(counter).values(name="a", n=0))
        order.append("change")

    database.write(change)
    assert order == ["change", "last", "later: ['a']"]


def test_acts_after_the_commit_do_not_run_when_the_change_fails(database: Database) -> None:
    ran: list[int] = []

    def change(tx: Tx) -> None:
        tx.afterwards("later", lambda: ran.append(1))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.write(change)
    assert ran == []


def test_a_write_inside_a_write_on_sqlite_is_refused_instead_of_hanging(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(RuntimeError, match="pass it the transaction"):
        database.write(lambda _tx: database.write(lambda _inner: None))
    database.close()


def test_who_writes_alone_writes_in_its_own_thread(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/x.db")
    threads = {database.write(lambda _tx: threading.get_ident()) for _ in range(3)}
    database.close()
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("inside_a_statement", [False, True])
def test_a_change_that_is_interrupted_is_undone_and_the_next_one_goes_on(
    tmp_path: Path, inside_a_statement: bool
) -> None:
    database = open_database(f"sqlite:///{tmp_path}/x.db")
    database.write(lambda tx: counter.create(tx.connection))

    def interrupted(tx: Tx) -> None:
        tx.execute(sa.insert(counter).values(name="a", n=1))
        if inside_a_statement:
            tx.connection.invalidate()  # as SQLAlchemy does then
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        database.write(interrupted)
    database.write(lambda tx: tx.execute(sa.insert(counter).values(name="b", n=2)))
    with database.read() as connection:
        assert connection.execute(sa.select(counter.c.n)).scalars().all() == [2]
    database.close()


def test_two_processes_write_one_file_without_losing_a_change(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    database = open_database(url)
    database.write(lambda tx: counter.create(tx.connection))
    program = (
        "import sys, sqlalchemy as sa\n"
        "from everloop.storage import open_database\n"
        "database = open_database(sys.argv[1])\n"
        "for i in range(100):\n"
        "    database.write(lambda tx: tx.execute(sa.text(f\"INSERT INTO counter VALUES ('{sys.argv[2]}{i:03}', 0)\")))\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", program, url, name]) for name in "ab"]
    for i in range(100):
        add(database, f"c{i:03}")
    assert [child.wait(60) for child in children] == [0, 0]
    assert len(names(database)) == 300
    database.close()


def test_acknowledged_changes_survive_sigkill(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    program = (
        "import sys, sqlalchemy as sa\n"
        "from everloop.storage import open_database\n"
        "database = open_database(sys.argv[1])\n"
        "database.write(lambda tx: tx.execute(sa.text('CREATE TABLE counter (name TEXT, n INT)')))\n"
        "for i in range(100000):\n"
        "    database.write(lambda tx: tx.execute(sa.text(f\"INSERT INTO counter VALUES ('{i:06}', 0)\")))\n"
        "    print(f'{i:06}', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        told = [child.stdout.readline().strip() for _ in range(50)]
        child.kill()
        told += child.stdout.read().split()
    database = open_database(url)
    assert set(told) <= set(names(database))
    database.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "not a database URL"),
        ("sqlite://", "without a file"),
        ("mysql://localhost/x", "sqlite or postgresql"),
    ],
)
def test_a_wrong_url_is_refused(url: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        open_database(url)


def test_a_lost_database_is_a_storage_error_without_the_password() -> None:
    database = open_database("postgresql://someone:secret@127.0.0.1:1/none")
    with pytest.raises(StorageFailed) as raised, database.read():
        pass
    assert "secret" not in str(raised.value)
    database.close()


def test_the_missing_extra_is_named() -> None:
    assert "pip install 'everloop[postgres]'" in str(MissingExtra("postgres", needed_for="x"))


def test_a_read_only_home_is_a_storage_error(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/missing-folder/x.db")
    with pytest.raises(StorageFailed, match="writable"):
        database.write(lambda _tx: None)
    database.close()


FULL_DISK = """
mount -t tmpfs -o size=400k tmpfs "$1" || exit 77
exec "$2" -c '
import sys, sqlalchemy as sa
from everloop.errors import StorageFailed
from everloop.storage import open_database
database = open_database(f"sqlite:///{sys.argv[1]}/x.db")
database.write(lambda tx: tx.execute(sa.text("CREATE TABLE counter (name TEXT, n INT)")))
kept = 0
try:
    while True:
        database.write(lambda tx: tx.execute(sa.text("INSERT INTO counter VALUES (:t, 0)"), {"t": "x" * 5000}))
        kept += 1
except StorageFailed as error:
    with database.read() as connection:
        found = connection.execute(sa.text("SELECT count(*) FROM counter")).scalar_one()
    print(kept, found, error)
' "$1"
"""


def test_a_full_disk_is_an_error_and_keeps_exactly_what_was_acknowledged(tmp_path: Path) -> None:
    ran = subprocess.run(
        ["/usr/bin/unshare", "-m", "sh", "-c", FULL_DISK, "sh", str(tmp_path), sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode in (1, 77) and "Operation not permitted" in ran.stderr:
        pytest.skip("mounting a small disk needs root")
    assert ran.returncode == 0, ran.stderr
    kept, found, message = ran.stdout.split(" ", 2)
    assert kept == found != "0"
    assert "full" in message
    assert "Nothing of this change was kept" in message
