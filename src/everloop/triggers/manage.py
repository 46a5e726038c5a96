"""What triggers there are, how far each is, and pausing them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from everloop import jobs
from everloop.errors import Conflict, Invalid, NotFound
from everloop.ledger import Node, audit
from everloop.retraining import Armed, armed
from everloop.storage import Tx
from everloop.triggers import store
from everloop.triggers.consider import weigh
from everloop.triggers.records import Firing, Standing, Stored, Trigger, schedule_of
from everloop.workspace import Workspace


def set_triggers(ws: Workspace, tx: Tx, triggers: Sequence[Trigger]) -> None:
    """Put these triggers in force, and no others; a paused one stays paused. Their schedules are put by the caller.

    Raises
    ------
    Invalid
        A longest wait is shorter than the quiet it waits for.
    """
    for trigger in triggers:
        if trigger.longest_wait is not None and trigger.longest_wait < trigger.quiet:
            raise Invalid(
                f"trigger {trigger.name!r} waits for {trigger.quiet.total_seconds():g} s of quiet but for "
                f"{trigger.longest_wait.total_seconds():g} s at most, so that it never finds them. State a longer wait."
            )
        jobs.check_priority(trigger.priority)
        store.upsert_trigger(tx, trigger, now=ws.now())
    for name in store.drop_triggers(tx, but=[one.name for one in triggers]):
        jobs.forget_schedule(tx, schedule_of(name))


def need(connection: Connection, name: str) -> Stored:
    """A trigger as it is in force. Raises NotFound."""
    found = store.trigger_by_name(connection, name)
    if found is None:
        raise NotFound(
            f"there is no trigger {name!r}. 'everloop triggers list' shows them; a loop file declares one with el.trigger."
        )
    return found


def find(ws: Workspace, name: str) -> Stored:
    """As `need`."""
    with ws.read() as connection:
        return need(connection, name)


def firings(ws: Workspace, name: str | None = None, *, limit: int = 50) -> list[Firing]:
    """The newest firings, newest first."""
    with ws.read() as connection:
        return store.newest_firings(connection, trigger=name, limit=limit)


def firing(ws: Workspace, firing_id: str) -> Firing:
    """One firing. Raises NotFound."""
    with ws.read() as connection:
        found = store.firing_by_id(connection, firing_id)
    if found is None:
        raise NotFound(f"there is no firing {firing_id}. 'everloop triggers firings' shows the newest.")
    return found


def standings(ws: Workspace) -> list[Standing]:
    """How far every trigger is from firing, and when it last did."""
    with ws.read() as connection:
        known = store.all_triggers(connection)
    return [_standing(ws, one) for one in known]


def pause(ws: Workspace, name: str, *, reason: str) -> None:
    """Let a trigger and its schedule fire no more until it is resumed; who paused it is recorded.

    Raises NotFound and Conflict.
    """

    def change(tx: Tx) -> None:
        tx.lock(f"trigger:{name}")
        stored = need(tx.connection, name)
        if stored.paused_at is not None:
            raise Conflict(f"{why_idle(stored)} Resume it: everloop triggers resume {name}")
        values = {"paused_at": ws.now(), "paused_by": ws.actor, "pause_reason": reason}
        store.update_trigger(tx, name, values)
        audit(ws, tx, "trigger.pause", Node("trigger", name), reason=reason)
        schedule = jobs.schedule_in(tx, schedule_of(name))
        if schedule is not None and schedule.paused_at is None:
            jobs.pause_in(ws, tx, schedule.name, reason=reason)

    ws.write(change)


def resume(ws: Workspace, name: str) -> None:
    """Let a paused trigger go on; what it waits for goes on counting from its last firing. Raises NotFound and Conflict."""

    def change(tx: Tx) -> None:
        tx.lock(f"trigger:{name}")
        if need(tx.connection, name).paused_at is None:
            raise Conflict(f"trigger {name!r} is not paused. 'everloop triggers list' shows how far each is.")
        store.update_trigger(tx, name, {"paused_at": None, "paused_by": None, "pause_reason": None})
        audit(ws, tx, "trigger.resume", Node("trigger", name))
        schedule = jobs.schedule_in(tx, schedule_of(name))
        if schedule is not None and schedule.paused_at is not None:
            jobs.resume_in(ws, tx, schedule.name)

    ws.write(change)


def why_idle(stored: Stored) -> str:
    """Who paused a trigger, since when and why."""
    at = "" if stored.paused_at is None else f" since {stored.paused_at:%Y-%m-%d %H:%M} UTC"
    return (
        f"trigger {stored.trigger.name!r} has been paused{at}, by {stored.paused_by}: {stored.pause_reason}."
    )


def _standing(ws: Workspace, stored: Stored) -> Standing:
    trigger = stored.trigger
    schedule = jobs.find_schedule(ws, schedule_of(trigger.name))
    with ws.read() as connection:
        last = store.last_firing(connection, trigger.name)
    times = (None if last is None else last.at, None if schedule is None else schedule.last_at)
    numbers: dict[str, int] = {}
    conditions: tuple[Armed, ...] = ()
    if stored.paused_at is not None:
        told = f"paused by {stored.paused_by}: {stored.pause_reason}"
    elif trigger.condition is not None:
        weighed = weigh(ws, stored)
        verdict, conditions = weighed.verdict, armed(weighed.evidence)
        told, numbers = verdict.reason, dict(verdict.waiting.seen) if verdict.waiting else {}
    elif schedule is not None:
        told = schedule.note or f"comes at {schedule.cron} ({schedule.time_zone})"
    else:
        told = "fires when it is called"
    return Standing(
        trigger.name,
        trigger.pipeline,
        told,
        max((at for at in times if at is not None), default=None),
        None if schedule is None or schedule.paused_at is not None else schedule.next_at,
        stored.paused_at,
        stored.paused_by,
        stored.pause_reason,
        numbers,
        conditions,
    )
