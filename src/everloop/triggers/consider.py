"""Conditions: what was found since a trigger last fired, and whether that is enough and has settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from everloop.retraining import (
    LATE,
    Called,
    Evidence,
    Found,
    as_json,
    evidence_of,
    holds,
    in_words,
    singles_of,
    used_in,
)
from everloop.storage import Tx
from everloop.triggers import store
from everloop.triggers.firing import fire
from everloop.triggers.records import Call, Firing, Stored, Trigger, Waiting
from everloop.workspace import Workspace


@dataclass(frozen=True)
class Verdict:
    """Whether to fire now, and why or why not, in words. `waiting` is what is to be remembered if not."""

    fire: bool
    reason: str
    waiting: Waiting | None = None


@dataclass(frozen=True)
class Weighed:
    """A trigger's verdict now, with what it rests on."""

    stored: Stored
    verdict: Verdict
    evidence: Evidence
    calls: tuple[Call, ...]
    last: Firing | None


def decide(
    trigger: Trigger, evidence: Evidence, *, now: datetime, last_at: datetime | None, waiting: Waiting | None
) -> Verdict:
    """Whether a trigger fires now: a pure function of what was found and of how long that has held."""
    assert trigger.condition is not None, "only triggers with a condition are considered"  # noqa: S101
    found = in_words(trigger.condition, evidence)
    if not holds(trigger.condition, evidence):
        return Verdict(False, f"not enough: {found}")
    numbers = {name: one["count"] for name, one in as_json(evidence).items()}
    if waiting is None:
        waiting = Waiting(now, now, numbers)
    elif waiting.seen != numbers:
        waiting = Waiting(waiting.holds_since, now, numbers)
    if last_at is not None and now < last_at + trigger.cooldown:
        return Verdict(
            False, f"cooling down until {last_at + trigger.cooldown:%Y-%m-%d %H:%M:%S} UTC: {found}", waiting
        )
    quiet_at = waiting.changed_at + trigger.quiet
    latest_at = quiet_at if trigger.longest_wait is None else waiting.holds_since + trigger.longest_wait
    if now < min(quiet_at, latest_at):
        return Verdict(
            False, f"waits for quiet until {min(quiet_at, latest_at):%Y-%m-%d %H:%M:%S} UTC: {found}", waiting
        )
    return Verdict(True, found, waiting)


def consider(ws: Workspace) -> list[Firing]:
    """Fire every trigger whose condition holds and has settled; remember of the others since when theirs holds."""
    made = [_consider(ws, weighed) for weighed in _weigh_all(ws) if _is_news(weighed)]
    return [firing for firing in made if firing is not None]


def wants_firing(ws: Workspace) -> bool:
    """Whether `consider` would fire a trigger, or has something to remember."""
    return any(_is_news(weighed) for weighed in _weigh_all(ws))


def _is_news(weighed: Weighed) -> bool:
    return weighed.verdict.fire or weighed.verdict.waiting != weighed.stored.waiting


def _weigh_all(ws: Workspace) -> list[Weighed]:
    with ws.read() as connection:
        watching = store.watching(connection)
    return [weigh(ws, stored) for stored in watching]


def weigh(ws: Workspace, stored: Stored) -> Weighed:
    """What a trigger with a condition says now."""
    trigger = stored.trigger
    assert trigger.condition is not None, "only triggers with a condition are considered"  # noqa: S101
    with ws.read() as connection:
        last = store.last_firing(connection, trigger.name)
        last_at = None if last is None else last.at
        used = used_in(store.evidence_since(connection, trigger.name, (last_at or stored.since) - LATE))
        calls = store.pending_calls(connection, trigger.name) if _is_called(trigger) else []
    found = evidence_of(ws, trigger.condition, created=stored.since, last_at=last_at, used=used)
    evidence: Evidence = {**found, **_called(trigger, calls)}
    verdict = decide(trigger, evidence, now=ws.now(), last_at=last_at, waiting=stored.waiting)
    return Weighed(stored, verdict, evidence, tuple(calls), last)


def _is_called(trigger: Trigger) -> bool:
    return trigger.condition is not None and Called() in singles_of(trigger.condition)


def _called(trigger: Trigger, calls: Sequence[Call]) -> Evidence:
    return {Called(): Found(len(calls))} if _is_called(trigger) else {}


def _consider(ws: Workspace, weighed: Weighed) -> Firing | None:
    return ws.write(lambda tx: act(ws, tx, weighed))


def act(ws: Workspace, tx: Tx, weighed: Weighed) -> Firing | None:
    """Fire or remember, unless somebody else has done so since the trigger was weighed."""
    name = weighed.stored.trigger.name
    tx.lock(f"trigger:{name}")
    now = store.trigger_by_name(tx.connection, name)
    if now != weighed.stored or store.last_firing(tx.connection, name) != weighed.last:
        return None
    verdict = weighed.verdict
    if not verdict.fire:
        store.update_trigger(tx, name, _columns(verdict.waiting))
        return None
    return fire(ws, tx, weighed.stored, reason=verdict.reason, evidence=weighed.evidence, calls=weighed.calls)


def _columns(waiting: Waiting | None) -> dict[str, object]:
    if waiting is None:
        return {"holds_since": None, "changed_at": None, "seen": None}
    return {"holds_since": waiting.holds_since, "changed_at": waiting.changed_at, "seen": dict(waiting.seen)}
