"""The folders of the log: one for each process that ever wrote, by the number that it took, and copies of other homes' ones."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

FROM = "@"


def writer_folder(folder: Path, writer: int) -> Path:
    """The folder of what one process of this home logged; `folder` is always `<home>/serving`."""
    return folder / "log" / f"{writer:05d}"


def is_live(folder: Path, writer: int) -> bool:
    """Whether the process with this writer number lives: it holds a lock that the kernel frees at its death."""
    try:
        descriptor = os.open(writer_folder(folder, writer) / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # shared, so that two that ask at once do not take each other for the owner
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def writer_folders(folder: Path) -> list[Path]:
    """The folders of the log: those of this home's processes, and the copies of those of other homes."""
    log = folder / "log"
    found = log.iterdir() if log.is_dir() else ()
    named = [(path, path.name.partition(FROM)) for path in found]
    kept = [(int(number), origin, path) for path, (number, _, origin) in named if number.isdigit()]
    return [path for _, _, path in sorted(kept)]


def own_folders(folder: Path) -> list[Path]:
    """The folders of this home's processes, by number: the only ones that are written and sealed here."""
    return [path for path in writer_folders(folder) if path.name.isdigit()]


def copy_folder(folder: Path, origin: str, writer: int) -> Path:
    """Where the copy of what a process of another home logged is kept."""
    return folder / "log" / f"{writer:05d}{FROM}{origin}"


def has_copies(folder: Path) -> bool:
    """Whether other homes' logs are copied here."""
    return any(not path.name.isdigit() for path in writer_folders(folder))


def segments(directory: Path) -> list[int]:
    """The numbers of a writer's segments, each once, sealed or not.

    Two listings: one alone may pass the place of the Parquet file before it is renamed there and the place of
    the segment after it is removed. Whatever was in that transition during the first listing is sealed in the
    second.
    """
    return sorted({int(name) for _ in range(2) for name in stems(directory)})


def stems(directory: Path) -> Iterator[str]:
    """The names of a writer's segments as they are listed; one that is sealed meanwhile may come twice or be missing."""
    for name in os.listdir(directory):  # noqa: PTH208  (a path for each of thousands takes seven times as long)
        stem, _, suffix = name.partition(".")
        if suffix in ("log", "parquet") and stem.isdigit():
            yield stem
