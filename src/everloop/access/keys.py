"""Keys of one purpose each, kept outside the database."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from everloop import ledger
from everloop.errors import StorageFailed
from everloop.workspace import Workspace


def shared_key(ws: Workspace, name: str) -> bytes:
    """The key of one purpose, 32 bytes. Machines that share a workspace's signing key agree on it."""
    return ledger.derived_key(ws, name)


def home_key(ws: Workspace, name: str) -> bytes:
    """The key of one purpose that only this home has, 32 bytes, made when it is first asked for."""
    path = _place(ws, name)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            new = _written(path)
            try:
                os.link(new, path)  # whole or not at all, and the first of two processes wins
            except FileExistsError:
                pass
            finally:
                new.unlink()
        return path.read_bytes()
    except OSError as error:
        raise _refused(name, path, error) from error


def renew_home_key(ws: Workspace, name: str) -> bytes:
    """A new key in the place of the one that only this home has, which is gone when this returns."""
    path = _place(ws, name)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _written(path).replace(path)
        return path.read_bytes()
    except OSError as error:
        raise _refused(name, path, error) from error


def _place(ws: Workspace, name: str) -> Path:
    return ws.home.absolute() / "keys" / f"{name}.key"


def _written(path: Path) -> Path:
    """A new key in a file beside the place that it is for, readable by its owner alone."""
    new = path.with_suffix(f".{secrets.token_hex(8)}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())
    return new


def _refused(name: str, path: Path, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"the {name} key {path} cannot be read or written: {error.strerror}. Make {path.parent} writable for everloop."
    )
