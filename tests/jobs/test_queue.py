from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from everloop import jobs, ledger
from everloop.errors import Conflict, Invalid, NotFound, NotReady
from everloop.jobs import Lane, Lease, Worker, queue, store
from everloop.storage import Tx, wall_of
from everloop.workspace import Workspace
from tests.conftest import simulation


def put(
    ws: Workspace, kind: str = "work", *, once_key: str | None = None, lane: str = "", priority: int = 0
) -> str:
    return ws.write(
        lambda tx: jobs.put(
            ws, tx, kind, {"n": 1}, reason="a test", once_key=once_key, lane=lane, priority=priority
        )
    )


def limit(ws: Workspace, *lanes: Lane, **pools: int) -> None:
    ws.write(lambda tx: jobs.set_limits(tx, lanes, pools))


def taken(ws: Workspace, at_most: int) -> list[str]:
    """The jobs that a worker is given, as long as none ends."""
    leases = [Worker(ws, {}).take() for _ in range(at_most)]
    return [lease.job.id for lease in leases if lease is not None]


def wait(ws: Workspace, job_id: str, by: timedelta) -> None:
    """What time would do to a job's rank."""
    table = store.jobs

    def change(tx: Tx) -> None:
        rank = tx.wall() - by
        tx.execute(sa.update(table).where(table.c.id == job_id).values(rank_at=rank))

    ws.write(change)


def test_a_job_waits_with_its_reason(any_ws: Workspace) -> None:
    found = jobs.job(any_ws, put(any_ws))
    assert (found.state, found.reason, found.payload, found.put_at) == (
        "waiting",
        "a test",
        {"n": 1},
        any_ws.now(),
    )
    assert jobs.is_waiting(any_ws)


def test_a_job_goes_with_its_cause(any_ws: Workspace) -> None:
    def fails(tx: Tx) -> None:
        jobs.put(any_ws, tx, "work", {}, reason="never happened")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        any_ws.write(fails)
    assert jobs.jobs_of(any_ws) == []


def test_one_cause_puts_one_job(any_ws: Workspace) -> None:
    assert put(any_ws, once_key="drift of week 3") == put(any_ws, once_key="drift of week 3")
    assert len(jobs.jobs_of(any_ws)) == 1
    found = jobs.find(any_ws, "drift of week 3")
    assert found is not None


def test_a_cancelled_job_is_not_taken(any_ws: Workspace) -> None:
    job_id = put(any_ws)
    jobs.cancel(any_ws, job_id, reason="not needed")
    assert jobs.Worker(any_ws, {}).take() is None
    assert jobs.job(any_ws, job_id).error == "not needed"
    with pytest.raises(Conflict, match="has ended"):
        jobs.cancel(any_ws, job_id, reason="again")


def test_an_unknown_job_is_not_found(ws: Workspace) -> None:
    with pytest.raises(NotFound, match="everloop jobs list"):
        jobs.job(ws, "job_none")


def test_jobs_are_listed_newest_first_by_kind_and_state(ws: Workspace) -> None:
    first, second = put(ws, "a"), put(ws, "b")
    assert [job.id for job in jobs.jobs_of(ws)] == [second, first]
    assert [job.id for job in jobs.jobs_of(ws, kind="a")] == [first]
    assert jobs.jobs_of(ws, states=["done"]) == []


def test_a_higher_priority_is_taken_first_and_equal_ones_in_their_order(any_ws: Workspace) -> None:
    low, first, second, high = (put(any_ws, priority=one) for one in (-1, 0, 0, 5))
    assert taken(any_ws, 4) == [high, first, second, low]


def test_what_waits_long_enough_comes_before_any_priority(any_ws: Workspace) -> None:
    old = put(any_ws)
    wait(any_ws, old, queue.AGEING * 5 + timedelta(seconds=1))
    newer = put(any_ws, priority=5)
    assert taken(any_ws, 2) == [old, newer]


@pytest.mark.parametrize("priority", [1_001, -1_001, 1.5, True])
def test_a_priority_out_of_bounds_is_refused(ws: Workspace, priority: int) -> None:
    with pytest.raises(Invalid, match="a whole number from -1,000 to 1,000"):
        put(ws, priority=priority)


def test_a_full_lane_lets_others_by_and_its_next_job_follows_when_one_ends(any_ws: Workspace) -> None:
    limit(any_ws, Lane("a", 1))
    first, second, other = put(any_ws, lane="a"), put(any_ws, lane="a"), put(any_ws)
    worker = Worker(any_ws, {"work": lambda _ws, _lease: None})
    lease = worker.take()
    assert lease is not None
    assert lease.job.id == first
    assert taken(any_ws, 2) == [other]
    assert not jobs.is_waiting(any_ws)
    worker.run(lease)
    assert taken(any_ws, 2) == [second]


def test_lanes_share_the_places_of_their_pool(any_ws: Workspace) -> None:
    limit(any_ws, Lane("a", None, pool="gpu"), Lane("b", None, pool="gpu"), gpu=2)
    ids = [put(any_ws, lane=lane) for lane in ("a", "b", "a")]
    assert taken(any_ws, 3) == ids[:2]


def test_many_workers_that_look_at_once_never_run_more_than_a_lane_lets(any_ws: Workspace) -> None:
    limit(any_ws, Lane("a", 2))
    for _ in range(12):
        put(any_ws, lane="a")
    running, most, guard = [0], [0], threading.Lock()

    def work(_ws: Workspace, _lease: Lease) -> None:
        with guard:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.02)
        with guard:
            running[0] -= 1

    def run() -> None:
        while jobs.jobs_of(any_ws, states=["waiting"], limit=1):
            Worker(any_ws, {"work": work}).run_until_idle()

    threads = [threading.Thread(target=run) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [2]
    assert len(jobs.jobs_of(any_ws, states=["done"])) == 12


def test_a_take_that_is_not_committed_yet_holds_its_place(tmp_path: Path, postgres_url: str) -> None:
    """On PostgreSQL another worker may see a job that was put meanwhile, but not yet that the lane is full."""
    with simulation(tmp_path / "home", database_url=postgres_url) as ws:
        limit(ws, Lane("a", 1))
        put(ws, lane="a")
        has_taken, may_commit = threading.Event(), threading.Event()

        def take_slowly() -> None:
            def change(tx: Tx) -> None:
                assert Worker(ws, {})._take(tx) is not None
                has_taken.set()
                may_commit.wait(20)

            ws.write(change)

        second: list[Lease | None] = []
        slow = threading.Thread(target=take_slowly)
        quick = threading.Thread(target=lambda: second.append(Worker(ws, {}).take()))
        slow.start()
        assert has_taken.wait(20)
        put(ws, lane="a", priority=5)
        quick.start()
        quick.join(0.5)  # it waits for the first; without a lock it has the second job by now
        may_commit.set()
        slow.join()
        quick.join()
        assert second == [None]


def test_a_lane_that_refuses_says_what_is_in_its_way(any_ws: Workspace) -> None:
    limit(any_ws, Lane("a", 1, "refuse"))
    first = put(any_ws, lane="a")
    with pytest.raises(NotReady, match=f"refuses more, and {first} is there. Try again when it has ended"):
        put(any_ws, lane="a")
    assert len(jobs.jobs_of(any_ws)) == 1


def test_a_newer_job_takes_the_place_of_the_oldest_where_the_lane_says_so(any_ws: Workspace) -> None:
    limit(any_ws, Lane("a", 2, "cancel_oldest"))
    first, second, third = (put(any_ws, lane="a") for _ in range(3))
    assert [jobs.job(any_ws, one).state for one in (first, second, third)] == [
        "cancelled",
        "waiting",
        "waiting",
    ]
    assert "a newer job took its place" in str(jobs.job(any_ws, first).error)


def test_limits_that_are_lifted_let_what_waits_go(any_ws: Workspace) -> None:
    limit(any_ws, Lane("a", 1))
    ids = [put(any_ws, lane="a") for _ in range(2)]
    assert taken(any_ws, 2) == ids[:1]
    limit(any_ws)
    assert jobs.all_lanes(any_ws) == []
    assert taken(any_ws, 1) == ids[1:]


def test_it_is_told_why_a_job_waits(ws: Workspace) -> None:
    limit(ws, Lane("a", 1), Lane("b", None, pool="gpu"), Lane("c", None, pool="gpu"), gpu=1)
    running = [put(ws, lane="a"), put(ws, lane="b")]
    full, pooled = put(ws, lane="a"), put(ws, lane="c")
    assert taken(ws, 2) == running
    free = put(ws)
    told = jobs.why_waiting(ws, jobs.jobs_of(ws))
    assert told == {
        free: "waits for a worker: 'everloop up' starts one, 'everloop work' is one",
        full: f"a runs 1 at once at most: {running[0]}",
        pooled: f"the pool gpu is full: {running[1]}",
    }
    assert jobs.ahead(ws, put(ws, lane="a")) == 1


@pytest.mark.parametrize(
    ("lane", "told"),
    [
        (Lane("a", 0), "1 or more"),
        (Lane("a", 1, pool="gpu"), "the pool 'gpu', which there is not"),
        (Lane("a", None, "refuse"), "State at_most"),
    ],
)
def test_limits_that_make_no_sense_are_refused(ws: Workspace, lane: Lane, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        limit(ws, lane)


def test_who_cancelled_a_job_is_recorded(ws: Workspace) -> None:
    jobs.cancel(ws.acting_as("alice"), put(ws), reason="wrong data")
    assert [(one.actor, one.act) for one in ledger.entries(ws)][-1:] == [("alice", "jobs.cancel")]


@pytest.mark.parametrize("waiting", [3_000])
def test_the_next_job_is_found_without_a_look_at_those_that_wait_in_full_lanes(
    any_ws: Workspace, waiting: int
) -> None:
    limit(any_ws, Lane("a", 1))
    first = put(any_ws, lane="a")
    assert taken(any_ws, 1) == [first]
    row = {"kind": "work", "payload": {}, "reason": "", "state": "waiting", "attempts": 0, "max_attempts": 3}

    def crowd(tx: Tx) -> None:
        now = tx.wall()
        times = {"put_at": now, "due_at": now, "rank_at": now}
        rows = [{**row, **times, "id": f"job_{n}", "token": 0, "lane": "a"} for n in range(waiting)]
        tx.execute(sa.insert(store.jobs), rows)

    any_ws.write(crowd)
    if any_ws.database.dialect == "postgresql":
        any_ws.write(lambda tx: tx.execute(sa.text("ANALYZE job")))
    with any_ws.read() as connection:
        heads = store._heads(store.lanes_with_room(connection), wall_of(connection))
        text = str(heads.compile(connection, compile_kwargs={"literal_binds": True}))
        prefix = "EXPLAIN" if any_ws.database.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
        plan = "\n".join(map(str, connection.execute(sa.text(f"{prefix} {text}")).all()))
    assert "ix_job_queue" in plan
    assert "Seq Scan on job " not in plan
    assert "SCAN job" not in plan.replace("SCAN job_lane", "")
