"""The metadata database: one way to read, one way to write, on SQLite and PostgreSQL.

A change is a function `fn(tx)`, short, without I/O and without await. On SQLite the changes of a process follow one
another: each in a SAVEPOINT of a shared transaction, acknowledged after that transaction's COMMIT, so that many
callers share one fsync. A change's own error undoes only itself; a COMMIT that fails fails all in it.
Other processes write the same file; a lock file around the shared transaction keeps them from starving (without
it, measured beside a saturated server: one or two transactions a second). On PostgreSQL a change is an ordinary
transaction, run again when the database breaks a deadlock.

Two durability classes: `power_safe` (the default; survives a power cut) for what a caller was told is done, and
kill-safe (survives the death of the process) for the step journal and heartbeats.
"""

from __future__ import annotations

import fcntl
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, CursorResult, Engine

from everloop import clock
from everloop.errors import Invalid, MissingExtra, StorageFailed

T = TypeVar("T")

_BATCH = 256  # changes that share one COMMIT at most: bounds how long the lock file is held
# So much of an SQLite file is memory to readers: a search of 10,000 runs finds its rows in 17 ms, not in 28.
_MAPPED_BYTES = 1 << 28
_RETRIES = 5  # of a PostgreSQL transaction that lost a deadlock or a serialization race
_DEADLOCK, _SERIALIZATION = "40P01", "40001"
_SQLITE_STORAGE = frozenset({5, 8, 10, 11, 13, 14, 26})  # BUSY READONLY IOERR CORRUPT FULL CANTOPEN NOTADB
_SQLITE_DAMAGE = frozenset({11, 26})
_POSTGRES_STORAGE = frozenset({"08", "53", "57", "58"})  # connection, resources, operator, system


class Tx:
    """The transaction that a change runs in."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._last: dict[str, Callable[[], None]] = {}
        self._after: dict[str, Callable[[], None]] = {}

    def execute(self, statement: sa.Executable, parameters: Any = None) -> CursorResult[Any]:
        return self.connection.execute(statement, parameters)

    def lock(self, name: str) -> None:
        """Let no other transaction that asks for the same name run beside this one until it ends.

        SQLite has one writer at a time anyway; PostgreSQL takes an advisory lock.
        """
        if self.connection.dialect.name == "postgresql":
            self.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))

    def wall(self) -> datetime:
        """Machine time that all processes on this database agree on: for leases."""
        return wall_of(self.connection)

    def finally_do(self, key: str, act: Callable[[], None]) -> None:
        """Run `act` once as the transaction's last statements: for what many writers contend for."""
        self._last.setdefault(key, act)

    def afterwards(self, key: str, act: Callable[[], None]) -> None:
        """Run `act` once after the commit, and not at all without one: a quick effect outside the database."""
        self._after[key] = act

    def run_last(self) -> None:
        for act in self._last.values():
            act()

    def run_afterwards(self) -> None:
        for act in self._after.values():
            act()


class Database:
    """An open metadata database."""

    def __init__(self, engine: Engine, writer: _GroupWriter | None) -> None:
        self._engine = engine
        self._writer = writer

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @property
    def url(self) -> str:
        """The URL without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    def copy_to(self, file: Path) -> None:
        """Write a copy, as of one moment, into a new SQLite file, while others may write on.

        Raises
        ------
        Invalid
            The database is on PostgreSQL, which copies itself with its own tools.
        """
        if self.dialect != "sqlite":
            raise Invalid(
                f"the database {self.url} is on PostgreSQL; only one on SQLite is copied with its folder. "
                "Copy it with pg_dump."
            )
        with (
            _storage_errors(self.url),
            self._engine.connect() as connection,
            closing(sqlite3.connect(file)) as target,
        ):
            source: Any = connection.connection.driver_connection
            source.backup(target)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the database and cannot change it."""
        with _storage_errors(self.url), self._engine.connect() as connection:
            if self.dialect == "postgresql":
                connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            yield connection

    def write(self, change: Callable[[Tx], T], *, power_safe: bool = True) -> T:
        """Run `change` in a transaction and return its result once that is committed.

        `change` may run more than once, so it must have no effect but on the database.

        Raises
        ------
        StorageFailed
            The database or its disk refused; nothing of the change was kept.
        """
        if self._writer is not None:
            return self._writer.run(change, power_safe)
        for attempt in range(_RETRIES):
            try:
                with _storage_errors(self.url), self._engine.begin() as connection:
                    tx = Tx(connection)
                    if not power_safe:
                        connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
                    result = change(tx)
                    tx.run_last()
                tx.run_afterwards()
                return result
            except sa.exc.OperationalError as error:
                state = getattr(error.orig, "sqlstate", None)
                if state not in (_DEADLOCK, _SERIALIZATION) or attempt == _RETRIES - 1:
                    raise
        raise AssertionError("unreachable")

    @contextmanager
    def exclusively(self) -> Iterator[Connection]:
        """A plain connection while no other process migrates or writes: for migrations."""
        if self._writer is not None:
            with (
                self._writer.locked(),
                _storage_errors(self.url),
                self._writer.engine.connect() as connection,
            ):
                yield connection
            return
        with _storage_errors(self.url), self._engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(7206144)"))
            try:
                yield connection
            finally:
                connection.rollback()
                connection.execute(sa.text("SELECT pg_advisory_unlock(7206144)"))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._engine.dispose()


def open_database(url: str) -> Database:
    """Open the database at an SQLAlchemy URL (`sqlite:///FILE` or `postgresql+psycopg://...`).

    Raises
    ------
    Invalid
        The URL is of another database or cannot be read.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise Invalid(
            "the setting database_url is not a database URL. It looks like sqlite:///FILE or postgresql://USER@HOST/NAME."
        ) from error
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database:
            raise Invalid(
                "database_url names SQLite without a file; everloop's processes share one: sqlite:///FILE."
            )
        path = Path(parsed.database)
        engine = _sqlite_engine(parsed, read_only=True)
        return Database(
            engine, _GroupWriter(_sqlite_engine(parsed, read_only=False), path.with_name(path.name + ".lock"))
        )
    if parsed.get_backend_name() == "postgresql":
        return Database(_postgres_engine(parsed), None)
    raise Invalid(
        f"database_url names {parsed.get_backend_name()!r}; everloop keeps its metadata on sqlite or postgresql."
    )


def wall_of(connection: Connection) -> datetime:
    """Machine time as the database sees it: one clock for all machines that share a PostgreSQL."""
    if connection.dialect.name == "postgresql":
        at: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return at
    return clock.wall()


def _sqlite_engine(url: sa.URL, *, read_only: bool) -> Engine:
    engine = sa.create_engine(url, pool_size=8, max_overflow=64)

    @event.listens_for(engine, "connect")
    def _prepare(raw: Any, _record: Any) -> None:
        raw.isolation_level = None  # we say BEGIN ourselves: the driver would not for SELECT, nor IMMEDIATE
        raw.execute("PRAGMA foreign_keys = ON")
        raw.execute("PRAGMA busy_timeout = 30000")
        if read_only:
            raw.execute("PRAGMA query_only = ON")
            raw.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
        else:
            raw.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        _say(connection, "BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _postgres_engine(url: sa.URL) -> Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        return sa.create_engine(url, pool_size=8, max_overflow=24, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise MissingExtra("postgres", needed_for="a postgresql database_url") from error


@dataclass
class _Pending:
    change: Callable[[Tx], Any]
    power_safe: bool
    done: Future[Any]


class _GroupWriter:
    """Writes an SQLite file for all threads of this process, one transaction at a time; see the module's docstring.

    Who finds nobody writing writes for itself, which spares two changes of thread. The others' changes are collected
    by a thread of the writer's own into the next transaction.
    """

    def __init__(self, engine: Engine, lock_path: Path) -> None:
        self.engine = engine
        self._lock_path = lock_path
        self._queue: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._turn = threading.Lock()  # held while a transaction is under way
        self._turn_of: int | None = None  # the thread that has it
        self._connection: Connection | None = None
        self._level = ""  # of durability that the connection is set to

    def run(self, change: Callable[[Tx], T], power_safe: bool) -> T:
        if threading.get_ident() == self._turn_of:
            raise RuntimeError("a change called Database.write; pass it the transaction it already has")
        pending = _Pending(change, power_safe, Future())
        if self._queue.empty() and self._turn.acquire(blocking=False):
            try:
                self._commit([pending])
            finally:
                self._turn.release()
        else:
            self._start()
            self._queue.put(pending)
        result: T = pending.done.result()
        return result

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="everloop-writer", daemon=True)
                self._thread.start()

    def close(self) -> None:
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()
        with self._turn:
            if self._connection is not None:
                self._connection.close()
                self._connection, self._level = None, ""
        self.engine.dispose()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock file that all writing processes share."""
        try:
            file = self._lock_path.open("w")
        except OSError as error:
            raise StorageFailed(
                f"{self._lock_path} cannot be opened for writing: {error.strerror}. "
                "Make the workspace's home writable, or name another with --home."
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _work(self) -> None:
        is_closing = False
        while not is_closing and (first := self._queue.get()) is not None:
            with self._turn:
                batch = [first]
                while len(batch) < _BATCH and not self._queue.empty():
                    if (more := self._queue.get()) is None:
                        is_closing = True
                        break
                    batch.append(more)
                self._commit(batch)

    def _commit(self, batch: list[_Pending]) -> None:
        """One transaction of a batch's changes, by the thread whose turn it is."""
        outcomes: list[_Outcome] = []
        self._turn_of = threading.get_ident()
        try:
            with self.locked(), _storage_errors(str(self.engine.url.database)):
                connection = self._connection = self._connection or self.engine.connect()
                level = "FULL" if any(one.power_safe for one in batch) else "NORMAL"
                if level != self._level:
                    # Outside a transaction, else it has no effect; exec_driver_sql would begin one.
                    _driver(connection).execute(f"PRAGMA synchronous = {level}")
                    self._level = level
                with connection.begin():
                    outcomes = [_attempt(connection, one.change) for one in batch]
        except BaseException as error:  # noqa: BLE001  (handed to every caller that waits for this commit)
            outcomes = [_Outcome(error=error)] * len(batch)
            self._drop_connection()
        finally:
            self._turn_of = None
        for one, outcome in zip(batch, outcomes, strict=True):
            outcome.tell(one.done)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection, self._level = None, ""


@dataclass(frozen=True)
class _Outcome:
    """How one change in a shared transaction ended."""

    result: Any = None
    tx: Tx | None = None
    error: BaseException | None = None

    def tell(self, done: Future[Any]) -> None:
        if self.error is not None:
            done.set_exception(self.error)
            return
        try:
            if self.tx is not None:
                self.tx.run_afterwards()
        except BaseException as error:  # noqa: BLE001  (belongs to the caller, whose thread raises it again)
            done.set_exception(error)
        else:
            done.set_result(self.result)


def _attempt(connection: Connection, change: Callable[[Tx], Any]) -> _Outcome:
    """Run one change in its savepoint: its result, or the error that undid it."""
    tx = Tx(connection)
    try:
        with _savepoint(connection):
            result = change(tx)
            tx.run_last()
    except sa.exc.OperationalError as error:
        if _is_storage(error):
            raise  # the shared transaction is lost for all in it
        return _Outcome(error=error)
    except BaseException as error:
        if (
            connection.invalidated
        ):  # SQLAlchemy gives up a connection whose statement was interrupted, as by Ctrl-C
            raise
        return _Outcome(error=error)
    return _Outcome(result, tx)


@contextmanager
def _savepoint(connection: Connection) -> Iterator[None]:
    """What is done meanwhile is undone when it raises. Said to the driver: SQLAlchemy compiles its own each time,
    which took as long as all statements of a small change together."""
    driver = _driver(connection)
    _say(connection, "SAVEPOINT change")
    try:
        yield
    except BaseException:
        # a full disk undoes the whole transaction by itself, and a connection that was given up is closed
        if not connection.invalidated and driver.in_transaction:
            driver.execute("ROLLBACK TO change")
            driver.execute("RELEASE change")
        raise
    _say(connection, "RELEASE change")


def _say(connection: Connection, statement: str) -> None:
    """Say something to SQLite's driver itself: a quarter of the time that SQLAlchemy needs for a word without values."""
    try:
        _driver(connection).execute(statement)
    except sqlite3.Error as error:
        raise sa.exc.DBAPIError.instance(statement, None, error, sqlite3.Error) from error


def _driver(connection: Connection) -> Any:
    return connection.connection.dbapi_connection


@contextmanager
def _storage_errors(place: str) -> Iterator[None]:
    """Turn what the driver says of disks and connections into StorageFailed."""
    try:
        yield
    except sa.exc.DatabaseError as error:
        if _driver_code(error) in _SQLITE_DAMAGE:
            raise StorageFailed(
                f"the database {place} cannot be read: {_first_line(error.orig)}. Nothing was changed. Restore the file from a "
                "backup, or name another workspace with --home."
            ) from error
        if not isinstance(error, sa.exc.OperationalError) or not _is_storage(error):
            raise
        raise StorageFailed(
            f"the database {place} refused: {_first_line(error.orig)}. Nothing of this change was kept. "
            "Check its disk and that it can be reached and written, then run the same command again."
        ) from error


def _is_storage(error: sa.exc.OperationalError) -> bool:
    """Whether the disk, the file or the connection failed, and not the statement."""
    code = _driver_code(error)
    if code is not None:
        return code in _SQLITE_STORAGE
    state = getattr(error.orig, "sqlstate", None)
    return state is None or state[:2] in _POSTGRES_STORAGE


def _driver_code(error: sa.exc.DatabaseError) -> int | None:
    """SQLite's primary result code: the low byte; None on PostgreSQL."""
    code: int | None = getattr(error.orig, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
