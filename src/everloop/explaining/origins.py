"""From which column of a row each number comes that a model sees behind its transformers, and which word or category it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


class NotExplainedError(Exception):
    """A model cannot be taken apart; the message names the piece in the way."""


@dataclass(frozen=True)
class Origin:
    """The column, and what of it: a word, a category, or nothing for the column's own number."""

    column: int
    part: str = ""


Origins = list[Origin]


def followed(step: Any, rows: Any, origins: Origins) -> tuple[Any, Origins]:
    """What a fitted transformer makes of rows, and where each number of it comes from.

    Parameters
    ----------
    rows
        (n_rows, n_columns), or (n_rows,) of a single column.

    Raises NotExplainedError when a number mixes several columns.
    """
    if step is None or step == "passthrough":
        return rows, origins
    kind = type(step).__name__
    if kind == "Pipeline":
        for _, one in step.steps:
            rows, origins = followed(one, rows, origins)
        return rows, origins
    if kind == "ColumnTransformer":
        found = [
            origin
            for _, one, columns in step.transformers_
            if not (isinstance(one, str) and one == "drop")
            for origin in _of_columns(one, rows, origins, columns)
        ]
    elif kind == "FeatureUnion":
        found = [origin for _, one in step.transformer_list for origin in followed(one, rows, origins)[1]]
    made = step.transform(rows)
    if kind not in ("ColumnTransformer", "FeatureUnion"):
        width = 1 if made.ndim == 1 else made.shape[1]
        found = _RULES.get(kind, _otherwise)(step, origins, width)
    if made.ndim == 2 and made.shape[1] != len(found):
        raise NotExplainedError(f"{kind} gives {made.shape[1]} numbers, of which {len(found)} are known")
    return made, found


def _of_columns(step: Any, rows: Any, origins: Origins, columns: Any) -> Origins:
    if isinstance(columns, int | np.integer):
        return followed(step, rows[:, columns], [origins[int(columns)]])[1]
    places = np.arange(len(origins))[columns]
    return followed(step, rows[:, places], [origins[place] for place in places])[1] if len(places) else []


def _words(step: Any, origins: Origins, _width: int) -> Origins:
    return [Origin(origins[0].column, str(word)) for word in step.get_feature_names_out()]


def _categories(step: Any, origins: Origins, _width: int) -> Origins:
    """A one-hot column is named by its category; scikit-learn knows which are dropped and which are rare ones together."""
    names = iter(step.get_feature_names_out([str(place) for place in range(len(origins))]))
    return [
        Origin(origin.column, str(next(names)).removeprefix(f"{place}_"))
        for place, origin in enumerate(origins)
        for _ in range(step._n_features_outs[place])
    ]


def _imputed(step: Any, origins: Origins, width: int) -> Origins:
    if step.add_indicator or width != len(origins):
        raise NotExplainedError("SimpleImputer adds or drops columns")
    return origins


def _otherwise(step: Any, origins: Origins, width: int) -> Origins:
    """One column in and whatever comes out is that column's; others must say that they keep columns apart."""
    from sklearn.base import OneToOneFeatureMixin
    from sklearn.feature_selection import SelectorMixin

    columns = {one.column for one in origins}
    if isinstance(step, OneToOneFeatureMixin) and width == len(origins):
        return origins
    if isinstance(step, SelectorMixin):
        return [one for one, is_kept in zip(origins, step.get_support(), strict=True) if is_kept]
    if type(step).__name__ == "FunctionTransformer" and step.func is None:
        return origins
    if len(columns) == 1:
        return [Origin(origins[0].column)] * width
    raise NotExplainedError(f"{type(step).__name__} mixes several columns")


_RULES: dict[str, Callable[[Any, Origins, int], Origins]] = {
    "CountVectorizer": _words,
    "OneHotEncoder": _categories,
    "SimpleImputer": _imputed,
    "TfidfVectorizer": _words,
}
