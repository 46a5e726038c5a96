"""Schedules: cron expressions in domain time, each instant of which puts one job, however many processes look."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from everloop.errors import Invalid, NotFound
from everloop.jobs import queue, store
from everloop.jobs.records import Schedule
from everloop.storage import Tx
from everloop.workspace import Workspace


def schedule(
    ws: Workspace, tx: Tx, name: str, *, cron: str, kind: str, payload: dict[str, Any], time_zone: str = "UTC"
) -> None:
    """Create or change a schedule; unchanged cron and zone keep their next instant.

    Raises
    ------
    Invalid
        The cron expression or the time zone is none.
    """
    known = store.schedule_by_name(tx.connection, name)
    same = known is not None and (known.cron, known.time_zone) == (cron, time_zone)
    next_at = known.next_at if known is not None and same else next_instant(cron, time_zone, after=ws.now())
    values = {
        "name": name,
        "cron": cron,
        "time_zone": time_zone,
        "kind": kind,
        "payload": payload,
        "next_at": next_at,
    }
    store.upsert_schedule(tx, values)


def remove_schedule(ws: Workspace, name: str) -> None:
    """Raises NotFound."""
    if not ws.write(lambda tx: store.delete_schedule(tx, name)):
        raise NotFound(f"there is no schedule {name!r}. 'everloop jobs schedules' shows them.")


def list_schedules(ws: Workspace) -> list[Schedule]:
    with ws.read() as connection:
        return store.all_schedules(connection)


def schedules_due(ws: Workspace) -> bool:
    """Whether a schedule's instant has come."""
    with ws.read() as connection:
        return bool(store.due_schedules(connection, ws.now()))


def fire_due(ws: Workspace) -> list[str]:
    """Put the jobs of all schedules whose instant has come and return their ids.

    Instants that passed while nobody looked are caught up with one job, named after the last of them. Each
    instant puts its job once: moving the schedule on is compare-and-set, in the transaction that puts the job.
    """
    now = ws.now()
    with ws.read() as connection:
        due = store.due_schedules(connection, now)
    put = [ws.write(lambda tx, one=one: _fire(ws, tx, one, now)) for one in due]  # type: ignore[misc]  # bound per turn
    return [job_id for job_id in put if job_id is not None]


def _fire(ws: Workspace, tx: Tx, due: Schedule, now: datetime) -> str | None:
    instant, next_at = due.next_at, next_instant(due.cron, due.time_zone, after=due.next_at)
    while next_at <= now:
        instant, next_at = next_at, next_instant(due.cron, due.time_zone, after=next_at)
    if not store.advance_schedule(tx, due, fired_at=instant, next_at=next_at):
        return None
    return queue.put(
        ws,
        tx,
        due.kind,
        due.payload,
        reason=f"schedule {due.name} ({due.cron}) at {instant.isoformat()}",
        once_key=f"schedule:{due.name}@{instant.isoformat()}",
    )


def next_instant(cron: str, time_zone: str, *, after: datetime) -> datetime:
    """The first instant of a cron expression later than `after`, as UTC.

    >>> from datetime import datetime, timezone
    >>> next_instant("0 3 * * *", "Europe/Vienna", after=datetime(2026, 3, 28, 12, tzinfo=timezone.utc)).isoformat()
    '2026-03-29T01:00:00+00:00'
    """
    try:
        zone = ZoneInfo(time_zone)
        return next(CronSim(cron, after.astimezone(zone))).astimezone(UTC)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise Invalid(f"{time_zone!r} is not a time zone; one looks like Europe/Vienna or UTC.") from error
    except (CronSimError, StopIteration) as error:
        raise Invalid(
            f"{cron!r} is not a cron expression that ever comes due: minute hour day month weekday, such as '0 3 * * *'."
        ) from error
