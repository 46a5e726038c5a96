"""Linear models and trees of scikit-learn taken apart: what each number that they see adds to the score of a class.

A linear model's score is its intercept plus each number times its weight. A tree's is what its root expects, changed at each
split of a row's path by what the split's side expects more or less (Saabas 2014); a node expects the mean of the training rows
that came through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everloop.compiled import NotCompiledError, Tree, trees_of
from everloop.explaining.origins import NotExplainedError, Origin, Origins, followed
from everloop.explaining.records import Explanation, Method, added_up

Floats = NDArray[np.float64]
Numbers = Callable[[Floats, int], tuple[float, Floats]]
"""What the model does with a row's numbers, (n_numbers,), and the class that is explained: base, and what each number adds."""
_TOLERANCE = (
    1e-6  # of the score; trees of single precision are added up in another order than their library does
)


@dataclass(frozen=True)
class _End:
    """The model at the end of a pipeline. `score` gives the (n_values,) raw scores that it says itself for (1, n_numbers)."""

    method: Method
    of: str
    numbers: Numbers
    score: Callable[[Any], Floats]
    is_one_sided: bool  # two classes share one score: that of the second, and the first one's is its negative


class TakenApart:
    """A fitted pipeline that explains its own answers. Asked by one thread at a time."""

    def __init__(self, steps: Sequence[Any], end: _End, names: Sequence[str]) -> None:
        self._steps, self._end, self._names = steps, end, names
        self._origins: Origins | None = None

    def explain(self, row: NDArray[Any], place: int, label: str | None) -> Explanation:
        """Why the model answers a row as it does.

        Parameters
        ----------
        row
            (1, n_columns) as the model takes it.
        place
            That of the answered class among the model's; 0 for a number.

        Raises NotExplainedError when the transformers mix columns, or what is found does not add up to the model's score.
        """
        seen, origins = row, self._origins
        if origins is None:
            origins = [Origin(column) for column in range(len(self._names))]
            for step in self._steps:
                seen, origins = followed(step, seen, origins)
            self._origins = origins
        else:
            for step in self._steps:
                seen = seen if step is None or step == "passthrough" else step.transform(seen)
        end = self._end
        cells = np.asarray(seen.toarray() if hasattr(seen, "toarray") else seen, dtype=np.float64)[0]
        sign = -1.0 if end.is_one_sided and place == 0 else 1.0
        which = 0 if end.is_one_sided else place
        base, amounts = end.numbers(cells, which)
        score = float(end.score(seen)[which])
        if abs(base + amounts.sum() - score) > _TOLERANCE * max(1.0, abs(score)):
            raise NotExplainedError(f"the parts add up to {base + amounts.sum():g}, the model says {score:g}")
        counted = [
            (origins[at].column, origins[at].part, float(cells[at]), sign * float(amounts[at]))
            for at in np.flatnonzero(amounts)
        ]
        found = added_up(self._names, counted)
        return Explanation(end.method, end.of, sign * score, sign * base, found, label)


def taken_apart(model: Any, names: Sequence[str]) -> TakenApart:
    """A fitted scikit-learn model as one that explains itself; `names` are those of its columns.

    Raises NotExplainedError, which names the model that is neither linear nor of trees.
    """
    steps: list[Any] = []
    while type(model).__name__ == "Pipeline":
        steps += [step for _, step in model.steps[:-1]]
        model = model.steps[-1][1]
    kind, module = type(model).__name__, type(model).__module__
    if not module.startswith("sklearn."):
        raise NotExplainedError(f"{kind} is none of scikit-learn's models")
    try:
        if kind in _TREES:
            return TakenApart(steps, _of_trees(model, kind), names)
        if hasattr(model, "coef_") and (module.startswith("sklearn.linear_model.") or kind in _LINEAR):
            return TakenApart(steps, _linear(model, kind), names)
    except (NotCompiledError, AttributeError, TypeError) as error:
        # what is read is partly the library's own, which another version may name otherwise
        raise NotExplainedError(f"{kind} cannot be taken apart: {error}") from error
    raise NotExplainedError(f"{kind} is neither linear nor made of trees")


_LINEAR = frozenset({"LinearSVC", "LinearSVR"})
_LOG_ODDS = frozenset({"LogisticRegression", "LogisticRegressionCV"})
_LINKED = frozenset({"GammaRegressor", "PoissonRegressor", "TweedieRegressor"})
_TREES = frozenset(
    {
        "DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor",
        "GradientBoostingClassifier", "GradientBoostingRegressor", "HistGradientBoostingClassifier",
        "HistGradientBoostingRegressor", "RandomForestClassifier", "RandomForestRegressor",
    }
)  # fmt: skip


def _linear(model: Any, kind: str) -> _End:
    if kind in _LINKED or not isinstance(model.coef_, np.ndarray):
        raise NotExplainedError(f"{kind} is linear behind a link, or has sparse weights")
    weights = np.atleast_2d(model.coef_)  # (n_values, n_numbers)
    intercept = np.broadcast_to(np.atleast_1d(model.intercept_), len(weights))
    classes = getattr(model, "classes_", None)
    is_one_sided = classes is not None and len(weights) == 1
    return _End(
        "linear",
        "the number"
        if classes is None
        else "log-odds"
        if kind in _LOG_ODDS and is_one_sided
        else "decision value",
        lambda cells, place: (float(intercept[place]), cells * weights[place]),
        lambda seen: np.atleast_1d((model.predict if classes is None else model.decision_function)(seen)[0]),
        is_one_sided,
    )


def _of_trees(model: Any, kind: str) -> _End:
    trees = trees_of(model)
    classes = getattr(model, "classes_", None)
    if "GradientBoosting" not in kind:
        expected = [np.asarray(tree.value, dtype=np.float64) for tree in trees]

        def averaged(cells: Floats, place: int) -> tuple[float, Floats]:
            base, amounts = _paths(trees, expected, _single(cells), place)
            return base / len(trees), amounts / len(trees)

        of = "the number" if classes is None else "probability"
        return _End(
            "tree paths",
            of,
            averaged,
            lambda seen: np.atleast_1d((model.predict if classes is None else model.predict_proba)(seen)[0]),
            False,
        )
    is_histogram = kind.startswith("Hist")
    each = len(trees) // len(model._predictors if is_histogram else model.estimators_)
    rate = 1.0 if is_histogram else model.learning_rate
    expected = [rate * _expected(tree) for tree in trees]
    if classes is not None:
        raw = model.decision_function
    else:
        raw = (lambda seen: model._raw_predict(_dense(seen))[:, 0]) if is_histogram else model.predict

    def boosted(cells: Floats, place: int) -> tuple[float, Floats]:
        cells = cells if is_histogram else _single(cells)
        base, amounts = _paths(trees[place::each], expected[place::each], cells, 0)
        return base + float(_start(model, cells)[place]), amounts

    return _End(
        "tree paths",
        "raw score",
        boosted,
        lambda seen: np.atleast_1d(raw(seen)[0]),
        classes is not None and each == 1,
    )


def _start(model: Any, cells: Floats) -> Floats:
    if hasattr(model, "_baseline_prediction"):
        return np.ravel(model._baseline_prediction)
    return np.ravel(model._raw_predict_init(cells[None].astype(np.float32)))


def _dense(seen: Any) -> Any:
    return np.asarray(seen.toarray() if hasattr(seen, "toarray") else seen, dtype=np.float64)


def _single(cells: Floats) -> Floats:
    return cells.astype(np.float32).astype(np.float64)


def _expected(tree: Tree) -> Floats:
    """(n_nodes, 1) the mean of a tree's leaves below each node, by their training rows; children stand behind their parent."""
    found = np.asarray(tree.value, dtype=np.float64).copy()
    for node in range(len(found) - 1, -1, -1):
        left, right = int(tree.left[node]), int(tree.right[node])
        if left > 0:
            both = np.array([tree.weight[left], tree.weight[right]], dtype=np.float64)
            found[node] = np.average(found[[left, right]], axis=0, weights=both if both.sum() > 0 else None)
    return found


def _paths(
    trees: Sequence[Tree], expected: Sequence[Floats], cells: Floats, place: int
) -> tuple[float, Floats]:
    """The sum of what roots expect, and what each number changes on the row's path through all trees."""
    base, amounts = 0.0, np.zeros(len(cells))
    for tree, means in zip(trees, expected, strict=True):
        node = 0
        base += float(means[0, place])
        while (left := int(tree.left[node])) > 0:
            at = int(tree.feature[node])
            cell = cells[at]
            goes_left = bool(tree.nan_goes_left[node]) if cell != cell else cell <= tree.threshold[node]
            below = left if goes_left else int(tree.right[node])
            amounts[at] += means[below, place] - means[node, place]
            node = below
    return base, amounts
