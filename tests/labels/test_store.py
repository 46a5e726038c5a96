from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest
import sqlalchemy as sa

from everloop import data, labels
from everloop.clock import SimulatedClock
from everloop.labels import LabelSchema, NewLabel, store
from everloop.workspace import Workspace
from tests.conftest import START
from tests.labels.plans import query_plan


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (store.page_of_statements("kind", at=START, after=None), "ix_label_event_row"),
        (store.page_of_statements("kind", at=START, after=(7, "le_7")), "ix_label_event_row"),
        (store.newest_events("kind", before="le_9", limit=10), "ix_label_event_newest"),
        (store.newest_snapshots("kind", limit=10), "ix_label_snapshot_newest"),
    ],
    ids=["first page", "next page", "history", "snapshots"],
)
def test_what_can_grow_is_found_by_an_index_in_its_order(
    any_ws: Workspace, statement: sa.Select[tuple[object, ...]], index: str
) -> None:
    with any_ws.read() as connection:
        plan = query_plan(connection, statement)
    assert index in plan
    assert "SCAN" not in plan, "not the whole table"
    assert statement._limit is not None


def test_a_long_reading_goes_page_by_page(ws: Workspace, kind: LabelSchema) -> None:
    for by in ("ann", "bob"):
        labels.record(ws, kind.name, [NewLabel(key, "TVs", by) for key in range(1, 6)])
    with ws.read() as connection:
        whole = list(store.statements(connection, kind.name, at=START))
        paged = list(store.statements(connection, kind.name, at=START, page=3))
    assert whole == paged
    assert [one.row_id for one in whole] == sorted(one.row_id for one in whole)
    assert len(whole) == 10


def test_newly_labelled_rows_are_counted_over_many_events(any_ws: Workspace) -> None:
    ws = any_ws
    rows = pa.table({"id": range(1_300), "title": [f"thing {i}" for i in range(1_300)]})
    data.define(ws, "things", key="id", inputs=["title"])
    data.ingest(ws, "things", rows)
    labels.define(ws, "thing", dataset="things", classes=["a", "b"])
    first = [NewLabel(i, "a", "ann") for i in range(100)]
    labels.record(ws, "thing", first)
    assert isinstance(ws.clock, SimulatedClock)
    since = ws.now()
    ws.clock.advance(timedelta(minutes=1))
    assert labels.count_labelled(ws, "thing", since=since) == 0
    labels.record(ws, "thing", [NewLabel(i % 1_250, "b", "bea") for i in range(2_300)])
    assert labels.count_labelled(ws, "thing", since=since) == 1_250
