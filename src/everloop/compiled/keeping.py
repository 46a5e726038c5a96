"""Reading a fitted pipeline into what is kept of it. Raises NotCompiledError for each piece that is not known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from everloop.compiled.columns import NAN, OTHER, answers_of, place_of_one, positions_of
from everloop.compiled.kept import Block, Kept, Linear, Lookup, Number, Trees, Words
from everloop.compiled.many import is_usual
from everloop.compiled.parts import NotCompiledError, UnreadableError, name_of, require
from everloop.compiled.scoring import MOST_LEAVES
from everloop.compiled.trees import trees_of

_VECTORIZERS = ("TfidfVectorizer", "CountVectorizer")
_PROBABLE = ("LogisticRegression", "LogisticRegressionCV", "MultinomialNB")
_DECIDING = ("LinearSVC", "PassiveAggressiveClassifier", "Perceptron", "RidgeClassifier")
_NUMBERS = ("LinearRegression", "Ridge", "Lasso", "ElasticNet", "HuberRegressor", "BayesianRidge", "SGDRegressor")  # fmt: skip


def kept_of(model: Any, *, columns: int) -> Kept:
    """What is kept of a fitted scikit-learn model that takes so many columns.

    Raises NotCompiledError, which names the piece that is not known, and UnreadableError for what cannot be read.
    """
    try:
        require(name_of(model) == "Pipeline" and len(model.steps) == 2, "it is no pipeline of two steps")
        (_, step), (_, last) = model.steps
        require(name_of(step) == "ColumnTransformer", "it does not begin with a ColumnTransformer")
        require(type(last).__module__.startswith("sklearn."), f"{name_of(last)} is not scikit-learn's")
        blocks = tuple(_blocks_of_columns(step, columns))
        width = sum(one.width for one in blocks)
        require(
            width == last.n_features_in_,
            f"{name_of(last)} takes {last.n_features_in_} columns, it is given {width}",
        )
        is_trees = name_of(last).startswith("HistGradientBoosting")
        ending, shares = _trees(last, blocks) if is_trees else _linear(last)
        classes = getattr(last, "classes_", None)
        told = None if classes is None else tuple(str(one) for one in np.asarray(classes).tolist())
        return Kept(blocks, ending, told, shares)
    except NotCompiledError:
        raise
    except Exception as error:
        # as in `plan_of`
        raise UnreadableError(f"reading {name_of(model)} raised {type(error).__name__}: {error}") from error


def _blocks_of_columns(step: Any, columns: int) -> list[Block]:
    require(step.transformer_weights is None, "a ColumnTransformer has weights")
    require(step.n_features_in_ == columns, f"a ColumnTransformer takes {step.n_features_in_} columns")
    found: list[Block] = []
    for _, one, taken in step.transformers_:
        places = positions_of(taken, columns)
        if places == [] or (isinstance(one, str) and one == "drop"):
            continue
        container = getattr(one, "_sklearn_output_config", {}).get("transform", "default")
        require(container in ("default", None), f"the output of {name_of(one)} was set to {container}")
        found += _blocks(one, places)
    require(found, "a ColumnTransformer takes no column")
    return found


def _blocks(step: Any, places: int | list[int]) -> Sequence[Block]:
    kind = name_of(step)
    steps = [one for _, one in step.steps] if kind == "Pipeline" else [step]
    is_filled = name_of(steps[0]) == "FilledText"
    if is_filled:
        steps = steps[1:]
    if len(steps) == 1 and name_of(steps[0]) in _VECTORIZERS:
        column = places if isinstance(places, int) else places[0]
        require(isinstance(places, int) or (is_filled and len(places) == 1), f"{kind} takes several columns")
        return [_words(steps[0], column, is_filled=is_filled)]
    if is_filled or isinstance(places, int):
        raise NotCompiledError(f"{kind} takes a single column")
    if len(steps) == 1 and name_of(step) in ("OneHotEncoder", "OrdinalEncoder"):
        return _lookups(step, places)
    numbers = [Number(place) for place in places]
    for one in steps:
        numbers = _scaled(one, numbers)
    return numbers


def _words(step: Any, column: int, *, is_filled: bool) -> Words:
    require(is_usual(step), f"{name_of(step)} cuts words in a way of its own")
    require(np.dtype(step.dtype) in (np.float64, np.int64), f"{name_of(step)} counts in {step.dtype}")
    terms = sorted(step.vocabulary_, key=step.vocabulary_.__getitem__)
    plain = Words(column, terms, tuple(step.ngram_range), bool(step.lowercase), is_filled, bool(step.binary))
    if name_of(step) == "CountVectorizer":
        return plain
    idf = step.idf_.astype("<f8") if step.use_idf else None
    return replace(plain, is_sublinear=bool(step.sublinear_tf), idf=idf, norm=step.norm)


def _lookups(step: Any, places: Sequence[int]) -> list[Block]:
    is_one_hot = name_of(step) == "OneHotEncoder"
    widths = [int(one) for one in step._n_features_outs] if is_one_hot else [0] * len(places)
    if is_one_hot:
        tables = answers_of(step, place_of_one(step, widths))
    else:
        require(np.dtype(step.dtype) == np.float64, f"OrdinalEncoder counts in {np.dtype(step.dtype)}")
        tables = answers_of(step, lambda answer, column: np.asarray(answer)[:, column].tolist())
    return [_lookup(place, table, width) for place, table, width in zip(places, tables, widths, strict=True)]


def _lookup(column: int, table: dict[Any, Any], places: int) -> Lookup:
    values = [one for one in table if one not in (None, NAN, OTHER)]
    null, nan, other = (None if table.get(one) is None else float(table[one]) for one in (None, NAN, OTHER))
    answers = np.array([table[one] for one in values], dtype="<f8")
    return Lookup(column, values, answers, null, nan, other, places)


def _scaled(step: Any, numbers: list[Number]) -> list[Number]:
    if step is None or step == "passthrough":
        return numbers
    kind = name_of(step)
    require(type(step).__module__.startswith("sklearn."), f"{kind} is not scikit-learn's")
    if kind == "FunctionTransformer":  # what a ColumnTransformer makes of "passthrough"
        require(step.func is None, "FunctionTransformer has a function")
        return numbers
    if kind == "SimpleImputer":
        require(not step.add_indicator, "SimpleImputer adds columns for what is missing")
        require(
            step._fit_dtype.kind in "fO" and step.strategy != "constant", "SimpleImputer fills no numbers"
        )
        missing = step.missing_values
        require(missing is None or missing != missing, f"SimpleImputer takes {missing!r} for missing")
        fills = [float(one) for one in step.statistics_]
        require(np.isfinite(fills).all(), "SimpleImputer drops columns without values")
        require(all(one == Number(one.column) for one in numbers), "SimpleImputer stands behind another step")
        return [replace(one, fill=fill) for one, fill in zip(numbers, fills, strict=True)]
    centre = {"StandardScaler": "mean_", "RobustScaler": "center_", "MaxAbsScaler": ""}.get(kind)
    if centre is None:
        raise NotCompiledError(f"{kind} is no transformer that is kept")
    require(all((one.less, one.by) == (0.0, 1.0) for one in numbers), f"{kind} stands behind another scaler")
    less = getattr(step, centre, None) if centre else None
    by = getattr(step, "scale_", None)
    return [
        replace(
            one,
            less=0.0 if less is None else float(less[place]),
            by=1.0 if by is None else float(by[place]),
        )
        for place, one in enumerate(numbers)
    ]


def _linear(model: Any) -> tuple[Linear, str | None]:
    kind = name_of(model)
    shares = None
    if kind == "MultinomialNB":
        weights, add, shares = model.feature_log_prob_, model.class_log_prior_, "softmax"
    else:
        has_shares = kind in _PROBABLE or (kind == "SGDClassifier" and model.loss == "log_loss")
        is_hinge = kind == "SGDClassifier" and model.loss != "modified_huber"
        if not has_shares and not is_hinge and kind not in (*_DECIDING, *_NUMBERS):
            raise NotCompiledError(f"{kind} is no model that is kept")
        weights, add = model.coef_, model.intercept_
        if has_shares:
            is_softmax = kind in _PROBABLE and len(model.classes_) > 2
            shares = "softmax" if is_softmax else "each"
    require(isinstance(weights, np.ndarray), f"{kind} has sparse weights")
    weights = np.ascontiguousarray(np.atleast_2d(weights).T, dtype="<f8")
    add = np.atleast_1d(np.asarray(add, dtype="<f8"))
    require(len(add) in (1, weights.shape[1]), f"{kind} has an unusual intercept")
    classes = getattr(model, "classes_", None)
    require(classes is None or isinstance(classes, np.ndarray), f"{kind} answers several things at once")
    require(classes is not None or weights.shape[1] == 1, f"{kind} answers several things at once")
    return Linear(weights, np.broadcast_to(add, weights.shape[1:]).copy()), shares


def _trees(model: Any, blocks: Sequence[Block]) -> tuple[Trees, str | None]:
    kind = name_of(model)
    require(all(one.width == 1 and not isinstance(one, Words) for one in blocks), f"{kind} is given terms")
    trees = trees_of(model)
    require(all((one.left == 0).sum() <= MOST_LEAVES for one in trees), f"{kind} has trees of many leaves")
    if hasattr(model, "classes_"):
        require(
            name_of(model._loss) in ("HalfBinomialLoss", "HalfMultinomialLoss"), f"{kind} has another loss"
        )
        shares = "each" if model.n_trees_per_iteration_ == 1 else "softmax"
    else:
        link = name_of(model._loss.link)
        require(link == "IdentityLink", f"{kind} has the link {link}")
        shares = None
    sizes = [len(one.left) for one in trees]
    base = np.asarray(model._baseline_prediction, dtype="<f8").ravel()
    require(len(base) == model.n_trees_per_iteration_, f"{kind} has an unusual baseline")

    def whole(name: str, dtype: str) -> Any:
        return np.concatenate([getattr(one, name).astype(dtype) for one in trees])

    return Trees(
        np.cumsum([0, *sizes[:-1]]).astype("<i4"),
        whole("left", "<i4"),
        whole("right", "<i4"),
        whole("feature", "<i4"),
        whole("threshold", "<f8"),
        whole("nan_goes_left", "|u1"),
        np.concatenate([one.value[:, 0] for one in trees]).astype("<f8"),
        base,
    ), shares
