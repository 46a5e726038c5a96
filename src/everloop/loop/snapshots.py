"""Where the code of the past lies."""

from __future__ import annotations

from pathlib import Path

from everloop import tracking
from everloop.workspace import Workspace


def checked_out(ws: Workspace, code: str) -> Path:
    """The folder that holds a code snapshot's files."""
    return tracking.check_out(ws, code, ws.home.absolute() / "code" / code)
