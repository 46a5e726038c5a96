from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from everloop import data
from everloop.data import Column
from everloop.errors import Conflict, EverloopError, Invalid, NotFound
from everloop.ledger import Node, entries, upstream
from everloop.workspace import Workspace
from tests.data.tables import items, known

FIRST = items((1, "a", 1.5), (2, "b", 2.5), (3, "c", None))


def counts(version: data.DatasetVersion) -> tuple[int, int, int]:
    operation = version.operation
    return operation["added"], operation["changed"], operation["removed"]


def test_rows_get_ids_in_the_order_of_the_file(any_shop: Workspace) -> None:
    made = data.ingest(any_shop, "items", FIRST)
    assert (made.ref, made.rows, made.parent, counts(made)) == ("items@1", 3, None, (3, 0, 0))
    assert known(any_shop) == {0: (1, "a", 1.5), 1: (2, "b", 2.5), 2: (3, "c", None)}


def test_merge_replaces_what_changed_and_appends_what_is_new(any_shop: Workspace) -> None:
    data.ingest(any_shop, "items", FIRST)
    made = data.ingest(any_shop, "items", items((4, "d", 4.0), (2, "B", 2.5), (1, "a", 1.5)))
    assert (made.ref, made.rows, made.parent, counts(made)) == ("items@2", 4, 1, (1, 1, 0))
    assert known(any_shop) == {0: (1, "a", 1.5), 1: (2, "B", 2.5), 2: (3, "c", None), 3: (4, "d", 4.0)}
    assert known(any_shop, "items@1") == {0: (1, "a", 1.5), 1: (2, "b", 2.5), 2: (3, "c", None)}


def test_a_file_that_changes_nothing_makes_no_version(any_shop: Workspace) -> None:
    first = data.ingest(any_shop, "items", FIRST)
    assert data.ingest(any_shop, "items", FIRST.slice(1, 1)) == first
    assert data.ingest(any_shop, "items", FIRST.take([2, 0, 1]), mode="replace") == first


def test_replace_removes_what_the_file_lacks(shop: Workspace) -> None:
    data.ingest(shop, "items", FIRST)
    made = data.ingest(shop, "items", items((3, "C", 3.0), (9, "i", 9.0)), mode="replace")
    assert counts(made) == (1, 1, 2)
    assert known(shop) == {2: (3, "C", 3.0), 3: (9, "i", 9.0)}


def test_a_key_that_comes_back_has_its_old_row_id(shop: Workspace) -> None:
    data.ingest(shop, "items", FIRST)
    data.ingest(shop, "items", FIRST.slice(1), mode="replace")
    data.ingest(shop, "items", items((7, "g", 7.0), (1, "again", 1.0)))
    assert known(shop)[0] == (1, "again", 1.0)
    assert known(shop)[3] == (7, "g", 7.0)


def test_going_back_to_earlier_data_has_the_earlier_digest(shop: Workspace) -> None:
    first = data.ingest(shop, "items", FIRST)
    data.ingest(shop, "items", items((1, "x", 0.0)))
    back = data.ingest(shop, "items", FIRST)
    assert (back.number, back.digest) == (3, first.digest)


def test_append_takes_new_keys_only(shop: Workspace) -> None:
    data.ingest(shop, "items", FIRST, mode="append")
    with pytest.raises(Conflict, match=r"1 keys are in items@1 already \(the first in row 2\)"):
        data.ingest(shop, "items", items((4, "d", 4.0), (1, "a", 1.5)), mode="append")
    assert data.ingest(shop, "items", items((4, "d", 4.0)), mode="append").rows == 4


def test_rows_without_a_key_are_appended_or_replaced(ws: Workspace) -> None:
    data.define(ws, "items", key=None)
    first = data.ingest(ws, "items", FIRST, mode="append")
    twice = data.ingest(ws, "items", FIRST, mode="append")
    assert (twice.rows, len(known(ws))) == (6, 6)
    again = data.ingest(ws, "items", FIRST, mode="replace")
    assert (again.rows, again.digest) == (3, first.digest)
    assert list(known(ws)) == [6, 7, 8]
    assert data.ingest(ws, "items", FIRST.take([1, 0, 2]), mode="replace") == again
    with pytest.raises(Invalid, match="has no key, and merging finds known rows by their key"):
        data.ingest(ws, "items", FIRST)


def test_a_column_that_a_file_lacks_keeps_its_values(shop: Workspace) -> None:
    data.ingest(shop, "items", FIRST)
    data.ingest(shop, "items", items((2, "b", 9.5)))  # row 1 now stands in another part, behind the others
    made = data.ingest(shop, "items", items((4, "d"), (2, "B"), (1, "A"), names=("id", "title")))
    assert counts(made) == (1, 2, 0)
    assert known(shop) == {0: (1, "A", 1.5), 1: (2, "B", 9.5), 2: (3, "c", None), 3: (4, "d", None)}


def test_a_column_that_a_file_brings_is_missing_in_earlier_rows(shop: Workspace) -> None:
    data.ingest(shop, "items", FIRST)
    made = data.ingest(shop, "items", items((1, "a", 1.5, True), names=("id", "title", "price", "new")))
    assert made.schema.get("new") == Column("new", "boolean")
    assert counts(made) == (0, 1, 0)
    assert [row[-1] for row in known(shop).values()] == [True, None, None]
    assert data.version(shop, "items@1").schema.names == ("id", "title", "price")


def test_the_same_rows_have_the_same_digest_in_every_format(ws: Workspace, tmp_path: Path) -> None:
    rows = FIRST.append_column("at", pa.array(["2026-09-01T10:00:00", None, "2026-09-02T00:00:00"]))
    pyarrow.csv.write_csv(rows, tmp_path / "a.csv")
    pq.write_table(rows, tmp_path / "a.parquet", row_group_size=1, compression="none")
    lines = [json.dumps({name: row[name] for name in reversed(row)}) for row in rows.to_pylist()]
    (tmp_path / "a.jsonl").write_text("\n".join(reversed(lines)))
    pq.write_table(
        rows.set_column(3, "at", rows["at"].cast(pa.timestamp("ms"))).take([1, 2, 0]), tmp_path / "b.parquet"
    )
    digests = set()
    for number, name in enumerate(["a.csv", "a.parquet", "a.jsonl", "b.parquet"]):
        data.define(ws, f"d{number}", key="id")
        digests.add(data.ingest(ws, f"d{number}", tmp_path / name).digest)
    assert len(digests) == 1


def test_where_it_comes_from_and_who_did_it_is_recorded(any_shop: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,title\n1,a\n")
    first = data.ingest(any_shop, "items", str(tmp_path / "a.csv"))
    second = data.ingest(any_shop, "items", items((2, "b"), names=("id", "title")))
    node = Node("dataset_version", "items@2")
    edges = upstream(any_shop, node)
    assert [(edge.source, edge.role) for edge in edges] == [
        (Node("dataset_version", "items@1"), "earlier version"),
        (Node("file", first.operation["file"]["digest"]), "source"),
    ]
    (entry,) = entries(any_shop, subject=node)
    assert (entry.act, entry.actor, entry.at) == ("data.ingest", "tester", any_shop.now())
    assert second.created_by == "tester"


def test_a_folder_of_images_becomes_rows(ws: Workspace, tmp_path: Path) -> None:
    for name, colour in (("red/1.png", "red"), ("red/2.png", "darkred"), ("blue/1.png", "blue")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), colour).save(tmp_path / "photos" / name)
    data.define(ws, "photos", key="path", inputs=["image"])
    made = data.ingest(ws, "photos", tmp_path / "photos")
    image = made.schema.get("image")
    assert image is not None
    assert image.type == "image"
    assert made.operation["file"]["files"] == 3
    assert known(ws, "photos", "path", "folder", "width") == {
        0: ("blue/1.png", "blue", 8),
        1: ("red/1.png", "red", 8),
        2: ("red/2.png", "red", 8),
    }
    assert data.read(ws, "photos")["image"][0].as_py() == (tmp_path / "photos/blue/1.png").read_bytes()


def test_a_table_out_of_read_can_be_ingested_again(shop: Workspace) -> None:
    first = data.ingest(shop, "items", FIRST)
    rows = data.read(shop, "items")
    assert data.ingest(shop, "items", rows) == first


def test_personal_data_in_new_rows_is_counted_in_the_version(shop: Workspace) -> None:
    first = data.ingest(shop, "items", items((1, "mail jo@example.org", 1.0), (2, "b", 2.0)))
    second = data.ingest(shop, "items", items((2, "c", 2.0)))
    assert first.personal == {"title": {"email": 1}}
    assert second.personal == {}


BROKEN: list[tuple[str, str | bytes, str]] = [
    ("a.csv", "id,title,price\n1,a,1\n2,b\n", "line 3 has 2 fields"),
    ("a.csv", b"id,title,price\n1,caf\xe9,1\n", "line 2 is not UTF-8"),
    ("a.csv", "id,title,price\n1,a,cheap\n", "'price', row 1 has text of 5 characters where a number"),
    ("a.csv", "title,price\na,1\n", "the column 'id' is missing"),
    ("a.csv", "id,title,price\n4,a,1\n5,b,1\n4,c,1\n", r"in 1 row \(row 3\): the key identifies a row"),
    ("a.csv", "id,title,price\n4,a,1\n,b,1\n", r"'id' .*\(row 2\): values must not be missing"),
    ("a.csv", "id,title,price\n4,a,1\n5,b,-1\n", r"\(row 2\): values are at least 0"),
    ("a.csv", "id,title,price\n4,c,1\n", "values are unique over all rows"),
    ("a.csv", "id,title,price\n4,x,1\n5,x,1\n", r"\(row 2\): values are unique over all rows"),
    ("a.csv", "", "is empty"),
    ("a.csv", "id,title,price\n", "has no rows"),
    ("a.jsonl", '{"id": 4, "title": ["x"]}', "nested"),
    ("a.parquet", "not parquet", "not a readable Parquet file"),
    ("a.xlsx", "PK", "not of a known format"),
]


@pytest.mark.parametrize(("name", "content", "found"), BROKEN)
def test_bad_input_says_what_and_keeps_nothing(
    ws: Workspace, tmp_path: Path, name: str, content: str | bytes, found: str
) -> None:
    columns = [Column("price", "number", minimum=0), Column("title", "string", unique=True)]
    data.define(ws, "items", key="id", columns=columns)
    first = data.ingest(ws, "items", FIRST)
    schema, blobs = data.dataset(ws, "items").schema, set(ws.blobs)
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(Invalid, match=found) as caught:
        data.ingest(ws, "items", path)
    assert "cheap" not in str(caught.value)
    assert data.versions(ws, "items") == [first]
    assert data.dataset(ws, "items").schema == schema
    assert set(ws.blobs) == blobs


def test_a_folder_that_is_not_images_keeps_nothing(shop: Workspace, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    with pytest.raises(Invalid, match="not an image"):
        data.ingest(shop, "items", tmp_path / "notes")
    assert data.versions(shop, "items") == []


@pytest.mark.parametrize(("dataset", "name"), [("items", "gone.csv"), ("other", "a.csv")])
def test_what_is_not_there_is_not_found(shop: Workspace, tmp_path: Path, dataset: str, name: str) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    with pytest.raises(NotFound):
        data.ingest(shop, dataset, tmp_path / name)


def test_a_wrong_type_in_a_later_file_is_refused(shop: Workspace) -> None:
    data.ingest(shop, "items", FIRST)
    wrong: Any = items((1, 5, 1.0))
    with pytest.raises(
        EverloopError, match="'title' is of the Arrow type int64 where the schema says string"
    ):
        data.ingest(shop, "items", wrong)


def test_a_unique_value_may_move_to_another_row(ws: Workspace) -> None:
    data.define(ws, "items", key="id", columns=[Column("title", "string", unique=True)])
    data.ingest(ws, "items", FIRST)
    data.ingest(ws, "items", items((1, "b", 1.0), (2, "a", 2.0)))
    assert known(ws, "items", "title") == {0: ("b",), 1: ("a",), 2: ("c",)}


def test_rows_that_are_loaded_to_be_asked_about_are_typed_chunk_by_chunk(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "n": pa.array([1.0, None, float("nan"), 4.0, 5.0]),
            "kind": pa.array(["a", "b", None, "a", "b"]).dictionary_encode(),
            "at": pa.array([date(2026, 1, 1)] * 5),
        }
    )
    for name, some in (("a", rows.slice(0, 2)), ("b", rows.slice(2))):
        pq.write_table(some, tmp_path / f"{name}.parquet")
    table, source = data.load_typed(tmp_path)
    assert table.column("n").num_chunks > 1
    assert table.equals(data.typed(data.load(tmp_path, key=None, file_format=None))[0])
    assert (source.format, source.rows.num_rows) == ("parquet", 0)
    for name, numbers in (("a", [1, 2]), ("b", [1 << 63])):
        pq.write_table(pa.table({"n": pa.array(numbers, pa.uint64())}), tmp_path / f"{name}.parquet")
    with pytest.raises(Invalid, match="row 3"):
        data.load_typed(tmp_path)
