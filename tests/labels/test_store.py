from __future__ import annotations

import pytest
import sqlalchemy as sa

from everloop import labels
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
