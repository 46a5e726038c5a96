from __future__ import annotations

import pytest

from everloop import jobs
from everloop.errors import Conflict, NotFound
from everloop.storage import Tx
from everloop.workspace import Workspace


def put(ws: Workspace, kind: str = "work", *, once_key: str | None = None) -> str:
    return ws.write(lambda tx: jobs.put(ws, tx, kind, {"n": 1}, reason="a test", once_key=once_key))


def test_a_job_waits_with_its_reason(any_ws: Workspace) -> None:
    found = jobs.job(any_ws, put(any_ws))
    assert (found.state, found.reason, found.payload, found.put_at) == (
        "waiting",
        "a test",
        {"n": 1},
        any_ws.now(),
    )
    assert jobs.waiting(any_ws) == 1


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
