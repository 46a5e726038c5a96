from __future__ import annotations

import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from everloop import data
from everloop.data import Column
from everloop.data.layout import read_manifest
from everloop.data.lookup import Remembered
from everloop.errors import Invalid, NotFound
from everloop.workspace import Workspace
from tests.data.tables import items, known


@pytest.fixture
def stocked(shop: Workspace) -> Workspace:
    """Three versions: rows 0 to 2, then row 1 changed and row 3 added, then row 0 removed."""
    data.ingest(shop, "items", items((10, "a", 1.0), (20, "b", 2.0), (30, "c", 3.0)))
    data.ingest(shop, "items", items((20, "B", 2.0), (40, "d", 4.0)))
    data.ingest(shop, "items", items((20, "B", 2.0), (30, "c", 3.0), (40, "d", 4.0)), mode="replace")
    return shop


def test_rows_come_in_order_of_their_ids_from_whichever_part(stocked: Workspace) -> None:
    assert data.read(stocked, "items@2")["_row_id"].to_pylist() == [0, 1, 2, 3]
    assert known(stocked) == {1: (20, "B", 2.0), 2: (30, "c", 3.0), 3: (40, "d", 4.0)}


def test_a_table_says_what_it_is(ws: Workspace) -> None:
    data.define(ws, "items", key="id", time="at", inputs=["title"])
    made = data.ingest(ws, "items", pa.table({"id": [1], "at": ["2026-09-01"], "title": ["a"]}))
    rows = data.read(ws, "items")
    assert rows.schema.names == ["_row_id", "id", "at", "title"]
    assert rows["at"][0].as_py() == datetime(2026, 9, 1, tzinfo=UTC)
    metadata = rows.schema.metadata
    assert metadata is not None
    assert json.loads(metadata[b"everloop"]) == {
        "dataset": "items",
        "version": "items@1",
        "digest": made.digest,
        "key": "id",
        "time": "at",
        "inputs": ["title"],
        "personal": [],
    }


def test_a_table_says_what_its_schema_allows(ws: Workspace) -> None:
    size = Column("size", "number", minimum=0.0, maximum=9.5)
    kind = Column("kind", "string", allowed=("a", "b"), max_length=1)
    data.define(ws, "items", key="id", columns=[size, kind])
    data.ingest(ws, "items", pa.table({"id": [1], "size": [2.0], "kind": ["a"]}))
    metadata = data.read(ws, "items").schema.metadata
    assert metadata is not None
    assert json.loads(metadata[b"everloop"])["rules"] == {
        "size": {"minimum": 0.0, "maximum": 9.5},
        "kind": {"allowed": ["a", "b"], "max_length": 1},
    }


def test_columns_are_chosen_in_order(stocked: Workspace) -> None:
    assert data.read(stocked, "items", columns=["price", "_row_id", "id"]).column_names == [
        "_row_id",
        "price",
        "id",
    ]
    assert data.read(stocked, "items", columns=[]).column_names == ["_row_id"]


def test_an_unknown_column_names_the_nearest(stocked: Workspace) -> None:
    with pytest.raises(Invalid, match=r"no column 'prize' in this version\. Did you mean 'price'"):
        data.read(stocked, "items", columns=["prize"])


def test_rows_are_chosen_by_id(stocked: Workspace) -> None:
    rows = data.read(stocked, "items", columns=["id"], row_ids=[3, 1, 0, 99, 1])
    assert rows.drop_columns(["_row_id"]).to_pylist() == [{"id": 20}, {"id": 40}]
    assert data.read(stocked, "items", row_ids=[]).num_rows == 0


def test_rows_changed_in_another_order_than_their_ids_are_found_by_id(stocked: Workspace) -> None:
    data.ingest(stocked, "items", items((40, "D", 4.0), (20, "BB", 2.0), (30, "C", 3.0)))
    for row_id, title in ((1, "BB"), (2, "C"), (3, "D")):
        assert data.read(stocked, "items", row_ids=[row_id])["title"].to_pylist() == [title]


def test_rows_are_found_by_key_also_as_text(stocked: Workspace) -> None:
    rows = data.rows_by_key(stocked, "items", ["40", 20, 10, "x", "99999999999999999999"])
    assert [(row["_row_id"], row["title"]) for row in rows.to_pylist()] == [(1, "B"), (3, "d")]
    assert data.rows_by_key(stocked, "items@1", [10], columns=["title"]).to_pylist() == [
        {"_row_id": 0, "title": "a"}
    ]


def test_row_ids_are_found_by_key_in_each_version(stocked: Workspace) -> None:
    assert data.row_ids_by_key(stocked, "items", ["40", 20, 10, "x"]) == {"20": 1, "40": 3}
    assert data.row_ids_by_key(stocked, "items@1", [10, 20, 40]) == {"10": 0, "20": 1}
    data.ingest(stocked, "items", items((50, "e", 5.0)))
    assert data.row_ids_by_key(stocked, "items", [20, 50]) == {"20": 1, "50": 4}


def test_keys_that_were_asked_for_longest_ago_are_forgotten(stocked: Workspace) -> None:
    version = data.version(stocked, "items@3")
    first, second = read_manifest(stocked, version.manifest).parts
    remembered = Remembered(most_bytes=90)  # a part of two rows has 32
    for part in (first, second, first):
        keys = remembered.keys_of(stocked, part, version, "id")
    assert keys.keys.to_pylist() == [10, 20, 30]
    assert remembered.nbytes <= 90
    tight = Remembered(most_bytes=50)
    for part in (first, second):
        tight.keys_of(stocked, part, version, "id")
    assert tight.nbytes == 32


def test_text_keys_are_found(ws: Workspace) -> None:
    data.define(ws, "items", key="id")
    data.ingest(ws, "items", pa.table({"id": ["x", "7"], "n": [1, 2]}))
    assert data.rows_by_key(ws, "items", ["7", 7, "y"])["n"].to_pylist() == [2]


def test_without_a_key_nothing_is_found_by_it(ws: Workspace) -> None:
    data.define(ws, "items", key=None)
    data.ingest(ws, "items", items((1, "a", 1.0)), mode="append")
    with pytest.raises(Invalid, match="has no key to look rows up by"):
        data.rows_by_key(ws, "items", [1])


def test_a_row_knows_the_version_that_wrote_it(stocked: Workspace) -> None:
    found = data.origins(stocked, "items", [0, 1, 2, 3, 99])
    assert {row: version.ref for row, version in found.items()} == {1: "items@2", 2: "items@1", 3: "items@2"}
    assert {one.ref for one in data.origins(stocked, "items@1", [0, 1]).values()} == {"items@1"}


def test_what_is_not_there_is_not_found(stocked: Workspace) -> None:
    with pytest.raises(NotFound):
        data.read(stocked, "items@9")
