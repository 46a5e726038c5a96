from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from everloop.errors import Invalid
from everloop.monitoring.estimates import estimate_accuracy, estimate_by, estimate_macro_f1, wilson_interval

outcomes = st.lists(st.tuples(st.booleans(), st.floats(0.01, 1.0)), min_size=1, max_size=60)


@given(right=st.integers(0, 50), wrong=st.integers(0, 50), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_equal_chances_give_wilsons_interval_as_scipy_does(right: int, wrong: int, confidence: float) -> None:
    if not right + wrong:
        return
    found = estimate_accuracy([True] * right + [False] * wrong, confidence=confidence)
    expected = stats.binomtest(right, right + wrong).proportion_ci(confidence, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_unequal_chances_by_hand() -> None:
    """Weights 10, 20, 20; the wrong one has 10 of 50."""
    found = estimate_accuracy([False, True, True], probability=[0.1, 0.05, 0.05])
    variance = 3 / 2 * ((10 * 0.8) ** 2 + 2 * (20 * 0.2) ** 2) / 50**2
    assert found.value == 0.8
    assert found.n_effective == pytest.approx(0.16 / variance)


@given(outcomes, st.floats(0.1, 1.0))
def test_only_ratios_of_probabilities_matter(rows: list[tuple[bool, float]], scale: float) -> None:
    right, chance = zip(*rows, strict=True)
    one = estimate_accuracy(right, probability=chance)
    other = estimate_accuracy(right, probability=np.array(chance) * scale)
    assert one.value == pytest.approx(other.value)
    assert one.low == pytest.approx(other.low, abs=1e-6)


@given(outcomes)
def test_the_interval_holds_the_estimate_and_stays_within_0_and_1(rows: list[tuple[bool, float]]) -> None:
    right, chance = zip(*rows, strict=True)
    found = estimate_accuracy(right, probability=chance)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert 0.0 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= 1.0
    assert 0.0 < found.n_effective <= found.n + 1e-9


def coverage(chance_of: NDArray[np.float64], accuracy_of: NDArray[np.float64], *, tries: int = 400) -> float:
    """How often the interval holds the accuracy over all predictions; half are hard, half easy."""
    random = np.random.default_rng(1)
    held = 0
    for _ in range(tries):
        is_hard = (np.arange(4_000) % 2).astype(np.int64)
        is_right = random.random(4_000) < accuracy_of[is_hard]
        chance = chance_of[is_hard]
        sampled = random.random(4_000) < chance
        found = estimate_accuracy(is_right[sampled], probability=chance[sampled])
        assert found.low is not None
        assert found.high is not None
        held += found.low <= float(is_right.mean()) <= found.high
    return held / tries


@pytest.mark.parametrize("chance", [(0.03, 0.03), (0.02, 0.1), (0.1, 0.02)])
@pytest.mark.parametrize("accuracy", [(0.98, 0.7), (0.9, 0.9)])
def test_intervals_hold_what_they_promise(chance: tuple[float, float], accuracy: tuple[float, float]) -> None:
    assert coverage(np.array(chance), np.array(accuracy)) >= 0.91


def test_a_sample_that_looks_at_mistakes_is_not_fooled() -> None:
    """Hard predictions are looked at five times as often; the plain share would be far too low."""
    random = np.random.default_rng(2)
    is_hard = random.random(20_000) < 0.2
    is_right = random.random(20_000) < np.where(is_hard, 0.5, 0.98)
    chance = np.where(is_hard, 0.25, 0.05)
    sampled = random.random(20_000) < chance
    found = estimate_accuracy(is_right[sampled], probability=chance[sampled])
    assert found.value == pytest.approx(is_right.mean(), abs=0.02)
    assert is_right[sampled].mean() < is_right.mean() - 0.1


def test_nothing_known_estimates_nothing() -> None:
    found = estimate_accuracy([])
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)
    assert estimate_macro_f1([], []).estimate.value is None
    assert estimate_by([], []) == {}


def test_groups_are_estimated_apart() -> None:
    by = estimate_by(["b", "a", "b"], [True, False, False], probability=[0.5, 0.5, 0.25])
    assert list(by) == ["a", "b"]
    assert by["b"].value == pytest.approx(1 / 3)


def f1_of_scikit_learn(truth: Any, predicted: Any, weight: Sequence[float] | None = None) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, average="macro", sample_weight=weight, zero_division=0.0))


labels = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.floats(0.05, 1.0)), min_size=1, max_size=40
)


@settings(max_examples=40, deadline=None)
@given(labels)
def test_macro_f1_agrees_with_scikit_learn(rows: list[tuple[str, str, float]]) -> None:
    truth, predicted, chance = zip(*rows, strict=True)
    expected = f1_of_scikit_learn(truth, predicted, [1 / one for one in chance])
    assert estimate_macro_f1(truth, predicted, probability=chance).estimate.value == pytest.approx(expected)


def test_the_variance_of_macro_f1_agrees_with_the_bootstrap_of_scipy() -> None:
    random = np.random.default_rng(3)
    truth = random.choice(3, 400, p=[0.6, 0.3, 0.1])
    predicted = np.where(random.random(400) < 0.8, truth, random.choice(3, 400))
    found = estimate_macro_f1(truth.astype(str).tolist(), predicted.astype(str).tolist()).estimate
    expected = stats.bootstrap(
        (truth, predicted),
        f1_of_scikit_learn,
        paired=True,
        vectorized=False,
        n_resamples=400,
        method="percentile",
        rng=np.random.default_rng(4),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_no_interval_is_given_that_would_claim_too_much() -> None:
    thin = estimate_macro_f1(["a"] * 50 + ["b"] * 9, ["a"] * 45 + ["b"] * 14)
    assert thin.thin == ("b",)
    assert thin.estimate.low is None
    perfect = estimate_macro_f1(["a", "b"] * 20, ["a", "b"] * 20)
    assert perfect.estimate.value == 1.0
    assert perfect.estimate.low is None


def test_intervals_of_macro_f1_hold_what_they_promise() -> None:
    random = np.random.default_rng(5)
    everything = random.choice(4, 100_000, p=[0.5, 0.25, 0.15, 0.1])
    said = np.where(random.random(100_000) < 0.85, everything, random.choice(4, 100_000))
    true_value = f1_of_scikit_learn(everything, said)
    held = 0
    for _ in range(200):
        rows = random.integers(0, 100_000, 300)
        found = estimate_macro_f1(
            everything[rows].astype(str).tolist(), said[rows].astype(str).tolist()
        ).estimate
        held += found.low is not None and found.high is not None and found.low <= true_value <= found.high
    assert held / 200 >= 0.91


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: estimate_accuracy([True], probability=[0.0]), "not above 0"),
        (lambda: estimate_accuracy([True], probability=[0.1, 0.2]), "2 probabilities for 1 outcomes"),
        (lambda: estimate_by(["a"], [True, False]), "1 groups for 2 outcomes"),
        (lambda: estimate_macro_f1(["a"], []), "1 truths for 0 predictions"),
    ],
)
def test_unusable_outcomes_are_refused(make: object, found: str) -> None:
    assert callable(make)
    with pytest.raises(Invalid, match=found):
        make()


def test_wilson_of_nothing_right_is_not_empty() -> None:
    assert wilson_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
