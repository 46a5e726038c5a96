"""What the models at the end of a pipeline make of numbers: linear ones, naive Bayes, and trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everloop.compiled.parts import (
    Entries,
    NotCompiledError,
    Part,
    UnsureError,
    name_of,
    numbers,
    require,
)
from everloop.compiled.trees import averaged_trees, boosted_trees, histogram_trees

Floats = NDArray[np.float64]
Rows = Sequence[Sequence[Any]]
_MOST_DENSE = 5_000


@dataclass(frozen=True)
class Ending:
    """A model without its pipeline. `raw` takes rows and gives (n_rows, n_values); the others read that.

    `outputs` gives (n_rows,) classes or numbers, `probabilities` (n_rows, n_classes), None where there are none.
    """

    raw: Callable[[Rows], Floats]
    outputs: Callable[[Floats], NDArray[Any]]
    probabilities: Callable[[Floats], Floats] | None = None


def ending(model: Any, before: Part) -> Ending:
    """What a fitted model answers to the part before it. Raises NotCompiledError."""
    kind = name_of(model)
    if kind not in _MAKERS or type(model).__module__.split(".")[0] != "sklearn":
        raise NotCompiledError(f"{kind} is no model that is compiled")
    require(before.kind != "value", f"{kind} is given a single column")
    require(
        before.width == model.n_features_in_,
        f"{kind} takes {model.n_features_in_} columns, it is given {before.width}",
    )
    return _MAKERS[kind](model, before)


def _logistic(model: Any, before: Part) -> Ending:
    is_binary = len(model.classes_) <= 2
    return Ending(_linear(model, before), _decided(model), _one_against_all if is_binary else _softmax)


def _descended(model: Any, before: Part) -> Ending:
    require(model.loss != "modified_huber", "SGDClassifier has the loss modified_huber")
    has_probabilities = model.loss == "log_loss"
    return Ending(_linear(model, before), _decided(model), _one_against_all if has_probabilities else None)


def _decider(model: Any, before: Part) -> Ending:
    return Ending(_linear(model, before), _decided(model))


def _regressor(model: Any, before: Part) -> Ending:
    return Ending(_linear(model, before), lambda raw: raw[:, 0])


def _bayes(model: Any, before: Part) -> Ending:
    has_prior = name_of(model) == "MultinomialNB" or len(model.classes_) == 1
    prior = model.class_log_prior_ if has_prior else np.zeros(len(model.classes_))
    classes = model.classes_
    raw = _weighted(model, "feature_log_prob_", np.asarray(prior), before)
    return Ending(raw, lambda raw: np.asarray(classes[raw.argmax(axis=1)]), _softmax)


def _linear(model: Any, before: Part) -> Callable[[Rows], Floats]:
    return _weighted(model, "coef_", np.atleast_1d(np.asarray(model.intercept_, dtype=np.float64)), before)


def _weighted(model: Any, name: str, add: Floats, before: Part) -> Callable[[Rows], Floats]:
    """The sums of a row's numbers, each times its weights: (n_rows, n_values).

    The model is given the same weights in the order of columns. It is the order in which scipy reads them, which otherwise
    puts a copy of all of them into it for each call; and so they are in memory once.
    """
    given = getattr(model, name)
    require(isinstance(given, np.ndarray), f"{name_of(model)} has sparse weights")
    require(given.dtype == np.float64, f"{name_of(model)} has weights in {given.dtype}")
    weights = np.ascontiguousarray(np.atleast_2d(given).T)  # (n_columns, n_values)
    setattr(model, name, weights.T if given.ndim == 2 else weights[:, 0])
    require(weights.shape[1] == len(add) or len(add) == 1, f"{name_of(model)} has an unusual intercept")
    read, is_dense = before.run, before.kind == "cells"

    def raw(rows: Rows) -> Floats:
        found = np.empty((len(rows), weights.shape[1]))
        for place, row in enumerate(rows):
            if is_dense:
                found[place] = np.dot(np.array(numbers(read(row))), weights)
            else:
                places, values = read(row)
                found[place] = np.dot(np.array(values), weights.take(places, axis=0)) if places else 0.0
        found += add
        if not np.isfinite(found).all():
            raise UnsureError
        return found

    return raw


def _decided(model: Any) -> Callable[[Floats], NDArray[Any]]:
    classes = model.classes_
    require(isinstance(classes, np.ndarray), f"{name_of(model)} answers several things at once")

    def outputs(raw: Floats) -> NDArray[Any]:
        best = (raw[:, 0] > 0).astype(np.intp) if raw.shape[1] == 1 else raw.argmax(axis=1)
        return np.asarray(classes[best])

    return outputs


def _softmax(raw: Floats) -> Floats:
    shares = np.exp(raw - raw.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return np.asarray(shares)


def _one_against_all(raw: Floats) -> Floats:
    with np.errstate(over="ignore"):
        shares = 1.0 / (1.0 + np.exp(-raw))
    if raw.shape[1] == 1:
        return np.hstack((1.0 - shares, shares))
    total = shares.sum(axis=1, keepdims=True)
    if not total.all():
        raise UnsureError
    return np.asarray(shares / total)


def _histogram(model: Any, before: Part) -> Ending:
    raw = _on_table(histogram_trees(model), before)
    loss = model._loss
    if not hasattr(model, "classes_"):
        return Ending(raw, lambda found: np.asarray(loss.link.inverse(found.ravel())))
    return Ending(raw, _decided(model), lambda found: np.asarray(loss.predict_proba(found)))


def _boosted(model: Any, before: Part) -> Ending:
    raw = _on_table(boosted_trees(model), before)
    if not hasattr(model, "classes_"):
        return Ending(raw, lambda found: found[:, 0])
    classes, loss = model.classes_, model._loss

    def outputs(found: Floats) -> NDArray[Any]:
        # at least 0, where the linear models say above 0
        best = (found[:, 0] >= 0).astype(np.intp) if found.shape[1] == 1 else found.argmax(axis=1)
        return np.asarray(classes[best])

    return Ending(raw, outputs, lambda found: np.asarray(loss.predict_proba(found)))


def _averaged(model: Any, before: Part) -> Ending:
    raw = _on_table(averaged_trees(model), before)
    if not hasattr(model, "classes_"):
        return Ending(raw, lambda found: found[:, 0])
    classes = model.classes_
    return Ending(raw, lambda found: np.asarray(classes[found.argmax(axis=1)]), lambda found: found)


def _on_table(answer: Callable[[Floats], Floats], before: Part) -> Callable[[Rows], Floats]:
    """A model that sees every column of a row, those that are zero too."""
    read, width = before.run, before.width
    if before.kind == "cells":
        return lambda rows: answer(np.array([numbers(read(row)) for row in rows]))
    require(width <= _MOST_DENSE, f"its trees take over {_MOST_DENSE:,} columns")

    def spread(rows: Rows) -> Floats:
        table = np.zeros((len(rows), width))
        for place, row in enumerate(rows):
            found: Entries = read(row)
            table[place, found[0]] = found[1]
        return answer(table)

    return spread


_MAKERS: dict[str, Callable[[Any, Part], Ending]] = {
    "ARDRegression": _regressor,
    "BayesianRidge": _regressor,
    "ComplementNB": _bayes,
    "DecisionTreeClassifier": _averaged,
    "DecisionTreeRegressor": _averaged,
    "ElasticNet": _regressor,
    "ExtraTreesClassifier": _averaged,
    "ExtraTreesRegressor": _averaged,
    "GradientBoostingClassifier": _boosted,
    "GradientBoostingRegressor": _boosted,
    "HistGradientBoostingClassifier": _histogram,
    "HistGradientBoostingRegressor": _histogram,
    "HuberRegressor": _regressor,
    "Lasso": _regressor,
    "LinearRegression": _regressor,
    "LinearSVC": _decider,
    "LogisticRegression": _logistic,
    "LogisticRegressionCV": _logistic,
    "MultinomialNB": _bayes,
    "PassiveAggressiveClassifier": _decider,
    "Perceptron": _decider,
    "RandomForestClassifier": _averaged,
    "RandomForestRegressor": _averaged,
    "Ridge": _regressor,
    "RidgeClassifier": _decider,
    "SGDClassifier": _descended,
    "SGDRegressor": _regressor,
}
