from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from everloop.checks.bounds import fewer_by_chance, share_at_most, wilson


@pytest.mark.parametrize(
    ("bad", "total", "bound"), [(0, 1, 0.95), (0, 59, 0.0495), (59, 59, 1.0), (0, 0, 1.0)]
)
def test_the_upper_bound_by_hand(bad: int, total: int, bound: float) -> None:
    assert share_at_most(bad, total) == pytest.approx(bound, abs=1e-4)


@given(st.integers(1, 3000), st.data())
def test_the_upper_bound_is_that_of_scipy(total: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, total - 1))
    assert share_at_most(bad, total) == pytest.approx(stats.beta.ppf(0.95, bad + 1, total - bad), abs=1e-9)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.3])
def test_the_true_share_is_above_the_bound_in_one_sample_of_twenty_at_most(share: float) -> None:
    counts = np.random.default_rng(1).binomial(200, share, 4000)
    bounds = {int(bad): share_at_most(int(bad), 200) for bad in np.unique(counts)}
    missed = np.mean([bounds[int(bad)] < share for bad in counts])
    assert missed <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)


@given(st.integers(1, 500), st.data())
def test_wilson_is_that_of_scipy(total: int, data: st.DataObject) -> None:
    good = data.draw(st.integers(0, total))
    expected = stats.binomtest(good, total).proportion_ci(method="wilson")
    assert wilson(good, total) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_wilson_knows_nothing_without_rows() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 60), st.integers(1, 200), st.data())
def test_fewer_by_chance_is_fishers_exact_test(rows: int, others: int, data: st.DataObject) -> None:
    good, others_good = data.draw(st.integers(0, rows)), data.draw(st.integers(0, others))
    table = [[good, rows - good], [others_good, others - others_good]]
    expected = stats.fisher_exact(table, alternative="less").pvalue
    assert fewer_by_chance(good, rows, good + others_good, rows + others) == pytest.approx(expected, rel=1e-6)
