"""What fired in a time and what will."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from everloop import jobs
from everloop.clock import SimulatedClock
from everloop.workspace import Workspace


def test_jobs_are_those_that_were_put_in_the_time_newest_first(any_ws: Workspace) -> None:
    ws, begun, hour = any_ws, any_ws.now(), timedelta(hours=1)
    assert isinstance(ws.clock, SimulatedClock)
    put = []
    for _ in range(4):
        put.append(ws.write(lambda tx: jobs.put(ws, tx, "train", {}, reason="a test")))
        ws.clock.advance(hour)
    found = jobs.jobs_between(ws, begun + hour, begun + 3 * hour)
    assert [one.id for one in found] == [put[2], put[1]]
    assert len(jobs.jobs_between(ws, begun, begun + 9 * hour, limit=3)) == 3


def test_a_schedule_fires_at_its_instants_in_its_own_zone_however_far_away(ws: Workspace) -> None:
    ws.write(
        lambda tx: jobs.schedule(
            ws, tx, "nightly", cron="0 3 * * *", kind="train", payload={}, time_zone="Europe/Vienna"
        )
    )
    (one,) = jobs.list_schedules(ws)
    october = datetime(2026, 10, 24, tzinfo=UTC)
    found = jobs.instants_of(one, october, october + timedelta(days=3))
    assert [f"{at:%d %H:%M}" for at in found] == ["24 01:00", "25 02:00", "26 02:00"]  # the clocks went back
    first = jobs.instants_of(one, ws.now(), ws.now() + timedelta(days=400), limit=2)
    assert first[0] == one.next_at
    assert len(first) == 2
    assert jobs.instants_of(one, ws.now(), one.next_at) == []
