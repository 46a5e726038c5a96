"""How good a model's answers are, on rows whose truth is known: the numbers that runs log and gates read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from everloop.errors import Invalid

# Names of metrics of which less is better; of all others, more is.
LESS_IS_BETTER = frozenset({"mae", "rmse", "mse", "log_loss", "brier", "max_error"})


@dataclass(frozen=True)
class ClassScores:
    """Of a classifier: `metrics` over all rows, and `per_class` (class, precision, recall, f1, support)."""

    metrics: dict[str, float]
    per_class: pa.Table


def classification(labels: ArrayLike, predicted: ArrayLike) -> ClassScores:
    """Accuracy, macro F1, weighted F1, and precision, recall and F1 of each class.

    With tp, fp and fn the rows of a class that were found, wrongly given and missed:
    precision = tp / (tp + fp), recall = tp / (tp + fn), F1 = 2 tp / (2 tp + fp + fn), each 0 where its
    denominator is 0. Macro F1 is the plain mean over the classes that occur as label or as prediction, weighted F1
    the mean by the number of rows (support). Source: Sokolova and Lapalme, A systematic analysis of performance
    measures for classification tasks, Information Processing & Management 45 (2009), table 3.

    Parameters
    ----------
    labels, predicted
        (n_rows,) the true and the given class of each row, of one type; no missing values, at least one row.

    Raises
    ------
    Invalid
        The lengths differ or there are no rows.

    Examples
    --------
    >>> scores = classification(["a", "a", "a", "b"], ["a", "a", "b", "b"])
    >>> {name: round(value, 4) for name, value in scores.metrics.items()}
    {'accuracy': 0.75, 'macro_f1': 0.7333, 'weighted_f1': 0.7667}
    >>> scores.per_class.to_pylist()[1]
    {'class': 'b', 'precision': 0.5, 'recall': 1.0, 'f1': 0.6666666666666666, 'support': 1}
    """
    truth, answers = _paired(labels, predicted)
    classes, codes = np.unique(np.concatenate([truth, answers]), return_inverse=True)
    n_rows, n_classes = len(truth), len(classes)
    true_codes, given_codes = codes[:n_rows], codes[n_rows:]
    support = np.bincount(true_codes, minlength=n_classes)  # (n_classes,)
    given = np.bincount(given_codes, minlength=n_classes)
    found = np.bincount(true_codes[true_codes == given_codes], minlength=n_classes)
    f1 = _ratio(2 * found, support + given)  # 2 tp + fp + fn = support + given
    per_class = pa.table(
        {
            "class": pa.array(classes.tolist()),
            "precision": _ratio(found, given),
            "recall": _ratio(found, support),
            "f1": f1,
            "support": support,
        }
    )
    metrics = {
        "accuracy": float(found.sum() / n_rows),
        "macro_f1": float(f1.mean()),
        "weighted_f1": float((f1 * support).sum() / n_rows),
    }
    return ClassScores(metrics, per_class)


def regression(labels: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """The coefficient of determination, the mean absolute error and the root of the mean squared error.

    r2 = 1 - sum (y - p)^2 / sum (y - mean y)^2; mae = mean |y - p|; rmse = sqrt(mean (y - p)^2), mae and rmse in the
    label's unit. Where all labels are equal r2 has no meaning: it is 1 for perfect answers and 0 otherwise, as in
    scikit-learn. Source: Draper and Smith, Applied Regression Analysis, 3rd edition, section 1.3.

    Parameters
    ----------
    labels, predicted
        (n_rows,) numbers; a missing or infinite one makes the metrics NaN, which no gate lets pass.

    Raises
    ------
    Invalid
        The lengths differ or there are no rows.

    Examples
    --------
    >>> regression([1.0, 2.0, 3.0], [1.0, 2.0, 5.0])
    {'r2': -1.0, 'mae': 0.6666666666666666, 'rmse': 1.1547005383792515}
    """
    truth, answers = (values.astype(np.float64) for values in _paired(labels, predicted))
    if not (np.isfinite(truth).all() and np.isfinite(answers).all()):
        return {"r2": math.nan, "mae": math.nan, "rmse": math.nan}
    squared = float(((truth - answers) ** 2).sum())
    spread = float(((truth - truth.mean()) ** 2).sum())
    return {
        "r2": 1 - squared / spread if spread else float(squared == 0),
        "mae": float(np.abs(truth - answers).mean()),
        "rmse": math.sqrt(squared / len(truth)),
    }


def _paired(labels: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    truth, answers = np.asarray(labels), np.asarray(predicted)
    if truth.ndim != 1 or truth.shape != answers.shape or not len(truth):
        raise Invalid(
            f"there are labels of shape {truth.shape} and predictions of shape {answers.shape}; metrics compare one "
            "prediction with one label, of at least one row. Let the estimator's predict return one value a row."
        )
    return truth, answers


def _ratio(part: NDArray[np.intp], whole: NDArray[np.intp]) -> NDArray[np.float64]:
    """part / whole, 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
