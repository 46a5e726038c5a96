"""Removing deleted runs for good."""

from __future__ import annotations

from collections.abc import Sequence

from everloop.storage import Tx
from everloop.tracking import experiment_store, input_store, store
from everloop.tracking.records import Artifact, Run
from everloop.workspace import Workspace


def deleted_runs(ws: Workspace) -> list[Run]:
    """The runs that are marked as deleted, oldest first."""
    with ws.read() as connection:
        return store.runs_marked(connection)


def purge_runs_in(tx: Tx, run_ids: Sequence[str]) -> list[Artifact]:
    """Remove deleted runs with all that was logged to them, in the caller's transaction, and tell which files they had.

    One that was restored meanwhile stays. Runs that were part of them stay and are part of none; experiments that are
    deleted and hold no run any more go too. The files' blobs stay.
    """
    gone = store.lock_marked(tx, run_ids)
    files = store.artifacts_of(tx.connection, gone)
    input_store.remove_inputs(tx, gone)
    store.remove_runs(tx, gone)
    experiment_store.remove_empty_experiments(tx)
    return files
