"""Keys kept outside the database."""

from __future__ import annotations

from everloop import ledger
from everloop.workspace import Workspace


def home_key(ws: Workspace, name: str) -> bytes:
    """The key of one purpose, 32 bytes. Machines that share a workspace's signing key agree on it."""
    return ledger.derived_key(ws, name)
