"""Experiments: making, finding, renaming, tagging, deleting and restoring them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from everloop.errors import AlreadyExists, Conflict, Invalid, NotFound
from everloop.storage import Tx
from everloop.tracking import experiment_store, trace_store
from everloop.tracking.places import check_root, root_setting
from everloop.tracking.records import (
    EXPERIMENT_NAME_LENGTH,
    EXPERIMENT_TAG_LENGTH,
    Experiment,
    check_name,
    check_texts,
    shown,
)
from everloop.workspace import Workspace


def create_experiment(
    ws: Workspace, name: str, *, artifact_root: str | None = None, tags: Mapping[str, str] | None = None
) -> Experiment:
    """Make an experiment. Without `artifact_root` its place is below the setting of that name, if there is one.

    Raises
    ------
    AlreadyExists
        There is one of this name, perhaps deleted: a deleted one keeps its name, since it may be restored.
    Invalid
        The name, a tag or the root cannot be stored.
    """
    check_name("an experiment", name, length=EXPERIMENT_NAME_LENGTH)
    texts = check_texts("a tag", tags or {}, length=EXPERIMENT_TAG_LENGTH)
    root = check_root(artifact_root) if artifact_root else None

    def change(tx: Tx) -> Experiment:
        tx.lock("tracking.experiment")
        if (known := experiment_store.experiment_by_name(tx.connection, name)) is not None:
            is_deleted = "is deleted. Restore it, or" if known.deleted_at else "is there already. Use it, or"
            raise AlreadyExists(f"the experiment {shown(name)} {is_deleted} choose another name.")
        made = insert_experiment(ws, tx, name, artifact_root=root)
        if texts:
            experiment_store.put_experiment_tags(tx, made.id, texts)
        return replace(made, tags=texts)

    return ws.write(change)


def experiment(ws: Workspace, number: int) -> Experiment:
    """The experiment of this number. Raises NotFound."""
    with ws.read() as connection:
        found = experiment_store.experiment_by_id(connection, number)
        if found is None:
            raise _unknown(str(number))
        return replace(found, tags=experiment_store.tags_of_experiment(connection, found.id))


def run_counts(ws: Workspace) -> dict[int, tuple[int, datetime | None]]:
    """By experiment, how many runs it has that are not deleted, and when the newest began; those without are left out."""
    with ws.read() as connection:
        return experiment_store.run_counts(connection)


def experiment_named(ws: Workspace, name: str) -> Experiment:
    """The experiment of this name, deleted or not. Raises NotFound."""
    with ws.read() as connection:
        found = experiment_store.experiment_by_name(connection, name)
        if found is None:
            raise _unknown(shown(name))
        return replace(found, tags=experiment_store.tags_of_experiment(connection, found.id))


def experiments(ws: Workspace) -> list[Experiment]:
    """All experiments, oldest first, without tags; the first is the one for runs that name none."""
    with ws.read() as connection:
        return experiment_store.all_experiments(connection)


def rename_experiment(ws: Workspace, number: int, name: str) -> None:
    """Give an experiment another name. Raises Invalid, NotFound, Conflict for a deleted one, AlreadyExists."""
    check_name("an experiment", name, length=EXPERIMENT_NAME_LENGTH)

    def change(tx: Tx) -> None:
        tx.lock("tracking.experiment")
        need_experiment(tx, number)
        known = experiment_store.experiment_by_name(tx.connection, name)
        if known is not None and known.id != number:
            raise AlreadyExists(
                f"the name {shown(name)} is that of experiment {known.id}. Choose another name."
            )
        experiment_store.update_experiment(tx, number, {"name": name, "updated_at": ws.now()})

    ws.write(change)


def delete_experiment(ws: Workspace, number: int) -> None:
    """Mark an experiment, its runs and its traces as deleted; `restore_experiment` brings them back.

    Raises
    ------
    Invalid
        It is the one that every workspace has.
    NotFound, Conflict
        There is no such experiment, or it is deleted already.
    """
    if number == 0:
        raise Invalid(
            "experiment 0 is where runs that name none are kept, and cannot be deleted. Delete its runs instead."
        )

    def change(tx: Tx) -> None:
        need_experiment(tx, number)
        now = ws.now()
        experiment_store.mark_runs(tx, number, deleted_at=now)
        trace_store.mark_all(tx, number, deleted_at=now)
        experiment_store.update_experiment(tx, number, {"deleted_at": now, "updated_at": now})

    ws.write(change)


def restore_experiment(ws: Workspace, number: int) -> None:
    """Bring a deleted experiment back with the runs and traces that were deleted with it. Raises NotFound, Conflict."""

    def change(tx: Tx) -> None:
        found = experiment_store.experiment_by_id(tx.connection, number)
        if found is None:
            raise _unknown(str(number))
        if found.deleted_at is None:
            raise Conflict(f"experiment {number} is not deleted; only a deleted one can be restored.")
        experiment_store.mark_runs(tx, number, deleted_at=None, before=found.deleted_at)
        trace_store.mark_all(tx, number, deleted_at=None, before=found.deleted_at)
        experiment_store.update_experiment(tx, number, {"deleted_at": None, "updated_at": ws.now()})

    ws.write(change)


def tag_experiment(ws: Workspace, number: int, values: Mapping[str, str]) -> None:
    """Set tags of an experiment. Raises Invalid (values up to 20,000 characters), NotFound, Conflict."""
    texts = check_texts("a tag", values, length=EXPERIMENT_TAG_LENGTH)

    def change(tx: Tx) -> None:
        need_experiment(tx, number)
        experiment_store.put_experiment_tags(tx, number, texts)
        experiment_store.update_experiment(tx, number, {"updated_at": ws.now()})

    if texts:
        ws.write(change)


def untag_experiment(ws: Workspace, number: int, name: str) -> None:
    """Remove a tag of an experiment. Raises NotFound for one that is not there, and Conflict."""

    def change(tx: Tx) -> None:
        need_experiment(tx, number)
        if not experiment_store.remove_experiment_tag(tx, number, name):
            raise NotFound(f"experiment {number} has no tag {shown(name)}.")
        experiment_store.update_experiment(tx, number, {"updated_at": ws.now()})

    ws.write(change)


def need_experiment(tx: Tx, number: int) -> Experiment:
    """The experiment, which has to be there and not deleted."""
    found = experiment_store.experiment_by_id(tx.connection, number)
    if found is None:
        raise _unknown(str(number))
    if found.deleted_at is not None:
        raise Conflict(
            f"experiment {number} is deleted and does not change. Restore it first, or use another."
        )
    return found


def experiment_for(ws: Workspace, tx: Tx, name: str) -> Experiment:
    """The experiment of this name, made now if there is none. Raises Conflict for a deleted one."""
    known = experiment_store.experiment_by_name(tx.connection, name)
    if known is None:
        check_name("an experiment", name, length=EXPERIMENT_NAME_LENGTH)
        tx.lock("tracking.experiment")
        known = experiment_store.experiment_by_name(tx.connection, name) or insert_experiment(ws, tx, name)
    if known.deleted_at is not None:
        raise Conflict(
            f"the experiment {shown(name)} is deleted and takes no runs. Restore it, or name another."
        )
    return known


def insert_experiment(ws: Workspace, tx: Tx, name: str, *, artifact_root: str | None = None) -> Experiment:
    """A new experiment, whose place for artifacts is settled now: a later change of the setting moves nothing."""
    set_root = root_setting(ws.settings)

    def place(number: int) -> str | None:
        return artifact_root or (f"{set_root}/{number}" if set_root else None)

    return experiment_store.insert_experiment(tx, name, created_at=ws.now(), artifact_root=place)


def _unknown(what: str) -> NotFound:
    return NotFound(
        f"there is no experiment {what}. Search for experiments to see which there are, or create it."
    )
