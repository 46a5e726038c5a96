from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from everloop import jobs
from everloop.errors import Invalid, LostLease, NotReady
from everloop.jobs import Handler, Lease, Worker
from everloop.jobs.store import jobs as table
from everloop.workspace import Workspace


def put(ws: Workspace, *, max_attempts: int = 3) -> str:
    return ws.write(lambda tx: jobs.put(ws, tx, "work", {"n": 2}, reason="a test", max_attempts=max_attempts))


def due_now(ws: Workspace) -> None:
    """Let no back-off and no lease hold a job up."""
    ws.write(lambda tx: tx.execute(sa.update(table).values(due_at=tx.wall(), lease_until=None)))


def end_leases(ws: Workspace) -> None:
    """What time would do to the lease of a worker that died."""
    ws.write(
        lambda tx: tx.execute(sa.update(table).where(table.c.state == "running").values(lease_until=ws.now()))
    )


def run_all(ws: Workspace, handler: Handler) -> int:
    return Worker(ws, {"work": handler}).run_until_idle()


def test_a_job_is_run_and_its_result_kept(any_ws: Workspace) -> None:
    job_id = put(any_ws)
    assert run_all(any_ws, lambda _ws, lease: {"twice": lease.job.payload["n"] * 2}) == 1
    done = jobs.job(any_ws, job_id)
    assert (done.state, done.result, done.attempts) == ("done", {"twice": 4}, 1)


def test_many_workers_run_each_job_once(any_ws: Workspace) -> None:
    ids = [put(any_ws) for _ in range(20)]
    ran: list[str] = []
    threads = [
        threading.Thread(target=run_all, args=(any_ws, lambda _ws, lease: ran.append(lease.job.id)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ran) == ids


def test_a_failing_job_is_tried_again_later_and_then_given_up(any_ws: Workspace) -> None:
    job_id = put(any_ws, max_attempts=2)

    def fails(_ws: Workspace, _lease: Lease) -> None:
        raise ZeroDivisionError("a bug")

    assert run_all(any_ws, fails) == 1
    waiting = jobs.job(any_ws, job_id)
    assert waiting.state == "waiting"
    assert waiting.due_at > waiting.due_at.replace(year=2026, month=1)
    due_now(any_ws)
    run_all(any_ws, fails)
    failed = jobs.job(any_ws, job_id)
    assert (failed.state, failed.attempts) == ("failed", 2)
    assert "ZeroDivisionError: a bug" in (failed.error or "")


def test_a_users_mistake_is_not_tried_again(ws: Workspace) -> None:
    job_id = put(ws)

    def refuses(_ws: Workspace, _lease: Lease) -> None:
        raise Invalid("the file has no rows")

    run_all(ws, refuses)
    failed = jobs.job(ws, job_id)
    assert (failed.state, failed.error) == ("failed", "the file has no rows")


def test_not_ready_is_tried_again(ws: Workspace) -> None:
    job_id = put(ws)

    def not_yet(_ws: Workspace, _lease: Lease) -> None:
        raise NotReady("no labels yet")

    run_all(ws, not_yet)
    assert jobs.job(ws, job_id).state == "waiting"


def test_a_job_of_an_unknown_kind_fails_with_a_reason(ws: Workspace) -> None:
    job_id = put(ws)
    Worker(ws, {}).run_until_idle()
    assert "no handler for jobs of kind 'work'" in (jobs.job(ws, job_id).error or "")


def test_the_job_of_a_dead_worker_is_taken_over_under_a_higher_token(any_ws: Workspace) -> None:
    put(any_ws)
    first = Worker(any_ws, {}).take()
    end_leases(any_ws)
    second = Worker(any_ws, {}).take()
    assert first is not None
    assert second is not None
    assert second.token > first.token


def test_a_worker_that_was_thought_dead_cannot_commit(any_ws: Workspace) -> None:
    job_id = put(any_ws)
    stale = Worker(any_ws, {"work": lambda _ws, _lease: "stale"})
    stale_lease = stale.take()
    end_leases(any_ws)
    assert run_all(any_ws, lambda _ws, _lease: "fresh") == 1
    assert stale_lease is not None
    stale.run(stale_lease)
    assert jobs.job(any_ws, job_id).result == "fresh"


def test_a_change_under_a_lost_lease_is_undone(any_ws: Workspace) -> None:
    put(any_ws)
    lease = Worker(any_ws, {}).take()
    assert lease is not None
    any_ws.write(lambda tx: jobs.hold(tx, lease))
    jobs.cancel(any_ws, lease.job.id, reason="stop")
    with pytest.raises(LostLease, match="Nothing of this change was kept"):
        any_ws.write(lambda tx: jobs.hold(tx, lease))


def test_a_job_whose_workers_keep_dying_is_given_up(any_ws: Workspace) -> None:
    job_id = put(any_ws, max_attempts=2)
    worker = Worker(any_ws, {})
    for _ in range(2):
        assert worker.take() is not None
        end_leases(any_ws)
    assert worker.take() is None
    assert "stopped answering at attempt 2 of 2" in (jobs.job(any_ws, job_id).error or "")


def test_heartbeats_keep_a_long_job_from_being_taken_over(ws: Workspace) -> None:
    put(ws)
    started, go_on = threading.Event(), threading.Event()

    def long_job(_ws: Workspace, _lease: Lease) -> str:
        started.set()
        go_on.wait(30)
        return "done"

    worker = Worker(ws, {"work": long_job}, lease_s=0.3)
    thread = threading.Thread(target=worker.run_one)
    thread.start()
    assert started.wait(10)
    first = jobs.jobs_of(ws)[0].lease_until
    assert first is not None
    deadline = threading.Event()
    while (renewed := jobs.jobs_of(ws)[0].lease_until) is not None and (
        renewed - first
    ).total_seconds() < 0.5:
        assert Worker(ws, {}).take() is None
        deadline.wait(0.05)
    go_on.set()
    thread.join()
    assert jobs.jobs_of(ws)[0].result == "done"
