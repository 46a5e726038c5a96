"""Where the two sides run: homes of their own, below the folder `ci` of the user's.

`base/<commit>-<digest>` is kept: the home of a base commit with its results, so that the next check of a change that starts
there need not run it. `head` is made anew for each check, from a copy of the base's: what the change does not touch is in
its cache, and both sides' runs can be compared in it. The user's home is read, never written.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from everloop.ci.records import Look, Outcome
from everloop.errors import Invalid, NotReady, StorageFailed
from everloop.serving import SIGNERS
from everloop.workspace import CLOCK_FILE, Workspace

T = TypeVar("T")

FOLDER = "ci"
KEPT = 5  # bases, those used last
_COPIED = ("blobs", "serving")  # folders of a home, beside its database


@dataclass(frozen=True)
class Kept:
    """What is known of a base from earlier checks, in its folder."""

    folder: Path
    look: Look | None
    outcomes: Mapping[str, Outcome]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def names(self) -> tuple[str, ...]:
        """The pipelines that the base declares."""
        return () if self.look is None else tuple(one.name for one in self.look.pipelines)


def kept_base(ci: Path, commit: str, digest: str) -> Kept:
    """The folder of a base commit whose data have this digest, and what earlier checks left in it."""
    folder = ci / "base" / f"{commit[:12]}-{digest[:12]}"
    stated = {}
    for file in sorted(folder.glob("outcomes/*.json")):
        outcome = _read(file, Outcome)
        if outcome is not None:
            stated[outcome.pipeline] = outcome
    return Kept(folder, _read(folder / "look.json", Look), stated)


@contextmanager
def only_check(ci: Path) -> Iterator[None]:
    """Let no other check work in this folder meanwhile. Raises NotReady when one does."""
    try:
        ci.mkdir(parents=True, exist_ok=True)
        (ci / ".gitignore").write_text("*\n")  # what checks leave is no part of the repository around it
        lock = (ci / "lock").open("w")
    except OSError as error:
        raise _unwritable(ci, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NotReady(
                f"another check is running in {ci}; one at a time works there. Wait for it, or name another home with --home."
            ) from error
        yield


def head_home(ci: Path) -> Path:
    """The folder in which changes are run."""
    return ci / "head"


def keep(kept: Kept, *, outcomes: Iterable[Outcome]) -> Kept:
    """Write what a base declares and what came of it; the base's folder counts as used now."""
    try:
        (kept.folder / "outcomes").mkdir(parents=True, exist_ok=True)
        if kept.look is not None:
            _write(kept.folder / "look.json", kept.look)
        found = dict(kept.outcomes)
        for one in outcomes:
            found[one.pipeline] = one
            if one.failure is None:  # what failed may have failed by chance, such as for want of memory
                _write(kept.folder / "outcomes" / f"{one.pipeline}.json", one)
        os.utime(kept.folder)
    except OSError as error:
        raise _unwritable(kept.folder, error) from error
    return replace(kept, outcomes=found)


def forget_old(ci: Path) -> None:
    """Remove all bases but those that were used last."""
    folders = sorted((ci / "base").glob("*"), key=lambda one: one.stat().st_mtime, reverse=True)
    for folder in folders[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def new_home(folder: Path, *, copy_of: Path | None = None) -> Path:
    """An empty folder for a home, or a copy of a home that no process has open; what was there is gone."""
    with _whole(folder) as made:
        if copy_of is not None:
            shutil.copytree(copy_of, made, copy_function=_linked, dirs_exist_ok=True)
    return folder


def copied_home(ws: Workspace, folder: Path) -> Path:
    """A copy of a user's home as of now, while others may be working in it.

    Raises
    ------
    Invalid
        Its database is on PostgreSQL, or its blobs are not in the home.
    """
    if ws.database.dialect != "sqlite":
        raise Invalid(
            f"the workspace {ws.home} keeps its database on PostgreSQL, and a check works in a copy of the workspace. "
            "Name the files with rows and labels in everloop-ci.toml; then no workspace is needed."
        )
    if ws.settings.blobs:
        raise Invalid(
            f"the workspace {ws.home} keeps its files in {ws.blobs.place}, and a check works in a copy of the workspace. "
            "Name the files with rows and labels in everloop-ci.toml; then no workspace is needed."
        )
    with _whole(folder) as made:
        ws.database.copy_to(made / "everloop.db")
        for name in _COPIED:
            if (ws.home / name).is_dir():
                shutil.copytree(ws.home / name, made / name, copy_function=_linked)
        # a copy signs with keys of its own: the code of a change is to sign nothing in the workspace's name
        (made / "keys").mkdir(mode=0o700)
        (made / "keys" / "audit.key").touch(mode=0o600)
        (made / "keys" / "audit.key").write_text(secrets.token_hex(32))
        if (signers := ws.home / SIGNERS).exists():  # public keys
            shutil.copy2(signers, made / SIGNERS)
        if ws.is_simulation:
            shutil.copy2(ws.home / CLOCK_FILE, made / CLOCK_FILE)
    return folder


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A new folder that takes its place when all is in it: a check that is killed leaves no half of one."""
    half_done = folder.with_name(f".{folder.name}")
    try:
        for one in (half_done, folder):
            shutil.rmtree(one, ignore_errors=True)
        half_done.mkdir(parents=True)
        yield half_done
        half_done.rename(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _linked(source: str, target: str) -> str:
    """A blob never changes, so that it is linked; all else is copied."""
    if "blobs" in Path(source).parts:
        try:
            os.link(source, target)
        except OSError:  # another disk, or one without links
            shutil.copy2(source, target)
        return target
    return str(shutil.copy2(source, target))


def _read(file: Path, kind: type[T]) -> T | None:
    """What a file of an earlier check says; None when it is not there or another everloop wrote it."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def _write(file: Path, value: object) -> None:
    half_done = file.with_name(f".{file.name}")
    half_done.write_bytes(msgspec.json.encode(value))
    half_done.replace(file)


def _unwritable(folder: Path, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"{folder} cannot be written: {error.strerror}. A check keeps its results there; name a home that can be written "
        "with --home."
    )
