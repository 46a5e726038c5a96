"""Bytes named by their BLAKE3 digest, in files below one folder.

A blob is written to a temporary file in its own folder, forced to disk and renamed, so that a name never points
at half a blob and the same bytes are kept once, whoever writes them and however many write at a time.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from everloop.errors import Invalid, NotFound, StorageFailed

_CHUNK_BYTES = 1 << 20
_HEX = frozenset("0123456789abcdef")


class FileBlobs:
    """Content-addressed blobs in `folder`, laid out as `ab/cdef...` by the digest's first byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, data: bytes | memoryview) -> str:
        """Store `data` and return its digest. Raises StorageFailed when the disk refuses."""
        digest = blake3(data).hexdigest()
        if not self.has(digest):
            with self._writing(digest) as file:
                file.write(data)
        return digest

    def put_file(self, source: Path) -> str:
        """Store the file's content, read in chunks, and return its digest."""
        hasher = blake3()
        hasher.update_mmap(source) if source.stat().st_size else hasher
        digest = hasher.hexdigest()
        if not self.has(digest):
            with source.open("rb") as incoming, self._writing(digest) as file:
                while chunk := incoming.read(_CHUNK_BYTES):
                    file.write(chunk)
        return digest

    def get(self, digest: str) -> bytes:
        return self.path(digest).read_bytes()

    def path(self, digest: str) -> Path:
        """The file that holds the blob. Raises NotFound when there is none."""
        place = self._place(digest)
        if not place.exists():
            raise NotFound(
                f"blob {digest} is not in {self.folder}. It was collected, or the folder is another workspace's."
            )
        return place

    def has(self, digest: str) -> bool:
        return self._place(digest).exists()

    def verify(self, digest: str) -> bool:
        """Whether the stored bytes still have their name's digest."""
        place = self.path(digest)
        hasher = blake3()
        if place.stat().st_size:
            hasher.update_mmap(place)
        return hasher.hexdigest() == digest

    def delete(self, digest: str) -> None:
        """Remove the blob; nothing happens when it is gone already."""
        self._place(digest).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[str]:
        """All digests, in no order."""
        for place in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            if not place.name.startswith("."):
                yield place.parent.name + place.name

    def _place(self, digest: str) -> Path:
        if len(digest) != 64 or not _HEX.issuperset(digest):
            raise Invalid(f"{digest!r} is not a blob's digest; that is 64 hex digits.")
        return self.folder / digest[:2] / digest[2:]

    @contextmanager
    def _writing(self, digest: str) -> Iterator[BinaryIO]:
        place = self._place(digest)
        temporary = place.with_name(f".{place.name[:8]}-{secrets.token_hex(8)}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(place)
            sync_folder(place.parent)
        except OSError as error:
            raise StorageFailed(
                f"the blob {digest[:12]} could not be written to {self.folder}: {error.strerror or error}. "
                "Nothing was kept of it. Free space or make the folder writable, then run the same command again."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk: without it a power cut can undo a rename."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by `data` so that readers see the old or the new content, also after a power cut."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageFailed(
            f"{path} could not be written: {error.strerror or error}. The earlier content is untouched. "
            "Free space or make the folder writable, then run the same command again."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
