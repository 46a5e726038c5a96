"""Limits: how many jobs of one sort run at once, and what becomes of one that does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from everloop.errors import Invalid, NotReady
from everloop.jobs import store
from everloop.jobs.records import Job, Lane
from everloop.storage import Tx, wall_of
from everloop.workspace import Workspace


def set_limits(tx: Tx, lanes: Sequence[Lane], pools: Mapping[str, int]) -> None:
    """Put these limits in force, and no others. Jobs that wait already come under them.

    Raises
    ------
    Invalid
        A limit is no number of 1 or more, or a lane names a pool that is not there.
    """
    for lane in lanes:
        if lane.at_most is not None and lane.at_most < 1:
            raise Invalid(f"{lane.name} may run {lane.at_most} times at once; that is 1 or more, or None.")
        if lane.pool is not None and lane.pool not in pools:
            raise Invalid(f"{lane.name} is to run in the pool {lane.pool!r}, which there is not. Declare it.")
        if lane.when_full != "queue" and lane.at_most is None:
            raise Invalid(
                f"{lane.name} says what to do when it is full ({lane.when_full}), but not when that is. State at_most."
            )
    for name, at_most in pools.items():
        if at_most < 1:
            raise Invalid(f"the pool {name!r} has {at_most} places; that is 1 or more.")
    store.lift_limits(tx, but=[lane.name for lane in lanes])
    for lane in lanes:
        _lock(tx, lane.name)
        store.upsert_lane(tx, lane)
    store.replace_pools(tx, pools)


def all_lanes(ws: Workspace) -> list[Lane]:
    """The lanes with a limit or a pool."""
    with ws.read() as connection:
        return [lane for lane in store.all_lanes(connection) if lane.at_most is not None or lane.pool]


def pools(ws: Workspace) -> dict[str, int]:
    """How many places each pool has."""
    with ws.read() as connection:
        return store.all_pools(connection)


def refusal(connection: Connection, name: str) -> str | None:
    """Why one more job of this lane would be refused now; None when it would not."""
    lane = store.lane_by_name(connection, name) if name else None
    if lane is None or lane.when_full != "refuse" or lane.at_most is None:
        return None
    there = store.unended_in(connection, name, limit=lane.at_most)
    if len(there) < lane.at_most:
        return None
    return (
        f"{name} is limited to {lane.at_most} at once and refuses more, and {', '.join(there[:3])} "
        f"{'is' if len(there) == 1 else 'are'} there"
    )


def make_room(ws: Workspace, tx: Tx, name: str) -> None:
    """See that one more job of this lane may be put, by what the lane says. Raises NotReady when it refuses."""
    _lock(tx, name)
    lane = store.lane_by_name(tx.connection, name)
    if lane is None:
        store.upsert_lane(tx, Lane(name, None))
        return
    if (why := refusal(tx.connection, name)) is not None:
        raise NotReady(f"{why}. Try again when it has ended; 'everloop jobs list' shows it.")
    if lane.when_full == "cancel_oldest" and lane.at_most is not None:
        there = store.unended_in(tx.connection, name)
        for job_id in there[: max(0, len(there) + 1 - lane.at_most)]:
            reason = f"a newer job took its place: {name} is limited to {lane.at_most} at once"
            store.update_unended(tx, job_id, cancelled(ws, reason))


def cancelled(ws: Workspace, reason: str) -> dict[str, Any]:
    """What a cancelled job's row says."""
    return {"state": "cancelled", "error": reason, "ended_at": ws.now(), "lease_until": None}


def why_waiting(ws: Workspace, jobs: Sequence[Job]) -> dict[str, str]:
    """Why each of these jobs that waits does so, in words."""
    waiting = [job for job in jobs if job.state == "waiting"]
    if not waiting:
        return {}
    with ws.read() as connection:
        now = wall_of(connection)
        known = {lane.name: lane for lane in store.all_lanes(connection)}
        room = frozenset(store.lanes_with_room(connection))
        by_pool: dict[str, list[str]] = {}
        for lane in known.values():
            by_pool.setdefault(lane.pool or "", []).append(lane.name)
        return {job.id: _why(connection, job, now, known[job.lane], room, by_pool) for job in waiting}


def ahead(ws: Workspace, job_id: str) -> int:
    """How many jobs of its lane are before a waiting one."""
    with ws.read() as connection:
        return store.count_ahead(connection, job_id)


def _why(
    connection: Connection,
    job: Job,
    now: datetime,
    lane: Lane,
    room: frozenset[str],
    by_pool: Mapping[str, Sequence[str]],
) -> str:
    if job.due_at > now:
        return f"attempt {job.attempts} failed; tried again at {job.due_at:%H:%M:%S} UTC: {_first_line(job.error)}"
    if lane.name in room:
        return "waits for a worker: 'everloop up' starts one, 'everloop work' is one"
    own = store.running_in(connection, [lane.name], limit=3)
    if lane.at_most is not None and len(own) >= min(lane.at_most, 3):
        return f"{lane.name} runs {lane.at_most} at once at most: {', '.join(own)}"
    others = store.running_in(connection, by_pool[lane.pool or ""], limit=3)
    return f"the pool {lane.pool} is full: {', '.join(others)}"


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _lock(tx: Tx, name: str) -> None:
    tx.lock(f"lane:{name}")
