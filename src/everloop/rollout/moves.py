"""What changes a rollout: each of these is one step, in the transaction of what decided it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from everloop import events
from everloop.errors import Conflict
from everloop.ids import new_id
from everloop.ledger import Node, audit
from everloop.rollout import store
from everloop.rollout.endpoints import change_traffic, move_stage
from everloop.rollout.judge import Decision
from everloop.rollout.records import Act, LiveVariant, Rollout, RolloutEvent, State, TrafficSplit
from everloop.rollout.start import shares
from everloop.storage import Tx
from everloop.workspace import Workspace


def note(ws: Workspace, tx: Tx, rollout: Rollout, decision: Decision) -> RolloutEvent | None:
    """Keep a look that moved nothing, if it saw anything new."""
    newest = store.newest_events(tx.connection, rollout=rollout.id, limit=1)
    known = newest[0].decision if newest else None
    if known is not None and known["metrics"] == _plain(decision.as_dict()["metrics"]):
        return None
    event = _event(ws, rollout, act="look", reason=decision.reason, decision=decision.as_dict())
    store.insert_event(tx, event)
    return event


def advance(ws: Workspace, tx: Tx, rollout: Rollout, decision: Decision) -> RolloutEvent:
    stage = rollout.stage + 1
    _hold_on(tx, rollout, {"stage": stage})
    epoch = _move(
        ws,
        tx,
        rollout,
        shares(rollout, stage),
        act="advanced",
        stage=stage,
        reason=decision.reason,
        decision=decision.as_dict(),
    )
    store.update_rollout(
        tx, rollout.id, state=rollout.state, stage=stage, values={"epochs": [*rollout.epochs, epoch]}
    )
    return store.newest_events(tx.connection, rollout=rollout.id, limit=1)[0]


def finish(
    ws: Workspace, tx: Tx, rollout: Rollout, *, reason: str, decision: dict[str, Any] | None
) -> RolloutEvent:
    """Give all traffic to the new version if it is to have any, and begin to watch it where the plan says so."""
    stage = len(rollout.stages) - 1
    now = ws.now()
    if rollout.from_version is not None and rollout.stages[stage].weight:
        told = f"{rollout.version} answers on {rollout.endpoint}: {reason}"
        move_stage(ws, tx, rollout.endpoint, to=rollout.version, instead_of=rollout.from_version, reason=told)
    _hold_on(tx, rollout, {"state": "done", "stage": stage, "outcome": reason, "ended_at": now})
    epoch = _move(
        ws, tx, rollout, shares(rollout, stage), act="finished", stage=stage, reason=reason, decision=decision
    )
    hours = max(rollout.canary.watch_h, rollout.canary.holdback_h)
    until = now + timedelta(hours=hours) if hours else None
    store.begin_watch(tx, rollout.id, epochs=[*rollout.epochs, epoch], until=until)
    if rollout.canary.holdback:
        _hold_back(ws, tx, rollout, epoch=epoch)
    weight = rollout.stages[stage].weight
    message = (
        f"{rollout.version} answers {'all' if weight == 100 else f'{weight:g} %'} of {rollout.endpoint}: {reason}"
        if weight
        else f"{rollout.version} was mirrored on {rollout.endpoint} and answers nothing: {reason}"
    )
    events.emit(
        ws,
        tx,
        "rollout.finished",
        Node("endpoint", rollout.endpoint),
        message=message,
        payload={"rollout": rollout.id},
    )
    return store.newest_events(tx.connection, rollout=rollout.id, limit=1)[0]


def take_back(
    ws: Workspace, tx: Tx, rollout: Rollout, *, reason: str, decision: dict[str, Any] | None
) -> RolloutEvent:
    if rollout.from_version is None or rollout.from_release is None:
        raise Conflict(
            f"rollout {rollout.id} was the endpoint's first; there is no earlier version to go back to."
        )
    told = f"{rollout.version} was rolled back on {rollout.endpoint}: {reason}"
    move_stage(ws, tx, rollout.endpoint, to=rollout.from_version, instead_of=rollout.version, reason=told)
    ended = {"state": "rolled_back", "outcome": reason, "ended_at": ws.now(), "watch_until": None}
    _hold_on(tx, rollout, ended)
    held = store.open_split(tx.connection, rollout.endpoint)
    if held is not None:
        store.end_split(tx, held.id, outcome=f"{rollout.version} was rolled back: {reason}", at=ws.now())
    earlier = (LiveVariant("control", rollout.from_version, rollout.from_release, 100.0),)
    _move(ws, tx, rollout, earlier, act="rolled_back", stage=rollout.stage, reason=reason, decision=decision)
    message = f"Rolled back {rollout.version} on {rollout.endpoint} to {rollout.from_version}: {reason}"
    node = Node("endpoint", rollout.endpoint)
    events.emit(
        ws,
        tx,
        "rollout.rolled_back",
        node,
        message=message,
        level="failed",
        payload={"rollout": rollout.id},
        topic=rollout.endpoint,
    )
    return store.newest_events(tx.connection, rollout=rollout.id, limit=1)[0]


def alert_overdue(
    ws: Workspace, tx: Tx, rollout: Rollout, *, reason: str, decision: dict[str, Any] | None
) -> RolloutEvent:
    """Tell once that a rollout has passed its deadline; it waits on."""
    _hold_on(tx, rollout, {"state": rollout.state})
    event = _event(ws, rollout, act="overdue", reason=reason, decision=decision)
    store.insert_event(tx, event)
    message = f"The rollout of {rollout.version} on {rollout.endpoint} waits: {reason}"
    events.emit(
        ws,
        tx,
        "rollout.overdue",
        Node("endpoint", rollout.endpoint),
        message=message,
        level="attention",
        payload={"rollout": rollout.id},
        topic=rollout.endpoint,
    )
    return event


def _hold_back(ws: Workspace, tx: Tx, rollout: Rollout, *, epoch: int) -> None:
    """Keep a record of what is left to the version before: a split with an end."""
    current = store.endpoint_by_name(tx.connection, rollout.endpoint)
    assert current is not None, "a rollout's endpoint is never deleted"  # noqa: S101
    new, before = shares(rollout, len(rollout.stages) - 1)
    held = TrafficSplit(
        id=new_id("split"),
        endpoint=rollout.endpoint,
        arms=(before, new),
        stickiness=current.stickiness,
        slow_above_ms=rollout.slow_above_ms,
        state="running",
        epoch=epoch,
        reason=f"held back by the rollout of {rollout.version}",
        outcome=None,
        started_at=ws.now(),
        ended_at=None,
        rollout=rollout.id,
        until=ws.now() + timedelta(hours=rollout.canary.holdback_h),
    )
    store.insert_split(tx, held)


def end_holdback(ws: Workspace, tx: Tx, rollout: Rollout, held: TrafficSplit, *, reason: str) -> RolloutEvent:
    """Give the new version all traffic; the one before stays warm as long as the watch goes on. Raises Conflict."""
    watched_until = (rollout.ended_at or rollout.started_at) + timedelta(hours=rollout.canary.watch_h)
    is_watched = watched_until > ws.now()
    _hold_on(tx, rollout, {"watch_until": watched_until if is_watched else None})
    store.end_split(tx, held.id, outcome=reason, at=ws.now())
    alone = [LiveVariant("control", rollout.version, rollout.release, 100.0)]
    if is_watched:
        alone += [replace(held.arms[0], name="previous", weight=0.0, dealt_as="")]
    _move(
        ws, tx, rollout, tuple(alone), act="holdback_ended", stage=rollout.stage, reason=reason, decision=None
    )
    message = f"{rollout.version} answers all of {rollout.endpoint}: {reason}"
    node = Node("endpoint", rollout.endpoint)
    events.emit(
        ws,
        tx,
        "rollout.holdback_ended",
        node,
        message=message,
        payload={"rollout": rollout.id, "split": held.id},
    )
    return store.newest_events(tx.connection, rollout=rollout.id, limit=1)[0]


def end_watch(ws: Workspace, tx: Tx, rollout: Rollout) -> RolloutEvent:
    """Let the version before go: what answers stays as it is."""
    _hold_on(tx, rollout, {"watch_until": None})
    answering = [LiveVariant("control", rollout.version, rollout.release, 100.0)]
    reason = (
        f"{rollout.canary.watch_h:g} h passed without harm; {rollout.from_version} is not kept warm any more"
    )
    _move(ws, tx, rollout, tuple(answering), act="watched", stage=rollout.stage, reason=reason, decision=None)
    return store.newest_events(tx.connection, rollout=rollout.id, limit=1)[0]


def turn(ws: Workspace, rollout: Rollout, before: State, after: State, *, act: Act, reason: str) -> None:
    def change(tx: Tx) -> None:
        if rollout.state != before:
            raise Conflict(
                f"rollout {rollout.id} is {rollout.state.replace('_', ' ')}; only one that is {before} can be {after}."
            )
        _hold_on(tx, rollout, {"state": after})
        store.insert_event(tx, _event(ws, rollout, act=act, reason=reason))
        node = Node("endpoint", rollout.endpoint)
        audit(ws, tx, f"rollout.{act}", node, before=before, after=after, reason=reason, rollout=rollout.id)

    ws.write(change)


def _hold_on(tx: Tx, rollout: Rollout, values: dict[str, Any]) -> None:
    """Change the rollout as it was read. Raises Conflict when it moved on or ended meanwhile."""
    tx.lock(f"endpoint:{rollout.endpoint}")
    if rollout.state not in ("running", "paused") and rollout.watch_until is None:
        raise Conflict(
            f"rollout {rollout.id} is {rollout.state.replace('_', ' ')} and not watched any more; it moves no traffic. Another "
            f"version takes over by a rollout of its own: everloop rollouts start {rollout.endpoint} VERSION --reason WHY"
        )
    if not store.update_rollout(tx, rollout.id, state=rollout.state, stage=rollout.stage, values=values):
        raise Conflict(
            f"rollout {rollout.id} is not {rollout.state} in stage {rollout.stage} any more. "
            f"Look again: everloop rollouts show {rollout.id}"
        )


def _move(
    ws: Workspace,
    tx: Tx,
    rollout: Rollout,
    variants: tuple[LiveVariant, ...],
    *,
    act: Act,
    stage: int,
    reason: str,
    decision: dict[str, Any] | None,
) -> int:
    current = store.endpoint_by_name(tx.connection, rollout.endpoint)
    assert current is not None, "a rollout's endpoint is never deleted"  # noqa: S101
    # the salt stays for the whole rollout: a key that has seen the canary keeps seeing it while its share grows
    return change_traffic(
        ws,
        tx,
        rollout.endpoint,
        variants,
        act=act,
        reason=reason,
        rollout=rollout.id,
        stage=stage,
        salt=current.salt,
        decision=decision,
    )


def _event(
    ws: Workspace, rollout: Rollout, *, act: Act, reason: str, decision: dict[str, Any] | None = None
) -> RolloutEvent:
    return RolloutEvent(
        id=new_id("re"),
        endpoint=rollout.endpoint,
        rollout=rollout.id,
        at=ws.now(),
        act=act,
        actor=ws.actor,
        stage=rollout.stage,
        reason=reason,
        decision=decision,
        variants=None,
        epoch=None,
    )


def _plain(value: Any) -> Any:
    """As it reads back from JSON: tuples are lists there."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
