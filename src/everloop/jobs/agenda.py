"""What fired and what will: jobs by when they were put, and the instants of schedules that are still to come."""

from __future__ import annotations

from datetime import datetime, timedelta

from everloop.jobs import store
from everloop.jobs.records import Job, Schedule
from everloop.jobs.schedules import next_instant
from everloop.workspace import Workspace


def jobs_between(ws: Workspace, start: datetime, end: datetime, *, limit: int = 500) -> list[Job]:
    """The jobs that were put from `start` to before `end` (domain time), newest first."""
    with ws.read() as connection:
        return store.jobs_between(connection, start, end, limit=limit)


def instants_of(schedule: Schedule, start: datetime, end: datetime, *, limit: int = 500) -> list[datetime]:
    """When a schedule fires from `start` to before `end`, at most `limit` times, beginning with its next instant."""
    at = schedule.next_at
    if at < start:
        at = next_instant(schedule.cron, schedule.time_zone, after=start - timedelta(microseconds=1))
    found: list[datetime] = []
    while at < end and len(found) < limit:
        found.append(at)
        at = next_instant(schedule.cron, schedule.time_zone, after=at)
    return found
