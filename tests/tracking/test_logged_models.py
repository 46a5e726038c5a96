from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from everloop import tracking
from everloop.errors import Conflict, Invalid, NotFound
from everloop.ledger import Node, downstream
from everloop.tracking import (
    DatasetOfMetric,
    LoggedModel,
    MetricPoint,
    ModelMetric,
    ModelOrder,
    file_store,
    model_store,
    parse_filter,
)
from everloop.tracking.logged_models import MODEL_GRAMMAR
from everloop.workspace import Workspace


@pytest.fixture
def run_id(any_ws: Workspace) -> str:
    return tracking.start_client_run(any_ws, 0).id


def log(ws: Workspace, run_id: str, name: str, /, *, acc: float | None = None, on: str = "") -> LoggedModel:
    """A model of a run, perhaps with a metric on a dataset of two digests: 1 for the first point, 2 for the second."""
    made = tracking.log_model(ws, 0, name=name, run=run_id, params={"kind": name}, tags={"team": "vision"})
    ws.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]  # a simulation's
    if acc is not None:
        say(ws, run_id, made, acc, on=on)
    return made


def say(ws: Workspace, run_id: str, model: LoggedModel, acc: float, *, step: int = 0, on: str = "") -> None:
    point = MetricPoint("acc", acc, step, ws.now())
    tracking.log_batch(
        ws, run_id, points=[point], of_models=[ModelMetric(model.id, point, on, "d1" if on else "")]
    )


def names(ws: Workspace, filter_text: str = "", **asked: object) -> list[str]:
    page = tracking.search_logged_models(ws, experiment_ids=[0], filter_text=filter_text, **asked)  # type: ignore[arg-type]
    return [one.name for one in page.found]


def test_a_model_is_pending_until_its_files_are_there(any_ws: Workspace, run_id: str) -> None:
    made = log(any_ws, run_id, "tree")
    assert made.status == "pending"
    tracking.log_artifact(any_ws, made.id, "MLmodel", b"flavors: {}")
    assert tracking.finish_logged_model(any_ws, made.id, "ready").status == "ready"
    found = tracking.logged_model(any_ws, made.id)
    assert (found.name, found.run, found.params, found.tags) == (
        "tree",
        run_id,
        {"kind": "tree"},
        {"team": "vision"},
    )
    assert tracking.artifact_uri(any_ws, made.id) == f"mlflow-artifacts:/0/models/{made.id}/artifacts"
    assert tracking.read_artifact(any_ws, made.id, "MLmodel") == b"flavors: {}"


def test_it_is_linked_from_its_run_and_listed_with_it(any_ws: Workspace, run_id: str) -> None:
    made = [log(any_ws, run_id, name).id for name in "ab"]
    tracking.delete_logged_model(any_ws, log(any_ws, run_id, "gone").id)
    assert [one.id for one in tracking.models_of_run(any_ws, run_id)] == made
    targets = {edge.target for edge in downstream(any_ws, Node("run", run_id))}
    assert {Node("logged_model", one) for one in made} <= targets


def test_models_are_found_by_what_is_said_of_them(any_ws: Workspace, run_id: str) -> None:
    for name, acc in (("a", 0.5), ("b", 0.9), ("c", None), ("d", float("nan"))):
        log(any_ws, run_id, name, acc=acc)
    assert names(any_ws) == ["d", "c", "b", "a"]
    for condition, found in {
        "metrics.acc > 0.6": "b",
        "metrics.acc <= 0.9": "ba",
        "params.kind = 'c'": "c",
        "tags.team LIKE 'vis%' AND name != 'd'": "cba",
        "name IN ('a', 'd')": "da",
        "status = 'PENDING' AND name ILIKE 'A'": "a",
        "status = 'READY'": "",
        f"source_run_id = '{run_id.removeprefix('run_')}' AND metrics.acc = 0.5": "a",
        f"creation_timestamp > {int(any_ws.now().timestamp() * 1000) - 2_500}": "dc",
    }.items():
        assert names(any_ws, condition) == list(found), condition


def test_they_are_ordered_by_the_newest_value_and_those_without_come_last(
    any_ws: Workspace, run_id: str
) -> None:
    models = {name: log(any_ws, run_id, name, acc=acc) for name, acc in (("a", 0.5), ("b", 0.9), ("c", None))}
    any_ws.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]  # a simulation's
    say(any_ws, run_id, models["a"], 0.95, step=1)
    assert names(any_ws, order_by=[ModelOrder("acc", is_metric=True, is_descending=True)]) == ["a", "b", "c"]
    assert names(any_ws, order_by=[ModelOrder("acc", is_metric=True)]) == ["b", "a", "c"]
    assert names(any_ws, order_by=[ModelOrder("name")]) == ["a", "b", "c"]


def test_a_metric_may_be_asked_for_on_a_dataset(any_ws: Workspace, run_id: str) -> None:
    log(any_ws, run_id, "a", acc=0.9, on="train")
    log(any_ws, run_id, "b", acc=0.9, on="test")
    log(any_ws, run_id, "c", acc=0.9)
    assert names(any_ws, "metrics.acc > 0.5", datasets=[DatasetOfMetric("test")]) == ["b"]
    assert names(any_ws, datasets=[DatasetOfMetric("test"), DatasetOfMetric("train", "d1")]) == ["b", "a"]
    assert names(any_ws, datasets=[DatasetOfMetric("test", "other")]) == []


def test_pages_hold_each_model_once(any_ws: Workspace, run_id: str) -> None:
    for name in "abcde":
        log(any_ws, run_id, name)
    seen: list[str] = []
    token: str | None = ""
    while token is not None:
        page = tracking.search_logged_models(any_ws, experiment_ids=[0], limit=2, token=token)
        seen += [one.name for one in page.found]
        token = page.next_token
    assert seen == ["e", "d", "c", "b", "a"]


def test_metrics_come_with_dataset_and_run_oldest_first(any_ws: Workspace, run_id: str) -> None:
    made = log(any_ws, run_id, "a", acc=0.5, on="train")
    say(any_ws, run_id, made, 0.7, step=1)
    told = [
        (one.of.point.value, one.of.point.step, one.of.dataset_name, one.run)
        for one in tracking.logged_model(any_ws, made.id).metrics
    ]
    assert told == [(0.5, 0, "train", run_id), (0.7, 1, "", run_id)]


def test_parameters_do_not_change_and_tags_do(any_ws: Workspace, run_id: str) -> None:
    made = log(any_ws, run_id, "a")
    tracking.log_model_params(any_ws, made.id, {"kind": "a", "depth": 3})
    with pytest.raises(Conflict, match="do not change"):
        tracking.log_model_params(any_ws, made.id, {"new": "1", "kind": "b"})
    tracking.tag_logged_model(any_ws, made.id, {"team": "text"})
    tracking.untag_logged_model(any_ws, made.id, "team")
    with pytest.raises(NotFound, match="no tag 'team'"):
        tracking.untag_logged_model(any_ws, made.id, "team")
    found = tracking.logged_model(any_ws, made.id)
    assert (found.params, found.tags) == ({"depth": "3", "kind": "a"}, {})


def test_a_deleted_model_is_found_only_when_asked_for_and_takes_nothing(
    any_ws: Workspace, run_id: str
) -> None:
    made = log(any_ws, run_id, "a")
    tracking.delete_logged_model(any_ws, made.id)
    assert names(any_ws) == []
    with pytest.raises(NotFound):
        tracking.logged_model(any_ws, made.id)
    assert tracking.logged_model(any_ws, made.id, or_deleted=True).deleted_at is not None
    with pytest.raises(Conflict, match="takes nothing more"):
        tracking.log_artifact(any_ws, made.id, "a", b"x")
    with pytest.raises(Conflict, match="takes nothing more"):
        tracking.tag_logged_model(any_ws, made.id, {"a": "b"})


def test_what_cannot_be_is_refused(ws: Workspace) -> None:
    for name in ("a/b", "a:b", "a.b", "a%b", 'a"b', "a'b", "x" * 251, "a\nb"):
        with pytest.raises(Invalid, match="cannot name a logged model"):
            tracking.log_model(ws, 0, name=name)
    with pytest.raises(NotFound, match="no experiment 7"):
        tracking.log_model(ws, 7)
    with pytest.raises(NotFound, match="no run"):
        tracking.log_model(ws, 0, run="run_0")
    for act in (tracking.logged_model, tracking.delete_logged_model, tracking.artifacts):
        with pytest.raises(NotFound, match="no logged model 'm-0'"):
            act(ws, "m-0")
    with pytest.raises(Invalid, match="cannot be ordered by 'experiment'"):
        names(ws, order_by=[ModelOrder("experiment")])
    with pytest.raises(Invalid, match="is no end"):
        tracking.finish_logged_model(ws, tracking.log_model(ws, 0).id, "pending")
    assert len(names(ws)) == 1


def test_searches_read_ranges_of_indexes(ws: Workspace) -> None:
    plans: list[str] = []
    with ws.read() as connection:

        @sa.event.listens_for(connection, "before_cursor_execute")
        def note(_c: object, cursor: object, statement: str, parameters: object, *_rest: object) -> None:
            plan = cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[attr-defined]
            plans.extend(row[3] for row in plan)

        model_store.found_models(
            connection,
            parse_filter("metrics.acc > 0.5 AND params.c = '1' AND tags.d = 'x'", MODEL_GRAMMAR),
            [ModelOrder("acc", is_metric=True)],
            experiment_ids=[0],
            datasets=[DatasetOfMetric("rows")],
            offset=0,
            limit=10,
        )
        model_store.models_of_run(connection, "run_0")
        file_store.below(connection, "m-0", "model/")
    tables = ("logged_model", "model_metric")
    assert not [plan for plan in plans if plan.startswith("SCAN") and any(one in plan for one in tables)], (
        plans
    )
    assert any("ix_logged_model_experiment_created_at" in plan for plan in plans)
    assert any("ix_logged_model_run_id" in plan for plan in plans)


def test_of_many_points_the_newest_are_told_and_the_last_of_every_metric(
    any_ws: Workspace, run_id: str
) -> None:
    model = log(any_ws, run_id, "a", acc=0.9, on="test")
    later = any_ws.now() + timedelta(hours=1)
    points = [MetricPoint("loss", float(step), step, later) for step in range(1_200)]
    for start in (0, 600):
        tracking.log_batch(
            any_ws,
            run_id,
            points=[],
            of_models=[ModelMetric(model.id, one) for one in points[start : start + 600]],
        )
    told = [one.of.point for one in tracking.logged_model(any_ws, model.id).metrics]
    assert [(one.name, one.step) for one in told] == [
        ("acc", 0),
        *(("loss", step) for step in range(200, 1_200)),
    ]
