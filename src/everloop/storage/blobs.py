"""Bytes named by their BLAKE3 digest: the port, where they are kept, and files below one folder.

A name never points at half a blob, and the same bytes are kept once, whoever writes them and however many write at a
time. In a folder a blob is written to a temporary file beside its place, forced to disk and renamed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from blake3 import blake3

from everloop.errors import Invalid, MissingExtra, NotFound, StorageFailed
from everloop.settings import Settings
from everloop.storage.files import replacing

_CHUNK_BYTES = 1 << 20
_GROUP = "everloop.blobs"
_HEX = frozenset("0123456789abcdef")


class Blobs(Protocol):
    """Where bytes are kept by their digest, 64 hex digits. All may be called by many threads and processes at once."""

    @property
    def place(self) -> str:
        """Where that is, for messages."""
        ...

    def put(self, data: bytes | memoryview) -> str:
        """Store `data` and return its digest. When it returns, the blob outlives a crash of this machine."""
        ...

    def put_file(self, source: Path) -> str:
        """Store a file's content, however large, and return its digest."""
        ...

    def get(self, digest: str) -> bytes:
        """The bytes. Raises NotFound."""
        ...

    def path(self, digest: str) -> Path:
        """A file on this machine that holds the blob, to be opened soon and never written. Raises NotFound."""
        ...

    def has(self, digest: str) -> bool: ...

    def verify(self, digest: str) -> bool:
        """Whether the stored bytes, read where they are kept, still have their name's digest. Raises NotFound."""
        ...

    def delete(self, digest: str) -> None:
        """Remove the blob; nothing happens when it is gone already."""
        ...

    def sizes(self) -> Iterator[tuple[str, int]]:
        """All digests with their sizes in bytes, in no order."""
        ...

    def __iter__(self) -> Iterator[str]:
        """All digests, in no order."""
        ...

    def close(self) -> None:
        """Let go of the files that `path` gave: they may be removed from now on."""
        ...


def open_blobs(settings: Settings, *, only_reads: bool = False) -> Blobs:
    """The blobs that the settings name: in the home, in another folder, or what an installed package offers.

    A package offers `function(settings, only_reads=...)` as an entry point of the group `everloop.blobs`, named by the
    scheme of its addresses. Who `only_reads` does not need the right to write, nor the store before it reads.

    Raises
    ------
    Invalid
        Nobody offers such addresses, or the address or what answers there is not fit for blobs.
    MissingExtra
        It needs a package that is not installed.
    StorageFailed, NotReady
        The store refuses, or does not answer now.
    """
    scheme, is_address, _ = settings.blobs.partition("://")
    if not is_address:
        return FileBlobs(settings.home / (settings.blobs or "blobs"))
    from importlib.metadata import entry_points  # noqa: PLC0415  (10 ms that a workspace with files does not need)

    offered = {one.name: one for one in entry_points(group=_GROUP)}
    if scheme not in offered:
        raise Invalid(
            f"the setting blobs begins with {scheme}://; there are a folder and {', '.join(sorted(offered)) or 'no others'}. "
            "Name one of them, or install what offers it."
        )
    try:
        opened: Blobs = offered[scheme].load()(settings, only_reads=only_reads)
    except ModuleNotFoundError as error:
        raise MissingExtra(scheme, needed_for=f"keeping blobs at {scheme}://") from error
    return opened


def place_of(digest: str) -> str:
    """Where a blob is within its folder or bucket: `ab/cdef...`. Raises Invalid when it is no digest."""
    if len(digest) != 64 or not _HEX.issuperset(digest):
        raise Invalid(f"{digest!r} is not a blob's digest; that is 64 hex digits.")
    return f"{digest[:2]}/{digest[2:]}"


def digest_of_file(path: Path) -> str:
    """The digest of a file's content."""
    hasher = blake3()
    if path.stat().st_size:  # nothing can be mapped of an empty one
        hasher.update_mmap(path)
    return hasher.hexdigest()


class FileBlobs:
    """Content-addressed blobs in `folder`, laid out as `ab/cdef...` by the digest's first byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def place(self) -> str:
        return str(self.folder)

    def put(self, data: bytes | memoryview) -> str:
        """Store `data` and return its digest. Raises StorageFailed when the disk refuses."""
        digest = blake3(data).hexdigest()
        if not self.has(digest):
            with self._writing(digest) as file:
                file.write(data)
        return digest

    def put_file(self, source: Path) -> str:
        """Store the file's content, read in chunks, and return its digest."""
        digest = digest_of_file(source)
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
        return digest_of_file(self.path(digest)) == digest

    def delete(self, digest: str) -> None:
        """Remove the blob; nothing happens when it is gone already."""
        self._place(digest).unlink(missing_ok=True)

    def sizes(self) -> Iterator[tuple[str, int]]:
        """All digests with their sizes in bytes, in no order."""
        for digest in self:
            try:
                yield digest, self._place(digest).stat().st_size
            except FileNotFoundError:  # deleted meanwhile
                continue

    def __iter__(self) -> Iterator[str]:
        """All digests, in no order."""
        for place in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            if not place.name.startswith("."):
                yield place.parent.name + place.name

    def close(self) -> None:
        """Files in the store itself stay where they are."""

    def _place(self, digest: str) -> Path:
        return self.folder / place_of(digest)

    @contextmanager
    def _writing(self, digest: str) -> Iterator[BinaryIO]:
        place = self._place(digest)
        try:
            with replacing(place) as file:
                yield file
        except OSError as error:
            raise StorageFailed(
                f"the blob {digest[:12]} could not be written to {self.folder}: {error.strerror or error}. "
                "Nothing was kept of it. Free space or make the folder writable, then run the same command again."
            ) from error
