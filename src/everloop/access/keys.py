"""Keys that only this home has, kept outside the database."""

from __future__ import annotations

import os
import secrets

from everloop.errors import StorageFailed
from everloop.workspace import Workspace


def home_key(ws: Workspace, name: str) -> bytes:
    """The key of one purpose, 32 bytes, made when it is first asked for and readable by its owner alone."""
    path = ws.home.absolute() / "keys" / f"{name}.key"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            new = path.with_suffix(f".{secrets.token_hex(8)}")
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
            try:
                os.link(new, path)  # whole or not at all, and the first of two processes wins
            except FileExistsError:
                pass
            finally:
                new.unlink()
        return path.read_bytes()
    except OSError as error:
        raise StorageFailed(
            f"the {name} key {path} cannot be read or written: {error.strerror}. Make {path.parent} writable for everloop."
        ) from error
