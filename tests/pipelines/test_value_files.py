from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everloop.errors import Invalid
from everloop.pipelines.canonical import is_json
from everloop.pipelines.value_files import kind_of, load, save
from everloop.pipelines.values import Split, facts, with_facts


def bytes_in(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): blake3(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def a_table(chunks: int = 1) -> pa.Table:
    table = pa.table(
        {
            "_row_id": range(6),
            "title": pa.array(["a", None, "c", "d", "é", ""]),
            "kind": pa.array(["x", "y", "x", None, "y", "x"]).dictionary_encode(),
            "price": [1.5, None, math.nan, math.inf, 0.0, -1.0],
            "label": ["p", "q"] * 3,
        }
    )
    size = 6 // chunks
    pieces = [table.slice(start, size) for start in range(0, 6, size)]
    return with_facts(pa.concat_tables(pieces), inputs=["title", "price"])


JSON_VALUES = [
    None, True, 3, 2**70, -0.5, math.inf, "text", "\ud800", "", [], {}, [1, [2.0, None]], {"a": {"b": [False]}, "": 1}
]  # fmt: skip


@pytest.mark.parametrize("value", JSON_VALUES)
def test_json_values_come_back_with_their_types(tmp_path: Path, value: Any) -> None:
    save(value, tmp_path / "v")
    found = load(tmp_path / "v")
    assert found == value
    assert type(found) is type(value)


def test_nan_comes_back(tmp_path: Path) -> None:
    save({"loss": math.nan}, tmp_path / "v")
    assert math.isnan(load(tmp_path / "v")["loss"])


@pytest.mark.parametrize(
    "value",
    [(1, 2), {1: "a"}, [(1,)], {"a": {2}}, np.float64(1), {"a": np.float64(1)}, [np.int64(1)], object()],
)
def test_what_json_would_change_is_no_json(value: Any) -> None:
    assert not is_json(value)


@pytest.mark.parametrize(
    "value", [(1, 2), {1: "a"}, {"a"}, object(), np.array([None]), pytest, bytearray(b"x")]
)
def test_a_value_without_a_form_is_refused_and_nothing_is_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(Invalid, match=r"cannot be kept: .* pickle is not used"):
        save(value, tmp_path / "v")
    assert not (tmp_path / "v").exists()


def test_a_table_comes_back_with_what_it_says_of_itself(tmp_path: Path) -> None:
    save(a_table(), tmp_path / "v")
    found = load(tmp_path / "v")
    assert found.schema == a_table().schema
    assert facts(found) == {"inputs": ["title", "price"]}
    np.testing.assert_equal(found.to_pydict(), a_table().to_pydict())


@pytest.mark.parametrize("chunks", [2, 3, 6])
def test_chunks_do_not_change_a_table_s_bytes(tmp_path: Path, chunks: int) -> None:
    save(a_table(), tmp_path / "one")
    save(a_table(chunks), tmp_path / "many")
    assert bytes_in(tmp_path / "one") == bytes_in(tmp_path / "many")


def test_dictionaries_of_chunks_do_not_change_a_table_s_bytes(tmp_path: Path) -> None:
    texts = ["x", "y", "x", "z", "y"]
    save(pa.table({"a": pa.array(texts).dictionary_encode()}), tmp_path / "one")
    pieces = [
        pa.table({"a": pa.array(some).dictionary_encode()}) for some in (texts[:1], texts[1:4], texts[4:])
    ]
    save(pa.concat_tables(pieces), tmp_path / "many")
    assert bytes_in(tmp_path / "one") == bytes_in(tmp_path / "many")


CELLS = st.lists(st.tuples(st.integers(-5, 5), st.text(max_size=4) | st.none()), min_size=1, max_size=30)


@given(CELLS, st.integers(1, 10))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_saving_what_was_loaded_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[int, str | None]], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("table")
    table = pa.table({"n": [n for n, _ in cells], "t": pa.array([t for _, t in cells], pa.string())})
    save(pa.concat_tables([table.slice(0, cut), table.slice(cut)]), folder / "first")
    save(load(folder / "first"), folder / "again")
    assert bytes_in(folder / "first") == bytes_in(folder / "again")
    assert load(folder / "again").equals(table)


def test_a_split_comes_back(tmp_path: Path) -> None:
    data = Split(a_table().slice(0, 4), a_table().slice(4), ("title",), "label", ("price",), "kind")
    save(data, tmp_path / "v")
    found = load(tmp_path / "v")
    assert isinstance(found, Split)
    assert found.digest == data.digest
    assert (found.columns, found.group) == (("title", "price"), "kind")
    np.testing.assert_equal(found.x_train.tolist(), data.x_train.tolist())
    save(found, tmp_path / "again")
    assert bytes_in(tmp_path / "v") == bytes_in(tmp_path / "again")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(["a", "bc"]),
        np.array([], dtype=np.int8),
        np.array(3),
        np.array(["2026-09-01"], dtype="datetime64[us]"),
    ],
)
def test_an_array_comes_back_as_it_was(tmp_path: Path, array: Any) -> None:
    save(array, tmp_path / "v")
    found = load(tmp_path / "v")
    np.testing.assert_array_equal(found, array)
    assert (found.dtype, found.flags.f_contiguous) == (array.dtype, array.flags.f_contiguous)


@pytest.mark.parametrize("value", [np.float32(0.5), np.int64(3), np.bool_(True), np.str_("a")])
def test_a_number_of_numpy_stays_one(tmp_path: Path, value: Any) -> None:
    save(value, tmp_path / "v")
    found = load(tmp_path / "v")
    assert found == value
    assert type(found) is type(value)


def test_bytes_come_back(tmp_path: Path) -> None:
    save(b"\0\xff", tmp_path / "v")
    assert load(tmp_path / "v") == b"\0\xff"


def test_a_file_comes_back_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("fine")
    save(tmp_path / "report.html", tmp_path / "v")
    found = load(tmp_path / "v")
    assert found.name == "report.html"
    assert found.read_text() == "fine"


def test_a_folder_comes_back_whole(tmp_path: Path) -> None:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "a.txt").write_text("a")
    save(tmp_path / "out", tmp_path / "v")
    assert (load(tmp_path / "v") / "deep" / "a.txt").read_text() == "a"


@pytest.mark.parametrize("what", ["missing", "empty", "link", "holds_link"])
def test_a_path_without_files_of_its_own_is_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "holds_link").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "holds_link" / "x").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match=r"symbolic link|no file and no folder with a file"):
        save(tmp_path / what, tmp_path / "v")


def test_a_value_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    save(1, tmp_path / "v")
    with pytest.raises(Invalid, match="is not empty"):
        save(2, tmp_path / "v")
    assert load(tmp_path / "v") == 1


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"kind": "hologram"}', "\xff"])
def test_what_is_no_value_is_refused(tmp_path: Path, note: str) -> None:
    (tmp_path / "value.json").write_bytes(note.encode("latin-1"))
    with pytest.raises(Invalid, match="holds no value that this everloop can read"):
        load(tmp_path)


def test_kinds_have_names() -> None:
    values = ["a", a_table(), np.zeros(2), np.float64(1), b"", Path()]
    assert [kind_of(value) for value in values] == ["json", "table", "array", "scalar", "bytes", "path"]
