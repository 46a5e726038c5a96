"""Files that appear whole: a reader sees the old content or the new, and so does a restart."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path

from everloop.errors import StorageFailed


@contextmanager
def replacing(path: Path, *, is_durable: bool = True, mode: int = 0o666) -> Iterator[BufferedWriter]:
    """A file to write what shall stand at `path` once the block ends well; if it does not, nothing has changed.

    Makes the folder. Durable content survives a power cut from then on. `mode` are the file's permissions before the umask.
    Raises OSError when it cannot be written.
    """
    temporary = path.with_name(f".{path.name[:40]}-{secrets.token_hex(8)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.rename(path)
        if is_durable:
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes, *, is_durable: bool = True, mode: int = 0o666) -> None:
    """Put `data` at `path` as `replacing` does. Raises StorageFailed."""
    try:
        with replacing(path, is_durable=is_durable, mode=mode) as file:
            file.write(data)
    except OSError as error:
        raise StorageFailed(
            f"{path} could not be written: {error.strerror or error}. The earlier content is untouched. "
            "Free space or make the folder writable, then run the same command again."
        ) from error


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk: without it a power cut can undo a rename."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
