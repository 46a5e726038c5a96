"""Going on with rollouts: look at the evidence, ask the judge, do what it says. Any process may do this at any time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from everloop import serving
from everloop.clock import wall
from everloop.errors import Conflict
from everloop.rollout import store
from everloop.rollout.endpoints import folder, is_behind, publish
from everloop.rollout.judge import CanaryHealth, Decision, judge
from everloop.rollout.mirrored import pairs_of
from everloop.rollout.moves import (
    advance,
    alert_overdue,
    end_holdback,
    end_watch,
    finish,
    note,
    take_back,
    turn,
)
from everloop.rollout.paired import judge_pairs
from everloop.rollout.records import Rollout, RolloutEvent
from everloop.rollout.requests import evidence_of, means_of
from everloop.rollout.start import history, rollout_of
from everloop.storage import Tx
from everloop.workspace import Workspace

_WATCH_EVERY = timedelta(seconds=15)
_READY_WITHIN = timedelta(seconds=30)  # a serving process tries again every two
_LATELY = timedelta(hours=1)


def tick(ws: Workspace) -> list[RolloutEvent]:
    """Look once at every rollout that runs or is watched and do what the judge says; what was done, in order.

    A stage counts only requests that were answered under its route table or a later one, and nothing is judged
    before every serving process has acknowledged it.
    """
    publish(ws)
    with ws.read() as connection:
        running = store.newest_rollouts(connection, states=("running",))
    done = [_look(ws, rollout) for rollout in running]
    done += [_watch(ws, rollout) for rollout in _due_watches(ws)]
    return [event for event in done if event is not None]


def is_running(ws: Workspace) -> bool:
    """Whether a rollout waits for the judge, a watch is due, or the route table is not the one in force."""
    with ws.read() as connection:
        running = bool(store.newest_rollouts(connection, states=("running",), limit=1))
    return running or bool(_due_watches(ws)) or is_behind(ws)


def pause(ws: Workspace, rollout_id: str, *, reason: str) -> None:
    """Stop judging and moving; traffic stays as it is split. Raises Conflict when it is not running."""
    turn(ws, rollout_of(ws, rollout_id), "running", "paused", act="paused", reason=reason)


def resume(ws: Workspace, rollout_id: str, *, reason: str) -> None:
    """Go on with a paused rollout. Raises Conflict when it is not paused."""
    turn(ws, rollout_of(ws, rollout_id), "paused", "running", act="resumed", reason=reason)


def promote_now(ws: Workspace, rollout_id: str, *, reason: str) -> None:
    """A person gives all traffic to the new version without waiting for the judge. Raises Conflict."""
    rollout = rollout_of(ws, rollout_id)
    if rollout.stages[-1].weight == 0:
        raise Conflict(
            f"the plan of rollout {rollout.id} mirrors {rollout.version} and gives it no traffic. Declare another plan for "
            f"{rollout.endpoint}, such as el.canary(10, 100), and start it: everloop rollouts start {rollout.endpoint} "
            f"{rollout.version} --reason WHY"
        )
    ws.write(lambda tx: finish(ws, tx, rollout, reason=f"{ws.actor} decided: {reason}", decision=None))


def roll_back(ws: Workspace, rollout_id: str, *, reason: str) -> None:
    """A person takes the new version off the endpoint, also while it is watched. Raises Conflict when that is over."""
    rollout = rollout_of(ws, rollout_id)
    ws.write(lambda tx: take_back(ws, tx, rollout, reason=f"{ws.actor} decided: {reason}", decision=None))


def _look(ws: Workspace, rollout: Rollout) -> RolloutEvent | None:
    acknowledged = serving.acknowledged(folder(ws))
    is_served = acknowledged is not None and acknowledged >= rollout.epochs[-1]
    try:
        if not is_served:
            decision = judge((), rollout.canary.rules, health=_with_processes(ws, rollout, CanaryHealth()))
            if decision.fuse is not None:
                return ws.write(lambda tx: _do(ws, tx, rollout, decision))
            if not _is_late(ws, rollout):
                return None
            waits = "not every serving process has loaded what this stage asks for"
            return ws.write(lambda tx: _wait(ws, tx, rollout, reason=waits, decision=None))
        if rollout.stages[rollout.stage].mirrored:
            pairs, health, n_shed = pairs_of(ws, rollout)
            health = _with_processes(ws, rollout, health)
            decision = judge_pairs(pairs, health, rollout.canary.paired_rules, n_shed=n_shed)
            return ws.write(lambda tx: _do(ws, tx, rollout, decision))
        if rollout.weight == 0:
            loaded = "every serving process has loaded and warmed it"
            return ws.write(lambda tx: finish(ws, tx, rollout, reason=loaded, decision=None))
        decision = _judged(ws, rollout)
        return ws.write(lambda tx: _do(ws, tx, rollout, decision))
    except Conflict:
        return None  # another process went on with it, or a person ended it


def _judged(ws: Workspace, rollout: Rollout) -> Decision:
    evidence, health = evidence_of(ws, rollout)
    health = _with_processes(ws, rollout, health)
    return judge(evidence, rollout.canary.rules, health=health, means=means_of(ws, rollout))


def _with_processes(ws: Workspace, rollout: Rollout, health: CanaryHealth) -> CanaryHealth:
    """And what the serving processes say: what ended them, or kept them from loading the version, is in no prediction."""
    lately = [one for one in serving.crashes(folder(ws)) if one.at >= wall() - _LATELY]
    since = sum(one.epoch >= rollout.epochs[0] for one in lately)
    problem = serving.not_loaded(folder(ws), rollout.endpoint, epoch=rollout.epochs[-1])
    if problem is not None:
        moved = history(ws, rollout=rollout.id, without_looks=True, limit=1)[0]
        problem = problem if ws.now() >= moved.at + _READY_WITHIN else None
    return replace(health, not_ready=problem, crashes=since - (len(lately) - since))


def _do(ws: Workspace, tx: Tx, rollout: Rollout, decision: Decision) -> RolloutEvent | None:
    if decision.action == "roll_back":
        return take_back(ws, tx, rollout, reason=decision.reason, decision=decision.as_dict())
    if decision.action == "hold":
        return _wait(ws, tx, rollout, reason=decision.reason, decision=decision)
    if rollout.stage + 1 == len(rollout.stages) - 1:
        return finish(ws, tx, rollout, reason=decision.reason, decision=decision.as_dict())
    return advance(ws, tx, rollout, decision)


def _wait(
    ws: Workspace, tx: Tx, rollout: Rollout, *, reason: str, decision: Decision | None
) -> RolloutEvent | None:
    """Nothing is decided: keep the look, and see to the deadline."""
    if _is_late(ws, rollout):
        late = f"not decided after {rollout.canary.deadline_h:g} h: {reason}"
        numbers = None if decision is None else decision.as_dict()
        if rollout.canary.at_deadline == "roll_back":
            return take_back(ws, tx, rollout, reason=late, decision=numbers)
        if not store.has_event(tx.connection, rollout.id, "overdue"):
            return alert_overdue(ws, tx, rollout, reason=late, decision=numbers)
    return None if decision is None else note(ws, tx, rollout, decision)


def _is_late(ws: Workspace, rollout: Rollout) -> bool:
    hours = rollout.canary.deadline_h
    return hours is not None and ws.now() >= rollout.started_at + timedelta(hours=hours)


def _due_watches(ws: Workspace) -> list[Rollout]:
    now = ws.now()
    with ws.read() as connection:
        return store.watched_rollouts(connection, not_since=now - _WATCH_EVERY, ends_by=now)


def _watch(ws: Workspace, rollout: Rollout) -> RolloutEvent | None:
    """Look at what answers alone: gone back from if harm shows after all, left alone when its time is over."""
    decision = _judged(ws, rollout)
    reason = f"while watched at {rollout.weight:g} %: {decision.reason}"

    def do(tx: Tx) -> RolloutEvent | None:
        if decision.action == "roll_back":
            return take_back(ws, tx, rollout, reason=reason, decision=decision.as_dict())
        held = store.holdback_of(tx.connection, rollout.id)
        if held is not None and held.until is not None and held.state == "running":
            if held.until <= ws.now():
                hours = rollout.canary.holdback_h
                told = f"{hours:g} h are over; everloop rollouts results {held.id} compares"
                return end_holdback(ws, tx, rollout, held, reason=told)
        elif rollout.watch_until is not None and rollout.watch_until <= ws.now():
            return end_watch(ws, tx, rollout)
        store.mark_watched(tx, rollout.id, at=ws.now())
        return None

    try:
        return ws.write(do)
    except Conflict:
        return None  # another rollout began, or a person went back
