"""Files of blobs that are kept elsewhere: below the home, bounded, what was used least recently goes first.

A file in use is never removed. Each process holds a shared lock on the files that it asked for last, and who makes room
takes only those that nobody holds; a file that is open goes on to be readable even then, as everywhere on POSIX.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

from everloop import clock
from everloop.errors import StorageFailed
from everloop.storage.blobs import digest_of_file, place_of

_HELD = 64  # files that a process asked for last: each costs it a descriptor
_LOOK_AFTER = 16  # room is made again when a process brought a 16th of the limit
_ABANDONED_S = 86_400.0  # a temporary file that old was left by a process that was killed

_log = logging.getLogger("everloop.storage")


class BlobCache:
    """Local copies in `folder`, laid out as `FileBlobs` does; `limit_bytes` may be passed by what is in use."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self._limit_bytes = limit_bytes
        self._brought_bytes = limit_bytes  # the first look is at the first file that is brought
        self._held: OrderedDict[str, int] = OrderedDict()  # digest: the descriptor that holds the lock
        self._lock = threading.Lock()

    def path(self, digest: str, fill: Callable[[Path], None]) -> Path:
        """The blob's file. Where there is none that has its digest, `fill` writes the content to the path it is given.

        Raises StorageFailed when what `fill` wrote has another digest, or the disk refuses.
        """
        place = self.folder / place_of(digest)
        try:
            while not self._hold(digest, place):
                self._bring(digest, place, fill)
        except OSError as error:
            raise StorageFailed(
                f"the blob {digest[:12]} could not be copied to {self.folder}: {error.strerror or error}. Nothing was kept of "
                "it there. Free space or set blobs_cache_mb lower, then run the same command again."
            ) from error
        return place

    def forget(self, digest: str) -> None:
        """Remove the copy, if there is one."""
        self._release(digest)
        (self.folder / place_of(digest)).unlink(missing_ok=True)

    def close(self) -> None:
        """Hold nothing any more."""
        for digest in list(self._held):
            self._release(digest)

    def _hold(self, digest: str, place: Path) -> bool:
        """Lock the file against its removal; whether there is one with the right content, looked at once a process."""
        try:
            os.utime(place)  # what the files are ordered by, when room is made
            with self._lock:
                if digest in self._held:
                    self._held.move_to_end(digest)
                    return True
            descriptor = os.open(place, os.O_RDONLY)
        except FileNotFoundError:
            self._release(digest)
            return False
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.fstat(descriptor).st_nlink == 0:  # removed between the opening and the lock
            os.close(descriptor)
            return False
        if digest_of_file(place) != digest:
            _log.warning("%s was damaged; it is brought again", place)
            os.close(descriptor)
            place.unlink(missing_ok=True)
            return False
        self._keep(digest, descriptor)
        return True

    def _bring(self, digest: str, place: Path, fill: Callable[[Path], None]) -> None:
        temporary = place.with_name(f".{place.name[:8]}-{secrets.token_hex(8)}")
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            fill(temporary)
            if digest_of_file(temporary) != digest:
                raise StorageFailed(
                    f"the bytes that came for the blob {digest[:12]} have another digest: what is stored was changed or "
                    "damaged. Restore it from a backup, or make it again: everloop doctor says which models lack files."
                )
            descriptor = os.open(temporary, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            try:
                os.link(temporary, place)
            except FileExistsError:  # another was quicker: theirs is looked at as any that is found
                os.close(descriptor)
                return
            self._keep(digest, descriptor)
            self._brought_bytes += temporary.stat().st_size
        finally:
            temporary.unlink(missing_ok=True)
        if self._brought_bytes * _LOOK_AFTER >= self._limit_bytes:
            self._brought_bytes = 0
            self._make_room()

    def _keep(self, digest: str, descriptor: int) -> None:
        with self._lock:
            surplus = [self._held.pop(digest)] if digest in self._held else []
            self._held[digest] = descriptor
            if len(self._held) > _HELD:
                surplus.append(self._held.popitem(last=False)[1])
        for one in surplus:
            os.close(one)

    def _release(self, digest: str) -> None:
        with self._lock:
            descriptor = self._held.pop(digest, None)
        if descriptor is not None:
            os.close(descriptor)

    def _make_room(self) -> None:
        found = sorted(self._files(), key=lambda one: one[1].st_mtime_ns)
        total = sum(status.st_size for _, status in found)
        for place, status in found:
            if total <= self._limit_bytes:
                return
            if _removed(place):
                total -= status.st_size

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for place in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            try:
                status = place.stat()
            except FileNotFoundError:
                continue
            if not place.name.startswith("."):
                yield place, status
            elif clock.wall_ns() / 1e9 - status.st_mtime > _ABANDONED_S:
                place.unlink(missing_ok=True)


def _removed(place: Path) -> bool:
    """Remove a file that nobody holds; whether it is gone."""
    try:
        descriptor = os.open(place, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        place.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
