"""A query is a step: cached by its text and its inputs, and cut off from everything else."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from everloop.errors import Invalid, StepFailed
from everloop.pipelines import Executor, Inline, Processes, result, run_pipeline, sql
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject

LOOP = """
    import pyarrow as pa

    from everloop.pipelines import pipeline, sql, step

    @step
    def sales() -> pa.Table:
        return pa.table({"shop": ["a", "b", "a", "c"], "price": [1, 20, 30, 4]})

    @pipeline
    def train(least: int = 5):
        return sql("by_shop.sql", sales=sales(), least=least)
"""
QUERY = (
    "SELECT shop, sum(price)::BIGINT AS price FROM sales WHERE price >= $least GROUP BY shop ORDER BY shop"
)


@pytest.fixture
def loop(project: UserProject) -> UserProject:
    project.write({"loop": LOOP})
    (project.root / "by_shop.sql").write_text(QUERY)
    return project


@pytest.mark.parametrize("executor", [Inline, Processes])
def test_it_reads_its_tables_and_parameters(
    ws: Workspace, loop: UserProject, executor: type[Executor]
) -> None:
    run = run_pipeline(ws, loop.load().train, reason="test", executor=executor())
    assert result(ws, run.id).to_pylist() == [{"shop": "a", "price": 30}, {"shop": "b", "price": 20}]


def test_another_text_is_another_step_and_the_same_is_cached(ws: Workspace, loop: UserProject) -> None:
    def states() -> list[str]:
        run = run_pipeline(ws, loop.load().train, reason="test", executor=Inline())
        return [one.state for one in run.steps]

    assert states() == ["done", "done"]
    assert states() == ["cached", "cached"]
    (loop.root / "by_shop.sql").write_text(QUERY.replace("ORDER BY shop", "ORDER BY price"))
    assert states() == ["cached", "done"]


def test_outside_a_pipeline_it_is_a_function() -> None:
    found = sql("SELECT x + $more AS y FROM numbers", numbers=pa.table({"x": [1, 2]}), more=10)
    assert found.to_pydict() == {"y": [11, 12]}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            "SELECT nix, $x FROM numbers",
            r'(?s)the query cannot be run: .*"nix".*over the tables numbers with the parameters \$x',
        ),
        ("SELECT * FROM 'FILE'", "cannot be run"),
        ("COPY numbers TO 'FILE'", "is not one query that gives rows"),
        (
            "CREATE TABLE other AS SELECT $x FROM numbers",
            "the query is not one query that gives rows",
        ),
        ("SELECT $x; SELECT $x", "the query is not one query that gives rows"),
        ("missing.sql", "there is no file missing.sql beside test_queries.py"),
        ("../missing.sql", "there is no file"),
    ],
)
def test_what_it_cannot_do_is_told(tmp_path: Path, query: str, said: str) -> None:
    file = tmp_path / "other.csv"
    file.write_text("x\n1\n")
    with pytest.raises(Invalid, match=said):
        sql(query.replace("FILE", str(file)), numbers=pa.table({"x": [1]}), x=1)
    assert file.read_text() == "x\n1\n"


def test_random_numbers_in_it_are_the_runs(ws: Workspace, loop: UserProject) -> None:
    (loop.root / "by_shop.sql").write_text("SELECT random() AS price, $least AS least FROM sales")
    train = loop.load().train
    first, second = (run_pipeline(ws, train, reason="test", executor=Inline(), seed=seed) for seed in (1, 2))
    assert result(ws, first.id) != result(ws, second.id)
    again = run_pipeline(ws, train, params={"least": 5}, reason="test", executor=Processes(1), seed=1)
    assert [one.state for one in again.steps] == ["cached", "cached"]


def test_a_query_that_fails_fails_its_step(ws: Workspace, loop: UserProject) -> None:
    (loop.root / "by_shop.sql").write_text("SELECT $least, nix FROM sales")
    with pytest.raises(StepFailed, match=r"by_shop\.sql cannot be run"):
        run_pipeline(ws, loop.load().train, reason="test", executor=Inline())
