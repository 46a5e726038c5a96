from __future__ import annotations

import doctest
import math
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.errors import Invalid
from everloop.pipelines import evaluation
from everloop.pipelines.evaluation import classification, regression

ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1, max_size=60)
FINITE = st.floats(-1e6, 1e6)
NUMBERS = st.lists(st.tuples(FINITE, FINITE), min_size=2, max_size=40)


@pytest.fixture(scope="module")
def referee() -> ModuleType:
    import sklearn.metrics

    metrics: ModuleType = sklearn.metrics
    return metrics


def test_the_examples_in_the_docstrings_are_right() -> None:
    assert doctest.testmod(evaluation).failed == 0


def test_a_confusion_counted_by_hand() -> None:
    # a: 2 of 3 found, 1 wrongly given; b: 1 of 2 found, 1 wrongly given; c: never given, 1 missed
    scores = classification(list("aaabbc"), list("aabbaa"))
    rows = {row["class"]: row for row in scores.per_class.to_pylist()}
    assert rows["a"] == {"class": "a", "precision": 0.5, "recall": 2 / 3, "f1": 4 / 7, "support": 3}
    assert rows["b"] == {"class": "b", "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert rows["c"] == {"class": "c", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert scores.metrics["accuracy"] == 0.5
    assert scores.metrics["macro_f1"] == pytest.approx((4 / 7 + 1 / 2) / 3)
    assert scores.metrics["weighted_f1"] == pytest.approx((3 * 4 / 7 + 2 * 1 / 2) / 6)


@given(ROWS)
def test_classification_agrees_with_scikit_learn(referee: ModuleType, rows: list[tuple[str, str]]) -> None:
    labels, predicted = zip(*rows, strict=True)
    scores = classification(labels, predicted)
    assert scores.metrics == pytest.approx(
        {
            "accuracy": referee.accuracy_score(labels, predicted),
            "macro_f1": referee.f1_score(labels, predicted, average="macro", zero_division=0),
            "weighted_f1": referee.f1_score(labels, predicted, average="weighted", zero_division=0),
        }
    )
    expected = referee.precision_recall_fscore_support(labels, predicted, zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert scores.per_class[name].to_pylist() == pytest.approx(list(values))


@given(ROWS)
def test_the_order_of_rows_does_not_matter(rows: list[tuple[str, str]]) -> None:
    shuffled = sorted(rows)
    before, after = (classification(*zip(*some, strict=True)) for some in (rows, shuffled))
    assert before.metrics == pytest.approx(after.metrics)
    assert before.per_class.equals(after.per_class)


@given(ROWS)
def test_names_of_classes_do_not_matter(rows: list[tuple[str, str]]) -> None:
    renamed = [("z" + a, "z" + b) for a, b in rows]
    assert classification(*zip(*rows, strict=True)).metrics == pytest.approx(
        classification(*zip(*renamed, strict=True)).metrics
    )


@given(st.lists(st.sampled_from("abc"), min_size=1))
def test_perfect_answers_score_one(labels: list[str]) -> None:
    assert set(classification(labels, labels).metrics.values()) == {1.0}


def test_labels_may_be_numbers_or_truth_values() -> None:
    assert classification([0, 1, 1], [0, 1, 0]).metrics["accuracy"] == pytest.approx(2 / 3)
    assert classification([True, False], [True, True]).metrics["accuracy"] == 0.5


@given(NUMBERS)
def test_regression_agrees_with_scikit_learn(referee: ModuleType, rows: list[tuple[float, float]]) -> None:
    labels, predicted = zip(*rows, strict=True)
    expected = {
        "r2": referee.r2_score(labels, predicted),
        "mae": referee.mean_absolute_error(labels, predicted),
        "rmse": referee.root_mean_squared_error(labels, predicted),
    }
    assert regression(labels, predicted) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(NUMBERS, st.floats(0.1, 100))
def test_errors_scale_with_the_unit_and_r2_does_not(rows: list[tuple[float, float]], factor: float) -> None:
    labels, predicted = np.array(rows).T
    plain, scaled = regression(labels, predicted), regression(labels * factor, predicted * factor)
    assert scaled["mae"] == pytest.approx(plain["mae"] * factor, rel=1e-6, abs=1e-9)
    if labels.std() > 1e-3:
        assert scaled["r2"] == pytest.approx(plain["r2"], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("predicted", "r2"), [([2.0, 2.0], 1.0), ([2.0, 3.0], 0.0)])
def test_r2_of_equal_labels_says_whether_all_was_right(predicted: list[float], r2: float) -> None:
    assert regression([2.0, 2.0], predicted)["r2"] == r2


def test_a_number_that_is_not_finite_makes_all_metrics_nan() -> None:
    assert all(math.isnan(value) for value in regression([1.0, 2.0], [1.0, math.inf]).values())


@pytest.mark.parametrize(("labels", "predicted"), [([], []), (["a"], ["a", "b"]), (["a"], [["a"]])])
def test_answers_that_do_not_pair_with_labels_are_refused(labels: list[str], predicted: list[str]) -> None:
    with pytest.raises(Invalid, match="one prediction with one label"):
        classification(labels, predicted)
