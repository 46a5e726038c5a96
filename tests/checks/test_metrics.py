from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.checks.metrics import Scored, is_known, present, score

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=50)
CLASSES = ("a", "b", "c", "d")
PLACES = st.lists(
    st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)),
    min_size=3,
    max_size=50,
    unique_by=lambda pair: pair[0],
)


def scored(pairs: list[tuple[int, int]]) -> Scored:
    labels, predicted = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    return Scored(labels, predicted, CLASSES, present(labels, predicted))


def one(metric: str, rows: Scored) -> float:
    return float(score(metric, rows)[0])


@given(PAIRS)
def test_class_metrics_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    from sklearn import metrics as referee

    labels, predicted = zip(*pairs, strict=True)
    rows = scored(pairs)
    assert one("accuracy", rows) == pytest.approx(referee.accuracy_score(labels, predicted))
    for average in ("macro", "weighted"):
        expected = referee.f1_score(labels, predicted, average=average, zero_division=0)
        assert one(f"{average}_f1", rows) == pytest.approx(expected)
    if 1 in labels and 1 in predicted:
        assert one("recall:b", rows) == pytest.approx(
            referee.recall_score(labels, predicted, labels=[1], average="macro")
        )
        assert one("precision:b", rows) == pytest.approx(
            referee.precision_score(labels, predicted, labels=[1], average="macro")
        )


@given(PLACES)
def test_number_metrics_are_those_of_scikit_learn(pairs: list[tuple[float, float]]) -> None:
    from sklearn import metrics as referee

    labels, predicted = (np.array(side) for side in zip(*pairs, strict=True))
    rows = Scored(labels, predicted, None)
    assert one("mae", rows) == pytest.approx(referee.mean_absolute_error(labels, predicted))
    assert one("rmse", rows) == pytest.approx(np.sqrt(referee.mean_squared_error(labels, predicted)))
    if np.ptp(labels) > 1e-3:
        assert one("r2", rows) == pytest.approx(referee.r2_score(labels, predicted), rel=1e-6, abs=1e-6)


@given(PAIRS, st.data())
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "weighted_f1", "f1:c"])
def test_a_weight_is_as_many_rows(metric: str, pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(pairs), max_size=len(pairs)))
    repeated = [pair for pair, weight in zip(pairs, weights, strict=True) for _ in range(weight)]
    if repeated:
        few = scored(repeated)
        weighted = score(metric, scored(pairs), np.array([weights], np.float64))
        assert weighted[0] == pytest.approx(one(metric, few), nan_ok=True)


@pytest.mark.parametrize(
    ("metric", "is_one"),
    [("accuracy", True), ("recall:b", True), ("recall:z", False), ("r2", False), ("auc", False)],
)
def test_which_metrics_can_be_computed(metric: str, is_one: bool) -> None:
    assert is_known(metric, scored([(0, 1)])) is is_one


def test_a_metric_that_is_not_defined_is_not_a_number() -> None:
    assert np.isnan(one("precision:d", scored([(0, 0), (1, 1)])))
    assert np.isnan(one("r2", Scored(np.ones(3), np.ones(3), None)))
