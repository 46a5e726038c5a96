"""Schedules: cron expressions in domain time, each instant of which puts one job, however many processes look.

What the clocks do in spring and autumn: an expression that states its minute and its hour, such as `30 2 * * *`, means
the clock on the wall. An instant that a gap swallows comes at the first moment after the gap, one that the clock shows
twice comes the first time. An expression whose minute or hour begins with a star, such as `*/30 * * * *`, means time
that passes: it comes in both passes of a doubled hour, and what a gap swallows does not come.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from blake3 import blake3
from cronsim import CronSim, CronSimError

from everloop.errors import Conflict, Invalid, NotFound
from everloop.jobs import lanes, queue, store
from everloop.jobs.records import LATEST, CatchUp, Schedule
from everloop.ledger import Node, audit
from everloop.storage import Tx
from everloop.workspace import Workspace

ON_TIME = timedelta(seconds=60)  # what is found later than this after its instant was missed
_MOST_JITTER_S = 86_400
_AT_ONCE = 100  # schedules that fire in one transaction: one commit for many, and nobody waits long for it
_SHIFT = timedelta(hours=3)  # more than any change of the clocks since 1970


def schedule(
    ws: Workspace,
    tx: Tx,
    name: str,
    *,
    cron: str,
    kind: str,
    payload: dict[str, Any],
    time_zone: str = "UTC",
    catch_up: CatchUp = LATEST,
    jitter_s: int = 0,
    priority: int = 0,
    lane: str = "",
) -> None:
    """Create or change a schedule; unchanged cron and zone keep their next instant, and a paused one stays paused.

    Parameters
    ----------
    catch_up
        What becomes of instants that passed while nobody looked.
    jitter_s
        Fire up to so many seconds after the instant, by name and instant, so that not everything starts at midnight.

    Raises
    ------
    Invalid
        The cron expression or the time zone is none, or the jitter or the priority is out of bounds.
    """
    queue.check_priority(priority)
    if not 0 <= jitter_s <= _MOST_JITTER_S:
        raise Invalid(
            f"schedule {name!r} has a jitter of {jitter_s} s; that is 0 to {_MOST_JITTER_S:,} (a day)."
        )
    known = store.schedule_by_name(tx.connection, name)
    same = known is not None and (known.cron, known.time_zone) == (cron, time_zone)
    next_at = known.next_at if known is not None and same else next_instant(cron, time_zone, after=ws.now())
    is_paused = known is not None and known.paused_at is not None
    values = {
        "name": name,
        "cron": cron,
        "time_zone": time_zone,
        "kind": kind,
        "payload": payload,
        "next_at": next_at,
        "due_at": None if is_paused else _due(name, next_at, jitter_s),
        "catch_up": catch_up.policy,
        "catch_up_most": catch_up.at_most,
        "jitter_s": jitter_s,
        "priority": priority,
        "lane": lane,
    }
    store.upsert_schedule(tx, values)


def check_cron(cron: str, time_zone: str) -> None:
    """Raises Invalid for an expression or a time zone that is none."""
    next_instant(cron, time_zone, after=datetime(2000, 1, 1, tzinfo=UTC))


def remove_schedule(ws: Workspace, name: str) -> None:
    """Raises NotFound."""
    if not ws.write(lambda tx: store.delete_schedule(tx, name)):
        raise _unknown(name)


def forget_schedule(tx: Tx, name: str) -> None:
    """Remove a schedule if it is there, in the transaction of whoever declared it."""
    store.delete_schedule(tx, name)


def pause_schedule(ws: Workspace, name: str, *, reason: str) -> None:
    """Let a schedule fire no more until it is resumed; who paused it is recorded. Raises NotFound and Conflict."""
    ws.write(lambda tx: pause_in(ws, tx, name, reason=reason))


def pause_in(ws: Workspace, tx: Tx, name: str, *, reason: str) -> None:
    """As `pause_schedule`, in a transaction that is there already."""
    known = _need(tx, name)
    if known.paused_at is not None:
        raise Conflict(
            f"schedule {name!r} has been paused since {known.paused_at:%Y-%m-%d %H:%M} UTC, by {known.paused_by}: "
            f"{known.pause_reason}. Resume it: everloop jobs resume '{name}'"
        )
    values = {"due_at": None, "paused_at": ws.now(), "paused_by": ws.actor, "pause_reason": reason}
    store.update_schedule(tx, name, values)
    audit(ws, tx, "schedule.pause", Node("schedule", name), reason=reason)


def resume_schedule(ws: Workspace, name: str) -> None:
    """Let a paused schedule go on with its next instant; what came meanwhile stays undone. Raises NotFound and Conflict."""
    ws.write(lambda tx: resume_in(ws, tx, name))


def resume_in(ws: Workspace, tx: Tx, name: str) -> None:
    """As `resume_schedule`, in a transaction that is there already."""
    known = _need(tx, name)
    if known.paused_at is None:
        raise Conflict(
            f"schedule {name!r} is not paused; it fires next at {known.next_at:%Y-%m-%d %H:%M} UTC."
        )
    next_at = next_instant(known.cron, known.time_zone, after=ws.now())
    values = {"next_at": next_at, "due_at": _due(name, next_at, known.jitter_s)}
    unpaused = {"paused_at": None, "paused_by": None, "pause_reason": None}
    store.update_schedule(tx, name, values | unpaused)
    audit(ws, tx, "schedule.resume", Node("schedule", name))


def list_schedules(ws: Workspace) -> list[Schedule]:
    with ws.read() as connection:
        return store.all_schedules(connection)


def find_schedule(ws: Workspace, name: str) -> Schedule | None:
    with ws.read() as connection:
        return store.schedule_by_name(connection, name)


def schedule_in(tx: Tx, name: str) -> Schedule | None:
    """As `find_schedule`, in a transaction that is there already."""
    return store.schedule_by_name(tx.connection, name)


def schedules_due(ws: Workspace) -> bool:
    """Whether a schedule's instant has come."""
    with ws.read() as connection:
        return bool(store.due_schedules(connection, ws.now(), limit=1))


def fire_due(ws: Workspace) -> list[str]:
    """Put the jobs of all schedules whose instant has come and return their ids.

    Each instant puts its job once: moving the schedule on is compare-and-set, in the transaction that puts the job. An
    instant that passed while nobody looked is treated as the schedule says.
    """
    now = ws.now()
    put: list[str] = []
    while True:
        with ws.read() as connection:
            due = store.due_schedules(connection, now, limit=_AT_ONCE)
        if not due:
            return put
        put += ws.write(lambda tx, due=due: _fire_all(ws, tx, due, now))  # type: ignore[misc]  # bound per turn


def _fire_all(ws: Workspace, tx: Tx, due: list[Schedule], now: datetime) -> list[str]:
    # by name, so that two processes that lock rows of the same schedules do it in the same order
    ordered = sorted(due, key=lambda one: one.name)
    return [job_id for one in ordered for job_id in _fire(ws, tx, one, now)]


def _fire(ws: Workspace, tx: Tx, due: Schedule, now: datetime) -> list[str]:
    instants = fired(due, now)
    note = None if instants else f"missed until {now:%Y-%m-%d %H:%M} UTC and skipped, as catch_up says"
    next_at = next_instant(due.cron, due.time_zone, after=now)
    is_ours = store.advance_schedule(
        tx,
        due,
        fired_at=instants[-1] if instants else None,
        next_at=next_at,
        due_at=_due(due.name, next_at, due.jitter_s),
        note=note,
    )
    if not is_ours:
        return []
    put: list[str] = []
    for instant in instants:
        if (why := lanes.refusal(tx.connection, due.lane)) is not None:
            store.update_schedule(tx, due.name, {"note": f"{instant:%Y-%m-%d %H:%M} UTC was refused: {why}"})
            break
        job_id = queue.put(
            ws,
            tx,
            due.kind,
            {**due.payload, "instant": instant.isoformat()},
            reason=f"schedule {due.name} ({due.cron}) at {instant.isoformat()}",
            once_key=f"schedule:{due.name}@{instant.isoformat()}",
            lane=due.lane,
            priority=due.priority,
        )
        put.append(job_id)
    return put


def fired(due: Schedule, now: datetime) -> list[datetime]:
    """The instants from the schedule's next one until now that put jobs, oldest first: a pure function of both."""
    most = due.catch_up_most if due.catch_up == "all" else 1
    back = instants_back(due.cron, due.time_zone, until=now)
    passed = list(itertools.takewhile(lambda at: at >= due.next_at, itertools.islice(back, most)))
    if due.catch_up == "skip":
        passed = [at for at in passed if now - at <= ON_TIME + timedelta(seconds=due.jitter_s)]
    return passed[::-1]


def next_instant(cron: str, time_zone: str, *, after: datetime) -> datetime:
    """The first instant of a cron expression later than `after`, as UTC.

    >>> from datetime import datetime, timezone
    >>> next_instant("0 3 * * *", "Europe/Vienna", after=datetime(2026, 3, 28, 12, tzinfo=timezone.utc)).isoformat()
    '2026-03-29T01:00:00+00:00'
    """
    for at in _walk(cron, time_zone, after, is_reverse=False):
        if at > after:  # one that the clock shows twice is given as the first, which may be over
            return at
    raise _no_cron(cron)


def instants_back(cron: str, time_zone: str, *, until: datetime) -> Iterator[datetime]:
    """The instants of a cron expression that are not later than `until`, newest first, as UTC."""
    zone = _zone(time_zone)
    # Walking back from inside a doubled hour misses instants of its first pass: begin behind it.
    is_near = until.astimezone(zone).utcoffset() != (until - _SHIFT).astimezone(zone).utcoffset()
    start = until + (_SHIFT if is_near else timedelta()) + timedelta(seconds=1)
    last: datetime | None = None
    for at in _walk(cron, time_zone, start, is_reverse=True):
        if at <= until and (last is None or at < last):
            last = at
            yield at


def _walk(cron: str, time_zone: str, start: datetime, *, is_reverse: bool) -> Iterator[datetime]:
    zone = _zone(time_zone)
    try:
        walk = CronSim(cron, start.astimezone(zone), reverse=is_reverse)
        while True:
            yield next(walk).astimezone(UTC)
    except CronSimError as error:
        raise _no_cron(cron) from error
    except StopIteration:
        return


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise Invalid(f"{name!r} is not a time zone; one looks like Europe/Vienna or UTC.") from error


def _no_cron(cron: str) -> Invalid:
    return Invalid(
        f"{cron!r} is not a cron expression that ever comes due: minute hour day month weekday, such as '0 3 * * *'."
    )


def _due(name: str, instant: datetime, jitter_s: int) -> datetime:
    """When an instant fires: the same for every process that asks."""
    if not jitter_s:
        return instant
    drawn = int.from_bytes(blake3(f"{name}@{instant.isoformat()}".encode()).digest(length=8), "big")
    return instant + timedelta(seconds=drawn % (jitter_s + 1))


def _need(tx: Tx, name: str) -> Schedule:
    tx.lock(f"schedule:{name}")
    known = store.schedule_by_name(tx.connection, name)
    if known is None:
        raise _unknown(name)
    return known


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no schedule {name!r}. 'everloop jobs schedules' shows them.")
