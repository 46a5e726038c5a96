"""Examining an installation and its home: what is well, what to look at, what is broken, each with its remedy."""

from __future__ import annotations

import importlib.util
import itertools
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from typing import Literal

import sqlalchemy as sa

from everloop import clock, ledger, registry, rollout, serving
from everloop.errors import EverloopError
from everloop.settings import Settings
from everloop.storage import newest_schema
from everloop.workspace import Workspace, open_workspace

Health = Literal["ok", "attention", "failed"]

_FREE_BYTES = 1 << 30  # below this much free disk an ingest or a training may fail
_LEAST_BYTES = 64 << 20
_BLOBS_LOOKED_AT, _BYTES_LOOKED_AT = 200, 256 << 20
_MOST_AHEAD = timedelta(minutes=5)
_PACKAGES = ("everloop", "pyarrow", "duckdb", "scikit-learn", "sqlalchemy")
_EXTRAS = {"postgres": "psycopg", "s3": "obstore"}  # extra: the module that it brings


@dataclass(frozen=True)
class Sign:
    """One thing that was looked at. `remedy` is empty where nothing is to be done."""

    about: str
    health: Health
    found: str
    remedy: str = ""


def examine(settings: Settings) -> list[Sign]:
    """Look at the installation and the workspace in `settings.home`; repairs nothing.

    A home that does not exist yet is not created for being looked at. Reads at most 200 blobs, about 256 MB
    in all, and the whole audit chain; needs no running server.
    """
    signs = [_python(), _versions(), *_extras(), *_ports(settings), *_home(settings)]
    if not _has_workspace(settings):
        return [
            *signs,
            Sign("workspace", "ok", f"{settings.home} holds none yet", "Begin with: everloop init FILE.csv"),
        ]
    try:
        ws = open_workspace(settings=settings)
    except EverloopError as error:
        return [
            *signs,
            Sign(
                "database",
                "failed",
                str(error),
                "Mend what the message names; then run everloop doctor again.",
            ),
        ]
    with ws:
        for about, look in _LOOKS.items():
            try:
                signs += look(ws)
            except EverloopError as error:
                signs.append(Sign(about, "failed", str(error), "Mend what the message names."))
    return signs


def _python() -> Sign:
    found = f"Python {platform.python_version()} on {platform.platform(terse=True)}"
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Sign("python", "failed", found, "Install everloop under Python 3.11, 3.12 or 3.13.")
    return Sign("python", "ok", found)


def _versions() -> Sign:
    return Sign("versions", "ok", ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES))


def _extras() -> Iterator[Sign]:
    for extra, module in _EXTRAS.items():
        is_there = importlib.util.find_spec(module) is not None
        remedy = "" if is_there else f"If you need it: pip install 'everloop[{extra}]'"
        yield Sign(f"extra {extra}", "ok", "installed" if is_there else "not installed, and optional", remedy)


def _ports(settings: Settings) -> Iterator[Sign]:
    for port in (settings.port, settings.port + 1):
        with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, port))
            except OSError as error:
                remedy = (
                    "Fine if it is this everloop's own server; else choose another with everloop up --port N."
                )
                yield Sign(
                    f"port {port}", "attention", f"{settings.host}:{port} is taken: {error.strerror}", remedy
                )
            else:
                yield Sign(f"port {port}", "ok", f"{settings.host}:{port} is free")


def _home(settings: Settings) -> Iterator[Sign]:
    place = settings.home.absolute()
    while not place.exists():
        place = place.parent
    probe = place / f".everloop-{clock.wall_ns()}"
    try:
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        remedy = "Make it writable, or name another home with --home or EVERLOOP_HOME."
        yield Sign("home", "failed", f"{place} cannot be written: {error.strerror}", remedy)
    else:
        yield Sign("home", "ok", f"{settings.home.absolute()} can be written")
    free = shutil.disk_usage(place).free
    health: Health = "failed" if free < _LEAST_BYTES else "attention" if free < _FREE_BYTES else "ok"
    remedy = "" if health == "ok" else "Free space, or move the home to a larger disk."
    yield Sign("disk", health, f"{free / (1 << 20):,.0f} MB are free at {place}", remedy)


def _has_workspace(settings: Settings) -> bool:
    return bool(settings.database_url) or (settings.home / "everloop.db").exists()


def _database(ws: Workspace) -> Iterator[Sign]:
    is_sqlite = ws.database.url.startswith("sqlite")
    kind = "SQLite" if is_sqlite else "PostgreSQL"
    yield Sign(
        "database", "ok", f"{kind} answers, schema {newest_schema()} is the newest this everloop knows"
    )
    if not is_sqlite:
        return
    with ws.read() as connection:
        mode = str(connection.execute(sa.text("PRAGMA journal_mode")).scalar())
        broken = [
            str(row[0]) for row in connection.execute(sa.text("PRAGMA quick_check(3)")) if row[0] != "ok"
        ]
    remedy = (
        ""
        if mode == "wal"
        else "Put the home on a local disk: network file systems cannot keep a write-ahead log."
    )
    yield Sign("journal", "ok" if mode == "wal" else "failed", f"journal mode {mode}", remedy)
    remedy = "Stop everloop and restore everloop.db from a backup." if broken else ""
    yield Sign(
        "integrity", "failed" if broken else "ok", "; ".join(broken) or "SQLite finds no damage", remedy
    )


def _blobs(ws: Workspace) -> Iterator[Sign]:
    looked_at: list[str] = []
    total = 0
    for digest, size in itertools.islice(ws.blobs.sizes(), _BLOBS_LOOKED_AT):
        total += size
        if looked_at and total > _BYTES_LOOKED_AT:
            break
        looked_at.append(digest)
    wrong = [digest for digest in looked_at if not ws.blobs.verify(digest)]
    needed = [digest for version in _newest_versions(ws) for digest in version.files.values()]
    missing = [digest for digest in needed if not ws.blobs.has(digest)]
    found = f"{ws.blobs.place}: {len(looked_at)} read and {len(needed)} of the newest models looked for"
    if wrong or missing:
        found += (
            f": {len(wrong)} are damaged, {len(missing)} are missing, the first {[*wrong, *missing][0][:12]}"
        )
        yield Sign(
            "blobs",
            "failed",
            found,
            f"Restore {ws.blobs.place} from a backup, or train again: everloop run PIPELINE",
        )
    else:
        yield Sign("blobs", "ok", found)


def _newest_versions(ws: Workspace) -> list[registry.ModelVersion]:
    return [
        version for model in registry.models(ws) for version in registry.versions(ws, model.name, limit=1)
    ]


def _audit(ws: Workspace) -> Iterator[Sign]:
    verdict = ledger.verify(ws)
    if verdict.is_intact:
        yield Sign("audit", "ok", f"{verdict.entries:,} entries, the chain is intact")
    else:
        yield Sign(
            "audit",
            "failed",
            "; ".join(verdict.problems[:3]),
            "Find out who changed it: everloop audit verify",
        )


def _routes(ws: Workspace) -> Iterator[Sign]:
    table = serving.read_routes(ws.home / "serving")
    epoch = max((one.epoch for one in rollout.endpoints(ws) if one.variants), default=0)
    on_disk = 0 if table is None else table.epoch
    if on_disk == epoch:
        yield Sign("routes", "ok", f"the route table on disk is the database's, epoch {epoch}")
    else:
        yield Sign(
            "routes",
            "attention" if on_disk < epoch else "failed",
            f"the route table on disk is of epoch {on_disk}, the database of {epoch}",
            "Write it again: everloop work"
            if on_disk < epoch
            else "The database is older than the files: restore a backup of the same time as the home's serving folder.",
        )


def _releases(ws: Workspace) -> Iterator[Sign]:
    known = [one for model in registry.models(ws) for one in registry.releases(ws, model.name)]
    broken = []
    for one in known:
        try:
            serving.read_manifest(ws.home / "serving", one.id)
        except EverloopError:
            broken.append(one.version)
    if broken:
        found = f"{len(broken)} of {len(known)} manifests are missing or damaged, the first of {broken[0]}"
        yield Sign("releases", "failed", found, f"Write it again: everloop models release {broken[0]}")
    else:
        yield Sign("releases", "ok", f"{len(known)} in the registry, each has its manifest on disk")


def _clock(ws: Workspace) -> Iterator[Sign]:
    entries = ledger.entries(ws, limit=1)
    newest = max((one.at for one in entries), default=ws.now())
    if newest - ws.now() > _MOST_AHEAD:
        found = (
            f"the newest audit entry is of {newest:%Y-%m-%d %H:%M}, and it is {ws.now():%Y-%m-%d %H:%M} UTC"
        )
        yield Sign(
            "clock",
            "failed",
            found,
            "Set the machine's clock: times that run back make windows and schedules wrong.",
        )
    else:
        kind = "a simulation's clock stands at" if ws.is_simulation else "it is"
        yield Sign("clock", "ok", f"{kind} {ws.now():%Y-%m-%d %H:%M} UTC")


_LOOKS: dict[str, Callable[[Workspace], Iterator[Sign]]] = {
    "database": _database,
    "clock": _clock,
    "audit": _audit,
    "blobs": _blobs,
    "releases": _releases,
    "routes": _routes,
}
