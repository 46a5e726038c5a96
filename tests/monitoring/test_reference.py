from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everloop.errors import Invalid
from everloop.monitoring.bins import CategoryCounts
from everloop.monitoring.reference import (
    Bins,
    Kind,
    Profile,
    Reference,
    guess_kind,
    learn_bins,
    learn_reference,
    profile_of,
)


def chunked(values: Any, kind: pa.DataType | None = None) -> pa.ChunkedArray[Any]:
    return pa.chunked_array([pa.array(values, kind)])


SENTENCES = [f"a listing with number {i}" for i in range(100)]


@pytest.mark.parametrize(
    ("name", "column", "kind"),
    [
        ("price", chunked([1.5, None]), "number"),
        ("price", chunked([Decimal("1.5")]), "number"),
        ("age", chunked(list(range(100))), "number"),
        ("member", chunked([True, False]), "category"),
        ("town", chunked(["Ulm", "Bonn"] * 50), "category"),
        ("town", chunked(["Ulm", "Bonn"] * 50).dictionary_encode(), "category"),
        ("town", chunked([None, None], pa.string()), "category"),
        ("merchant_id", chunked([1, 2] * 50), "category"),
        ("title", chunked(SENTENCES), "text"),
        ("photo", chunked([b"x"]), "size"),
        ("listing_id", chunked(list(range(100))), "nearly every value is different: an identifier"),
        ("sku", chunked([f"sku{i}" for i in range(100)]), "nearly every value is different: an identifier"),
        ("at", chunked([datetime(2026, 1, 1, tzinfo=UTC)]), "a time: later rows are later"),
        ("tags", chunked([["a"]]), "values of type list<item: string> are not compared"),
    ],
)
def test_kinds_are_guessed_from_type_and_values(name: str, column: pa.ChunkedArray[Any], kind: str) -> None:
    guessed = learn_bins(pa.table({name: column}))
    found = guessed.columns[name].kind if name in guessed.columns else guessed.left_out[name]
    assert found == kind


def test_the_user_overrules_guesses() -> None:
    table = pa.table({"zip": [10, 20], "name": ["a", "b"], "age": [1, 2]})
    kinds: dict[str, Kind | None] = {"zip": "category", "age": None}
    bins = learn_bins(table, kinds=kinds)
    assert bins.columns["zip"].kind == "category"
    assert bins.left_out == {"age": "asked to leave out"}


def mixed(n: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    price = random.lognormal(size=n)
    price[::7] = np.nan
    return pa.table(
        {
            "price": pa.array(price, mask=random.random(n) < 0.1),
            "rooms": random.integers(0, 9, n),
            "town": pa.array(random.choice(["Ulm", "Bonn", "Trier"], n)),
            "title": pa.array([f"{random.choice(['red', 'blue'])} listing for item {i}" for i in range(n)]),
            "photo": pa.array([b"x" * int(size) for size in random.integers(1, 99, n)]),
        }
    )


def test_nulls_and_nan_are_missing() -> None:
    table = pa.table({"x": [1.0, None, float("nan"), 2.0]})
    assert learn_reference(table).profile.columns["x"].missing == 2


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(0, 200), seed=st.integers(0, 5))
def test_profiles_add_up_to_the_whole(cut: int, seed: int) -> None:
    bins = learn_reference(mixed(200, 0)).bins
    table = mixed(200, seed)
    whole = profile_of(table, bins)
    parts = profile_of(table.slice(cut), bins) + profile_of(table.slice(0, cut), bins)
    assert parts.as_dict() == whole.as_dict()
    for name, counts in whole.columns.items():
        for series in counts.series.values():
            if name != "title":
                total = series.total if isinstance(series, CategoryCounts) else int(series.sum())
                assert total + counts.missing == 200


def test_a_reference_survives_json() -> None:
    reference = learn_reference(mixed(300, 1))
    again = Reference.from_dict(json.loads(json.dumps(reference.as_dict(), allow_nan=False)))
    assert again.bins.id == reference.bins.id
    assert again.as_dict() == reference.as_dict()
    assert (
        profile_of(mixed(50, 2), again.bins).as_dict() == profile_of(mixed(50, 2), reference.bins).as_dict()
    )


def test_a_sample_teaches_bins_for_a_table_that_is_read_in_batches() -> None:
    table = mixed(400, 3).drop_columns(["title"])
    bins = learn_bins(table.slice(0, 100))
    profile = profile_of(table.slice(0, 100), bins, own=True) + profile_of(table.slice(100), bins)
    assert profile.n_rows == 400


def test_other_types_of_the_same_numbers_count_the_same() -> None:
    bins = learn_reference(pa.table({"x": pa.array([1, 2, 3, 4], pa.int64())})).bins
    for kind in (pa.int8(), pa.uint32(), pa.float32(), pa.string(), pa.decimal128(24, 1)):
        counted = profile_of(pa.table({"x": pa.array([2, 4], pa.int64()).cast(kind)}), bins)
        assert (
            counted.columns["x"].as_dict() == profile_of(pa.table({"x": [2, 4]}), bins).columns["x"].as_dict()
        )


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: learn_reference(pa.table({"x": pa.array([], pa.int64())})), "the reference has no rows"),
        (lambda: learn_bins(pa.table({"x": [1]}), kinds={"y": "number"}), r"kinds names \['y'\]"),
        (lambda: learn_bins(pa.table({"x": [[1]]}), kinds={"x": "number"}), "column 'x' is of type list"),
        (
            lambda: profile_of(pa.table({"y": [1]}), learn_bins(pa.table({"x": [1]}))),
            r"columns \['x'\] are not in",
        ),
        (
            lambda: profile_of(pa.table({"x": ["?"]}), learn_bins(pa.table({"x": [1]}))),
            "column 'x' is of type string",
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused(make: object, found: str) -> None:
    assert callable(make)
    with pytest.raises(Invalid, match=found):
        make()


def test_profiles_of_different_bins_do_not_add_up() -> None:
    one, other = (learn_reference(pa.table({"x": [1, last]})).profile for last in (2, 3))
    with pytest.raises(Invalid, match="only counts in the same bins add up"):
        one + other


def test_bins_and_profiles_read_back() -> None:
    reference = learn_reference(pa.table({"x": [1, 2], "c": ["a", "b"]}))
    assert Bins.from_dict(reference.bins.as_dict()).as_dict() == reference.bins.as_dict()
    assert Profile.from_dict(reference.profile.as_dict()).as_dict() == reference.profile.as_dict()


def test_an_unknown_kind_of_column_says_why_it_is_left_out() -> None:
    assert guess_kind("x", chunked([{"a": 1}])).startswith("values of type struct")
