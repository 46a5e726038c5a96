"""What tracking is told of models: each that a step made is a run of its own below the pipeline's, to be compared."""

from __future__ import annotations

from collections.abc import Mapping

from everloop import tracking
from everloop.pipelines.records import Stored
from everloop.storage import Tx
from everloop.workspace import Workspace

_MODEL = "model/"  # where value_files puts the model itself, in MLflow's layout
_NAME_LENGTH = 250  # of a tracking run


def track_in(ws: Workspace, tx: Tx, run_id: str, *, parent: str, experiment: str, name: str) -> None:
    """Add the run of a model, ended already, in the transaction that commits the step which made it."""
    tracking.start_run_in(
        ws, tx, experiment=experiment, name=name[:_NAME_LENGTH], parent=parent, kind="step", run_id=run_id
    )
    tracking.finish_run_in(ws, tx, run_id)


def describe(ws: Workspace, run_id: str, stored: Stored, *, params: Mapping[str, str] | None = None) -> None:
    """Log a model's parameters, metrics and files with a run. Doing it again after a kill changes nothing."""
    if params:
        tracking.log_params(ws, run_id, params)
    tracking.log_metrics(ws, run_id, stored.metrics)
    for path, digest in stored.files.items():
        if path.startswith(_MODEL):
            tracking.log_artifact(ws, run_id, path, ws.blobs.path(digest))
