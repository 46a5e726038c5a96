"""XGBoost models in its own formats (UBJSON, JSON), which hold numbers and no code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everloop.errors import Invalid, MissingExtra
from everloop.serving import Layout, Loaded, class_names, numbers, of_scores

try:
    import xgboost
except ImportError as error:
    raise MissingExtra("xgboost", needed_for="a model of XGBoost") from error


def load(layout: Layout, files: Mapping[str, bytes]) -> Loaded:
    """A classifier, a regressor or a booster. Raises Invalid when the file holds none."""
    path = layout.file or ""
    is_classifier = layout.model_class.endswith("Classifier")
    model: Any = xgboost.XGBClassifier() if is_classifier else xgboost.Booster()
    try:
        model.load_model(bytearray(files[path]))
    except (xgboost.core.XGBoostError, TypeError, ValueError) as error:
        raise Invalid(
            f"{path} is no model of XGBoost: {str(error)[:300]}. Log it again with mlflow.xgboost."
        ) from error
    booster = model.get_booster() if is_classifier else model

    def contributions(rows: NDArray[Any]) -> NDArray[Any]:
        found = np.asarray(
            booster.predict(xgboost.DMatrix(numbers(rows)), pred_contribs=True), dtype=np.float64
        )
        return found if found.ndim == 3 else found[:, None, :]

    if not is_classifier:
        return of_scores(
            lambda rows: np.asarray(model.inplace_predict(numbers(rows))),
            columns=int(model.num_features()),
            contributions=contributions,
        )
    return Loaded(
        lambda rows: np.asarray(model.predict(numbers(rows))),
        lambda rows: np.asarray(model.predict_proba(numbers(rows))),
        classes=class_names(model.classes_),
        columns=int(model.n_features_in_),
        takes_most_probable=True,
        is_class=True,
        contributions=contributions,
    )
