from __future__ import annotations

from math import log
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from everloop.errors import Invalid
from everloop.rollout.bounded import (
    _LOG_WEIGHTS,
    _PARTS,
    mean_bounds,
    refutes_at_least,
    refutes_at_most,
    upper_bound,
)

WEIGHTS = np.exp(_LOG_WEIGHTS)
NUMBERS = st.lists(st.floats(-1, 1), min_size=1, max_size=40)


def test_two_numbers_by_hand() -> None:
    """Against a mean of 0.5, a 0 pays 1 + f and a 1 pays 1 - f; the average over the grid of f."""
    by_hand = WEIGHTS @ ((1 + _PARTS) ** 2 * (1 - _PARTS))
    assert refutes_at_least([0, 0, 1], 0.5) == pytest.approx(log(by_hand))


@given(numbers=NUMBERS, mean=st.floats(-0.9, 0.9))
def test_an_order_or_a_scale_changes_nothing(numbers: list[float], mean: float) -> None:
    plain = refutes_at_least(numbers, mean, low=-1, high=1)
    assert refutes_at_least(sorted(numbers), mean, low=-1, high=1) == pytest.approx(plain, abs=1e-6)
    scaled = refutes_at_least([10 + 5 * one for one in numbers], 10 + 5 * mean, low=5, high=15)
    assert scaled == pytest.approx(plain, abs=1e-6)


@settings(deadline=None)
@given(numbers=NUMBERS)
def test_what_refutes_a_mean_refutes_every_larger_one(numbers: list[float]) -> None:
    evidence = [refutes_at_least(numbers, mean, low=-1, high=1) for mean in np.linspace(-0.95, 0.95, 30)]
    assert (np.diff(evidence) >= -1e-9).all()


@given(numbers=NUMBERS)
def test_the_bounds_are_where_the_bets_reach_their_mark(numbers: list[float]) -> None:
    found = mean_bounds(numbers, low=-1, high=1)
    assert found.mean is not None
    assert found.lower - 1e-6 <= found.mean <= found.upper + 1e-6
    if found.upper < 1:
        assert refutes_at_least(numbers, found.upper, low=-1, high=1) == pytest.approx(log(40), abs=1e-3)
    if found.lower > -1:
        assert refutes_at_most(numbers, found.lower, low=-1, high=1) == pytest.approx(log(40), abs=1e-3)


@settings(max_examples=30)
@given(bad=st.integers(0, 200), n=st.integers(200, 2_000))
def test_it_holds_what_an_exact_interval_for_one_look_holds_and_is_not_much_wider(bad: int, n: int) -> None:
    """Clopper and Pearson, by scipy, as the referee: theirs is for one look, so that ours must be the wider."""
    exact = stats.binomtest(bad, n).proportion_ci(0.95)
    ours = mean_bounds([0, 1], counts=[n - bad, bad])
    assert ours.lower <= exact.low + 1e-9
    assert ours.upper >= exact.high - 1e-9
    assert ours.upper - ours.lower < 2.5 * (exact.high - exact.low)


@pytest.mark.parametrize(
    ("values", "chances"),
    [([0.0, 1.0], [0.99, 0.01]), ([-1.0, 0.0, 1.0], [0.05, 0.9, 0.05]), ([0.0, 0.3, 1.0], [0.2, 0.5, 0.3])],
    ids=["rare", "differences", "scores"],
)
def test_the_mean_ever_falls_outside_in_at_most_five_in_a_hundred(
    values: list[float], chances: list[float]
) -> None:
    """1,000 sequences of 2,000 numbers, looked at after each one: both ends together promise 5 %."""
    rng, n_sequences = np.random.default_rng(3), 1_000
    low, high, mean = values[0], values[-1], float(np.dot(values, chances))
    capital = np.zeros((2, n_sequences, len(_PARTS)))
    ever = np.zeros(n_sequences, dtype=bool)
    numbers = np.array(values)
    above = np.log1p(_PARTS * ((high - numbers[:, None]) / (high - mean) - 1))  # (n_values, n_parts)
    below = np.log1p(_PARTS * ((numbers[:, None] - low) / (mean - low) - 1))
    for _ in range(2_000):
        drawn = rng.choice(len(values), size=n_sequences, p=chances)
        capital += np.stack([above[drawn], below[drawn]])
        ever |= (np.log(np.exp(capital) @ WEIGHTS) >= log(40)).any(axis=0)
    assert ever.mean() <= 0.05


def test_ten_thousand_numbers_take_a_moment() -> None:
    numbers = np.random.default_rng(1).random(10_000)
    started = process_time()
    mean_bounds(numbers)
    assert process_time() - started < 5


def test_four_hundred_equal_answers_show_that_fewer_than_one_in_a_hundred_differs() -> None:
    n = next(n for n in range(100, 1_000, 10) if upper_bound([0.0], counts=[n]) < 0.01)
    assert n <= 400


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: mean_bounds([2.0]),
        lambda: mean_bounds([0.5], counts=[1, 2]),
        lambda: refutes_at_least([0.5], 1.0),
        lambda: mean_bounds([0.5], counts=[-1]),
    ],
)
def test_numbers_that_break_the_promise_are_refused(wrong: object) -> None:
    with pytest.raises(Invalid):
        wrong()  # type: ignore[operator]  # each case is a call
