"""The tables of jobs, their lanes and pools, and schedules, and all SQL over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.jobs.records import Job, Lane, Schedule, State
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
    sa.Column("lane", sa.String(120), nullable=False, server_default=""),
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
    sa.Column("rank_at", Utc),
    sa.Index("ix_job_queue", "state", "lane", "rank_at", "id"),
    sa.Index("ix_job_kind_id", "kind", "id"),
)

lanes = sa.Table(
    "job_lane",
    metadata,
    sa.Column("name", sa.String(120), primary_key=True),
    sa.Column("at_most", sa.Integer),
    sa.Column("when_full", sa.String(20), nullable=False),
    sa.Column("pool", sa.String(120)),
)

pools = sa.Table(
    "job_pool",
    metadata,
    sa.Column("name", sa.String(120), primary_key=True),
    sa.Column("at_most", sa.Integer, nullable=False),
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
    sa.Column("due_at", Utc),
    sa.Column("catch_up", sa.String(12), nullable=False, server_default="latest"),
    sa.Column("catch_up_most", sa.Integer, nullable=False, server_default="1"),
    sa.Column("jitter_s", sa.Integer, nullable=False, server_default="0"),
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
    sa.Column("lane", sa.String(120), nullable=False, server_default=""),
    sa.Column("note", sa.Text),
    sa.Column("paused_at", Utc),
    sa.Column("paused_by", sa.String(120)),
    sa.Column("pause_reason", sa.Text),
    sa.Index("ix_schedule_due_at", "due_at"),
)


# Built once: many jobs are put at once when schedules fire together, and building a statement takes longer than running it.
_INSERT = sa.insert(jobs)
_BY_KEY = sa.select(jobs).where(jobs.c.once_key == sa.bindparam("once_key"))
_ADVANCE = (
    sa.update(schedules)
    .where(
        schedules.c.name == sa.bindparam("of_name"),
        schedules.c.next_at == sa.bindparam("of_next_at"),
        schedules.c.due_at == sa.bindparam("of_due_at"),
    )
    .values(
        next_at=sa.bindparam("next_at"),
        due_at=sa.bindparam("due_at"),
        last_at=sa.bindparam("last_at"),
        note=sa.bindparam("note"),
    )
)


def insert_job(tx: Tx, values: dict[str, Any]) -> None:
    tx.execute(_INSERT, values)


def job_by_id(connection: Connection, job_id: str) -> Job | None:
    row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).first()
    return None if row is None else _job(row)


def job_by_key(connection: Connection, once_key: str) -> Job | None:
    row = connection.execute(_BY_KEY, {"once_key": once_key}).first()
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
    """The job to run next: one whose worker's lease has ended, else the first by rank of the lanes that have room.

    It looks at one job a lane, however many wait: in a lane without room none is looked at.
    """
    abandoned = (
        sa.select(jobs)
        .where(jobs.c.state == "running", jobs.c.lease_until < now)
        .order_by(jobs.c.lease_until)
        .limit(1)
    )
    row = connection.execute(abandoned).first()
    if row is None:
        row = connection.execute(_heads(lanes_with_room(connection), now)).first()
    return None if row is None else _job(row)


def has_due(connection: Connection, now: datetime) -> bool:
    """Whether a worker would find something."""
    return next_due(connection, now) is not None


def _heads(open_lanes: Sequence[str], now: datetime) -> sa.Select[Any]:
    """The first job by rank of all that head one of these lanes."""
    head = (
        sa.select(jobs.c.id)
        .where(jobs.c.state == "waiting", jobs.c.lane == lanes.c.name, jobs.c.due_at <= now)
        .order_by(jobs.c.rank_at, jobs.c.id)
        .limit(1)
        .correlate(lanes)
        .scalar_subquery()
    )
    ids = sa.select(head).where(lanes.c.name.in_(open_lanes))
    return sa.select(jobs).where(jobs.c.id.in_(ids)).order_by(jobs.c.rank_at, jobs.c.id).limit(1)


def lanes_with_room(connection: Connection) -> list[str]:
    """The lanes in which one more job may run."""
    running = running_by_lane(connection)
    known = all_lanes(connection)
    most = all_pools(connection)
    in_pool: dict[str, int] = {}
    for lane in known:
        if lane.pool is not None:
            in_pool[lane.pool] = in_pool.get(lane.pool, 0) + running.get(lane.name, 0)
    return [
        lane.name
        for lane in known
        if (lane.at_most is None or running.get(lane.name, 0) < lane.at_most)
        and (lane.pool is None or lane.pool not in most or in_pool[lane.pool] < most[lane.pool])
    ]


def running_by_lane(connection: Connection) -> dict[str, int]:
    statement = sa.select(jobs.c.lane, sa.func.count()).where(jobs.c.state == "running").group_by(jobs.c.lane)
    return {row[0]: row[1] for row in connection.execute(statement)}


def running_in(connection: Connection, names: Sequence[str], *, limit: int) -> list[str]:
    """The ids of jobs that run in these lanes, oldest first."""
    statement = sa.select(jobs.c.id).where(jobs.c.state == "running", jobs.c.lane.in_(names))
    return list(connection.execute(statement.order_by(jobs.c.id).limit(limit)).scalars())


def unended_in(connection: Connection, lane: str, *, limit: int | None = None) -> list[str]:
    """The ids of jobs in a lane that wait or run, oldest first."""
    statement = sa.select(jobs.c.id).where(jobs.c.state.in_(["waiting", "running"]), jobs.c.lane == lane)
    return list(connection.execute(statement.order_by(jobs.c.id).limit(limit)).scalars())


def count_ahead(connection: Connection, job_id: str) -> int:
    """How many jobs of its lane are before a waiting one."""
    own = sa.select(jobs.c.rank_at, jobs.c.lane).where(jobs.c.id == job_id).subquery()
    statement = sa.select(sa.func.count()).select_from(jobs.join(own, own.c.lane == jobs.c.lane))
    found = connection.execute(statement.where(jobs.c.state == "waiting", jobs.c.rank_at < own.c.rank_at))
    return int(found.scalar_one())


def all_lanes(connection: Connection) -> list[Lane]:
    return [Lane(**row._mapping) for row in connection.execute(sa.select(lanes).order_by(lanes.c.name))]


def lane_by_name(connection: Connection, name: str) -> Lane | None:
    row = connection.execute(sa.select(lanes).where(lanes.c.name == name)).first()
    return None if row is None else Lane(**row._mapping)


def upsert_lane(tx: Tx, lane: Lane) -> None:
    values = dict(vars(lane))
    if tx.execute(sa.update(lanes).where(lanes.c.name == lane.name).values(**values)).rowcount == 0:
        tx.execute(sa.insert(lanes).values(**values))


def all_pools(connection: Connection) -> dict[str, int]:
    return {row.name: row.at_most for row in connection.execute(sa.select(pools))}


def replace_pools(tx: Tx, most: Mapping[str, int]) -> None:
    tx.execute(sa.delete(pools))
    if most:
        tx.execute(sa.insert(pools), [{"name": name, "at_most": number} for name, number in most.items()])


def lift_limits(tx: Tx, *, but: Sequence[str]) -> None:
    """Take the limits off all lanes but these; the lanes stay, since jobs may wait in them."""
    statement = sa.update(lanes).where(lanes.c.name.not_in(but))
    tx.execute(statement.values(at_most=None, when_full="queue", pool=None))


def take(tx: Tx, job: Job, *, worker: str, until: datetime) -> bool:
    """Make a job this worker's, unless it has changed since it was read; whether it did not."""
    changed = tx.execute(
        sa.update(jobs)
        .where(jobs.c.id == job.id, jobs.c.token == job.token, jobs.c.state == job.state)
        .values(
            state="running", worker=worker, lease_until=until, token=job.token + 1, attempts=job.attempts + 1
        )
    )
    return changed.rowcount == 1


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


def update_schedule(tx: Tx, name: str, values: dict[str, Any]) -> None:
    tx.execute(sa.update(schedules).where(schedules.c.name == name).values(**values))


def delete_schedule(tx: Tx, name: str) -> bool:
    return tx.execute(sa.delete(schedules).where(schedules.c.name == name)).rowcount == 1


def schedule_by_name(connection: Connection, name: str) -> Schedule | None:
    row = connection.execute(sa.select(schedules).where(schedules.c.name == name)).first()
    return None if row is None else _schedule(row)


def all_schedules(connection: Connection) -> list[Schedule]:
    return [_schedule(row) for row in connection.execute(sa.select(schedules).order_by(schedules.c.name))]


def due_schedules(connection: Connection, now: datetime, *, limit: int) -> list[Schedule]:
    statement = sa.select(schedules).where(schedules.c.due_at <= now).order_by(schedules.c.due_at)
    return [_schedule(row) for row in connection.execute(statement.limit(limit))]


def advance_schedule(
    tx: Tx,
    schedule: Schedule,
    *,
    fired_at: datetime | None,
    next_at: datetime,
    due_at: datetime,
    note: str | None,
) -> bool:
    """Move a schedule on if nobody else did meanwhile, nor paused it; whether it was ours to move."""
    known = {"of_name": schedule.name, "of_next_at": schedule.next_at, "of_due_at": schedule.due_at}
    new = {"next_at": next_at, "due_at": due_at, "last_at": fired_at or schedule.last_at, "note": note}
    return tx.execute(_ADVANCE, known | new).rowcount == 1


def lease_end(now: datetime, lease_s: float) -> datetime:
    return now + timedelta(seconds=lease_s)


def _job(row: sa.Row[Any]) -> Job:
    values = dict(row._mapping)
    del values["once_key"], values["rank_at"]
    return Job(**values)


def _schedule(row: sa.Row[Any]) -> Schedule:
    return Schedule(**row._mapping)
