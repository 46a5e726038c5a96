from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from everloop import data
from everloop.data import Column, ColumnProfile
from everloop.data.arrow import ARROW_TYPES
from everloop.data.profiling import profile_column
from everloop.data.records import ColumnType
from everloop.storage import to_json
from everloop.workspace import Workspace
from tests.data.tables import items


def profiled(values: Any, kind: ColumnType, **rules: Any) -> ColumnProfile:
    return profile_column(values, Column("a", kind, **rules))


def test_numbers() -> None:
    found = profiled(pa.array([1.0, 2.0, 2.0, 7.0, None]), "number")
    assert (found.count, found.nulls, found.distinct) == (4, 1, 3)
    assert found.figures == {
        "minimum": 1.0,
        "maximum": 7.0,
        "mean": 3.0,
        "standard_deviation": pytest.approx(np.std([1, 2, 2, 7], ddof=1)),
        "quantiles": {"0.05": 1.15, "0.25": 1.75, "0.5": 2.0, "0.75": 3.25, "0.95": pytest.approx(6.25)},
    }


def test_whole_numbers_are_exact_and_have_a_top() -> None:
    found = profiled(pa.array([2**62 + 1, 5, 5]), "integer").figures
    assert (found["minimum"], found["maximum"]) == (5, 2**62 + 1)
    assert found["top"] == [[5, 2], [2**62 + 1, 1]]


def test_infinite_numbers_are_counted_apart() -> None:
    found = profiled(pa.array([1.0, np.inf, -np.inf]), "number").figures
    assert (found["infinite"], found["minimum"], found["maximum"], found["mean"]) == (2, 1.0, 1.0, 1.0)
    assert profiled(pa.array([np.inf]), "number").figures == {"infinite": 1}
    to_json(profiled(pa.array([1e308, 1.7e308, -1e308]), "number").figures)


def test_text() -> None:
    found = profiled(pa.array(["b", "a", "b", "äöü", None], pa.large_string()), "string")
    assert found.figures == {
        "length_minimum": 1,
        "length_mean": 1.5,
        "length_maximum": 3,
        "top": [["b", 2], ["a", 1], ["äöü", 1]],
    }


def test_long_values_are_cut_and_unique_ones_not_listed() -> None:
    long = "x" * 500
    assert profiled(pa.array([long, long]), "string").figures["top"] == [["x" * 120 + "...", 2]]
    assert profiled(pa.array(["a", "b"]), "string").figures["top"] == []


def test_times_and_booleans() -> None:
    at = datetime(2026, 9, 1, tzinfo=UTC)
    found = profiled(pa.array([at, at.replace(day=3)], pa.timestamp("us", "UTC")), "time").figures
    assert (found["minimum"], found["maximum"]) == ("2026-09-01T00:00:00+00:00", "2026-09-03T00:00:00+00:00")
    assert profiled(pa.array([True, False, True]), "boolean").figures == {"top": [[True, 2], [False, 1]]}


def test_images() -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, "PNG")
    found = profiled(pa.array([file.getvalue()], pa.large_binary()), "image").figures
    assert (found["width_maximum"], found["height_minimum"], found["formats"]) == (8, 6, {"PNG": 1})
    assert found["size_bytes_mean"] == len(file.getvalue())


@pytest.mark.parametrize(
    ("values", "kind", "rules"),
    [
        (pa.array(["jo@example.org"] * 2), "string", {}),
        (pa.array(["Jo Doe"] * 2), "string", {"personal": True}),
        (pa.array([1234567, 1234567]), "integer", {"personal": True}),
    ],
)
def test_personal_values_are_not_shown(values: Any, kind: ColumnType, rules: dict[str, Any]) -> None:
    found = profiled(values, kind, **rules)
    assert not any(word in json.dumps(found.figures) for word in ("jo@", "Jo Doe", "1234567"))
    assert found.count == 2


@pytest.mark.parametrize("kind", ["string", "integer", "number", "boolean", "time", "binary"])
def test_a_column_of_missing_values_has_no_figures(kind: ColumnType) -> None:
    found = profile_column(pa.nulls(3).cast(ARROW_TYPES[kind]), Column("a", kind))
    assert (found.count, found.nulls, found.distinct, found.figures) == (0, 3, 0, {})


def test_a_profile_is_computed_once_and_covers_all_rows(any_shop: Workspace) -> None:
    data.ingest(any_shop, "items", items((1, "a", 1.0), (2, "b", None)))
    made = data.ingest(any_shop, "items", items((2, "b", 3.0), (3, "c", 5.0)))
    found = data.profile(any_shop, "items")
    assert (found.ref, found.digest, found.rows) == ("items@2", made.digest, 3)
    price = found.columns[2]
    assert (price.name, price.count, price.figures["mean"]) == ("price", 3, 3.0)
    for blob in list(any_shop.blobs):  # the rows are gone, the profile is not
        if any_shop.blobs.get(blob)[:4] == b"PAR1":
            any_shop.blobs.delete(blob)
    assert data.profile(any_shop, "items@2") == found


def test_a_lost_profile_is_computed_again(shop: Workspace) -> None:
    data.ingest(shop, "items", items((1, "a", 1.0)))
    before = set(shop.blobs)
    found = data.profile(shop, "items")
    (blob,) = set(shop.blobs) - before
    shop.blobs.delete(blob)
    assert data.profile(shop, "items") == found
