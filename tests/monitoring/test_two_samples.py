from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special, stats

from everloop.monitoring import two_samples
from everloop.monitoring.two_samples import (
    adjusted,
    category_p_value,
    corrected_psi,
    gamma_tail,
    ks_distance,
    ks_p_value,
    number_p_value,
    pool_rare,
    rank_p_value,
    total_variation,
)

Ints = NDArray[np.int64]

bins = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=2, max_size=12)


def rows(pairs: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    table = np.array(pairs, dtype=np.int64)
    return table[:, 0], table[:, 1]


@given(bins)
def test_ks_distance_agrees_with_scipy(pairs: list[tuple[int, int]]) -> None:
    r, c = rows(pairs)
    if r.sum() and c.sum():
        values = np.arange(len(r))
        expected = stats.ks_2samp(np.repeat(values, r), np.repeat(values, c)).statistic
        assert ks_distance(r, c) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("distance", [0.0, 0.02, 0.05, 0.1, 0.3, 1.0])
def test_ks_p_value_agrees_with_scipy(distance: float) -> None:
    expected = special.kolmogorov(np.sqrt(400 * 600 / 1_000) * distance)
    assert ks_p_value(distance, n_reference=400, n_current=600) == pytest.approx(expected, abs=1e-12)


def test_rank_p_value_by_hand() -> None:
    """One bin each for four values, the two of the current sample on top."""
    score = special.ndtri(np.array([1, 2, 3, 4]) / 5)
    z = score[2:].sum() / np.sqrt(2 * 2 / (4 * 3) * (score**2).sum())
    assert rank_p_value([1, 1, 0, 0], [0, 0, 1, 1]) == pytest.approx(2 * stats.norm.sf(z))


def test_rank_p_value_agrees_with_a_permutation_test_of_scipy() -> None:
    random = np.random.default_rng(1)
    r, c = random.multinomial(60, [0.3, 0.3, 0.2, 0.2]), random.multinomial(50, [0.2, 0.2, 0.3, 0.3])
    together = r + c
    score = special.ndtri((together.cumsum() - together + (together + 1) / 2) / (together.sum() + 1))
    values = np.arange(4)
    expected = stats.permutation_test(
        (score[np.repeat(values, c)], score[np.repeat(values, r)]),
        lambda x, y: np.mean(x) - np.mean(y),
        n_resamples=9_999,
        rng=np.random.default_rng(2),
    ).pvalue
    assert rank_p_value(r, c) == pytest.approx(expected, abs=0.01)


def test_rank_p_value_is_as_strong_as_the_t_test_on_normal_data() -> None:
    random = np.random.default_rng(3)
    edges = np.linspace(-3, 3, 255)
    smaller = 0
    for _ in range(100):
        x, y = random.normal(size=400), random.normal(0.25, 1.0, size=400)
        counts = [np.bincount(np.searchsorted(edges, one), minlength=256) for one in (x, y)]
        smaller += rank_p_value(*counts) < 1.2 * stats.ttest_ind(x, y).pvalue
    assert smaller >= 50


@settings(max_examples=60)
@given(bins)
def test_all_are_indifferent_to_which_sample_is_the_reference(pairs: list[tuple[int, int]]) -> None:
    r, c = rows(pairs)
    for test in (ks_distance, rank_p_value, number_p_value, total_variation, category_p_value):
        assert test(r, c) == pytest.approx(test(c, r), abs=1e-9)


@settings(max_examples=60)
@given(bins, st.randoms(use_true_random=False))
def test_categories_have_no_order(pairs: list[tuple[int, int]], random: Random) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert category_p_value(*rows(shuffled)) == pytest.approx(
        category_p_value(*rows(pairs)), rel=1e-6, abs=1e-9
    )


def test_category_p_value_agrees_with_scipy_where_values_are_common() -> None:
    table = [[4_000, 3_500, 2_500], [830, 690, 480]]
    expected = stats.chi2_contingency(table, correction=False).pvalue
    assert category_p_value(*table) == pytest.approx(expected, rel=0.02)


def exact_chi_squares(t: Ints, m: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Chi-square of each way to take m of the rows, and its probability."""
    total, n = int(t.sum()), int(t.sum()) - m
    values, chances = [], []
    for c in itertools.product(*(range(int(most) + 1) for most in t)):
        if sum(c) == m:
            taken = np.array(c)
            values.append(total**2 / (n * m) * ((taken - m * t / total) ** 2 / t).sum())
            chances.append(np.prod(special.binom(t, taken)) / special.binom(total, m))
    return np.array(values), np.array(chances)


@pytest.mark.parametrize(("t", "m"), [([3, 1, 4, 2], 4), ([1, 1, 1, 5, 2], 3), ([6, 6], 5)])
def test_the_variance_of_chi_square_is_exact(t: list[int], m: int) -> None:
    values, chances = exact_chi_squares(np.array(t), m)
    mean = (values * chances).sum()
    assert chances.sum() == pytest.approx(1.0)
    assert mean == pytest.approx(sum(t) * (len(t) - 1) / (sum(t) - 1))
    variance = two_samples._chi_square_variance(np.array(t, dtype=float), n=sum(t) - m, m=m)
    assert variance == pytest.approx((values**2 * chances).sum() - mean**2)


def test_the_third_cumulant_of_a_binomial_is_exact() -> None:
    c = np.arange(8)
    z = (c - 7 * 0.2) ** 2 / (7 * 0.2 * 0.8)
    chance = stats.binom.pmf(c, 7, 0.2)
    third = ((z - (z * chance).sum()) ** 3 * chance).sum()
    assert two_samples._binomial_third_cumulants(np.array([7.0]), 0.2)[0] == pytest.approx(third)


@given(shape=st.floats(1e-3, 1e6), z=st.floats(-5, 30))
def test_the_tail_of_the_gamma_distribution_agrees_with_scipy(shape: float, z: float) -> None:
    x = shape + z * np.sqrt(shape)
    expected = float(special.gammaincc(shape, max(x, 0.0)))
    assert gamma_tail(shape, x) == pytest.approx(expected, rel=0.01, abs=1e-12)
    assert gamma_tail(shape, x) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(
    ("n_values", "exponent", "n", "m"),
    [(75, 0.0, 5_000, 500), (300, 1.0, 2_000, 500), (1_000, 0.0, 500, 500), (4, 2.0, 500, 500)],
)
def test_categories_that_did_not_change_are_seldom_called_changed(
    n_values: int, exponent: float, n: int, m: int
) -> None:
    random = np.random.default_rng(4)
    shares = 1.0 / np.arange(1, n_values + 1) ** exponent
    shares /= shares.sum()
    p = np.array(
        [category_p_value(random.multinomial(n, shares), random.multinomial(m, shares)) for _ in range(2_000)]
    )
    assert (p <= 0.05).mean() <= 0.065
    assert (p <= 0.01).mean() <= 0.017


def test_a_thousand_rare_values_replaced_by_others_is_seen() -> None:
    old, new = [1] * 500 + [0] * 500, [0] * 500 + [1] * 500
    assert category_p_value(old, new) == 1.0  # each value came once: no draw differs from another
    assert category_p_value([2 * one for one in old], [2 * one for one in new]) < 1e-6


def test_shifted_numbers_and_changed_shapes_are_both_seen() -> None:
    normal = np.diff(stats.norm.cdf(np.linspace(-4, 4, 65)))
    wide = np.diff(stats.norm.cdf(np.linspace(-4, 4, 65), scale=1.6))
    moved = np.diff(stats.norm.cdf(np.linspace(-4, 4, 65), loc=0.2))
    assert number_p_value(1_000 * normal, 1_000 * normal) == 1.0
    assert number_p_value(1_000 * normal, 1_000 * moved) < 1e-4
    assert number_p_value(1_000 * normal, 1_000 * wide) < 1e-3
    assert rank_p_value(1_000 * normal, 1_000 * wide) > 0.9


def test_psi_by_hand() -> None:
    raw = 0.1 * np.log(0.6 / 0.5) - 0.1 * np.log(0.4 / 0.5)
    assert corrected_psi([50_000_000, 50_000_000], [40_000_000, 60_000_000]) == pytest.approx(raw, rel=1e-4)


def test_psi_of_unchanged_samples_is_near_zero_at_any_size() -> None:
    random = np.random.default_rng(5)
    for n in (100, 1_000, 10_000):
        psi = [corrected_psi(*random.multinomial(n, [0.1] * 10, size=2)) for _ in range(300)]
        assert np.mean(psi) < 10 / n


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_q_values_agree_with_scipy(p: list[float]) -> None:
    assert adjusted(p) == pytest.approx(stats.false_discovery_control(p), abs=1e-12)


def test_rare_values_are_chosen_by_both_samples() -> None:
    assert (
        pool_rare([9, 1, 0, 990], [1, 9, 5, 985]).tolist()
        == pool_rare([1, 9, 5, 985], [9, 1, 0, 990]).tolist()
    )
    assert pool_rare([0, 0], [0, 0]).tolist() == [True, True]


@pytest.mark.parametrize("empty", [([0, 0], [3, 4]), ([3, 4], [0, 0]), ([0, 0], [0, 0])])
def test_an_empty_sample_shows_nothing(empty: tuple[list[int], list[int]]) -> None:
    assert number_p_value(*empty) == category_p_value(*empty) == 1.0
    assert ks_distance(*empty) == total_variation(*empty) == corrected_psi(*empty) == 0.0


def test_a_constant_column_shows_nothing() -> None:
    assert number_p_value([0, 50, 0], [0, 90, 0]) == 1.0
    assert category_p_value([50], [90]) == 1.0
