"""Taking a person's key out of what was said of their predictions."""

from __future__ import annotations

from collections.abc import Sequence

from everloop.feedback import store
from everloop.storage import Tx
from everloop.workspace import Workspace


def with_keys(ws: Workspace, names: Sequence[str]) -> int:
    """How many corrections, outcomes, reported values and review items have one of these keys, or a key and are of one of
    these predictions."""
    with ws.read() as connection:
        return store.count_with_keys(connection, names)


def forget_keys(tx: Tx, names: Sequence[str]) -> None:
    """Take the key out of what `with_keys` counts; the rest of each stays, and is counted as before."""
    store.forget_keys(tx, names)
