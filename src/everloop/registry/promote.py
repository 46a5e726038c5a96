"""What people decide about a version: approve, reject, move to a stage, name by an alias."""

from __future__ import annotations

from datetime import datetime

from everloop import checks, events
from everloop.errors import Conflict, Denied, Invalid
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
    check_alias,
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


def promote(ws: Workspace, ref: str, stage: str, *, reason: str = "", alone: bool = False) -> StageEvent:
    """Make a version the one in a stage; nothing happens when it is already. Audited.

    `dev` takes any version; every other stage asks for what the model declares of it, or for passed or waived gates and
    the approvals of the model. The version that was there before is archived, unless it is in another stage too.

    Parameters
    ----------
    alone
        The version leaves all other stages, in the same transaction.

    Returns
    -------
    StageEvent
        By which the version is in the stage: this one, or the earlier one.

    Raises
    ------
    GateFailed
        A gate failed and is not waived, gates were not run, approvals or time in the stage before are missing: names
        each, with the remedy.
    Invalid
        The stage's name cannot be.
    NotFound
        No such version.
    """
    check_word("a stage", stage)

    def change(tx: Tx) -> StageEvent:
        version = _locked(tx, ref)
        if stage != FREE_STAGE:
            require_ready(
                readiness_in(tx.connection, version, stage=stage, at=ws.now()), f"be promoted to {stage}"
            )
        if alone:
            _leave_stages(ws, tx, version, reason, but=stage)
        _set_archived(tx, version, None)
        event = StageEvent(version.model, "stage", stage, version.number, ws.actor, reason, ws.now())
        return _point(ws, tx, event)

    return ws.write(change)


def demote(ws: Workspace, ref: str, stage: str, *, reason: str) -> StageEvent:
    """Take a version out of a stage, which no version is in then. Audited with the reason.

    What is live stays so: a rollback is the rollout's word.

    Raises
    ------
    Conflict
        The version is not the one in this stage.
    Invalid
        The reason is empty.
    NotFound
        No such version.
    """
    _need_reason(f"{ref} was taken out of {stage}", reason)

    def change(tx: Tx) -> StageEvent:
        version = _locked(tx, ref)
        if store.pointers_of(tx.connection, version.model, "stage").get(stage) != version.number:
            raise Conflict(
                f"{version.ref} is not in {stage}; only the version that is there is taken out. "
                f"See which is where: everloop models history {version.model}"
            )
        return _point(ws, tx, StageEvent(version.model, "stage", stage, None, ws.actor, reason, ws.now()))

    return ws.write(change)


def now_live(ws: Workspace, tx: Tx, ref: str, *, instead_of: str, reason: str) -> StageEvent | None:
    """Let the stage that releases are in name the version that is live now, where it names the one that was before.

    In the caller's transaction, which has locked nothing yet; audited. No gate is asked: it answers already. The version that gives
    way is archived as any other. None, and nothing is written, when the stage names another version.
    """
    before = _locked(tx, instead_of)
    stage = need_model(tx.connection, before.model).release_stage
    if store.pointers_of(tx.connection, before.model, "stage").get(stage) != before.number:
        return None
    version = need_version(tx.connection, ref)
    _set_archived(tx, version, None)
    return _point(
        ws, tx, StageEvent(before.model, "stage", stage, version.number, ws.actor, reason, ws.now())
    )


def archive(ws: Workspace, ref: str, *, reason: str = "") -> ModelVersion:
    """Put a version aside: it leaves all stages and is marked as archived. Audited. Raises NotFound."""
    return _withdraw(ws, ref, reason, archived=True)


def unarchive(ws: Workspace, ref: str, *, reason: str = "") -> ModelVersion:
    """Let a version be one like any other that no stage has: in none, and not archived. Audited. Raises NotFound."""
    return _withdraw(ws, ref, reason, archived=False)


def alias(ws: Workspace, name: str, alias_name: str, ref: str) -> StageEvent:
    """Let `MODEL@ALIAS` mean a version; it promises nothing about gates. Audited.

    Raises Invalid for a name that cannot be or a version of another model, NotFound.
    """
    check_alias(alias_name)

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

    def change(tx: Tx) -> None:
        tx.lock(f"registry:{name}")
        need_model(tx.connection, name)
        if alias_name in store.pointers_of(tx.connection, name, "alias"):
            _point(ws, tx, StageEvent(name, "alias", alias_name, None, ws.actor, "", ws.now()))

    ws.write(change)


def _decide(ws: Workspace, ref: str, verdict: Verdict, reason: str) -> Decision:
    reason = _need_reason(f"{ref} was {verdict}", reason)

    def change(tx: Tx) -> Decision:
        version = _locked(tx, ref)
        model = need_model(tx.connection, version.model)
        rules = [one.approval or model.approval for one in model.stages] or [model.approval]
        if verdict == "approved" and ws.actor == version.author and all(rule.not_author for rule in rules):
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


def leave(ws: Workspace, tx: Tx, version: ModelVersion, reason: str) -> None:
    """Take a version out of all stages and from under all aliases; the caller holds the model's lock."""
    _leave_stages(ws, tx, version, reason, but=None)
    for name, number in store.pointers_of(tx.connection, version.model, "alias").items():
        if number == version.number:
            _point(ws, tx, StageEvent(version.model, "alias", name, None, ws.actor, reason, ws.now()))


def _withdraw(ws: Workspace, ref: str, reason: str, *, archived: bool) -> ModelVersion:
    def change(tx: Tx) -> ModelVersion:
        version = _locked(tx, ref)
        _leave_stages(ws, tx, version, reason, but=None)
        if (version.archived_at is not None) != archived:
            _set_archived(tx, version, ws.now() if archived else None)
            act = "registry.archive" if archived else "registry.unarchive"
            audit(ws, tx, act, Node("model_version", version.ref), reason=reason)
        return need_version(tx.connection, version.ref)

    return ws.write(change)


def _leave_stages(ws: Workspace, tx: Tx, version: ModelVersion, reason: str, *, but: str | None) -> None:
    for name, number in store.pointers_of(tx.connection, version.model, "stage").items():
        if number == version.number and name != but:
            _point(ws, tx, StageEvent(version.model, "stage", name, None, ws.actor, reason, ws.now()))


def _set_archived(tx: Tx, version: ModelVersion, at: datetime | None) -> None:
    if (version.archived_at is None) != (at is None):
        store.update_version(tx, version.model, version.number, {"archived_at": at})


def _need_reason(what: str, reason: str) -> str:
    stripped = reason.strip()
    if not stripped:
        raise Invalid(f"{what} without a reason; whoever reads it later needs one. Give it with --reason.")
    return stripped


def _point(ws: Workspace, tx: Tx, event: StageEvent) -> StageEvent:
    before = store.pointer_at(tx.connection, event.model, event.kind, event.name)
    if before is not None and before.number == event.number:
        return before
    store.insert_event(tx, event)
    was = None if before is None else before.ref
    node = Node("model_version", event.ref or was or event.model)
    if event.kind == "alias":
        audit(
            ws, tx, "registry.alias", node, before=was, after=event.ref, name=event.name, reason=event.reason
        )
        _tell_alias(ws, tx, event)
        return event
    act = "registry.demote" if event.number is None else "registry.promote"
    audit(ws, tx, act, node, before=was, after=event.ref, name=event.name, reason=event.reason)
    if event.number is not None and event.name != FREE_STAGE and before is not None:
        _archive_displaced(ws, tx, event.model, before.number)
    message = f"{event.ref or f'no version of {event.model}'} is in {event.name}"
    payload = {"stage": event.name, "number": event.number}
    events.emit(ws, tx, "registry.promoted", node, message=message, payload=payload, topic=event.model)
    return event


def _archive_displaced(ws: Workspace, tx: Tx, model: str, number: int | None) -> None:
    """Mark the version that another took a stage over from, unless it is in another stage too; dev is none."""
    held = store.pointers_of(tx.connection, model, "stage")
    if number is not None and number not in {one for stage, one in held.items() if stage != FREE_STAGE}:
        store.update_version(tx, model, number, {"archived_at": ws.now()})


def _tell_alias(ws: Workspace, tx: Tx, event: StageEvent) -> None:
    told = {"name": event.model, "alias": event.name}
    if event.number is None:
        events.announce(ws, tx, "model_version_alias.deleted", told)
    else:
        events.announce(ws, tx, "model_version_alias.created", {**told, "version": str(event.number)})
