from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from everloop.monitoring.bins import N_BINS, N_CATEGORIES, CategoryBins, CategoryCounts, NumberBins
from everloop.monitoring.two_samples import ks_distance

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


def plainly_counted(bins: NumberBins, values: NDArray[np.float64]) -> list[int]:
    index = np.searchsorted(bins.edges, values, side="right")
    counted: list[int] = np.bincount(index, minlength=bins.n_bins).tolist()
    return counted


@settings(max_examples=100, deadline=None)
@given(st.lists(finite, min_size=1, max_size=400), st.lists(finite, max_size=50))
def test_the_grid_counts_as_a_binary_search_does(reference: list[float], current: list[float]) -> None:
    bins = NumberBins.learn(np.array(reference))
    values = np.array([*reference, *current, *bins.edges, -np.inf, np.inf])
    assert bins.count(values).tolist() == plainly_counted(bins, values)


@pytest.mark.parametrize(
    "shape", ["normal", "lognormal", "standard_cauchy", "exponential", "integers", "two values"]
)
def test_each_shape_counts_right(shape: str) -> None:
    random = np.random.default_rng(1)
    values = {
        "normal": random.normal(size=100_000),
        "lognormal": random.lognormal(sigma=3.0, size=100_000),
        "standard_cauchy": random.standard_cauchy(size=100_000),
        "exponential": random.exponential(size=100_000),
        "integers": random.poisson(30.0, 100_000).astype(np.float64),
        "two values": random.integers(0, 2, 100_000).astype(np.float64),
    }[shape]
    bins = NumberBins.learn(values[:50_000])
    assert bins.count(values).tolist() == plainly_counted(bins, values)


def test_bins_hold_equal_parts_of_the_reference() -> None:
    values = np.random.default_rng(2).normal(size=N_BINS * 1_000)
    counts = NumberBins.learn(values).count(values)
    inner = counts[counts > 100]
    assert len(inner) == N_BINS
    assert inner.max() / inner.min() < 1.5  # learned from half of the rows


def test_the_distance_is_that_of_the_values_to_within_a_bin() -> None:
    random = np.random.default_rng(3)
    x, y = random.gamma(2.0, size=50_000), random.gamma(2.2, size=40_000)
    bins = NumberBins.learn(x)
    together = np.sort(np.concatenate([x, y]))
    exact = np.abs(
        np.searchsorted(np.sort(x), together, side="right") / len(x)
        - np.searchsorted(np.sort(y), together, side="right") / len(y)
    ).max()
    assert ks_distance(bins.count(x), bins.count(y)) == pytest.approx(exact, abs=1 / N_BINS)


def test_few_distinct_values_have_a_bin_each() -> None:
    bins = NumberBins.learn(np.array([0.0, 1.0, 1.0, 3.0]))
    counts = bins.count(np.array([0.0, 1.0, 2.0, 3.0, 3.0]))
    assert bins.is_discrete
    assert counts[counts > 0].tolist() == [1, 2, 2]
    assert bins.median(counts) == 1.0


def test_values_beyond_the_reference_are_told_apart() -> None:
    bins = NumberBins.learn(np.linspace(0.0, 1.0, 1_000))
    counts = bins.count(np.array([-30.0, -0.1, 0.5, 1.0, 1.1, 3.0, 50.0]))
    assert bins.share_outside(counts) == pytest.approx(5 / 7)
    assert np.count_nonzero(counts) == 7


def test_the_median_is_right_to_within_a_bin() -> None:
    values = np.random.default_rng(4).exponential(size=20_000)
    bins = NumberBins.learn(values)
    assert bins.median(bins.count(values)) == pytest.approx(np.median(values), rel=0.01)
    assert bins.median(np.zeros(bins.n_bins, dtype=np.int64)) is None


@pytest.mark.parametrize("values", [[], [np.nan], [7.0], [7.0, 7.0], [1e308, -1e308], [5e-324, 0.0]])
def test_degenerate_references_still_count(values: list[float]) -> None:
    bins = NumberBins.learn(np.array(values))
    assert bins.count(np.array([-1.0, 7.0, 9.0])).sum() == 3


def test_bins_and_counts_survive_json() -> None:
    bins = NumberBins.learn(np.random.default_rng(5).normal(size=5_000))
    again = NumberBins.from_dict(json.loads(json.dumps(bins.as_dict())))
    assert again.edges.tolist() == bins.edges.tolist()


def strings(values: Sequence[str | None]) -> pa.ChunkedArray[Any]:
    return pa.chunked_array([pa.array(values, pa.large_string())])


def test_new_values_are_counted_by_name() -> None:
    bins = CategoryBins.learn(strings(["a", "a", "b", None]))
    counts = bins.count(strings(["b", "c", "c", None]))
    assert bins.kept == ("a", "b")
    assert (counts.kept.tolist(), counts.new, counts.rest) == ([0, 1], {"c": 2}, 0)


def test_new_values_are_bounded_and_none_is_lost() -> None:
    bins = CategoryBins.learn(strings(["a"]))
    counts = bins.count(strings([f"v{i}" for i in range(3_000)] + ["often"] * 5))
    assert len(counts.new) == N_CATEGORIES
    assert counts.new["often"] == 5
    assert counts.total == 3_005


def test_only_clearly_common_values_of_many_are_kept() -> None:
    values = ["common"] * 500 + [f"v{i % 5_000}" for i in range(20_000)]
    bins = CategoryBins.learn(strings(values))
    assert bins.kept == ("common",)
    assert not bins.is_complete
    assert bins.count(strings(["common", "v1", "never seen"])).rest == 2


words = st.lists(st.sampled_from("abcdefgh"), max_size=40)


@settings(deadline=None)
@given(words, words, words)
def test_counts_add_up_in_any_order(reference: list[str], first: list[str], second: list[str]) -> None:
    bins = CategoryBins.learn(strings(reference))
    one, other = bins.count(strings(first)), bins.count(strings(second))
    assert (
        (one + other).as_dict() == bins.count(strings([*first, *second])).as_dict() == (other + one).as_dict()
    )
    assert CategoryCounts.from_dict(json.loads(json.dumps(one.as_dict()))).as_dict() == one.as_dict()
