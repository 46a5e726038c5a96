from __future__ import annotations

import pyarrow as pa
import pytest

from everloop import data
from everloop.errors import Invalid
from everloop.workspace import Workspace
from tests.data.tables import items


@pytest.fixture
def stocked(shop: Workspace) -> Workspace:
    data.ingest(shop, "items", items((10, "a", 1.0), (20, "b", 2.0), (30, "c", 3.0)))
    data.ingest(shop, "items", items((20, "B", 2.0), (30, "c", 3.0), (5, "e", 5.0)), mode="replace")
    return shop


def pairs(rows: pa.Table) -> list[tuple[int, int]]:
    return [(row["_row_id"], row["id"]) for row in rows.to_pylist()]


def test_rows_are_told_by_id_and_key(stocked: Workspace) -> None:
    found = data.diff(stocked, "items@1", "items@2")
    assert (found.before, found.after) == ("items@1", "items@2")
    assert (pairs(found.added), pairs(found.removed), pairs(found.changed)) == (
        [(3, 5)],
        [(0, 10)],
        [(1, 20)],
    )


def test_it_works_backwards(stocked: Workspace) -> None:
    found = data.diff(stocked, "items", "items@1")
    assert (pairs(found.added), pairs(found.removed), pairs(found.changed)) == (
        [(0, 10)],
        [(3, 5)],
        [(1, 20)],
    )


def test_a_version_does_not_differ_from_itself(stocked: Workspace) -> None:
    assert data.diff(stocked, "items@2", "items").is_empty


def test_a_row_that_went_and_came_back_the_same_is_no_difference(stocked: Workspace) -> None:
    """It stands in another part than before; its digest says that it is the same."""
    data.ingest(stocked, "items", items((10, "a", 1.0), (20, "b", 2.0), (30, "c", 3.0)), mode="replace")
    assert data.diff(stocked, "items@1", "items@3").is_empty
    assert data.version(stocked, "items@3").digest == data.version(stocked, "items@1").digest


def test_a_new_column_changes_only_rows_that_have_a_value(stocked: Workspace) -> None:
    data.ingest(stocked, "items", pa.table({"id": [20, 30], "new": ["x", None]}))
    assert pairs(data.diff(stocked, "items@2", "items@3").changed) == [(1, 20)]


def test_datasets_are_not_compared(stocked: Workspace) -> None:
    data.define(stocked, "other", key="id")
    data.ingest(stocked, "other", items((1, "a", 1.0)))
    with pytest.raises(Invalid, match="items@1 and other@1 are versions of different datasets"):
        data.diff(stocked, "items@1", "other")
