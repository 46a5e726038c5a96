"""A workspace: database, blobs, settings, clock and who acts. The first argument of every verb.

On a laptop it is one folder, its *home*. Opening creates what is missing and brings the schema up to date.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.clock import Clock, SimulatedClock, SystemClock
from everloop.errors import Conflict, Invalid, StorageFailed
from everloop.ids import new_id
from everloop.settings import Settings, load_settings
from everloop.storage import Blobs, Database, Json, Tx, metadata, migrate, open_blobs, open_database

T = TypeVar("T")

CLOCK_FILE = "simulation.clock"

# Facts about the workspace itself: its id and whether it is a simulation, written once; where its blobs are, if it is not
# in the home.
facts = sa.Table(
    "workspace",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", Json, nullable=False),
)


class _Rehearsed(Exception):  # noqa: N818  (what undoes a rehearsal, and carries its result)
    pass


@dataclass(frozen=True)
class Workspace:
    """Everything a verb needs. `actor` is who acts, for example `alice` or `system:retraining`."""

    id: str
    settings: Settings
    database: Database
    blobs: Blobs
    clock: Clock
    actor: str
    _rehearsal: Tx | None = None

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def is_simulation(self) -> bool:
        """Whether domain time may be moved here; decided when the workspace was created, for good."""
        return isinstance(self.clock, SimulatedClock)

    def acting_as(self, actor: str) -> Workspace:
        """The same workspace in the hands of somebody else."""
        return dataclasses.replace(self, actor=actor)

    def now(self) -> datetime:
        """Domain time."""
        return self.clock.now()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """See `Database.read`."""
        if self._rehearsal is not None:
            yield self._rehearsal.connection
            return
        with self.database.read() as connection:
            yield connection

    def write(self, change: Callable[[Tx], T], *, power_safe: bool = True) -> T:
        """See `Database.write`."""
        if self._rehearsal is not None:
            return change(self._rehearsal)
        return self.database.write(change, power_safe=power_safe)

    def rehearse(self, verb: Callable[[Workspace], T]) -> T:
        """What would come of a verb: it runs whole, sees what it wrote, and nothing of it stays. Raises what it raises.

        Only for verbs whose effects outside the database come after their write.
        """

        def run(tx: Tx) -> None:
            raise _Rehearsed(verb(dataclasses.replace(self, _rehearsal=tx)))

        try:
            self.database.write(run)
        except _Rehearsed as rehearsed:
            return cast("T", rehearsed.args[0])
        raise AssertionError("a rehearsal ends by raising")

    def close(self) -> None:
        self.blobs.close()
        self.database.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def open_workspace(
    home: str | Path | None = None,
    *,
    actor: str | None = None,
    simulation_from: datetime | None = None,
    settings: Settings | None = None,
) -> Workspace:
    """Open the workspace in `home`, creating it if there is none.

    Parameters
    ----------
    simulation_from
        Creates a simulation whose domain time starts here. An existing workspace keeps the kind it was created
        as; asking for the other kind is a Conflict.

    Raises
    ------
    StorageFailed
        The home, the database or the blobs cannot be written.
    NotReady
        The blobs are elsewhere, and nothing answers there now.
    Invalid
        The database is newer than this code, or a setting is wrong.
    """
    settings = settings or load_settings(home, actor=actor)
    _make_home(settings)
    database = open_database(settings.database)
    try:
        migrate(database)
        known = _identify(database, simulated=simulation_from is not None)
        clock = _clock(settings.home, simulated=bool(known["simulation"]), start=simulation_from)
        blobs = _open_blobs(settings, database, known.get("blobs"))
    except BaseException:
        database.close()
        raise
    return Workspace(str(known["id"]), settings, database, blobs, clock, actor or settings.actor)


def _make_home(settings: Settings) -> None:
    home = settings.home
    is_new = not home.exists()
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not settings.blobs:
            (home / "blobs").mkdir(exist_ok=True)
        if is_new:  # rows and signing keys are not for a repository around it
            (home / ".gitignore").write_text("*\n")
    except OSError as error:
        raise StorageFailed(
            f"the workspace's home {home} cannot be created: {error.strerror}. "
            "Name a folder that can be written with --home or EVERLOOP_HOME."
        ) from error


def _open_blobs(settings: Settings, database: Database, known: object) -> Blobs:
    """The blobs, whose address the database remembers: a machine where it was not set would write where no other reads."""
    if known and not settings.blobs:
        raise Invalid(
            f"the files of this workspace are in {known}, and here the setting blobs is empty. Set EVERLOOP_BLOBS={known}, or "
            "EVERLOOP_BLOBS=blobs if they were moved to the home's folder blobs."
        )
    blobs = open_blobs(settings)
    if "://" in settings.blobs and settings.blobs != known:
        database.write(lambda tx: _remember_blobs(tx, settings.blobs))
    return blobs


def _remember_blobs(tx: Tx, address: str) -> None:
    tx.lock("workspace")
    tx.execute(sa.delete(facts).where(facts.c.name == "blobs"))
    tx.execute(sa.insert(facts), [{"name": "blobs", "value": address}])


def _identify(database: Database, *, simulated: bool) -> dict[str, object]:
    """The workspace's facts; its id and kind are written at the first opening."""
    with database.read() as connection:
        found = _facts_of(connection)
    if not found:
        found = database.write(lambda tx: _first_facts(tx, simulated))
    if simulated and not found["simulation"]:
        raise Conflict(
            "this workspace is not a simulation, and never becomes one: its times are real. "
            "Name another home for the simulation with --home."
        )
    return found


def _first_facts(tx: Tx, simulated: bool) -> dict[str, object]:
    tx.lock("workspace")
    if found := _facts_of(tx.connection):
        return found
    found = {"id": new_id("ws"), "simulation": simulated}
    tx.execute(sa.insert(facts), [{"name": name, "value": value} for name, value in found.items()])
    return found


def _facts_of(connection: Connection) -> dict[str, object]:
    return {row.name: row.value for row in connection.execute(sa.select(facts))}


def _clock(home: Path, *, simulated: bool, start: datetime | None) -> Clock:
    if not simulated:
        return SystemClock()
    path = home / CLOCK_FILE
    if path.exists():
        return SimulatedClock(path)
    if start is None:
        raise Invalid(
            f"this workspace is a simulation, but its clock {path} is gone. Create a new simulation."
        )
    return SimulatedClock.create(path, at=start)
