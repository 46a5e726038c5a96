"""Deleting and renaming: what is gone keeps its number, its audit and its lineage; what is in use does not go."""

from __future__ import annotations

from dataclasses import replace

from everloop.errors import AlreadyExists, Conflict
from everloop.ledger import Node, audit, link
from everloop.registry import signing, store
from everloop.registry.find import need_model, need_version
from everloop.registry.promote import leave
from everloop.registry.records import (
    FREE_STAGE,
    ApprovalRule,
    ModelVersion,
    PointerKind,
    RegisteredModel,
    StageEvent,
    check_model_name,
    parse_ref,
)
from everloop.storage import Tx
from everloop.workspace import Workspace


def delete_version(ws: Workspace, ref: str) -> ModelVersion:
    """Delete a version: it is found no longer, its aliases mean nothing, its number is not given again. Audited.

    Raises
    ------
    Conflict
        It is in a stage other than `dev`, or was released: predictions name it. Says what to do.
    NotFound
        No such version.
    """

    def change(tx: Tx) -> ModelVersion:
        tx.lock(f"registry:{parse_ref(ref)[0]}")
        version = need_version(tx.connection, ref)
        _require_unused(tx, version)
        return _delete(ws, tx, version, "deleted")

    return ws.write(change)


def delete_model(ws: Workspace, name: str) -> RegisteredModel:
    """Delete a model with all its versions, as `delete_version` each. Audited.

    Under the same name a model can be made again; its versions go on from the numbers of this one's.

    Raises
    ------
    Conflict
        One of its versions may not be deleted; none is then.
    NotFound
        No such model.
    """

    def change(tx: Tx) -> RegisteredModel:
        tx.lock(f"registry:{name}")
        found = need_model(tx.connection, name)
        for version in store.newest_versions(tx.connection, name, limit=None):
            _require_unused(tx, version)
            _delete(ws, tx, version, "its model was deleted")
        _bury(ws, tx, found, "registry.delete")
        return found

    return ws.write(change)


def rename(ws: Workspace, name: str, new_name: str) -> RegisteredModel:
    """Let a model go on under another name, with its versions, their numbers, aliases, tags and approvals. Audited.

    What was recorded under the old name stays there, linked to the new one; gate reports are about what had the old name,
    so that a renamed version is checked again before it is promoted.

    Raises
    ------
    AlreadyExists
        A model has, or had, the new name.
    Conflict
        A loop file declares what versions of the model must meet, or a version is in use.
    Invalid
        The new name cannot be.
    NotFound
        No such model.
    """
    check_model_name(new_name)
    signing.prepare(ws)

    def change(tx: Tx) -> RegisteredModel:
        for one in sorted({name, new_name}):  # in one order: two that rename cannot wait for each other
            tx.lock(f"registry:{one}")
        found = need_model(tx.connection, name)
        if store.was_model(tx.connection, new_name):
            raise AlreadyExists(
                f"a model has, or had, the name {new_name!r}; what was recorded under a name keeps its meaning. "
                "Choose another name."
            )
        if found.gates or found.stages or found.approval != ApprovalRule():
            raise Conflict(
                f"{name} is declared in a loop file, with what its versions must meet; its name is there too. Rename it there "
                f"and apply it, then copy the versions to take along with MlflowClient.copy_model_version."
            )
        return _move(ws, tx, found, new_name)

    return ws.write(change)


def _require_unused(tx: Tx, version: ModelVersion) -> None:
    pointers = store.pointers_of(tx.connection, version.model, "stage")
    held = [stage for stage, number in pointers.items() if number == version.number and stage != FREE_STAGE]
    if held:
        raise Conflict(
            f"{version.ref} is in {', '.join(held)}; a version that is in a stage is in use. Take it out first: "
            f"everloop models demote {version.ref} {held[0]} --reason WHY"
        )
    if store.release_by_version(tx.connection, version.model, version.number) is not None:
        raise Conflict(
            f"{version.ref} was released; predictions name it, and where they come from must stay known. Put it aside "
            f"instead: everloop models archive {version.ref}"
        )


def _delete(ws: Workspace, tx: Tx, version: ModelVersion, why: str) -> ModelVersion:
    leave(ws, tx, version, why)
    store.update_version(tx, version.model, version.number, {"deleted_at": ws.now()})
    before = {"digest": version.digest}
    audit(
        ws, tx, "registry.delete", Node("model_version", version.ref), before=before, after=None, reason=why
    )
    return replace(version, deleted_at=ws.now())


def _bury(ws: Workspace, tx: Tx, found: RegisteredModel, act: str, **detail: str) -> None:
    store.drop_model_tags(tx, found.name)
    store.update_model(tx, found.name, {"deleted_at": ws.now()})
    audit(ws, tx, act, Node("declaration", found.name), before=found.name, after=None, **detail)


def _move(ws: Workspace, tx: Tx, found: RegisteredModel, new_name: str) -> RegisteredModel:
    old_name = found.name
    store.insert_model(tx, replace(found, name=new_name))
    store.update_model(tx, new_name, {"updated_at": ws.now()})
    store.put_model_tags(tx, new_name, found.tags)
    reason = f"{old_name} was renamed to {new_name}"
    kinds: tuple[PointerKind, ...] = ("stage", "alias")
    meant = {kind: store.pointers_of(tx.connection, old_name, kind) for kind in kinds}
    for version in reversed(store.newest_versions(tx.connection, old_name, limit=None)):
        _require_unused(tx, version)
        moved = replace(version, model=new_name, updated_at=ws.now())
        store.insert_version(tx, moved)
        signing.seal_in(ws, tx, moved)
        for said in store.decisions_of(tx.connection, old_name, version.number):
            store.insert_decision(tx, moved, replace(said, model_version=moved.ref))
        link(
            tx,
            Node("model_version", version.ref),
            Node("model_version", moved.ref),
            role="renamed",
            at=ws.now(),
        )
        _delete(ws, tx, version, reason)
    for kind, pointers in meant.items():
        for word, number in pointers.items():
            store.insert_event(tx, StageEvent(new_name, kind, word, number, ws.actor, reason, ws.now()))
    _bury(ws, tx, found, "registry.rename", to=new_name)
    audit(ws, tx, "registry.rename", Node("declaration", new_name), before=old_name, after=new_name)
    return need_model(tx.connection, new_name)
