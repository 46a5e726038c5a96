"""Results are kept by content and come back as they were."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from everloop.errors import Invalid
from everloop.pipelines.results import Results
from everloop.storage import FileBlobs


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(FileBlobs(tmp_path / "blobs"), tmp_path / "scratch")


@pytest.mark.parametrize("value", [None, 1, 1.5, "ü", [1, [2]], {"a": {"b": None}}, True])
def test_a_small_json_value_needs_no_blob(results: Results, value: Any) -> None:
    stored = results.keep(value)
    assert stored.files == {}
    assert results.bring(stored) == value
    assert type(results.bring(stored)) is type(value)


def test_numbers_that_are_none_come_back(results: Results) -> None:
    nan, infinity = results.bring(results.keep([math.nan, math.inf]))
    assert math.isnan(nan)
    assert infinity == math.inf


@pytest.mark.parametrize(
    "value", [list(range(5_000)), b"bytes", np.arange(3.0), pa.table({"x": [1, 2]}), "x" * 5_000]
)
def test_all_else_is_in_blobs(results: Results, value: Any) -> None:
    stored = results.keep(value)
    assert stored.files
    assert results.is_there(stored)
    back = results.bring(stored)
    assert np.array_equal(back, value) if isinstance(value, np.ndarray) else back == value


def test_equal_values_have_equal_digests_and_kinds_are_apart(results: Results) -> None:
    assert results.keep([1, 2]).digest == results.keep([1, 2]).digest
    kept = [
        results.keep(value).digest for value in (1, 1.0, "1", True, [1], b"1", np.float64(1), np.array([1]))
    ]
    assert len(set(kept)) == len(kept)


def test_a_missing_blob_is_noticed(results: Results) -> None:
    stored = results.keep(b"bytes")
    (digest,) = stored.files.values()
    results.blobs.delete(digest)
    assert not results.is_there(stored)


def test_a_list_of_kept_values_comes_back(results: Results) -> None:
    stored = results.keep([pa.table({"x": [1]}), 5, [b"bytes"]])
    assert stored.kind == "list"
    assert results.bring(stored) == [pa.table({"x": [1]}), 5, [b"bytes"]]


def test_a_list_is_the_same_whether_kept_whole_or_gathered(results: Results) -> None:
    for value in ([1, "ü", [None]], [b"a", b"b"], []):
        assert results.gathered([results.keep(item) for item in value]) == results.keep(value)


def test_long_json_values_are_gathered_by_reference(results: Results) -> None:
    stored = results.gathered([results.keep("x" * 5_000), results.keep("y" * 5_000)])
    assert stored.size_bytes > 10_000
    assert stored.note is not None
    assert len(stored.note) < 1_000
    assert results.bring(stored) == ["x" * 5_000, "y" * 5_000]


@pytest.mark.parametrize("value", [[1, "ü"], [b"a", 5], ["x" * 5_000], []])
def test_an_item_of_a_list_is_what_it_is_by_itself(results: Results, value: list[Any]) -> None:
    items = results.items(results.keep(value))
    assert [results.bring(items[index]) for index in range(len(items))] == value
    assert [items[index].digest for index in range(len(items))] == [results.keep(one).digest for one in value]


def test_short_items_are_named_by_value_and_long_ones_by_content(results: Results) -> None:
    items = results.items(results.keep([4, "x" * 500]))
    assert items.binding(0) == {"value": "4"}
    assert items.binding(1) == {"item": f"json {results.keep('x' * 500).digest}"}


@pytest.mark.parametrize("value", [5, {"a": 1}, b"bytes"])
def test_only_lists_have_items(results: Results, value: Any) -> None:
    with pytest.raises(Invalid, match="a map goes over a list"):
        results.items(results.keep(value))


def test_a_missing_blob_of_an_item_is_noticed(results: Results) -> None:
    stored = results.keep([1, b"bytes"])
    (digest,) = results.keep(b"bytes").files.values()
    results.blobs.delete(digest)
    assert not results.is_there(stored)


def test_a_path_comes_back_as_a_copy_of_ones_own(results: Results, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "a.txt").write_text("first")
    stored = results.keep(tmp_path / "made")
    copy = results.bring(stored)
    (copy / "a.txt").write_text("changed")
    assert (results.bring(stored) / "a.txt").read_text() == "first"


def test_blobs_in_a_folder_given_relative_to_here_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    results = Results(FileBlobs(Path("blobs")), Path("scratch"))
    assert results.bring(results.keep(pa.table({"x": [1]}))).to_pydict() == {"x": [1]}


def test_nothing_stays_in_scratch_but_paths(results: Results) -> None:
    results.bring(results.keep(pa.table({"x": [1]})))
    assert list(results.scratch.iterdir()) == []


def test_what_has_no_form_is_refused(results: Results) -> None:
    with pytest.raises(Invalid, match="cannot be kept"):
        results.keep((1, 2))
