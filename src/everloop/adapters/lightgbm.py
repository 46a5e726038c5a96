"""LightGBM models: its own text format, and its scikit-learn estimators in a skops file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everloop.errors import Invalid, MissingExtra
from everloop.serving import Layout, Loaded, class_names, load_skops, numbers, of_scores

try:
    import lightgbm
except ImportError as error:
    raise MissingExtra("lightgbm", needed_for="a model of LightGBM") from error


def load(layout: Layout, files: Mapping[str, bytes]) -> Loaded:
    """A classifier, a regressor or a booster. Raises GateFailed, Invalid."""
    path = layout.file or ""
    try:
        if path.endswith(".skops"):
            model = load_skops(files[path])
            booster, classes = model.booster_, getattr(model, "classes_", None)
        else:
            booster, classes = lightgbm.Booster(model_str=files[path].decode()), None
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError, AttributeError) as error:
        raise Invalid(
            f"{path} is no model of LightGBM: {str(error)[:300]}. Log it again with mlflow.lightgbm."
        ) from error

    # The booster is asked itself: its estimator would look for the columns' names, which the signature keeps.
    def answer(rows: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(booster.predict(numbers(rows)))

    columns = int(booster.num_feature())

    def contributions(rows: NDArray[Any]) -> NDArray[Any]:
        found = np.asarray(booster.predict(numbers(rows), pred_contrib=True))
        return found.reshape(len(rows), -1, columns + 1)

    if classes is None:
        return of_scores(answer, columns=columns, contributions=contributions)

    def probabilities(rows: NDArray[Any]) -> NDArray[Any]:
        found = answer(rows)  # (n_rows, n_classes); of two classes (n_rows,), the second's
        return found if found.ndim == 2 else np.column_stack([1 - found, found])

    return of_scores(
        probabilities, columns=columns, classes=class_names(classes), contributions=contributions
    )
