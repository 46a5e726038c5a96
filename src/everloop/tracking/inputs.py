"""What a run read and made: datasets as their clients describe them, and logged models."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace

from blake3 import blake3

from everloop.errors import Invalid
from everloop.storage import Tx
from everloop.tracking import input_store
from everloop.tracking.lifecycle import need_run
from everloop.tracking.records import DatasetInput, DatasetUse, LoggedDataset, RunModel
from everloop.workspace import Workspace

CONTEXT_TAG = "mlflow.data.context"  # under which clients say what a dataset was read for
# MLflow's limits, in characters
_LENGTHS = {
    "name": 500,
    "digest": 36,
    "source_type": 500,
    "source": 65_535,
    "schema": 1_048_575,
    "profile": 16_777_215,
}
_TAG_NAME_LENGTH, _TAG_LENGTH = 255, 500
_MODEL_LENGTH = 60
_MOST_AT_ONCE = 1_000
_INT64 = range(-(1 << 63), 1 << 63)


def log_inputs(
    ws: Workspace,
    run_id: str,
    datasets: Collection[DatasetInput] = (),
    *,
    models: Collection[RunModel] = (),
) -> None:
    """Say which datasets a run read and which logged models it read or made; again adds tags and changes steps.

    Raises
    ------
    Invalid
        A text is longer than MLflow allows, or there are more than 1,000 at once.
    NotFound, Conflict
        There is no such run, or it is deleted.
    """
    for what, given in (("datasets", datasets), ("models", models)):
        if len(given) > _MOST_AT_ONCE:
            raise Invalid(
                f"{len(given)} {what} were given at once; {_MOST_AT_ONCE} is the most. Send them in parts."
            )
    for one in datasets:
        _check(one)
    for model in models:
        if not model.model or len(model.model) > _MODEL_LENGTH or model.step not in _INT64:
            raise Invalid(
                f"{model.model[:80]!r} at step {model.step} is no logged model: an id has 1 to {_MODEL_LENGTH} characters."
            )

    def change(tx: Tx) -> None:
        need_run(tx, run_id)
        put_datasets_in(tx, run_id, datasets)
        if models:
            input_store.put_models(tx, run_id, models)

    ws.write(change)


def datasets_read(ws: Workspace, experiment_ids: Sequence[int]) -> list[DatasetUse]:
    """Which datasets the runs of some experiments read, and what for; the first 1,000 in order of names."""
    with ws.read() as connection:
        return input_store.uses_in(connection, experiment_ids, limit=_MOST_AT_ONCE)


def put_datasets_in(tx: Tx, run_id: str, datasets: Collection[DatasetInput]) -> None:
    """Say in the caller's transaction that a run read datasets. Raises Invalid for one that cannot be stored."""
    for one in datasets:
        _check(one)
    if told := {_id_of(one.dataset): one for one in datasets}:
        tx.lock(f"tracking.inputs {run_id}")
        known = input_store.tags_of_datasets(tx.connection, run_id)
        merged = {name: replace(one, tags={**known.get(name, {}), **one.tags}) for name, one in told.items()}
        input_store.put_datasets(tx, run_id, merged, context_tag=CONTEXT_TAG)


def _id_of(dataset: LoggedDataset) -> str:
    return blake3(json.dumps(vars(dataset), sort_keys=True).encode()).hexdigest()


def _check(given: DatasetInput) -> None:
    for name, length in _LENGTHS.items():
        text = getattr(given.dataset, name) or ""
        if len(text) > length or "\0" in text or (not text and name in ("name", "digest")):
            raise Invalid(
                f"the {name} of dataset {given.dataset.name[:60]!r} has {len(text):,} characters; it has up to {length:,}, "
                "none of them NUL, and a dataset has a name and a digest. Send a shorter description."
            )
    for name, value in given.tags.items():
        if not name or len(name) > _TAG_NAME_LENGTH or len(value) > _TAG_LENGTH or "\0" in name + value:
            raise Invalid(
                f"the tag {name[:60]!r} of dataset {given.dataset.name[:60]!r} cannot be stored: names have 1 to "
                f"{_TAG_NAME_LENGTH} characters, values up to {_TAG_LENGTH}, none of them NUL."
            )
