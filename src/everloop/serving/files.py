"""The small files between the control plane and the data plane, in `<home>/serving` (`folder` everywhere here).

releases/REL.json   a Manifest, written once by the registry when it releases a version
routes.json         the RouteTable, replaced whole by a rollout
workers/N.json      a Worker, written by serving process N about itself
crashes/N.json      a Crash, written about it by whoever started it, when it ended by itself
log/N/              its prediction log; it holds a lock on log/N/lock as long as it lives
"""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import msgspec

from everloop.clock import wall
from everloop.errors import Conflict, Invalid, NotFound, StorageFailed
from everloop.features import FeatureView
from everloop.predictions import is_live
from everloop.serving.records import Crash, Manifest, RouteTable, Worker
from everloop.storage import write_atomically

_CRASHES_KEPT = 100


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write a release where serving processes find it; durable when this returns.

    Raises Conflict when a release of this id exists with other content: releases never change.
    """
    path = release_path(folder, manifest.id)
    content = msgspec.json.format(msgspec.json.encode(manifest))
    if path.exists():
        if not _says(path, manifest):
            raise Conflict(
                f"release {manifest.id} exists with other content; a release never changes. Make a new one."
            )
        return path
    write_atomically(path, content)
    return path


def read_manifest(folder: Path, release: str) -> Manifest:
    """The manifest of a release. Raises NotFound or Invalid."""
    path = release_path(folder, release)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no release {release!r} in {path.parent}; a route names only released versions. Release the version first."
        ) from error
    except msgspec.MsgspecError as error:
        raise Invalid(f"{path} is not a release manifest: {error}. Release the version again.") from error


def write_routes(folder: Path, table: RouteTable) -> None:
    """Replace the route table; serving processes notice within 0.1 s. Durable when this returns.

    Raises
    ------
    Conflict
        The table in force has this epoch or a later one.
    Invalid
        A route without variants, with weights that do not add up to 100, or with two variants of one name.
    """
    _check_routes(table)
    current = read_routes(folder)
    if current is not None and current.epoch >= table.epoch:
        raise Conflict(
            f"the route table in force has epoch {current.epoch}, this one {table.epoch}; a change has a higher epoch. "
            "Read the table again and make the change on that."
        )
    write_atomically(folder / "routes.json", msgspec.json.format(msgspec.json.encode(table)))


def read_routes(folder: Path) -> RouteTable | None:
    """The route table in force, None when there was never one. Raises Invalid."""
    path = folder / "routes.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=RouteTable)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise Invalid(
            f"{path} is not a route table: {error}. Write it again by any change of a rollout."
        ) from error


def rule_headers(folder: Path) -> frozenset[str]:
    """The headers that the rules in force look at on any endpoint, in small letters. Raises Invalid."""
    table = read_routes(folder)
    routes = () if table is None else table.endpoints.values()
    return frozenset(rule.header for route in routes for rule in route.rules if rule.header is not None)


def has_routes(folder: Path) -> bool:
    """Whether anything ever went live, so that there is something to serve."""
    return (folder / "routes.json").exists()


def workers(folder: Path) -> list[Worker]:
    """The serving processes that live now, by writer number."""
    found = []
    for path in sorted((folder / "workers").glob("[0-9]*.json")):
        if not is_live(folder, int(path.stem)):
            continue
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Worker))
        except FileNotFoundError:
            continue  # it stopped just now
    return found


def acknowledged(folder: Path) -> int | None:
    """The newest epoch that every live serving process has applied; None when none lives or one has none."""
    epochs = [worker.epoch for worker in workers(folder)]
    known = [epoch for epoch in epochs if epoch is not None]
    return min(known) if known and len(known) == len(epochs) else None


def not_loaded(folder: Path, endpoint: str, *, epoch: int) -> str | None:
    """Why no serving process has followed an endpoint's routes of this epoch; None when one has, or has not said why not."""
    told = [
        worker.problems.get(endpoint) if worker.epoch is None or worker.epoch < epoch else None
        for worker in workers(folder)
    ]
    return told[0] if told and all(told) else None


def note_crash(folder: Path, pid: int, code: int) -> None:
    """Remember that a serving process ended with this code, if nobody asked it to; for whoever started it.

    What is killed from outside is no crash, also where the kernel does it for want of memory: nobody can tell whose that was.
    """
    if code == 0 or -code in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        return
    # a full disk, or another process that tidied up: it must not end whoever starts processes
    with contextlib.suppress(OSError, StorageFailed):
        for path in (folder / "workers").glob("[0-9]*.json"):
            worker = msgspec.json.decode(path.read_bytes(), type=Worker)
            if worker.pid == pid and worker.epoch is not None:
                crash = msgspec.json.encode(Crash(wall(), code, worker.epoch))
                write_atomically(folder / "crashes" / path.name, crash, is_durable=False)
        for path in sorted((folder / "crashes").glob("*.json"))[:-_CRASHES_KEPT]:
            path.unlink()


def crashes(folder: Path) -> list[Crash]:
    """The newest crashes of serving processes, oldest first."""
    found = [path.read_bytes() for path in sorted((folder / "crashes").glob("*.json"))]
    return [msgspec.json.decode(one, type=Crash) for one in found]


def write_worker(folder: Path, worker: Worker) -> None:
    """Say how this process does; atomic, but not forced to disk: it means nothing after a crash."""
    write_atomically(_worker_path(folder, worker.writer), msgspec.json.encode(worker), is_durable=False)


def remove_worker(folder: Path, writer: int) -> None:
    _worker_path(folder, writer).unlink(missing_ok=True)


def remove_dead_workers(folder: Path) -> None:
    """Delete what killed processes said of themselves."""
    for path in (folder / "workers").glob("[0-9]*.json"):
        if not is_live(folder, int(path.stem)):
            path.unlink(missing_ok=True)


def release_path(folder: Path, release: str) -> Path:
    return folder / "releases" / f"{release}.json"


def online_path(folder: Path, view: FeatureView) -> Path:
    """Where a starting server looks for the view's past rows (see `features.materialise`)."""
    return folder / "online" / f"{view.history_id}.arrow"


def code_folder(folder: Path, code: str) -> Path:
    """Where the modules of a release's features are, by the digest of its code."""
    return folder / "code" / code


def _says(path: Path, manifest: Manifest) -> bool:
    """Whether a file holds this manifest; one that was written before a field was added lacks it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest) == manifest
    except msgspec.MsgspecError:
        return False


def _worker_path(folder: Path, writer: int) -> Path:
    return folder / "workers" / f"{writer:05d}.json"


def _check_routes(table: RouteTable) -> None:
    for name, route in table.endpoints.items():
        weights = [variant.weight for variant in route.variants]
        if not weights or min(weights) < 0 or abs(sum(weights) - 100) > 1e-6:
            raise Invalid(
                f"the variants of endpoint {name!r} have weights {weights}; they are percentages that add up to 100. "
                "Give what is left to the control."
            )
        names = [variant.name for variant in (*route.variants, *route.shadow)]
        if len(set(names)) < len(names):
            raise Invalid(
                f"endpoint {name!r} has two variants of one name ({', '.join(names)}). Name each differently."
            )
        if route.endpoint != name:
            raise Invalid(
                f"the route of endpoint {name!r} calls itself {route.endpoint!r}. Use one name for both."
            )
