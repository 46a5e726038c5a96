"""The tables of jobs and schedules, and all SQL over them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.jobs.records import Job, Schedule, State
from everloop.storage import Json, Tx, Utc, metadata

jobs = sa.Table(
    "job",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("kind", sa.String(60), nullable=False),
    sa.Column("payload", Json, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("once_key", sa.String(200), unique=True),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("put_at", Utc, nullable=False),
    sa.Column("due_at", Utc, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("worker", sa.String(120)),
    sa.Column("lease_until", Utc),
    sa.Column("result", Json),
    sa.Column("error", sa.Text),
    sa.Column("ended_at", Utc),
    sa.Index("ix_job_state_due", "state", "due_at"),
    sa.Index("ix_job_kind_id", "kind", "id"),
)

schedules = sa.Table(
    "schedule",
    metadata,
    sa.Column("name", sa.String(120), primary_key=True),
    sa.Column("cron", sa.String(120), nullable=False),
    sa.Column("time_zone", sa.String(60), nullable=False),
    sa.Column("kind", sa.String(60), nullable=False),
    sa.Column("payload", Json, nullable=False),
    sa.Column("next_at", Utc, nullable=False),
    sa.Column("last_at", Utc),
    sa.Index("ix_schedule_next_at", "next_at"),
)


def insert_job(tx: Tx, values: dict[str, Any]) -> None:
    tx.execute(sa.insert(jobs).values(**values))


def job_by_id(connection: Connection, job_id: str) -> Job | None:
    row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).first()
    return None if row is None else _job(row)


def job_by_key(connection: Connection, once_key: str) -> Job | None:
    row = connection.execute(sa.select(jobs).where(jobs.c.once_key == once_key)).first()
    return None if row is None else _job(row)


def newest_jobs(
    connection: Connection, *, kind: str | None, states: Sequence[State], limit: int
) -> list[Job]:
    statement = sa.select(jobs).order_by(jobs.c.id.desc()).limit(limit)
    if kind is not None:
        statement = statement.where(jobs.c.kind == kind)
    if states:
        statement = statement.where(jobs.c.state.in_(states))
    return [_job(row) for row in connection.execute(statement)]


def jobs_between(connection: Connection, start: datetime, end: datetime, *, limit: int) -> list[Job]:
    """The jobs that were put in this time, newest first."""
    statement = (
        sa.select(jobs)
        .where(jobs.c.put_at >= start, jobs.c.put_at < end)
        .order_by(jobs.c.id.desc())
        .limit(limit)
    )
    return [_job(row) for row in connection.execute(statement)]


def next_due(connection: Connection, now: datetime) -> Job | None:
    """The job to run next: waiting and due, or running under a lease that has ended; oldest first.

    On PostgreSQL the row is locked and rows that others locked are passed over.
    """
    open_to_all = sa.or_(
        sa.and_(jobs.c.state == "waiting", jobs.c.due_at <= now),
        sa.and_(jobs.c.state == "running", jobs.c.lease_until < now),
    )
    statement = sa.select(jobs).where(open_to_all).order_by(jobs.c.due_at, jobs.c.id).limit(1)
    row = connection.execute(statement.with_for_update(skip_locked=True)).first()
    return None if row is None else _job(row)


def count_due(connection: Connection, now: datetime) -> int:
    statement = (
        sa.select(sa.func.count())
        .select_from(jobs)
        .where(
            sa.or_(
                sa.and_(jobs.c.state == "waiting", jobs.c.due_at <= now),
                sa.and_(jobs.c.state == "running", jobs.c.lease_until < now),
            )
        )
    )
    return int(connection.execute(statement).scalar_one())


def take(tx: Tx, job: Job, *, worker: str, until: datetime) -> None:
    tx.execute(
        sa.update(jobs)
        .where(jobs.c.id == job.id)
        .values(
            state="running", worker=worker, lease_until=until, token=job.token + 1, attempts=job.attempts + 1
        )
    )


def update_held(tx: Tx, job_id: str, *, token: int, values: dict[str, Any]) -> bool:
    """Change a running job if `token` is still the one in force; whether it was."""
    changed = tx.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id, jobs.c.token == token, jobs.c.state == "running")
        .values(**values)
    )
    return changed.rowcount == 1


def is_held(tx: Tx, job_id: str, *, token: int) -> bool:
    """Whether `token` is in force; on PostgreSQL nobody can take the job over until the transaction ends."""
    statement = sa.select(jobs.c.id).where(
        jobs.c.id == job_id, jobs.c.token == token, jobs.c.state == "running"
    )
    return tx.execute(statement.with_for_update()).first() is not None


def update_unended(tx: Tx, job_id: str, values: dict[str, Any]) -> bool:
    changed = tx.execute(
        sa.update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(["waiting", "running"])).values(**values)
    )
    return changed.rowcount == 1


def upsert_schedule(tx: Tx, values: dict[str, Any]) -> None:
    changed = tx.execute(sa.update(schedules).where(schedules.c.name == values["name"]).values(**values))
    if changed.rowcount == 0:
        tx.execute(sa.insert(schedules).values(**values))


def delete_schedule(tx: Tx, name: str) -> bool:
    return tx.execute(sa.delete(schedules).where(schedules.c.name == name)).rowcount == 1


def schedule_by_name(connection: Connection, name: str) -> Schedule | None:
    row = connection.execute(sa.select(schedules).where(schedules.c.name == name)).first()
    return None if row is None else _schedule(row)


def all_schedules(connection: Connection) -> list[Schedule]:
    return [_schedule(row) for row in connection.execute(sa.select(schedules).order_by(schedules.c.name))]


def due_schedules(connection: Connection, now: datetime) -> list[Schedule]:
    statement = sa.select(schedules).where(schedules.c.next_at <= now).order_by(schedules.c.next_at)
    return [_schedule(row) for row in connection.execute(statement)]


def advance_schedule(tx: Tx, schedule: Schedule, *, fired_at: datetime, next_at: datetime) -> bool:
    """Move a schedule on if nobody else did meanwhile; whether it was ours to move."""
    changed = tx.execute(
        sa.update(schedules)
        .where(schedules.c.name == schedule.name, schedules.c.next_at == schedule.next_at)
        .values(next_at=next_at, last_at=fired_at)
    )
    return changed.rowcount == 1


def lease_end(now: datetime, lease_s: float) -> datetime:
    return now + timedelta(seconds=lease_s)


def _job(row: sa.Row[Any]) -> Job:
    values = dict(row._mapping)
    del values["once_key"]
    return Job(**values)


def _schedule(row: sa.Row[Any]) -> Schedule:
    return Schedule(**row._mapping)
