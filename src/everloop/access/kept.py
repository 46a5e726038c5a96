"""Secrets that somebody else made and that are needed in the clear again: kept in the home, outside the database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from everloop.errors import StorageFailed
from everloop.workspace import Workspace


def keep_secret(ws: Workspace, name: str, secret: str) -> None:
    """Keep a secret under a new name, readable by its owner alone. Raises StorageFailed when it cannot be written."""
    path = _place(ws, name)
    with _told(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())


def kept_secret(ws: Workspace, name: str) -> str:
    """A secret that was kept. Raises StorageFailed when it is not there."""
    path = _place(ws, name)
    with _told(path):
        return path.read_text(encoding="utf-8")


def drop_secret(ws: Workspace, name: str) -> None:
    """Forget a secret that was kept; nothing happens when it is gone already."""
    path = _place(ws, name)
    with _told(path):
        path.unlink(missing_ok=True)


def _place(ws: Workspace, name: str) -> Path:
    return ws.home.absolute() / "keys" / "kept" / name


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            f"the secret {path} cannot be read or written: {error.strerror}. Make {path.parent} readable and writable for "
            "everloop, or set the secret again."
        ) from error
