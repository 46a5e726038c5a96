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
    results.blobs.delete(digest)  # type: ignore[attr-defined]  # of the real store
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
