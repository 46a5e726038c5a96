"""Traces: written down when they have ended, found, tagged, deleted, and removed with their files."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from everloop import governance, tracking
from everloop.errors import Conflict, Invalid, NotFound
from everloop.tracking import Condition, Key, Trace, trace_store
from everloop.workspace import Workspace
from tests.conftest import START

AT_MS = int(START.timestamp() * 1_000)


def id_of(number: int) -> str:
    return f"tr-{number:032x}"


def log(ws: Workspace, number: int, *, experiment: int = 0, **said: Any) -> Trace:
    """A trace that began so many seconds after the start, took as many tenths of a second, and has its spans."""
    told = Trace(
        id=id_of(number),
        experiment_id=experiment,
        state="OK",
        started_at=START + timedelta(seconds=number),
        duration_ms=100 * number,
        request=f"question {number}",
        response=None,
        client_request_id=f"c{number}",
        tags={"mlflow.traceName": f"answer {number % 2}", "team": "a"},
        metadata={"mlflow.sourceRun": f"run{number}"},
    )
    made = tracking.log_trace(ws, replace(told, **said))
    tracking.log_artifact(ws, made.id, "traces.json", f"spans {number}".encode())
    return made


def found(ws: Workspace, asked: str = "", *order: str, **paging: Any) -> list[int]:
    page = tracking.search_traces(ws, experiment_ids=[0], filter_text=asked, order_by=order, **paging)
    return [int(one.id[3:], 16) for one in page.found]


@pytest.fixture
def five(any_ws: Workspace) -> Workspace:
    for number in range(1, 6):
        said: dict[str, Any] = {"state": "ERROR", "duration_ms": None, "tags": {}} if number == 4 else {}
        log(any_ws, number, **said)
    return any_ws


def test_each_form_of_the_filter_finds_the_traces_that_meet_it(five: Workspace) -> None:
    for asked, numbers in {
        "": [5, 4, 3, 2, 1],
        "trace.status = 'ERROR'": [4],
        "attributes.status != 'ERROR' AND tags.team = 'a'": [5, 3, 2, 1],
        f"timestamp_ms > {AT_MS + 2_000}": [5, 4, 3],
        f"trace.timestamp = {AT_MS + 2_000}": [2],
        "execution_time_ms >= 300": [5, 3],
        f"end_time_ms <= {AT_MS + 2_200}": [2, 1],
        "name = 'answer 0'": [2],
        "attribute.name LIKE 'answer%'": [5, 3, 2, 1],
        "attribute.run_id IN ('run1', 'run5')": [5, 1],
        "request_metadata.`mlflow.sourceRun` = 'run3'": [3],
        "metadata.other IS NULL AND tags.team IS NULL": [4],
        "client_request_id = 'c2'": [2],
        f"request_id = '{id_of(1)}'": [1],
    }.items():
        assert found(five, asked) == numbers, asked
    assert found(five, "", "execution_time_ms ASC") == [1, 2, 3, 5, 4]
    assert found(five, "", "name DESC", "timestamp_ms ASC") == [1, 3, 5, 2, 4]


@pytest.mark.parametrize(
    "asked", ["span.name = 'x'", "feedback.ok = 'yes'", "text LIKE '%x%'", "tags.a RLIKE 'x'", "status"]
)
def test_what_cannot_be_asked_is_refused(ws: Workspace, asked: str) -> None:
    with pytest.raises(Invalid):
        found(ws, asked)


def test_a_search_comes_in_pages(five: Workspace) -> None:
    first = tracking.search_traces(five, experiment_ids=[0], limit=3)
    rest = tracking.search_traces(five, experiment_ids=[0], limit=3, token=first.next_token)
    assert [len(first.found), len(rest.found), rest.next_token] == [3, 2, None]
    assert found(five, limit=50_000) == [5, 4, 3, 2, 1]


def test_saying_a_trace_again_replaces_what_was_said_and_keeps_its_files(any_ws: Workspace) -> None:
    log(any_ws, 1)
    tracking.tag_trace(any_ws, id_of(1), "team", "b")
    again = replace(tracking.trace(any_ws, id_of(1)), state="ERROR", tags={"team": "c", "more": "x"})
    assert tracking.log_trace(any_ws, again).tags == {
        "mlflow.traceName": "answer 1",
        "team": "c",
        "more": "x",
    }
    assert tracking.trace(any_ws, id_of(1)).state == "ERROR"
    assert tracking.read_artifact(any_ws, id_of(1), "traces.json") == b"spans 1"


def test_tags_change_and_go(ws: Workspace) -> None:
    log(ws, 1)
    tracking.untag_trace(ws, id_of(1), "team")
    assert "team" not in tracking.trace(ws, id_of(1)).tags
    with pytest.raises(NotFound, match="has no tag 'team'"):
        tracking.untag_trace(ws, id_of(1), "team")
    with pytest.raises(NotFound):
        tracking.tag_trace(ws, id_of(2), "team", "a")


def test_deleted_traces_are_not_found_and_nobody_reads_their_files(five: Workspace) -> None:
    assert tracking.delete_traces(five, 0, trace_ids=[id_of(1), id_of(9)]) == 1
    assert tracking.delete_traces(five, 0, until=START + timedelta(seconds=4), most=2) == 2
    assert found(five) == [5, 4]
    with pytest.raises(NotFound):
        tracking.trace(five, id_of(1))
    with pytest.raises(NotFound):
        tracking.open_artifact(five, id_of(1), "traces.json")
    with pytest.raises(NotFound):
        tracking.log_artifact(five, id_of(1), "traces.json", b"")
    with pytest.raises(Conflict, match="deleted or in another experiment"):
        log(five, 1)


@pytest.mark.parametrize(
    "asked", [{}, {"trace_ids": [id_of(1)], "until": START}, {"until": START, "most": 0}]
)
def test_what_to_delete_is_said_in_one_way(ws: Workspace, asked: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        tracking.delete_traces(ws, 0, **asked)


def test_cleaning_removes_deleted_traces_with_the_files_that_they_alone_have(five: Workspace) -> None:
    log(five, 6)
    tracking.log_artifact(five, id_of(6), "traces.json", b"spans 1")
    tracking.delete_traces(five, 0, trace_ids=[id_of(1), id_of(2)])
    gone = {one.path: one.digest for one in tracking.files_of(five, [id_of(2)])}["traces.json"]
    planned = governance.clean_runs(five, dry_run=True)
    assert (planned.traces, planned.files) == (2, 1), "the first has its spans in common with the sixth"
    assert governance.clean_runs(five) == planned
    assert gone not in set(five.blobs)
    assert tracking.read_artifact(five, id_of(6), "traces.json") == b"spans 1"
    assert governance.clean_runs(five).traces == 0


def test_traces_go_and_come_back_with_their_experiment(any_ws: Workspace) -> None:
    number = tracking.create_experiment(any_ws, "questions").id
    log(any_ws, 1, experiment=number)
    log(any_ws, 2, experiment=number)
    tracking.delete_traces(any_ws, number, trace_ids=[id_of(2)])
    any_ws.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]  # a simulation's
    tracking.delete_experiment(any_ws, number)
    with pytest.raises(NotFound):
        tracking.trace(any_ws, id_of(1))
    tracking.restore_experiment(any_ws, number)
    assert [one.id for one in tracking.search_traces(any_ws, experiment_ids=[number]).found] == [id_of(1)]
    tracking.delete_experiment(any_ws, number)
    assert governance.clean_runs(any_ws).traces == 2
    with pytest.raises(NotFound):
        tracking.experiment(any_ws, number)


@pytest.mark.parametrize(
    "said",
    [
        {"id": "../../../planted"},
        {"id": "tr-" + "A" * 32},
        {"id": "tr-" + "0" * 31},
        {"request": "x" * 10_001},
        {"response": "x" * 10_001},
        {"client_request_id": "x" * 251},
        {"duration_ms": -1},
        {"tags": {f"t{number}": "x" for number in range(201)}},
        {"tags": {"t": "x" * 8_001}},
        {"metadata": {"m": "x" * 8_001}},
        {"metadata": {"m" * 251: "x"}},
    ],
)
def test_a_trace_over_a_limit_is_refused(ws: Workspace, said: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        log(ws, 1, **said)
    assert found(ws) == []


def test_the_newest_traces_of_an_experiment_are_read_in_the_order_of_an_index(ws: Workspace) -> None:
    plan: list[str] = []
    conditions = [Condition(Key("tag", "team"), "=", "a")]
    with ws.read() as connection:

        @sa.event.listens_for(connection, "before_cursor_execute")
        def note(_c: object, cursor: object, statement: str, parameters: object, *_rest: object) -> None:
            steps = cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[attr-defined]
            plan.extend(str(step[3]) for step in steps)

        trace_store.found_traces(connection, conditions, [], experiment_ids=[0], offset=0, limit=100)
    assert plan[0] == "SEARCH trace USING INDEX ix_trace_experiment_started_at (experiment=?)"
    assert any("USING" in step and "(trace=? AND kind=? AND name=?)" in step for step in plan)
