from __future__ import annotations

import math
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everloop import tracking
from everloop.errors import Invalid, NotFound
from everloop.storage import Tx
from everloop.tracking import (
    DatasetInput,
    LoggedDataset,
    MetricPoint,
    RunModel,
    parse_filter,
    parse_orders,
    queries,
    store,
)
from everloop.tracking.inputs import CONTEXT_TAG
from everloop.tracking.searching import RUN_GRAMMAR
from everloop.workspace import Workspace
from tests.conftest import START

REUSED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


def begin(ws: Workspace, name: str, *, minutes: int = 0, **metrics: float) -> str:
    run = tracking.start_client_run(
        ws, 0, name=name, started_at=START + timedelta(minutes=minutes), client_user=f"{name}-user"
    )
    if metrics:
        tracking.log_metrics(ws, run.id, metrics)
    return run.id


def names(ws: Workspace, filter_text: str = "", *order_by: str, view: tracking.View = "active") -> list[str]:
    page = tracking.search_runs(ws, experiment_ids=[0], filter_text=filter_text, order_by=order_by, view=view)
    return [found.run.name for found in page.found]


@pytest.fixture
def three(any_ws: Workspace) -> Workspace:
    """Runs `a`, `b` and `c`, a minute apart, each with something of its own."""
    ws = any_ws
    a, b = begin(ws, "a", loss=0.5, acc=0.8), begin(ws, "b", minutes=1, loss=math.nan, acc=0.9)
    c = begin(ws, "c", minutes=2, acc=math.inf)
    tracking.log_params(ws, a, {"lr": "0.1", "long name": "x"})
    tracking.log_params(ws, b, {"lr": "0.10"})
    tracking.log_tags(ws, a, {"team": "Vision"})
    tracking.log_tags(ws, b, {"team": "vision 100%", tracking.PARENT_TAG: a})
    tracking.change_run(ws, c, status="failed", ended_at=START + timedelta(minutes=5))
    rows = LoggedDataset("rows", "d1", "local", "{}", schema="{}")
    tracking.log_inputs(ws, a, [DatasetInput(rows, {CONTEXT_TAG: "train"})])
    tracking.log_inputs(ws, b, [DatasetInput(rows, {CONTEXT_TAG: "test"})], models=[RunModel("m-1", "input")])
    return ws


@pytest.mark.parametrize(
    ("filter_text", "expected"),
    [
        ("", "cba"),
        ("metrics.acc > 0.8", "cb"),
        ("metrics.acc >= 0.8 AND metrics.acc < 1", "ba"),
        ("metrics.acc != 0.9", "ca"),
        ("metrics.loss > 0", "a"),  # NaN is neither above nor below
        ("metrics.loss != 7", "a"),
        ("metrics.acc > 1e308", "c"),
        ("params.lr = '0.1'", "a"),
        ("params.lr != '0.1'", "b"),
        ("params.`long name` = 'x'", "a"),
        ("params.lr LIKE '0.1%'", "ba"),
        ("params.lr IS NULL", "c"),
        ("params.lr IS NOT NULL", "ba"),
        ("tags.team LIKE 'vis%'", "b"),
        ("tags.team LIKE 'VIS%'", ""),
        ("tags.team ILIKE 'VIS%'", "ba"),
        ("tags.team LIKE '_ision'", "a"),
        ("tags.team LIKE '%100%'", "b"),
        ("tags.team LIKE '[V]%'", ""),  # no sign but % and _ means anything
        ("tags.team LIKE '*'", ""),
        ("tags.mlflow.runName = 'b'", "b"),
        ("tags.mlflow.parentRunId IS NULL", "ca"),
        ("tags.mlflow.parentRunId LIKE '%'", "b"),
        ("status = 'FAILED'", "c"),
        ("attributes.status IN ('RUNNING', 'KILLED')", "ba"),
        ("run_name NOT IN ('a')", "cb"),
        ("user_id = 'a-user'", "a"),
        ("artifact_uri LIKE 'mlflow-artifacts:/0/%/artifacts'", "cba"),
        ("start_time = 1788220860000", "b"),
        ("start_time > 1788220860000", "c"),
        ("start_time >= 1788220860000", "cb"),
        ("start_time < 1788220860000.5", "ba"),
        ("start_time != 1788220860000", "ca"),
        ("start_time < 1" + "0" * 300, "cba"),
        ("end_time > 0", "c"),
        ("dataset.name = 'rows'", "ba"),
        ("dataset.context = 'train' AND dataset.digest = 'd1'", "a"),
        ("dataset.name LIKE 'ROWS'", ""),
        ("tags.team = 'Vision' AND metrics.acc > 0.5 AND params.lr = '0.1' AND dataset.name = 'rows'", "a"),
    ],
)
def test_a_filter_finds_the_runs_that_meet_it(three: Workspace, filter_text: str, expected: str) -> None:
    assert "".join(names(three, filter_text)) == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("metrics.acc DESC", "cba"),
        ("metrics.acc ASC", "abc"),
        ("metrics.loss DESC", "abc"),  # numbers, NaN, then none
        ("metrics.loss ASC", "abc"),
        ("params.lr DESC", "bac"),
        ("tags.team", "abc"),
        ("start_time ASC", "abc"),
        ("end_time DESC", "cba"),
        ("tags.mlflow.runName DESC", "cba"),
        ("run_name", "abc"),
    ],
)
def test_runs_come_in_order_and_those_without_a_value_last(
    three: Workspace, order: str, expected: str
) -> None:
    assert "".join(names(three, "", order)) == expected


def test_a_run_is_found_by_its_id(three: Workspace) -> None:
    found = tracking.search_runs(three, experiment_ids=[0]).found
    wanted = found[1].run.mlflow_id
    assert names(three, f"run_id = '{wanted}'") == ["b"]
    assert names(three, f"run_id NOT IN ('{wanted}')") == ["c", "a"]


def test_a_run_is_found_with_all_that_belongs_to_it(three: Workspace) -> None:
    (found,) = tracking.search_runs(three, experiment_ids=[0], filter_text="run_name = 'b'").found
    assert [(one.name, one.step) for one in found.latest] == [("acc", 0), ("loss", 0)]
    assert math.isnan(found.run.metrics["loss"])
    assert (found.datasets[0].dataset.name, found.datasets[0].tags) == ("rows", {CONTEXT_TAG: "test"})
    assert found.models == [RunModel("m-1", "input")]
    assert found == tracking.found_run(three, found.run.id) or math.isnan(found.latest[1].value)


def test_deleted_runs_are_found_when_asked_for(any_ws: Workspace) -> None:
    kept, gone = begin(any_ws, "kept"), begin(any_ws, "gone")
    tracking.delete_run(any_ws, gone)
    assert (names(any_ws), names(any_ws, view="deleted")) == (["kept"], ["gone"])
    assert sorted(names(any_ws, view="all")) == ["gone", "kept"]
    tracking.restore_run(any_ws, gone)
    assert len(names(any_ws)) == 2
    assert tracking.run(any_ws, kept).deleted_at is None


def test_pages_follow_each_other_until_the_end(any_ws: Workspace) -> None:
    for number in range(5):
        begin(any_ws, str(number), minutes=number)
    seen, token = [], None
    while True:
        page = tracking.search_runs(any_ws, experiment_ids=[0], limit=2, token=token)
        seen += [found.run.name for found in page.found]
        if (token := page.next_token) is None:
            break
    assert seen == ["4", "3", "2", "1", "0"]


@pytest.mark.parametrize(
    "token", ["junk", "=", "é", "x" * 10_000, "YXQgLTE=", "YXQgOTk5OTk5OTk5OTk5OTk5", "bm8gMQ=="]
)
def test_a_token_that_is_none_is_refused(ws: Workspace, token: str) -> None:
    run = begin(ws, "a", loss=1.0)
    for search in (
        lambda: tracking.search_runs(ws, experiment_ids=[0], token=token),
        lambda: tracking.search_experiments(ws, token=token),
        lambda: tracking.history_page(ws, run, "loss", limit=1, token=token),
    ):
        with pytest.raises(Invalid, match="no page token of this server"):
            search()


@pytest.mark.parametrize("limit", [0, -1, 50_001])
def test_a_page_has_a_size_within_bounds(ws: Workspace, limit: int) -> None:
    with pytest.raises(Invalid, match="a page has 1 to 50,000"):
        tracking.search_runs(ws, experiment_ids=[0], limit=limit)


def test_experiments_are_found_by_filters(any_ws: Workspace) -> None:
    ws = any_ws
    first = tracking.create_experiment(ws, "first", tags={"team": "x"})
    ws.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]  # a simulation's clock
    tracking.create_experiment(ws, "Second", tags={"team": "y"})

    def found(filter_text: str = "", *order_by: str, view: tracking.View = "active") -> list[str]:
        page = tracking.search_experiments(ws, filter_text=filter_text, order_by=order_by, view=view)
        return [one.name for one in page.found]

    assert found() == ["Second", "first", "Default"]
    assert found("tags.team = 'x'") == ["first"]
    assert found("tags.team IS NULL") == ["Default"]
    assert found("name ILIKE 'SEC%'") == ["Second"]
    assert found("experiment_id IN ('0', '1')", "name DESC") == ["first", "Default"]
    assert found("creation_time > 0", "creation_time") == ["first", "Second"]
    tracking.delete_experiment(ws, first.id)
    assert (found(view="deleted"), "first" in found()) == (["first"], False)
    with pytest.raises(Invalid, match="no kind of thing"):
        found("", "tags.team")


NAMES, VALUES = ["a", "b"], [-1.0, 0.0, 0.5, math.inf, math.nan]
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right and not math.isnan(left),
    "<": lambda left, right: left < right,
    ">=": lambda left, right: left >= right,
}


@REUSED
@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(list(OPERATORS)), st.sampled_from([-1, 0, 0.5, 2]))
    ),
    st.sampled_from(["", "metrics.a DESC", "metrics.b ASC"]),
)
def test_a_search_agrees_with_looking_at_each_run(
    any_ws: Workspace, asked: list[tuple[str, str, float]], order: str
) -> None:
    ws = any_ws
    if not names(ws):
        dice = random.Random(7)  # noqa: S311  (values of a test)
        for number in range(40):
            has = {name: dice.choice(VALUES) for name in NAMES if dice.random() < 0.8}
            begin(ws, f"{number:02}", **has)  # type: ignore[arg-type]  # no metric is named minutes
    metrics = {one.run.name: one.run.metrics for one in tracking.search_runs(ws, experiment_ids=[0]).found}
    expected = {
        name
        for name, has in metrics.items()
        if all(key in has and OPERATORS[operator](has[key], value) for key, operator, value in asked)
    }
    told = " AND ".join(f"metrics.{key} {operator} {value}" for key, operator, value in asked)
    found = names(ws, told, *([order] if order else []))
    assert (set(found), len(found)) == (expected, len(expected))
    if order:
        key, direction = order.removeprefix("metrics.").split()
        sign = -1 if direction == "DESC" else 1
        places = [(2, 0.0) if key not in metrics[one] else (1, 0.0) if math.isnan(metrics[one][key])
                  else (0, sign * metrics[one][key]) for one in found]  # fmt: skip
        assert places == sorted(places)


@REUSED
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=30))
def test_any_value_can_be_asked_for_or_is_refused(any_ws: Workspace, text: str) -> None:
    if not names(any_ws):
        begin(any_ws, "a", loss=1.0)
    quoted = "'" + text.replace("'", "''") + "'"
    for ask in (f"tags.x = {quoted}", f"params.x LIKE {quoted}", f"tags.`{text}` ILIKE {quoted}", text):
        with suppress(Invalid):
            names(any_ws, ask)


def test_the_history_of_a_metric_comes_in_pages(any_ws: Workspace) -> None:
    run = begin(any_ws, "a")
    values = [0.1, math.nan, -math.inf, 1e300, 0.1]
    points = [MetricPoint("loss", value, step, START) for step, value in enumerate(values)]
    tracking.log_points(any_ws, run, points)
    seen: list[float] = []
    token: str | None = None
    while True:
        page = tracking.history_page(any_ws, run, "loss", limit=2, token=token)
        seen += [point.value for point in page.found]
        if (token := page.next_token) is None:
            break
    assert repr(seen) == repr(values)


def test_histories_of_runs_are_thinned_evenly_and_keep_their_ends(any_ws: Workspace) -> None:
    long, short = begin(any_ws, "long"), begin(any_ws, "short")
    for run, last in ((long, 1_000), (short, 15)):
        tracking.log_points(any_ws, run, [MetricPoint("loss", 1.0, step, START) for step in range(last)])
    found = tracking.metric_histories(any_ws, [short, long], "loss", at_most=10, limit=10_000)
    steps = {run: [point.step for one, point in found if one == run] for run in (long, short)}
    assert (steps[long][0], steps[long][-1], steps[short][-1]) == (0, 999, 14)
    assert steps[long][:4] == [0, 14, 100, 200]
    between = tracking.metric_histories(any_ws, [long], "loss", steps=(5, 7), limit=10_000)
    assert [point.step for _, point in between] == [5, 6, 7]
    assert len(tracking.metric_histories(any_ws, [long, short], "loss", limit=7)) == 7


def test_a_curve_is_whole_or_thinned_over_steps_or_time(any_ws: Workspace) -> None:
    run = begin(any_ws, "a")
    seconds = [START + timedelta(seconds=second) for second in range(100)]
    points = [MetricPoint("loss", 1.0 * step, step, at) for step, at in enumerate(seconds)]
    points += [MetricPoint("queue", math.nan if i == 5 else 1.0, 0, at) for i, at in enumerate(seconds[:10])]
    points += [MetricPoint("single", 1.0, 3, START)]
    tracking.log_points(any_ws, run, points)
    assert tracking.curved(any_ws, [run]) == ["loss", "queue"]
    whole = tracking.curve(any_ws, run, "queue", at_most=20)
    assert whole is not None
    assert (whole.over, whole.count, whole.means) == ("time", 10, None)
    assert math.isnan(whole.points[5].value)
    thinned = tracking.curve(any_ws, run, "loss", at_most=10)
    assert thinned is not None
    assert [point.step for point in thinned.points][:4] == [0, 19, 20, 39]
    assert thinned.means is not None
    zoomed = tracking.curve(any_ws, run, "loss", between=(3, 5), at_most=10)
    assert zoomed is not None
    assert [point.value for point in zoomed.points] == [3.0, 4.0, 5.0]
    assert tracking.curve(any_ws, run, "loss", between=(200, 300), at_most=10) is None


def test_an_unknown_run_is_not_found(ws: Workspace) -> None:
    with pytest.raises(NotFound, match="there is no run"):
        tracking.found_run(ws, f"run_{'0' * 32}")


@pytest.mark.parametrize(
    ("filter_text", "order", "index"),
    [
        ("", [], "ix_run_experiment_started_at"),
        ("metrics.loss > 0.5", ["metrics.loss DESC"], "ix_run_latest_metric_name_value"),
        ("run_id IN ('0', '1')", ["metrics.loss ASC"], "ix_run_experiment_id (experiment=? AND id=?)"),
    ],
)
def test_a_search_among_many_runs_is_a_range_of_an_index(
    ws: Workspace, filter_text: str, order: list[str], index: str
) -> None:
    def fill(tx: Tx) -> None:
        runs = [
            {"id": f"run_{number:032x}", "experiment": 0, "name": "r", "kind": "run", "status": "finished",
             "actor": "x", "started_at": START + timedelta(seconds=number)}
            for number in range(3_000)
        ]  # fmt: skip
        tx.execute(sa.insert(store.run_table), runs)
        latest = [
            {"run": run["id"], "name": "loss", "step": 0, "at": START, "value": number / 3_000}
            for number, run in enumerate(runs)
        ]
        tx.execute(sa.insert(store.latest_metrics), latest)
        tx.execute(sa.text("ANALYZE"))

    ws.write(fill)
    search = queries._Search("sqlite", [0])
    for condition in parse_filter(filter_text, RUN_GRAMMAR):
        search.narrow(condition)
    for one in parse_orders(order, RUN_GRAMMAR):
        search.sort(one)
    statement = search.statement("active").limit(100)
    with ws.read() as connection:

        @sa.event.listens_for(connection, "before_cursor_execute", retval=True)
        def explain(_c: Any, _cursor: Any, text: str, given: Any, _context: Any, _many: bool) -> Any:
            return f"EXPLAIN QUERY PLAN {text}", given

        plans = [row[3] for row in connection.execute(statement).all()]
    assert any(index in plan for plan in plans), plans
    assert not any(plan.startswith("SCAN run") for plan in plans), plans
