from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blake3 import blake3

from everloop.data.sources import load
from everloop.errors import Invalid, NotFound


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_the_file_is_recorded_by_the_bytes_that_were_read(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "id\n1\n")
    found = load(path, key="id", file_format=None)
    assert found.file == {"name": "a.csv", "digest": blake3(b"id\n1\n").hexdigest(), "bytes": 5}


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson"])
def test_jsonl_gives_each_name_a_column(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, '{"id": 1, "a": "x"}\n\n{"id": 2, "b": 1.5, "c": true}\n{"id": 3, "b": 2}')
    rows = load(path, key="id", file_format=None).rows
    assert rows.to_pylist() == [
        {"id": 1, "a": "x", "b": None, "c": None},
        {"id": 2, "a": None, "b": 1.5, "c": True},
        {"id": 3, "a": None, "b": 2.0, "c": None},
    ]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"id": 1}\n{"id": \n', "line 2 is not JSON"),
        ('{"id": 1}\n[1]\n', "line 2 is JSON, but not an object"),
        (b'{"id": "caf\xe9"}\n', "line 1 is not JSON in UTF-8"),
        ('{"id": 1}\n{"id": "x"}\n', "'id' has a whole number in row 1 and text in row 2"),
        ('{"id": 1, "a": {"b": 1}}\n', "'a' has a nested value in row 1"),
        ('{"id": 99999999999999999999}\n', "does not fit into 64 bits"),
    ],
)
def test_broken_jsonl_names_the_place(tmp_path: Path, content: str | bytes, found: str) -> None:
    with pytest.raises(Invalid, match=found):
        load(written(tmp_path, "a.jsonl", content), key="id", file_format=None)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(Invalid, match="is empty"):
        load(written(tmp_path, name, content), key="id", file_format=None)


def test_a_header_alone_is_no_row(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="has no rows"):
        load(written(tmp_path, "a.csv", "id,b\n"), key="id", file_format=None)


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(Invalid, match="the table has no rows"):
        load(pa.table({"id": pa.array([], pa.int64())}), key="id", file_format=None)


@pytest.mark.parametrize("cut", [10, 200])
def test_broken_parquet_is_refused(tmp_path: Path, cut: int) -> None:
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.table({"id": [1, 2, 3]}), whole)
    with pytest.raises(Invalid, match="not a readable Parquet file"):
        load(written(tmp_path, "a.parquet", whole.read_bytes()[:cut]), key="id", file_format=None)


def test_text_in_parquet_must_be_utf8(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    )
    pq.write_table(pa.table({"id": bad}), tmp_path / "a.parquet")
    with pytest.raises(Invalid, match="UTF8"):
        load(tmp_path / "a.parquet", key="id", file_format=None)


def test_an_unknown_ending_needs_a_format(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "id\n1\n")
    with pytest.raises(Invalid, match=r"not of a known format.*\.csv"):
        load(path, key="id", file_format=None)
    assert load(path, key="id", file_format="csv").rows.num_rows == 1


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file or folder"):
        load(tmp_path / "a.csv", key="id", file_format=None)


def test_the_tables_of_a_folder_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    written(tmp_path, "b.csv", "id,name\n1,red\n")
    written(tmp_path / "more", "a.csv", "name,id\nblue,2\n")
    written(tmp_path, ".hidden.csv", "x\n1\n")
    found = load(tmp_path, key=None, file_format=None)
    assert found.rows.to_pylist() == [{"id": "1", "name": "red"}, {"id": "2", "name": "blue"}]
    assert (found.is_text, (found.file or {})["files"]) == (True, 2)


def test_numbers_of_a_folders_files_go_together_where_one_has_whole_ones(tmp_path: Path) -> None:
    written(tmp_path, "a.jsonl", '{"id": 1, "price": 2}\n')
    written(tmp_path, "b.jsonl", '{"id": 2, "price": 2.5}\n')
    rows = load(tmp_path, key=None, file_format=None).rows
    assert rows["price"].to_pylist() == [2.0, 2.5]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.csv", "id,colour\n1,red\n", r"b\.csv and a\.csv do not have the same columns \(colour, name\)"),
        ("b.jsonl", '{"id": 1, "name": "red"}\n', "has csv and jsonl files"),
        ("b.csv", "", r"b\.csv is empty"),
        ("b.txt", "id,name\n1,red\n", "is not an image"),
    ],
)
def test_files_that_are_not_one_table_are_told_apart(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    written(tmp_path, "a.csv", "id,name\n1,red\n")
    written(tmp_path, name, content)
    with pytest.raises(Invalid, match=message):
        load(tmp_path, key="id", file_format=None)


def test_a_folder_without_tables_is_none(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="has no files"):
        load(tmp_path, key="id", file_format="parquet")


def test_everloops_own_columns_are_left_out() -> None:
    rows = load(pa.table({"_row_id": [7], "id": [1]}), key="id", file_format=None).rows
    assert rows.column_names == ["id"]


def test_a_name_that_is_there_twice_is_refused() -> None:
    twice = pa.table([pa.array([1]), pa.array([2])], names=["id", "id"])
    with pytest.raises(Invalid, match="'id' is there twice"):
        load(twice, key="id", file_format=None)
