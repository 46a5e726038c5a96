from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from everloop import jobs
from everloop.clock import SimulatedClock
from everloop.errors import Invalid, NotFound
from everloop.jobs.schedules import next_instant
from everloop.workspace import Workspace


def every_night(ws: Workspace, cron: str = "0 3 * * *", time_zone: str = "UTC") -> None:
    ws.write(
        lambda tx: jobs.schedule(
            ws, tx, "nightly", cron=cron, kind="train", payload={"p": 1}, time_zone=time_zone
        )
    )


def move(ws: Workspace, **by: float) -> None:
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(**by))


def test_a_schedule_puts_its_job_when_its_instant_comes(any_ws: Workspace) -> None:
    every_night(any_ws)
    assert jobs.fire_due(any_ws) == []
    move(any_ws, hours=3)
    (job_id,) = jobs.fire_due(any_ws)
    job = jobs.job(any_ws, job_id)
    assert (job.kind, job.payload) == ("train", {"p": 1})
    assert "nightly" in job.reason


def test_an_instant_fires_once_however_many_look(any_ws: Workspace) -> None:
    every_night(any_ws)
    move(any_ws, hours=3)
    threads = [threading.Thread(target=jobs.fire_due, args=(any_ws,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(jobs.jobs_of(any_ws)) == 1


def test_missed_instants_are_caught_up_with_one_job(ws: Workspace) -> None:
    every_night(ws)
    move(ws, days=3, hours=4)
    assert len(jobs.fire_due(ws)) == 1
    (schedule,) = jobs.list_schedules(ws)
    assert schedule.last_at == datetime(2026, 9, 4, 3, tzinfo=UTC)
    assert schedule.next_at == datetime(2026, 9, 5, 3, tzinfo=UTC)


def test_declaring_a_schedule_again_keeps_its_next_instant(ws: Workspace) -> None:
    every_night(ws)
    move(ws, hours=4)
    every_night(ws)
    assert len(jobs.fire_due(ws)) == 1


def test_changing_a_schedule_moves_its_next_instant(ws: Workspace) -> None:
    every_night(ws)
    every_night(ws, cron="0 5 * * *")
    (schedule,) = jobs.list_schedules(ws)
    assert schedule.next_at.hour == 5


def test_a_removed_schedule_fires_no_more(ws: Workspace) -> None:
    every_night(ws)
    jobs.remove_schedule(ws, "nightly")
    move(ws, days=1)
    assert jobs.fire_due(ws) == []
    with pytest.raises(NotFound):
        jobs.remove_schedule(ws, "nightly")


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("2026-03-28T12:00", "2026-03-29T01:00"),  # the night without 2:30: at the first moment after the gap
        ("2026-06-01T00:00", "2026-06-01T00:30"),
    ],
)
def test_cron_follows_the_time_zone_through_summer_time(after: str, expected: str) -> None:
    at = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert next_instant("30 2 * * *", "Europe/Vienna", after=at).strftime("%Y-%m-%dT%H:%M") == expected


@pytest.mark.parametrize("cron", ["every day", "61 * * * *", "0 0 31 2 *", ""])
def test_an_expression_that_never_comes_due_is_refused(cron: str) -> None:
    with pytest.raises(Invalid, match="not a cron expression"):
        next_instant(cron, "UTC", after=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", ""])
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(Invalid, match="not a time zone"):
        next_instant("0 3 * * *", zone, after=datetime(2026, 1, 1, tzinfo=UTC))
