from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everloop import tracking
from everloop.errors import Conflict, Invalid
from everloop.tracking import MetricPoint, store
from everloop.workspace import Workspace


@pytest.fixture
def run_id(any_ws: Workspace) -> str:
    return tracking.start_run(any_ws).id


def values_of(ws: Workspace, run_id: str, name: str = "loss") -> list[float]:
    return [point.value for point in tracking.metric_history(ws, run_id, name)]


def test_parameters_are_kept_as_text(ws: Workspace) -> None:
    run_id = tracking.start_run(ws).id
    tracking.log_params(ws, run_id, {"c": 0.1, "penalty": "l2", "bags": [1, 2], "warm": True, "seed": None})
    assert tracking.run(ws, run_id).params == {
        "c": "0.1", "penalty": "l2", "bags": "[1, 2]", "warm": "true", "seed": "null"
    }  # fmt: skip


def test_a_parameter_may_be_logged_again_but_not_changed(any_ws: Workspace, run_id: str) -> None:
    tracking.log_params(any_ws, run_id, {"c": 1})
    tracking.log_params(any_ws, run_id, {"c": 1, "seed": 0})
    with pytest.raises(Conflict, match=r"'c' of run .* is '1' and cannot become '2'"):
        tracking.log_params(any_ws, run_id, {"extra": "x", "c": 2})
    assert tracking.run(any_ws, run_id).params == {"c": "1", "seed": "0"}


def test_a_tag_may_change(any_ws: Workspace, run_id: str) -> None:
    tracking.log_tags(any_ws, run_id, {"state": "draft", "team": "search"})
    tracking.log_tags(any_ws, run_id, {"state": "kept"})
    assert tracking.run(any_ws, run_id).tags == {"state": "kept", "team": "search"}


@pytest.mark.parametrize("value", [object(), {1, 2}, "x" * 6_001, "a\0b"])
def test_a_parameter_that_cannot_be_stored_is_refused(ws: Workspace, value: object) -> None:
    run_id = tracking.start_run(ws).id
    with pytest.raises(Invalid, match="'c'"):
        tracking.log_params(ws, run_id, {"c": value})


def test_the_newest_value_of_a_metric_is_of_the_highest_step(any_ws: Workspace, run_id: str) -> None:
    for step, value in ((1, 0.5), (10, 0.2), (3, 0.3)):
        tracking.log_metrics(any_ws, run_id, {"loss": value}, step=step)
    assert tracking.run(any_ws, run_id).metrics == {"loss": 0.2}
    assert values_of(any_ws, run_id) == [0.5, 0.3, 0.2]


def test_of_equal_steps_the_later_time_counts_and_then_the_last_logged(
    any_ws: Workspace, run_id: str
) -> None:
    now = any_ws.now()
    tracking.log_metrics(any_ws, run_id, {"loss": 0.5}, at=now + timedelta(seconds=1))
    tracking.log_metrics(any_ws, run_id, {"loss": 0.9}, at=now)
    assert tracking.run(any_ws, run_id).metrics == {"loss": 0.5}
    tracking.log_metrics(any_ws, run_id, {"loss": 0.1}, at=now + timedelta(seconds=1))
    assert tracking.run(any_ws, run_id).metrics == {"loss": 0.1}


def test_every_float_comes_back_as_it_was_and_counts_once(any_ws: Workspace, run_id: str) -> None:
    given_values = [-math.inf, -0.5, 0.0, 5e-324, 1e308, math.inf, math.nan]
    for value in [*given_values, *given_values]:
        tracking.log_metrics(any_ws, run_id, {"loss": value})
        np.testing.assert_equal(tracking.run(any_ws, run_id).metrics["loss"], value)
    np.testing.assert_equal(values_of(any_ws, run_id), given_values)


def test_numbers_of_numpy_are_numbers(ws: Workspace) -> None:
    run_id = tracking.start_run(ws).id
    tracking.log_metrics(ws, run_id, {"a": np.float32(0.5), "b": np.int64(3), "c": True})  # type: ignore[dict-item]
    assert tracking.run(ws, run_id).metrics == {"a": 0.5, "b": 3.0, "c": 1.0}


@pytest.mark.parametrize("value", ["0.5", None, [1.0], 1j, 10**400])
def test_what_is_no_number_is_refused_and_nothing_is_kept(ws: Workspace, value: object) -> None:
    run_id = tracking.start_run(ws).id
    with pytest.raises(Invalid, match="'loss' was given"):
        tracking.log_metrics(ws, run_id, {"fine": 1.0, "loss": value})  # type: ignore[dict-item]
    assert tracking.run(ws, run_id).metrics == {}


@pytest.mark.parametrize("step", [2**63, 1.5, True])
def test_a_step_is_a_whole_number_of_64_bits(ws: Workspace, step: int) -> None:
    with pytest.raises(Invalid, match="at step"):
        tracking.log_metrics(ws, tracking.start_run(ws).id, {"loss": 1.0}, step=step)


@pytest.mark.parametrize("name", ["", "x" * 100_000, "tab\there"])
def test_a_metric_needs_a_plain_name(ws: Workspace, name: str) -> None:
    with pytest.raises(Invalid, match="cannot name a metric"):
        tracking.log_metrics(ws, tracking.start_run(ws).id, {name: 1.0})


def test_a_name_may_be_in_any_script(ws: Workspace) -> None:
    run_id = tracking.start_run(ws).id
    tracking.log_metrics(ws, run_id, {"точность / 精度": 0.9})
    assert tracking.run(ws, run_id).metrics == {"точность / 精度": 0.9}


def test_a_history_is_read_in_pages(any_ws: Workspace, run_id: str) -> None:
    now = any_ws.now()
    points = [MetricPoint("loss", float(value), step, now) for step in range(20) for value in range(3)]
    points.append(MetricPoint("loss", math.nan, 19, now))
    tracking.log_points(any_ws, run_id, points[::-1])
    read: list[MetricPoint] = []
    while page := tracking.metric_history(any_ws, run_id, "loss", after=read[-1] if read else None, limit=7):
        read += page
    np.testing.assert_equal([vars(point) for point in read], [vars(point) for point in points])


def test_a_metric_never_logged_has_no_history(ws: Workspace) -> None:
    run_id = tracking.start_run(ws).id
    assert tracking.metric_history(ws, run_id, "loss") == []


def test_more_points_than_share_a_transaction_are_all_kept(ws: Workspace) -> None:
    run_id = tracking.start_run(ws).id
    points = [MetricPoint("loss", 1 / (step + 1), step, ws.now()) for step in range(12_345)]
    tracking.log_points(ws, run_id, points)
    tracking.log_points(ws, run_id, points[3_000:])
    with ws.read() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(store.metrics)).scalar_one()
    assert count == 12_345
    assert tracking.run(ws, run_id).metrics == {"loss": 1 / 12_345}


def test_metrics_may_be_logged_after_the_run_ended(ws: Workspace) -> None:
    run_id = tracking.start_run(ws).id
    tracking.finish_run(ws, run_id)
    tracking.log_metrics(ws, run_id, {"accuracy": 0.9})
    assert tracking.run(ws, run_id).metrics == {"accuracy": 0.9}


def test_a_page_of_a_history_is_a_range_of_the_key(ws: Workspace) -> None:
    run_id = tracking.start_run(ws).id
    last = MetricPoint("loss", 0.1, 3, ws.now())
    seen: list[str] = []
    with ws.read() as connection:

        @sa.event.listens_for(connection, "before_cursor_execute")
        def note(_c: object, cursor: object, statement: str, parameters: object, *_rest: object) -> None:
            plan = cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[attr-defined]
            seen.extend(str(row) for row in plan)

        store.points_of(connection, run_id, "loss", after=last, limit=10)
    assert "USING PRIMARY KEY (run=? AND name=? AND (step,at,value)>(?,?,?))" in seen[0]
    assert len(seen) == 1


POINT = st.tuples(st.integers(0, 1), st.integers(0, 1), st.floats(allow_nan=False, width=16))


@given(st.lists(POINT, min_size=1, max_size=12), st.integers(1, 4))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_histories_hold_each_point_once_whatever_the_calls(
    ws: Workspace, points: list[tuple[int, int, float]], size: int
) -> None:
    run_id = tracking.start_run(ws).id
    given_points = [
        MetricPoint("m", value, step, ws.now() + timedelta(seconds=at)) for step, at, value in points
    ]
    for start in range(0, len(points), size):
        tracking.log_points(ws, run_id, given_points[start : start + size])
    found = tracking.metric_history(ws, run_id, "m")
    assert [(p.step, p.at, p.value) for p in found] == sorted({(p.step, p.at, p.value) for p in given_points})
    newest = max(enumerate(given_points), key=lambda item: (item[1].step, item[1].at, item[0]))[1]
    assert tracking.run(ws, run_id).metrics["m"] == newest.value
