"""A page asks as many questions, and reads as much, of a year as of a month."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from everloop import events, feedback, jobs, ledger, predictions, tracking
from everloop.ids import new_id
from everloop.ledger import Node
from everloop.monitoring import Finding, Measure, store
from everloop.storage import Tx, metadata
from everloop.workspace import Workspace
from tests.web.conftest import Site
from tests.web.story import Shop

MANY = 10_000
PATHS = [
    "/",
    "/endpoints/kind",
    "/endpoints/kind?span=1y",
    "/endpoints/kind/predictions",
    "/endpoints/kind/predictions?status=failed",
    "/predictions?text=solid&said=contradicted",
    "/endpoints/kind/try",
    "/endpoints/kind/plan",
    "/models",
    "/models/kind",
    "/models/kind/2",
    "/audit",
    "/review",
    "/search?q=kin",
    "/pipelines",
    "/pipelines/runs",
    "/calendar",
    "/calendar?span=week",
    "/compare",
]


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that are sent to any database meanwhile."""
    sent: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_more: object) -> None:
        sent.append(statement)

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)


def grow(ws: Workspace) -> None:
    """Ten thousand more of everything that grows while a loop runs."""
    hour = timedelta(hours=1)

    def more(tx: Tx) -> None:
        for i in range(MANY):
            events.emit(ws, tx, "test.noise", Node("endpoint", "kind"), message=f"event {i}")
        for i in range(1_000):
            jobs.put(ws, tx, "train", {"model": "kind"}, reason=f"job {i}", max_attempts=1)
        for i in range(500):
            ledger.audit(ws, tx, "test.noise", Node("endpoint", "kind"), number=i)
        detail = {"failed": 0, "refused": 0, "replayed": 0, "latency": [[i, 9] for i in range(60, 100)]}
        years = [ws.now() - i * hour for i in range(1_000, MANY)]
        store.put_measures(
            tx,
            [
                Measure("kind", name, "kind@1", at, at + hour, 0.5, None, None, 9, detail)
                for at in years[:3_000]
                for name in ("traffic", "latency_p99_ms", "error_rate")
            ],
        )
        for i in range(1_000):
            at = ws.now() - i * hour
            finding = Finding(
                new_id("find"),
                "kind",
                "latency",
                at,
                at - hour,
                at,
                f"finding {i}",
                {"about": i},
                ("kind@1",),
            )
            store.insert_finding(tx, finding)

    ws.write(more)


def test_a_page_asks_no_more_of_a_long_history(story: Site, shop: Shop) -> None:
    before = {}
    for path in PATHS:
        with counted() as sent:
            size = len(story.get(path).content)
        before[path] = (len(sent), size)
    grow(story.ws)
    for path in PATHS:
        with counted() as sent:
            size = len(story.get(path).content)
        assert len(sent) <= before[path][0] + 2, path
        assert size <= before[path][1] + 40_000, path


def more_runs(ws: Workspace, like: str, n: int) -> None:
    """`n` more runs like one that is there, with its parameters and newest metrics."""

    def change(tx: Tx) -> None:
        ids = [new_id("run") for _ in range(n)]
        for name, key in (("run", "id"), ("run_param", "run"), ("run_latest_metric", "run")):
            table = metadata.tables[name]
            rows = tx.execute(sa.select(table).where(table.c[key] == like)).mappings().all()
            tx.execute(sa.insert(table), [{**row, key: one} for row in rows for one in ids])

    ws.write(change)


def test_pages_of_experiments_and_runs_ask_no_more_of_10_000_runs_than_of_100(empty: Site) -> None:
    begun = tracking.start_run(empty.ws, experiment="sweep", name="run 1", params={"depth": "3", "lr": "0.1"})
    tracking.log_metrics(empty.ws, begun.id, {"loss": 0.5, "acc": 0.9}, step=1)
    tracking.finish_run(empty.ws, begun.id)
    paths = [
        "/experiments",
        "/experiments/1",
        "/experiments/1?filter=metrics.acc%20%3E%200.5&order=metrics.%60loss%60%20ASC",
        f"/runs/{begun.id}",
        f"/compare?runs={begun.id},{begun.id}",
        "/compare",
        "/search?q=run",
    ]
    before: dict[str, tuple[int, int]] = {}
    for n in (100, MANY):
        more_runs(empty.ws, begun.id, n)
        for path in paths:
            with counted() as sent:
                answer = empty.get(path)
            assert answer.status_code == 200
            statements, size = before.setdefault(path, (len(sent), len(answer.content)))
            assert len(sent) <= statements, path
            assert len(answer.content) <= size + 1_000, path


@pytest.mark.slow
def test_a_first_answer_takes_less_than_300_ms_of_work(story: Site, shop: Shop) -> None:
    """Work of this process, and not time on the wall, which other programs on the machine stretch."""
    shop.per_hour = 600
    shop.day()
    assert sum(1 for _ in predictions.batches(story.ws.home / "serving")) * predictions.BATCH_ROWS >= MANY
    grow(story.ws)
    (prediction, *_) = feedback.corrections(story.ws, "kind", limit=1)
    for path in [*PATHS, f"/trace/{prediction.prediction_id}"]:
        story.get(path)
        spent = []
        for _ in range(3):
            begun = time.process_time()
            story.get(path)
            spent.append(time.process_time() - begun)
        assert min(spent) < 0.3, path
