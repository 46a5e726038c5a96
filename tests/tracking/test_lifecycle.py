from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from everloop import tracking
from everloop.clock import SimulatedClock
from everloop.errors import Conflict, EverloopError, Invalid, NotFound
from everloop.ids import new_id
from everloop.ledger import Node, downstream, upstream
from everloop.storage import Tx
from everloop.tracking import store
from everloop.workspace import Workspace

UNKNOWN = "run_" + "0" * 32


def test_every_workspace_begins_with_the_default_experiment(ws: Workspace) -> None:
    assert [(one.id, one.name, one.created_at) for one in tracking.experiments(ws)] == [(0, "Default", None)]


def test_a_run_is_found_again_as_it_was_started(any_ws: Workspace) -> None:
    begun = tracking.start_run(any_ws, name="first", tags={"team": "search"})
    assert tracking.run(any_ws, begun.id) == begun
    assert (begun.experiment, begun.kind, begun.status, begun.actor) == (
        "Default",
        "run",
        "running",
        "tester",
    )
    assert begun.started_at == any_ws.now()


def test_mlflow_sees_a_run_under_32_hex_digits(ws: Workspace) -> None:
    begun = tracking.start_run(ws)
    assert len(begun.mlflow_id) == 32
    assert begun.id == f"run_{begun.mlflow_id}"
    assert begun.name == f"run-{begun.mlflow_id[-8:]}"


def test_an_experiment_is_made_by_its_first_run(any_ws: Workspace) -> None:
    for name in ("category", "price", "category"):
        tracking.start_run(any_ws, experiment=name)
    found = [(one.id, one.name) for one in tracking.experiments(any_ws)]
    assert found == [(0, "Default"), (1, "category"), (2, "price")]


def test_many_at_a_time_make_one_experiment_and_lose_no_metric(any_ws: Workspace) -> None:
    def train(number: int) -> None:
        run_id = tracking.start_run(any_ws, experiment="crowd").id
        for step in range(5):
            values = {"shared": step + number, f"own {number}": step}
            tracking.log_metrics(any_ws, run_id, values, step=step)
            tracking.log_metrics(any_ws, together, values, step=step)

    together = tracking.start_run(any_ws).id
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(train, range(8)))
    assert [one.name for one in tracking.experiments(any_ws)] == ["Default", "crowd"]
    assert len(tracking.runs(any_ws, experiment="crowd")) == 8
    assert len(tracking.metric_history(any_ws, together, "shared")) == 40
    assert len(tracking.run(any_ws, together).metrics) == 9


def test_a_run_ends_once(any_ws: Workspace) -> None:
    run_id = tracking.start_run(any_ws).id
    _advance(any_ws, hours=2)
    tracking.finish_run(any_ws, run_id)
    tracking.finish_run(any_ws, run_id)
    found = tracking.run(any_ws, run_id)
    assert (found.status, found.ended_at) == ("finished", any_ws.now())
    with pytest.raises(Conflict, match="is finished and cannot end as failed"):
        tracking.finish_run(any_ws, run_id, "failed")


def test_a_failed_run_says_why_and_can_go_on(ws: Workspace) -> None:
    run_id = tracking.start_run(ws).id
    tracking.finish_run(ws, run_id, "failed", error="Traceback ... ValueError: no rows")
    assert tracking.run(ws, run_id).error == "Traceback ... ValueError: no rows"
    going_on = tracking.resume_run(ws, run_id)
    assert (going_on.status, going_on.error, going_on.ended_at) == ("running", None, None)
    tracking.finish_run(ws, run_id)


def test_running_is_no_end(ws: Workspace) -> None:
    with pytest.raises(Invalid, match="no end of a run"):
        tracking.finish_run(ws, tracking.start_run(ws).id, "running")


@pytest.mark.parametrize(
    "act",
    [
        lambda ws: tracking.run(ws, UNKNOWN),
        lambda ws: tracking.run(ws, "what"),
        lambda ws: tracking.finish_run(ws, UNKNOWN),
        lambda ws: tracking.resume_run(ws, UNKNOWN),
        lambda ws: tracking.start_run(ws, parent=UNKNOWN),
        lambda ws: tracking.log_params(ws, UNKNOWN, {"c": 1}),
        lambda ws: tracking.log_tags(ws, UNKNOWN, {"c": "1"}),
        lambda ws: tracking.log_metrics(ws, UNKNOWN, {"c": 1}),
        lambda ws: tracking.metric_history(ws, UNKNOWN, "loss"),
        lambda ws: tracking.log_artifact(ws, UNKNOWN, "a.txt", b""),
        lambda ws: tracking.artifacts(ws, UNKNOWN),
    ],
)
def test_an_unknown_run_is_not_found(ws: Workspace, act: object) -> None:
    with pytest.raises(NotFound, match="there is no run"):
        act(ws)  # type: ignore[operator]  # a lambda for each verb


def test_a_run_may_be_started_under_an_id_made_before(ws: Workspace) -> None:
    run_id = new_id("run")
    assert tracking.start_run(ws, run_id=run_id).id == run_id
    with pytest.raises(Conflict, match="there is a run"):
        tracking.start_run(ws, run_id=run_id)
    with pytest.raises(Invalid, match="no run's id"):
        tracking.start_run(ws, run_id=new_id("job"))


@pytest.mark.parametrize("name", ["x" * 501, "two\nlines", "\0"])
def test_a_name_that_cannot_be_stored_is_refused_and_nothing_is_kept(ws: Workspace, name: str) -> None:
    for arguments in ({"name": name}, {"experiment": name}, {"tags": {name: "x"}}):
        with pytest.raises(Invalid, match=r"1 to (250|500) printable characters") as refusal:
            tracking.start_run(ws, **arguments)
        assert len(str(refusal.value)) < 300
    assert tracking.runs(ws) == []


def test_runs_are_listed_newest_first_and_in_pages(any_ws: Workspace) -> None:
    started = [tracking.start_run(any_ws).id for _ in range(5)]
    first = tracking.runs(any_ws, limit=2)
    second = tracking.runs(any_ws, limit=2, before=first[-1].id)
    rest = tracking.runs(any_ws, limit=2, before=second[-1].id)
    assert [run.id for run in first + second + rest] == started[::-1]


def test_runs_are_listed_by_experiment_kind_and_parent(any_ws: Workspace) -> None:
    whole = tracking.start_run(any_ws, experiment="category", kind="pipeline").id
    part = tracking.start_run(any_ws, experiment="category", kind="step", parent=whole).id
    other = tracking.start_run(any_ws).id
    assert [run.id for run in tracking.runs(any_ws, experiment="category")] == [part, whole]
    assert [run.id for run in tracking.runs(any_ws, kind="pipeline")] == [whole]
    assert [run.id for run in tracking.runs(any_ws, parent=whole)] == [part]
    assert [run.id for run in tracking.runs(any_ws, experiment="Default")] == [other]
    assert tracking.runs(any_ws, experiment="nothing") == []


def test_a_listed_run_is_whole(ws: Workspace) -> None:
    run_id = tracking.start_run(ws, tags={"a": "1"}).id
    tracking.log_params(ws, run_id, {"c": 4})
    tracking.log_metrics(ws, run_id, {"macro_f1": 0.9})
    assert tracking.runs(ws) == [tracking.run(ws, run_id)]
    found = tracking.runs(ws)[0]
    assert (found.params, found.metrics, found.tags) == ({"c": "4"}, {"macro_f1": 0.9}, {"a": "1"})


def test_a_run_is_traced_to_its_parent_code_and_environment(ws: Workspace) -> None:
    code = tracking.capture_code(ws, ws.home)
    environment = tracking.capture_environment(ws)
    whole = tracking.start_run(ws, kind="pipeline", code=code, environment=environment)
    part = tracking.start_run(ws, kind="step", parent=whole.id)
    assert {edge.source for edge in upstream(ws, Node("run", part.id))} == {
        Node("run", whole.id),
        Node("code", code.digest),
        Node("environment", environment.digest),
    }
    assert Node("run", part.id) in {edge.target for edge in downstream(ws, Node("code", code.digest))}


def test_a_run_started_in_a_change_that_fails_is_not_kept(ws: Workspace) -> None:
    def change(tx: Tx) -> None:
        begun = tracking.start_run_in(ws, tx, experiment="never")
        tracking.finish_run_in(ws, tx, begun.id)
        raise EverloopError("the change failed")

    with pytest.raises(EverloopError):
        ws.write(change)
    assert tracking.runs(ws) == []
    assert len(tracking.experiments(ws)) == 1


@pytest.mark.parametrize("filters", [{}, {"experiment": "Default"}, {"kind": "step"}, {"parent": UNKNOWN}])
def test_a_page_of_runs_is_a_range_of_an_index(ws: Workspace, filters: dict[str, str]) -> None:
    statements: list[str] = []
    with ws.read() as connection:
        watched = _Watched(connection, statements)
        arguments = {"experiment": None, "kind": None, "parent": None, "tag": None, **filters}
        store.newest_runs(watched, before="run_f", limit=10, **arguments)  # type: ignore[arg-type]
    plan = statements[0]
    assert "SCAN run" not in plan
    assert "TEMP B-TREE" not in plan


def test_runs_are_listed_by_their_start_though_imported_ones_come_later(any_ws: Workspace) -> None:
    days = {
        days: tracking.start_client_run(any_ws, 0, started_at=any_ws.now() - timedelta(days=days)).id
        for days in (3, 9, 0, 5, 5)
    }
    pages: list[str] = []
    while page := tracking.runs(any_ws, before=pages[-1] if pages else None, limit=2):
        pages += [one.id for one in page]
    assert len(set(pages)) == 5
    assert (pages[0], pages[1], pages[4]) == (days[0], days[3], days[9])


def _advance(ws: Workspace, *, hours: int) -> None:
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(hours=hours))


class _Watched:
    """A connection that notes the plan of what it executes (SQLite)."""

    def __init__(self, connection: sa.Connection, plans: list[str]) -> None:
        self._connection = connection
        self._plans = plans

    def execute(self, statement: sa.Select[tuple[object, ...]]) -> sa.CursorResult[tuple[object, ...]]:
        compiled = statement.compile(self._connection, compile_kwargs={"literal_binds": True})
        plan = self._connection.execute(sa.text(f"EXPLAIN QUERY PLAN {compiled}"))
        self._plans.append("\n".join(row.detail for row in plan))
        return self._connection.execute(statement)
