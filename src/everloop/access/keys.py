"""Keys that only this home has, kept outside the database."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from everloop.errors import StorageFailed
from everloop.workspace import Workspace


def home_key(ws: Workspace, name: str) -> bytes:
    """The key of one purpose, 32 bytes, made when it is first asked for and readable by its owner alone."""
    path = _place(ws, name)
    with _told(name, path):
        if not path.exists():
            _write(path, secrets.token_bytes(32))
        return path.read_bytes()


def keep_secret(ws: Workspace, name: str, secret: str) -> None:
    """Keep somebody else's secret under a new name, readable by its owner alone, outside the database and its copies."""
    path = _place(ws, name)
    with _told(name, path):
        _write(path, secret.encode())


def kept_secret(ws: Workspace, name: str) -> str:
    """A secret that was kept. Raises StorageFailed when it is not there."""
    path = _place(ws, name)
    with _told(name, path):
        return path.read_text(encoding="utf-8")


def drop_secret(ws: Workspace, name: str) -> None:
    """Forget a secret that was kept; nothing happens when it is gone already."""
    path = _place(ws, name)
    with _told(name, path):
        path.unlink(missing_ok=True)


def _place(ws: Workspace, name: str) -> Path:
    return ws.home.absolute() / "keys" / f"{name}.key"


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    new = path.with_suffix(f".{secrets.token_hex(8)}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    try:
        os.link(new, path)  # whole or not at all, and the first of two processes wins
    except FileExistsError:
        pass
    finally:
        new.unlink()


@contextmanager
def _told(name: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            f"the {name} key {path} cannot be read or written: {error.strerror}. Make {path.parent} writable for everloop."
        ) from error
