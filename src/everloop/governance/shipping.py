"""The prediction log in a place that outlives this machine: what is logged goes to the blobs, and comes from there.

The table `log_part` says what was shipped of which home's segments. Of a segment that is being written the bytes so far go, a
piece at a time; once it is sealed its Parquet file takes their place. Which bytes a piece has is written down before it
is sent, so that whoever goes on after a crash sends the same ones, and the same content has the same name. Every home
with this database and these blobs keeps a copy of the others' logs beside its own, where the same readers find it.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from everloop import clock, predictions
from everloop.errors import NotFound
from everloop.governance import store
from everloop.governance.store import Part
from everloop.workspace import Workspace

Key = tuple[str, int, int]
_Stamp = tuple[int, int]


class _Known(msgspec.Struct, frozen=True, array_like=True):
    """A sealed file as it was when it was sent or brought."""

    digest: str
    stamp: _Stamp


@dataclass(frozen=True)
class Shipped:
    """What one turn sent and brought: pieces of segments, or sealed files."""

    sent: int
    brought: int


def has_shipping(ws: Workspace) -> bool:
    """Whether the blobs are in a place of their own and `log_ship_s` seconds have passed since the last turn."""
    if not ws.settings.blobs:
        return False
    try:
        last_s = _state(ws).stat().st_mtime
    except FileNotFoundError:
        return True
    return clock.wall_ns() / 1e9 - last_s >= ws.settings.log_ship_s


def ship_log(ws: Workspace) -> Shipped:
    """Send what this home logged since the last turn, and bring what the others sent.

    What a policy or an erasure took out of a sealed file here is sent again without it, and brought by the others.
    """
    return _Turn(ws).run()


def forget_parts(ws: Workspace, paths: Iterable[Path]) -> None:
    """Remove sealed files that are about to be removed here from the index and from the blobs."""
    known = _read_state(ws)
    going = {key for path in paths if (key := _key_of(ws, path)) is not None}
    with ws.read() as connection:
        parts = [one for one in store.all_parts(connection) if one.key in going]
    if not parts:
        return
    ws.write(lambda tx: store.delete_parts(tx, parts))
    for part in parts:
        for digest in part.digests:
            ws.blobs.delete(digest)
    _write_state(ws, {name: one for name, one in known.items() if name not in {_name(key) for key in going}})


class _Turn:
    """One turn: the index as it was read, and what is known of the files here."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._folder = ws.home / "serving"
        self._origin = _origin(ws)
        with ws.read() as connection:
            self._index = {one.key: one for one in store.all_parts(connection)}
        self._known = _read_state(ws)
        self._sent = self._brought = 0

    def run(self) -> Shipped:
        here = self._here()
        for key, path in here.items():
            if path.suffix == ".parquet":
                self._sealed(key, path)
            elif key[0] == self._origin:
                self._send_more(key, path)
        for key, part in self._index.items():
            self._bring(part, here.get(key))
        _write_state(self._ws, self._known)
        return Shipped(self._sent, self._brought)

    def _here(self) -> dict[Key, Path]:
        """The segments on this machine: of each the sealed file, or else the other."""
        found: dict[Key, Path] = {}
        for path in sorted(self._folder.glob("log/*/*")):
            key = _key_of(self._ws, path, self._origin)
            if key is not None and (key not in found or path.suffix == ".parquet"):
                found[key] = path
        return found

    def _sealed(self, key: Key, path: Path) -> None:
        part, known = self._index.get(key), self._known.get(_name(key))
        try:
            stamp = _stamp(path)
        except FileNotFoundError:
            return  # removed by a policy just now
        if known is None or known.stamp != stamp:
            if part is None and key[0] != self._origin:
                return  # the copy of a file whose home took it back
            self._send_sealed(key, path, stamp)
        elif part is None:
            path.unlink(missing_ok=True)  # a policy removed it, on another machine
            del self._known[_name(key)]

    def _send_sealed(self, key: Key, path: Path, stamp: _Stamp) -> None:
        part = self._index.get(key)
        digest = self._ws.blobs.put_file(path)
        size = stamp[0]
        now = Part(*key, True, size, size, ((size, digest),), self._ws.now())
        if part is not None and part.is_sealed and part.digests == now.digests:
            self._known[_name(key)] = _Known(digest, stamp)
            return
        if self._keep(now, part):
            self._known[_name(key)] = _Known(digest, stamp)
            self._sent += 1
            for old in () if part is None else part.digests:
                self._ws.blobs.delete(old)

    def _send_more(self, key: Key, path: Path) -> None:
        """What was written since: the piece that was planned, if one was, else all."""
        part = self._index.get(key) or Part(*key, False, 0, 0, (), self._ws.now())
        if part.is_sealed:
            return  # it is sealed, and its own file is about to be removed
        with suppress(FileNotFoundError):  # sealed just now: the next turn sends that
            if part.planned_bytes == part.size_bytes:
                planned = replace(part, planned_bytes=path.stat().st_size)
                if planned.planned_bytes == part.size_bytes or not self._keep(planned, self._index.get(key)):
                    return
                part = planned
            with path.open("rb") as file:
                file.seek(part.size_bytes)
                data = file.read(part.planned_bytes - part.size_bytes)
            if data:
                digest = self._ws.blobs.put(data)
                size = part.size_bytes + len(data)
                pieces = (*part.pieces, (len(data), digest))
                now = self._ws.now()
                sent = replace(part, size_bytes=size, planned_bytes=size, pieces=pieces, shipped_at=now)
                self._sent += self._keep(sent, part)

    def _keep(self, new: Part, known: Part | None) -> bool:
        is_kept = self._ws.write(lambda tx: store.put_part(tx, new, known=known))
        if is_kept:
            self._index[new.key] = new
        return is_kept

    def _bring(self, part: Part, path: Path | None) -> None:
        folder = predictions.copy_folder(self._folder, part.origin, part.writer)
        if part.origin == self._origin:
            if path is not None and path.suffix == ".log":
                return  # it is written here, or waits to be sealed
            folder = self._folder / "log" / f"{part.writer:05d}"
        known = self._known.get(_name(part.key))
        is_here = path is not None and path.suffix == ".parquet"
        # the pieces of a segment that was sealed meanwhile are gone: the next turn brings what took their place
        with suppress(NotFound):
            if not part.is_sealed:
                if not is_here:
                    self._append(part, folder / f"{part.segment}.log")
            elif not is_here or (known is not None and known.digest not in part.digests):
                self._replace(part, folder / f"{part.segment}.parquet")

    def _append(self, part: Part, path: Path) -> None:
        """The pieces that the copy lacks. A reader takes what is cut short at the end for what it is."""
        path.parent.mkdir(parents=True, exist_ok=True)
        size = path.stat().st_size if path.exists() else 0
        start = 0
        for length, digest in part.pieces:
            if start + length > size:
                with path.open("ab") as file:
                    file.write(self._ws.blobs.get(digest)[max(0, size - start) :])
                self._brought += 1
            start += length

    def _replace(self, part: Part, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        (digest,) = part.digests
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            shutil.copyfile(self._ws.blobs.path(digest), temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._known[_name(part.key)] = _Known(digest, _stamp(path))
        predictions.erase_in_copy(self._folder, path)  # another stamp then: the next turn sends it
        path.with_suffix(".log").unlink(missing_ok=True)
        self._brought += 1


def _origin(ws: Workspace) -> str:
    """The name of this home among those that ship: lost with it, so that a new home never writes on an old one's."""
    path = ws.home / "serving" / "log" / "origin"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".origin.{secrets.token_hex(8)}")
        temporary.write_text(secrets.token_hex(8))
        with suppress(FileExistsError):
            os.link(temporary, path)
        temporary.unlink()
    return path.read_text()


def _key_of(ws: Workspace, path: Path, origin: str | None = None) -> Key | None:
    """Which segment a file is, None for any other file."""
    writer, _, copied_from = path.parent.name.partition("@")
    if path.suffix not in (".log", ".parquet") or not (path.stem.isdigit() and writer.isdigit()):
        return None
    return copied_from or origin or _origin(ws), int(writer), int(path.stem)


def _name(key: Key) -> str:
    return "/".join(map(str, key))


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _state(ws: Workspace) -> Path:
    return ws.home / "serving" / "log" / "shipped.json"


def _read_state(ws: Workspace) -> dict[str, _Known]:
    try:
        return msgspec.json.decode(_state(ws).read_bytes(), type=dict[str, _Known])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}  # all is looked at again; what is there already is not sent again


def _write_state(ws: Workspace, known: dict[str, _Known]) -> None:
    temporary = _state(ws).with_suffix(f".{secrets.token_hex(8)}")
    temporary.write_bytes(msgspec.json.encode(known))
    temporary.replace(_state(ws))
