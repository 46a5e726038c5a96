from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from everloop import jobs, ledger
from everloop.clock import SimulatedClock, elapsed_s
from everloop.errors import Conflict, Invalid, NotFound
from everloop.jobs import CatchUp, Lane, Schedule
from everloop.jobs.schedules import instants_back, next_instant
from everloop.workspace import Workspace


def every_night(
    ws: Workspace,
    cron: str = "0 3 * * *",
    time_zone: str = "UTC",
    *,
    name: str = "nightly",
    catch_up: CatchUp = jobs.LATEST,
    jitter_s: int = 0,
    lane: str = "",
) -> None:
    ws.write(
        lambda tx: jobs.schedule(
            ws,
            tx,
            name,
            cron=cron,
            kind="train",
            payload={"p": 1},
            time_zone=time_zone,
            catch_up=catch_up,
            jitter_s=jitter_s,
            lane=lane,
        )
    )


def one(ws: Workspace) -> Schedule:
    (found,) = jobs.list_schedules(ws)
    return found


def instants(ws: Workspace) -> list[str]:
    """What has been fired, oldest first, as day and time in UTC."""
    fired = [datetime.fromisoformat(job.payload["instant"]) for job in jobs.jobs_of(ws)]
    return [f"{at:%d %H:%M}" for at in sorted(fired)]


def move(ws: Workspace, **by: float) -> None:
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(**by))


def test_a_schedule_puts_its_job_when_its_instant_comes(any_ws: Workspace) -> None:
    every_night(any_ws)
    assert jobs.fire_due(any_ws) == []
    move(any_ws, hours=3)
    (job_id,) = jobs.fire_due(any_ws)
    job = jobs.job(any_ws, job_id)
    assert (job.kind, job.payload) == ("train", {"p": 1, "instant": "2026-09-01T03:00:00+00:00"})
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


def test_missed_instants_are_caught_up_with_one_job_unless_it_is_told_otherwise(ws: Workspace) -> None:
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
    ("catch_up", "fired"),
    [
        (CatchUp("skip"), []),
        (CatchUp("latest"), ["04 03:00"]),
        (CatchUp("all", 2), ["03 03:00", "04 03:00"]),
        (CatchUp("all", 10), ["01 03:00", "02 03:00", "03 03:00", "04 03:00"]),
    ],
)
def test_what_was_missed_is_caught_up_as_the_schedule_says(
    ws: Workspace, catch_up: CatchUp, fired: list[str]
) -> None:
    every_night(ws, catch_up=catch_up)
    move(ws, days=3, hours=4)
    jobs.fire_due(ws)
    jobs.fire_due(ws)
    assert instants(ws) == fired
    assert one(ws).next_at == datetime(2026, 9, 5, 3, tzinfo=UTC)


def test_an_instant_that_is_on_time_is_not_skipped(ws: Workspace) -> None:
    every_night(ws, catch_up=CatchUp("skip"))
    move(ws, hours=3, seconds=50)
    jobs.fire_due(ws)
    assert instants(ws) == ["01 03:00"]
    move(ws, days=1, seconds=50)
    jobs.fire_due(ws)
    assert "skipped" in str(one(ws).note)


def test_catching_up_with_a_year_of_minutes_walks_through_none_of_them(ws: Workspace) -> None:
    every_night(ws, cron="* * * * *", catch_up=CatchUp("all", 5))
    move(ws, days=365)
    begun = elapsed_s()
    jobs.fire_due(ws)
    assert elapsed_s() - begun < 1  # walking takes 5 s and more
    assert len(instants(ws)) == 5


def test_jitter_spreads_what_starts_at_the_same_instant_and_nothing_fires_twice(ws: Workspace) -> None:
    for number in range(30):
        every_night(ws, name=f"s{number}", jitter_s=600)
    due = {(s.due_at - s.next_at).total_seconds() for s in jobs.list_schedules(ws) if s.due_at is not None}
    assert len(due) > 20
    assert 0 <= min(due) <= max(due) <= 600
    move(ws, hours=3)
    early = len(jobs.fire_due(ws))
    move(ws, minutes=10)
    assert early < 30
    assert early + len(jobs.fire_due(ws)) == 30


def test_a_paused_schedule_fires_no_more_and_says_who_paused_it(any_ws: Workspace) -> None:
    every_night(any_ws)
    jobs.pause_schedule(any_ws.acting_as("alice"), "nightly", reason="the source is being moved")
    move(any_ws, days=2)
    assert not jobs.schedules_due(any_ws)
    assert jobs.fire_due(any_ws) == []
    every_night(any_ws)  # applying the loop file again does not resume it
    assert jobs.fire_due(any_ws) == []
    paused = one(any_ws)
    assert (paused.paused_by, paused.pause_reason) == ("alice", "the source is being moved")
    with pytest.raises(Conflict, match="by alice: the source is being moved"):
        jobs.pause_schedule(any_ws, "nightly", reason="again")
    jobs.resume_schedule(any_ws.acting_as("bob"), "nightly")
    assert jobs.fire_due(any_ws) == []  # what came while it was paused stays undone
    move(any_ws, days=1)
    assert len(jobs.fire_due(any_ws)) == 1
    acts = [(entry.actor, entry.act) for entry in ledger.entries(any_ws)]
    assert {("alice", "schedule.pause"), ("bob", "schedule.resume")} <= set(acts)
    with pytest.raises(Conflict, match="is not paused"):
        jobs.resume_schedule(any_ws, "nightly")


def test_an_instant_whose_lane_refuses_is_not_fired_and_says_why(any_ws: Workspace) -> None:
    any_ws.write(lambda tx: jobs.set_limits(tx, [Lane("pipeline:train", 1, "refuse")], {}))
    every_night(any_ws, lane="pipeline:train")
    for _ in range(2):
        move(any_ws, days=1)
        jobs.fire_due(any_ws)
    assert instants(any_ws) == ["01 03:00"]
    assert "was refused: pipeline:train is limited to 1 at once" in str(one(any_ws).note)


BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


@pytest.mark.parametrize(
    ("zone", "cron", "start", "expected"),
    [
        # 2026-03-29, Berlin: 02:00 to 03:00 does not exist
        (BERLIN, "30 2 * * *", "2026-03-28T12:00", ["29T01:00", "30T00:30"]),
        (BERLIN, "0,30 2 * * *", "2026-03-28T12:00", ["29T01:00", "30T00:00"]),
        (BERLIN, "*/30 2 * * *", "2026-03-28T12:00", ["30T00:00", "30T00:30"]),
        (BERLIN, "30 * * * *", "2026-03-29T00:00", ["29T00:30", "29T01:30"]),
        # 2026-10-25, Berlin: 02:00 to 03:00 comes twice
        (BERLIN, "30 2 * * *", "2026-10-24T12:00", ["25T00:30", "26T01:30"]),
        (BERLIN, "30 * * * *", "2026-10-25T00:00", ["25T00:30", "25T01:30"]),
        # asked for in the second pass, after the instant of the first
        (BERLIN, "30 2 * * *", "2026-10-25T01:10", ["26T01:30", "27T01:30"]),
        # 2026-03-08, New York: 02:00 to 03:00 does not exist
        (NEW_YORK, "30 2 * * *", "2026-03-07T12:00", ["08T07:00", "09T06:30"]),
        (NEW_YORK, "*/30 2 * * *", "2026-03-07T12:00", ["09T06:00", "09T06:30"]),
        # 2026-11-01, New York: 01:00 to 02:00 comes twice
        (NEW_YORK, "30 1 * * *", "2026-10-31T12:00", ["01T05:30", "02T06:30"]),
        (NEW_YORK, "30 * * * *", "2026-11-01T05:00", ["01T05:30", "01T06:30"]),
        (NEW_YORK, "30 1 * * *", "2026-11-01T06:10", ["02T06:30", "03T06:30"]),
    ],
)
def test_cron_follows_the_clock_on_the_wall_through_gap_and_fold(
    zone: str, cron: str, start: str, expected: list[str]
) -> None:
    at = datetime.fromisoformat(start).replace(tzinfo=UTC)
    found = []
    for _ in expected:
        at = next_instant(cron, zone, after=at)
        found.append(f"{at:%dT%H:%M}")
    assert found == expected


@given(
    cron=st.sampled_from(
        ["30 2 * * *", "0,30 2 * * *", "*/30 2 * * *", "30 * * * *", "15 1,2 * * *", "0 0 * * 1"]
    ),
    zone=st.sampled_from([BERLIN, NEW_YORK, "Australia/Lord_Howe", "UTC"]),
    # where the clocks change in one of these zones: Berlin twice, New York twice, Lord Howe by half an hour; and nowhere
    near=st.sampled_from(
        [
            "2026-03-29T01:00",
            "2026-10-25T01:00",
            "2026-03-08T07:00",
            "2026-11-01T06:00",
            "2026-04-04T15:00",
            "2026-06-01T00:00",
        ]
    ),
    minutes=st.integers(-300, 300),
)
@example(
    cron="30 2 * * *", zone=BERLIN, near="2026-10-25T01:00", minutes=15
)  # in the second pass, before its half
@example(cron="30 2 * * *", zone=BERLIN, near="2026-03-29T01:00", minutes=0)  # the first moment after the gap
def test_walking_back_finds_what_walking_forward_finds(cron: str, zone: str, near: str, minutes: int) -> None:
    until = datetime.fromisoformat(near).replace(tzinfo=UTC) + timedelta(minutes=minutes)
    back = instants_back(cron, zone, until=until)
    newest, before = next(back), next(back)
    assert next_instant(cron, zone, after=before) == newest
    assert next_instant(cron, zone, after=newest) > until >= newest


@pytest.mark.parametrize("cron", ["every day", "61 * * * *", "0 0 31 2 *", ""])
def test_an_expression_that_never_comes_due_is_refused(cron: str) -> None:
    with pytest.raises(Invalid, match="not a cron expression"):
        next_instant(cron, "UTC", after=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", ""])
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(Invalid, match="not a time zone"):
        next_instant("0 3 * * *", zone, after=datetime(2026, 1, 1, tzinfo=UTC))
