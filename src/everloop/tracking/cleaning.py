"""Removing deleted runs, logged models and traces for good."""

from __future__ import annotations

from collections.abc import Sequence

from everloop.storage import Tx
from everloop.tracking import experiment_store, file_store, input_store, model_store, store, trace_store
from everloop.tracking.records import Artifact, LoggedModel, Run
from everloop.workspace import Workspace


def deleted_runs(ws: Workspace) -> list[Run]:
    """The runs that are marked as deleted, oldest first."""
    with ws.read() as connection:
        return store.runs_marked(connection)


def deleted_models(ws: Workspace) -> list[LoggedModel]:
    """The logged models that are marked as deleted, oldest first."""
    with ws.read() as connection:
        return model_store.models_marked(connection)


def purge_in(
    tx: Tx, run_ids: Sequence[str], model_ids: Sequence[str] = (), trace_ids: Sequence[str] = ()
) -> list[Artifact]:
    """Remove deleted runs, logged models and traces with all that was said of them, in the caller's transaction, and tell
    their files.

    One that was restored meanwhile stays. Runs that were part of them stay and are part of none; models that are not
    deleted stay without a run; experiments that are deleted and hold nothing any more go too. The files' blobs stay.
    """
    runs, models = store.lock_marked(tx, run_ids), model_store.lock_marked(tx, model_ids)
    traces = trace_store.lock_marked(tx, trace_ids)
    files = file_store.remove_all(tx, [*runs, *models, *traces])
    trace_store.remove(tx, traces)
    model_store.remove(tx, models)
    model_store.detach(tx, runs)
    input_store.remove_inputs(tx, runs)
    store.remove_runs(tx, runs)
    experiment_store.remove_empty_experiments(
        tx, but_for=(model_store.experiments_in_use(), trace_store.experiments_in_use())
    )
    return files
