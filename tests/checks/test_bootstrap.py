from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from everloop.checks.bootstrap import bootstrap

Weights = npt.NDArray[np.float64]


def interval(
    values: npt.NDArray[np.float64], groups: npt.NDArray[np.int64] | None = None
) -> tuple[float, float]:
    def mean(weights: Weights) -> Weights:
        found: Weights = (weights @ values) / weights.sum(axis=1)
        return found

    found = bootstrap(mean, rows=np.ones(len(values), np.int64), groups=groups).interval
    assert found is not None
    return found


def test_the_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=200)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=5000, rng=1
    ).confidence_interval
    assert interval(values) == pytest.approx((expected.low, expected.high), abs=0.03)


def test_the_same_rows_give_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert interval(values) == interval(values)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(2)
    found = [interval(random.normal(3, 1, 60)) for _ in range(200)]
    assert 0.89 <= np.mean([low <= 3 <= high for low, high in found]) <= 0.99


def test_alike_rows_given_once_mean_the_same() -> None:
    values, counts = np.array([0.0, 1.0]), np.array([30, 70])

    def mean(weights: Weights) -> Weights:
        found: Weights = (weights @ values) / weights.sum(axis=1)
        return found

    together = bootstrap(mean, rows=counts)
    assert together.value == 0.7
    assert together.interval == pytest.approx(interval(np.repeat(values, counts)), abs=0.02)


def test_groups_are_drawn_whole() -> None:
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(40), 10)
    values = random.normal(size=40)[groups]  # ten times the same: the evidence is that of 40 rows
    by_row, by_group = interval(values), interval(values, groups)
    assert (by_group[1] - by_group[0]) / (by_row[1] - by_row[0]) == pytest.approx(np.sqrt(10), rel=0.15)


def test_rows_without_a_group_are_groups_of_their_own() -> None:
    values = np.random.default_rng(4).normal(size=300)
    alone = interval(values, np.full(300, -1))
    assert alone == pytest.approx(interval(values), abs=0.03)


def test_a_single_row_has_no_interval() -> None:
    assert bootstrap(lambda weights: weights[:, 0], rows=np.array([1])).interval is None
