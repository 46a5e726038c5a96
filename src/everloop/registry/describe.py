"""What is said about a model or a version and may change: descriptions and tags."""

from __future__ import annotations

from everloop import events
from everloop.ledger import Node, audit
from everloop.registry import store
from everloop.registry.find import need_model, need_version
from everloop.registry.records import (
    ModelVersion,
    RegisteredModel,
    check_description,
    check_tags,
    parse_ref,
)
from everloop.storage import Tx
from everloop.workspace import Workspace


def describe_model(ws: Workspace, name: str, description: str) -> RegisteredModel:
    """Say what a model is for. Audited. Raises Invalid for a text that is too long, NotFound."""
    check_description(description)

    def change(tx: Tx) -> RegisteredModel:
        found = need_model(tx.connection, name)
        store.update_model(tx, name, {"description": description, "updated_at": ws.now()})
        node = Node("declaration", name)
        audit(ws, tx, "registry.describe", node, before=found.description, after=description)
        return need_model(tx.connection, name)

    return ws.write(change)


def describe(ws: Workspace, ref: str, description: str) -> ModelVersion:
    """Say what a version is. Audited. Raises Invalid for a text that is too long, NotFound."""
    check_description(description)

    def change(tx: Tx) -> ModelVersion:
        found = need_version(tx.connection, ref)
        values = {"description": description, "updated_at": ws.now()}
        store.update_version(tx, found.model, found.number, values)
        node = Node("model_version", found.ref)
        audit(ws, tx, "registry.describe", node, before=found.description, after=description)
        return need_version(tx.connection, found.ref)

    return ws.write(change)


def tag_model(ws: Workspace, name: str, tag: str, value: str) -> None:
    """Set a tag of a model. Audited. Raises Invalid for a name or a value that cannot be, NotFound."""

    def change(tx: Tx) -> None:
        tx.lock(f"registry:{name}")
        found = need_model(tx.connection, name)
        check_tags({**found.tags, tag: value})
        store.put_model_tags(tx, name, {tag: value})
        store.update_model(tx, name, {"updated_at": ws.now()})
        node = Node("declaration", name)
        audit(ws, tx, "registry.tag", node, before=found.tags.get(tag), after=value, tag=tag)

    ws.write(change)


def untag_model(ws: Workspace, name: str, tag: str) -> None:
    """Remove a tag of a model; nothing happens when it has none of this name. Audited. Raises NotFound."""

    def change(tx: Tx) -> None:
        found = need_model(tx.connection, name)
        if tag in found.tags:
            store.drop_model_tag(tx, name, tag)
            store.update_model(tx, name, {"updated_at": ws.now()})
            audit(
                ws, tx, "registry.tag", Node("declaration", name), before=found.tags[tag], after=None, tag=tag
            )

    ws.write(change)


def tag(ws: Workspace, ref: str, name: str, value: str) -> None:
    """Set a tag of a version. Audited. Raises Invalid for a name or a value that cannot be, NotFound."""

    def change(tx: Tx) -> None:
        tx.lock(f"registry:{parse_ref(ref)[0]}")
        found = need_version(tx.connection, ref)
        check_tags({**found.tags, name: value})
        store.put_version_tags(tx, found, {name: value})
        store.update_version(tx, found.model, found.number, {"updated_at": ws.now()})
        node = Node("model_version", found.ref)
        audit(ws, tx, "registry.tag", node, before=found.tags.get(name), after=value, tag=name)
        told = {"name": found.model, "version": str(found.number), "key": name, "value": value}
        events.announce(ws, tx, "model_version_tag.set", told)

    ws.write(change)


def untag(ws: Workspace, ref: str, name: str) -> None:
    """Remove a tag of a version; nothing happens when it has none of this name. Audited. Raises NotFound."""

    def change(tx: Tx) -> None:
        found = need_version(tx.connection, ref)
        if name in found.tags:
            store.drop_version_tag(tx, found, name)
            store.update_version(tx, found.model, found.number, {"updated_at": ws.now()})
            node = Node("model_version", found.ref)
            audit(ws, tx, "registry.tag", node, before=found.tags[name], after=None, tag=name)
            told = {"name": found.model, "version": str(found.number), "key": name}
            events.announce(ws, tx, "model_version_tag.deleted", told)

    ws.write(change)
