"""What people decide about a version: approve, reject, move to a stage, name by an alias."""

from __future__ import annotations

from everloop import checks, events
from everloop.errors import Denied, Invalid
from everloop.ledger import Node, audit
from everloop.registry import store
from everloop.registry.find import need_model, need_version
from everloop.registry.readiness import readiness_in, require_ready
from everloop.registry.records import (
    FREE_STAGE,
    Decision,
    ModelVersion,
    StageEvent,
    Verdict,
    check_word,
    parse_ref,
)
from everloop.storage import Tx
from everloop.workspace import Workspace


def approve(ws: Workspace, ref: str, *, reason: str) -> Decision:
    """Say that a version may be used. Audited with the reason and the gate report in force.

    Raises
    ------
    Denied
        The actor registered the version, and its model asks for other people.
    Invalid
        The reason is empty.
    NotFound
        No such version.
    """
    return _decide(ws, ref, "approved", reason)


def reject(ws: Workspace, ref: str, *, reason: str) -> Decision:
    """Say that a version must not be used; it stands until the same person approves. Audited.

    What was promoted or released before stays so: a rollback is the rollout's word. Raises Invalid, NotFound.
    """
    return _decide(ws, ref, "rejected", reason)


def promote(ws: Workspace, ref: str, stage: str, *, reason: str = "") -> StageEvent:
    """Make a version the one in a stage; nothing happens when it is already. Audited.

    `dev` takes any version; every other stage asks for passed or waived gates and the approvals of the model.

    Returns
    -------
    StageEvent
        By which the version is in the stage: this one, or the earlier one.

    Raises
    ------
    GateFailed
        A gate failed and is not waived, gates were not run, or approvals are missing: names each, with the remedy.
    Invalid
        The stage's name cannot be.
    NotFound
        No such version.
    """
    check_word("a stage", stage)

    def change(tx: Tx) -> StageEvent:
        version = _locked(tx, ref)
        if stage != FREE_STAGE:
            require_ready(readiness_in(tx.connection, version, at=ws.now()), f"be promoted to {stage}")
        event = StageEvent(version.model, "stage", stage, version.number, ws.actor, reason, ws.now())
        return _point(ws, tx, event)

    return ws.write(change)


def vacate(ws: Workspace, name: str, stage: str, *, reason: str = "") -> None:
    """Leave a stage of a model without a version. Audited. Raises NotFound for an unknown model."""
    ws.write(lambda tx: _clear(ws, tx, StageEvent(name, "stage", stage, None, ws.actor, reason, ws.now())))


def alias(ws: Workspace, name: str, alias_name: str, ref: str) -> StageEvent:
    """Let `MODEL@ALIAS` mean a version; it promises nothing about gates. Audited.

    Raises Invalid for a name that cannot be or a version of another model, NotFound.
    """
    check_word("an alias", alias_name)

    def change(tx: Tx) -> StageEvent:
        version = _locked(tx, ref)
        if version.model != name:
            raise Invalid(
                f"{ref} is not a version of {name!r}; an alias stays within its model. Name a version of {name}."
            )
        return _point(ws, tx, StageEvent(name, "alias", alias_name, version.number, ws.actor, "", ws.now()))

    return ws.write(change)


def drop_alias(ws: Workspace, name: str, alias_name: str) -> None:
    """Let an alias of a model mean nothing any more. Audited. Raises NotFound for an unknown model."""
    ws.write(lambda tx: _clear(ws, tx, StageEvent(name, "alias", alias_name, None, ws.actor, "", ws.now())))


def _decide(ws: Workspace, ref: str, verdict: Verdict, reason: str) -> Decision:
    reason = reason.strip()
    if not reason:
        raise Invalid(
            f"{ref} was {verdict} without a reason; whoever reads it later needs one. Give it with --reason."
        )

    def change(tx: Tx) -> Decision:
        version = _locked(tx, ref)
        rule = need_model(tx.connection, version.model).approval
        if verdict == "approved" and rule.not_author and ws.actor == version.author:
            raise Denied(
                f"{ws.actor} registered {version.ref}; {version.model} asks for other people's approval. "
                "Ask somebody else to approve it."
            )
        standing = checks.newest_standing_in(tx.connection, version.ref, at=ws.now())
        report = standing.report.id if standing else None
        decision = Decision(version.ref, verdict, ws.actor, reason, report, ws.now())
        store.insert_decision(tx, version, decision)
        node = Node("model_version", version.ref)
        act = "registry.approve" if verdict == "approved" else "registry.reject"
        audit(ws, tx, act, node, reason=reason, gate_report=report)
        message = f"{version.ref} was {verdict} by {ws.actor}: {reason}"
        events.emit(ws, tx, f"registry.{verdict}", node, message=message)
        return decision

    return ws.write(change)


def _locked(tx: Tx, ref: str) -> ModelVersion:
    """The version, while nobody else decides about its model."""
    tx.lock(f"registry:{parse_ref(ref)[0]}")
    return need_version(tx.connection, ref)


def _clear(ws: Workspace, tx: Tx, event: StageEvent) -> None:
    tx.lock(f"registry:{event.model}")
    need_model(tx.connection, event.model)
    if event.name in store.pointers_of(tx.connection, event.model, event.kind):
        _point(ws, tx, event)


def _point(ws: Workspace, tx: Tx, event: StageEvent) -> StageEvent:
    before = store.pointer_at(tx.connection, event.model, event.kind, event.name)
    if before is not None and before.number == event.number:
        return before
    store.insert_event(tx, event)
    was = None if before is None else before.ref
    node = Node("model_version", event.ref or was or event.model)
    act = "registry.promote" if event.kind == "stage" else "registry.alias"
    audit(ws, tx, act, node, before=was, after=event.ref, name=event.name, reason=event.reason)
    if event.kind == "stage":
        message = f"{event.ref or f'no version of {event.model}'} is in {event.name}"
        payload = {"stage": event.name, "number": event.number}
        events.emit(ws, tx, "registry.promoted", node, message=message, payload=payload, topic=event.model)
    return event
