"""Quality from labels and predictions, on weighted rows, so that a bootstrap needs no loop over its samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from everloop.checks.columns import NULL, Codes, Floats

CLASS_METRICS = ("accuracy", "macro_f1", "weighted_f1")
OF_ONE_CLASS = ("precision", "recall", "f1")  # written with the class's name: recall:Fridges
NUMBER_METRICS = ("r2", "mae", "rmse")
LESS_IS_BETTER = frozenset({"mae", "rmse", "mse", "mape", "log_loss", "error_rate", "brier", "max_error"})


@dataclass(frozen=True)
class Scored:
    """Labels and one model's predictions for the same rows, as codes into `classes`, or as numbers.

    `average` are the classes that macro_f1 and weighted_f1 are taken over.
    """

    labels: npt.NDArray[np.int64] | Floats  # (n_rows,)
    predicted: npt.NDArray[np.int64] | Floats  # (n_rows,)
    classes: tuple[str, ...] | None
    average: tuple[int, ...] = ()


def is_known(metric: str, scored: Scored) -> bool:
    """Whether the metric can be computed from predictions of this kind."""
    if scored.classes is None:
        return metric in NUMBER_METRICS
    if metric in CLASS_METRICS:
        return True
    name, _, one = metric.partition(":")
    return name in OF_ONE_CLASS and one in scored.classes


def score(metric: str, scored: Scored, weights: npt.NDArray[np.float64] | None = None) -> Floats:
    """The metric for each row of weights, (n_samples,) float64; NaN where it is not defined.

    Parameters
    ----------
    metric
        accuracy; macro_f1 and weighted_f1 (over `scored.average`; a class that is neither labelled nor predicted in
        a sample is left out of its mean); precision:CLASS, recall:CLASS, f1:CLASS; r2, mae, rmse.
    weights
        (n_samples, n_rows): how often each row counts. None counts each row once.

    >>> labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    >>> score("accuracy", Scored(labels, predicted, ("a", "b"), (0, 1))).tolist()
    [0.75]
    >>> [round(float(value), 4) for value in score("macro_f1", Scored(labels, predicted, ("a", "b"), (0, 1)))]
    [0.7333]
    """
    if weights is None:
        weights = np.ones((1, len(scored.labels)))
    with np.errstate(divide="ignore", invalid="ignore"):
        if scored.classes is None:
            return _score_numbers(metric, scored, weights)
        return _score_classes(metric, scored, scored.classes, weights)


def _score_classes(
    metric: str, scored: Scored, classes: tuple[str, ...], weights: npt.NDArray[np.float64]
) -> Floats:
    hit = (scored.labels == scored.predicted).astype(np.float64)
    name, _, one = metric.partition(":")
    average = np.array([classes.index(one)] if one else scored.average, np.int64)
    is_label = (scored.labels[:, None] == average).astype(np.float64)  # (n_rows, n_average)
    is_predicted = (scored.predicted[:, None] == average).astype(np.float64)
    labelled: Floats = weights @ is_label  # (n_samples, n_average)
    predicted: Floats = weights @ is_predicted
    right: Floats = weights @ (is_label * is_predicted)
    f1 = 2 * right / (labelled + predicted)
    value: Floats
    if name == "accuracy":
        value = (weights @ hit) / weights.sum(axis=1)
    elif name in OF_ONE_CLASS:
        value = {"precision": right / predicted, "recall": right / labelled, "f1": f1}[name][:, 0]
    else:
        is_known = np.isfinite(f1)
        share = labelled if name == "weighted_f1" else is_known.astype(np.float64)
        value = np.where(is_known, f1 * share, 0.0).sum(axis=1) / share.sum(axis=1)
    return value


def _score_numbers(metric: str, scored: Scored, weights: npt.NDArray[np.float64]) -> Floats:
    labels, error = scored.labels, scored.predicted - scored.labels
    total = weights.sum(axis=1)
    squared: Floats = (weights @ error**2) / total
    value: Floats
    if metric == "mae":
        value = (weights @ np.abs(error)) / total
    elif metric == "rmse":
        value = np.sqrt(squared)
    else:
        labels = labels - labels.mean()  # changes nothing but the rounding when the labels are far from 0
        mean = (weights @ labels) / total
        value = 1 - squared / ((weights @ labels**2) / total - mean**2)
    return value


def present(labels: Codes, predicted: Codes) -> tuple[int, ...]:
    """The classes that are labelled or predicted anywhere: what macro_f1 is taken over by default."""
    return tuple(int(one) for one in np.union1d(labels, predicted) if one != NULL)
