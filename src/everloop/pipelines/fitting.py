"""Fitting an estimator to a split, judging it, and choosing among models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop.errors import Invalid
from everloop.pipelines.evaluation import LESS_IS_BETTER, classification, regression
from everloop.pipelines.example import example_of
from everloop.pipelines.values import ROW_ID, Model, Split, field_of
from everloop.serving import Field, Signature, predicts_the_most_probable

Metric: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], float]


def fit(
    estimator: Any,
    data: Split,
    *,
    metrics: Mapping[str, Metric] | None = None,
    unseen: Mapping[str, Literal["refuse", "pass"]] | None = None,
) -> Model:
    """Fit a copy of a scikit-learn estimator on the training part and judge it on the test part.

    A classifier's labels and answers are compared, and told to users, as texts.

    Parameters
    ----------
    estimator
        Anything with scikit-learn's fit and predict that takes (n_rows, n_columns) objects; columns are named by
        position, which `data.position("title")` tells.
    metrics
        Further metrics by name: functions of (labels, predictions), both (n_rows,), that return a number.
        Classification has accuracy, macro_f1 and weighted_f1 already, regression r2, mae and rmse.
    unseen
        By input whose schema says which values are allowed, what is done with a request that has another: `refuse` it, as for all that
        are not named, or `pass` the value to the model as one that it has not seen.

    Raises
    ------
    Invalid
        The predictions do not pair with the labels, or a further metric is not a number.
    """
    from sklearn.base import clone  # several seconds

    fields = _fields(data, unseen or {})  # before the fit, which may take hours
    fitted = clone(estimator).fit(data.x_train, data.y_train)
    classes = _classes(fitted, data)
    x_test, labels = data.x_test, data.y_test  # (n_test, n_columns), (n_test,)
    predicted, probabilities = _answers(fitted, x_test)
    columns: dict[str, Any]
    if classes is None:
        told, per_class = regression(labels, predicted), None
        columns = {"label": labels.astype(np.float64), "predicted": predicted.astype(np.float64)}
        columns["score"] = pa.nulls(len(labels), pa.float64())
    else:
        label_texts, answers = _texts(labels), _texts(predicted)
        scores = classification(label_texts, answers)
        told, per_class = scores.metrics, scores.per_class
        columns = {"label": label_texts, "predicted": answers}
        columns["score"] = _scores(probabilities, classes, answers)
    return Model(
        load=lambda: fitted,
        signature=Signature(fields[: len(data.inputs)], "number" if classes is None else "class", classes),
        metrics=told
        | {name: _number(name, function(labels, predicted)) for name, function in (metrics or {}).items()},
        evaluation=pa.table({ROW_ID: data.test[ROW_ID], **columns}),
        split_ref=data.digest,
        feature_fields=fields[len(data.inputs) :],
        per_class=per_class,
        example=example_of(data, fields),
    )


def _fields(data: Split, unseen: Mapping[str, Literal["refuse", "pass"]]) -> tuple[Field, ...]:
    fields = {name: field_of(data, name) for name in data.columns}
    for name, choice in unseen.items():
        if name not in fields or fields[name].allowed is None or choice not in ("refuse", "pass"):
            limited = ", ".join(one.name for one in fields.values() if one.allowed is not None) or "none"
            raise Invalid(
                f"unseen={{{name!r}: {choice!r}}} cannot be; it is refuse or pass, of an input whose schema names the allowed values: "
                f"{limited}. State them with el.dataset(columns=...), or leave it out."
            )
        if choice == "pass":
            fields[name] = msgspec.structs.replace(fields[name], unseen=choice)
    return tuple(fields.values())


def best(models: Sequence[Model], *, by: str, highest: bool | None = None) -> Model:
    """The model with the best metric, the first of equals; one whose metric is NaN is passed over.

    Parameters
    ----------
    by
        Name of a metric that all models have.
    highest
        Whether more is better. None: it is, but for errors and losses (mae, rmse, mse, log_loss, brier, max_error).

    Raises
    ------
    Invalid
        There is no model, a model lacks the metric, or it is NaN for all.
    """
    for model in models:
        if by not in model.metrics:
            raise Invalid(
                f"a model has no metric {by!r}; it has {', '.join(model.metrics)}. Choose one of these, or compute it in "
                "fit(..., metrics={...})."
            )
    comparable = [model for model in models if not math.isnan(model.metrics[by])]
    if not comparable:
        raise Invalid(
            f"there is no best of {len(models)} models by {by!r}: none has a number there. Look at the runs."
        )
    more_is_better = by not in LESS_IS_BETTER if highest is None else highest
    choose = max if more_is_better else min
    return choose(comparable, key=lambda model: model.metrics[by])


def _classes(fitted: Any, data: Split) -> tuple[str, ...] | None:
    """A classifier's classes in its own order; None for a regressor. The label's type decides for other estimators."""
    from sklearn.base import is_classifier, is_regressor  # several seconds

    labels = data.y_train
    if is_regressor(fitted) or (not is_classifier(fitted) and labels.dtype.kind == "f"):
        return None
    return tuple(_texts(getattr(fitted, "classes_", np.unique(labels))))


def _texts(values: NDArray[Any]) -> list[str]:
    return [str(value) for value in values.tolist()]


def _answers(fitted: Any, x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """(n_rows,) what the estimator answers, and (n_rows, n_classes) with which probabilities if it has them.

    The columns are computed once where they can be: to unpack photos takes longer than to classify them.
    """
    if not hasattr(fitted, "predict_proba"):
        return np.asarray(fitted.predict(x)), None
    probabilities = np.asarray(fitted.predict_proba(x))
    if predicts_the_most_probable(fitted):
        return np.asarray(fitted.classes_)[probabilities.argmax(axis=1)], probabilities
    return np.asarray(fitted.predict(x)), probabilities


def _scores(
    probabilities: NDArray[Any] | None, classes: Sequence[str], answers: Sequence[str]
) -> pa.Array[Any]:
    """(n_rows,) the probability that the estimator gives to its own answers; null where it gives none."""
    if probabilities is None:
        return pa.nulls(len(answers), pa.float64())
    place = {name: position for position, name in enumerate(classes)}
    given = probabilities[np.arange(len(answers)), [place[answer] for answer in answers]]
    return pa.array(given.astype(np.float64))


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise Invalid(
            f"the metric {name!r} gave a {type(value).__name__}; a metric is one number. Return a float."
        ) from error
