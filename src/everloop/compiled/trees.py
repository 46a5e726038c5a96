"""Trees of scikit-learn as arrays: all trees of an ensemble are walked at once, a level at a time.

scikit-learn asks one tree after the other, and each costs a call: hundreds of microseconds for one row. Here a step of all
trees costs six array operations, however many trees there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everloop.compiled.parts import UnsureError, name_of, require

Floats = NDArray[np.float64]
_MOST_COLUMNS = 2_000
_MOST_NODES = 4_000_000
_AT_ONCE = 200_000  # paths walked together: what they need stays in the processor's cache


@dataclass(frozen=True)
class Tree:
    """A tree as a library keeps it; node 0 is the root, a leaf has no children (`left` is below 1)."""

    left: NDArray[Any]
    right: NDArray[Any]
    feature: NDArray[Any]
    threshold: NDArray[Any]
    nan_goes_left: NDArray[Any]
    value: NDArray[Any]  # (n_nodes, n_values)
    weight: NDArray[Any]  # (n_nodes,) of the rows that it was learnt from


@dataclass(frozen=True)
class Forest:
    """Trees in one array each. A node's right child stands behind its left one; a leaf leads to itself."""

    roots: NDArray[np.intp]
    child: NDArray[np.intp]
    feature: NDArray[np.intp]
    threshold: Floats
    nan_goes_right: NDArray[np.bool_]
    value: Floats
    depth: int

    def leaves(self, rows: Floats) -> NDArray[np.intp]:
        """(n_rows, n_columns) to (n_rows, n_trees): the node where each tree's path ends."""
        at_once = max(1, _AT_ONCE // len(self.roots))
        if len(rows) <= at_once:
            return self._walked(rows)
        return np.concatenate(
            [self._walked(rows[first : first + at_once]) for first in range(0, len(rows), at_once)]
        )

    def _walked(self, rows: Floats) -> NDArray[np.intp]:
        count, columns = rows.shape
        cells = rows.ravel()
        has_nan = bool(np.isnan(cells).any())
        node = np.tile(self.roots, count)
        first = np.repeat(np.arange(0, count * columns, columns), len(self.roots)) if count > 1 else 0
        for _ in range(self.depth):
            cell = cells.take(self.feature.take(node) + first)
            goes_right = cell > self.threshold.take(node)
            if has_nan:
                goes_right |= np.isnan(cell) & self.nan_goes_right.take(node)
            node = self.child.take(node) + goes_right
        return node.reshape(count, len(self.roots))


def forest_of(trees: Sequence[Tree]) -> Forest:
    """Trees laid out anew, level by level, so that siblings are neighbours."""
    require(sum(len(one.left) for one in trees) <= _MOST_NODES, f"its trees have over {_MOST_NODES:,} nodes")
    laid, roots, depth, first = [], [], 0, 0
    for tree in trees:
        order, child, levels = _levels(tree)
        is_leaf = child < 0
        child = np.where(is_leaf, np.arange(len(order)), child) + first
        laid.append(
            (
                child,
                np.where(is_leaf, 0, tree.feature[order]),
                np.where(is_leaf, np.inf, tree.threshold[order]),
                ~is_leaf & ~tree.nan_goes_left[order].astype(bool),
                tree.value[order],
            )
        )
        roots.append(first)
        depth, first = max(depth, levels), first + len(order)
    child, feature, threshold, nan_goes_right, value = (
        np.concatenate(each) for each in zip(*laid, strict=True)
    )
    return Forest(
        np.array(roots, dtype=np.intp),
        child.astype(np.intp),
        feature.astype(np.intp),
        threshold.astype(np.float64),
        nan_goes_right,
        np.ascontiguousarray(value, dtype=np.float64),
        depth,
    )


def _levels(tree: Tree) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """The nodes of a tree in the order of their levels, the new place of each one's left child (-1: a leaf), its depth."""
    left, right = tree.left.astype(np.intp), tree.right.astype(np.intp)
    level, placed, orders, children, depth = np.zeros(1, dtype=np.intp), 1, [], [], 0
    while level.size:
        is_split = left[level] > 0
        child = np.full(len(level), -1, dtype=np.intp)
        child[is_split] = placed + 2 * np.arange(int(is_split.sum()))
        orders.append(level)
        children.append(child)
        inner = level[is_split]
        level = np.column_stack((left[inner], right[inner])).ravel()
        placed += len(level)
        depth += bool(level.size)
    return np.concatenate(orders), np.concatenate(children), depth


def histogram_trees(model: Any) -> Callable[[Floats], Floats]:
    """The raw predictions of a HistGradientBoosting model: (n_rows, n_columns) to (n_rows, n_trees_per_iteration)."""
    trees = trees_of(model)
    forest, each = forest_of(trees), model.n_trees_per_iteration_
    base = np.asarray(model._baseline_prediction, dtype=np.float64).reshape(1, each)

    def raw(rows: Floats) -> Floats:
        values = forest.value[forest.leaves(rows), 0].reshape(len(rows), -1, each)
        return _added(base, values)

    return raw


def boosted_trees(model: Any) -> Callable[[Floats], Floats]:
    """As `histogram_trees`, for GradientBoosting, whose first guess must be the same for all rows."""
    kind = name_of(model)
    start = name_of(model.init_)
    require(model.init_ == "zero" or start.startswith("Dummy"), f"{kind} begins with a {start}")
    forest = forest_of(trees_of(model))
    each, rate = model.estimators_.shape[1], model.learning_rate
    base = model._raw_predict_init(np.zeros((1, model.n_features_in_), dtype=np.float32))

    def raw(rows: Floats) -> Floats:
        rows = _single(rows)
        if np.isnan(rows).any():
            raise UnsureError
        values = rate * forest.value[forest.leaves(rows), 0].reshape(len(rows), -1, each)
        return _added(base, values)

    return raw


def averaged_trees(model: Any) -> Callable[[Floats], Floats]:
    """The mean of what trees say, of a forest or of one tree: (n_rows, n_columns) to (n_rows, n_classes or 1)."""
    trees = trees_of(model)
    require(model.n_outputs_ == 1, f"{name_of(model)} answers several things at once")
    forest, count = forest_of(trees), len(trees)

    def mean(rows: Floats) -> Floats:
        values = forest.value[forest.leaves(_single(rows))]  # (n_rows, n_trees, n_values)
        return _added(np.zeros((1, values.shape[2])), values) / count

    return mean


def trees_of(model: Any) -> list[Tree]:
    """The trees of a model in its own order: by iteration, then by class. Raises NotCompiledError."""
    if name_of(model).startswith("HistGradientBoosting"):
        require(model._preprocessor is None, f"{name_of(model)} has categorical features of its own")
        return [_histogram_tree(model, one.nodes) for iteration in model._predictors for one in iteration]
    return [_tree(one) for one in np.ravel(getattr(model, "estimators_", [model])).tolist()]


def _histogram_tree(model: Any, nodes: NDArray[Any]) -> Tree:
    kind = name_of(model)
    require(model.n_features_in_ <= _MOST_COLUMNS, f"{kind} takes over {_MOST_COLUMNS:,} columns")
    require(not nodes["is_categorical"].any(), f"{kind} splits by categories")
    return Tree(
        np.where(nodes["is_leaf"] > 0, 0, nodes["left"]),
        nodes["right"],
        nodes["feature_idx"],
        nodes["num_threshold"],
        nodes["missing_go_to_left"],
        nodes["value"][:, None],
        nodes["count"],
    )


def _tree(model: Any) -> Tree:
    require(model.n_features_in_ <= _MOST_COLUMNS, f"{name_of(model)} takes over {_MOST_COLUMNS:,} columns")
    nodes = model.tree_.__getstate__()["nodes"]
    require("is_categorical" not in nodes.dtype.names, f"{name_of(model)} splits by categories")
    return Tree(
        nodes["left_child"],
        nodes["right_child"],
        nodes["feature"],
        nodes["threshold"],
        nodes["missing_go_to_left"],
        model.tree_.value[:, 0, :],
        model.tree_.weighted_n_node_samples,
    )


def _single(rows: Floats) -> Floats:
    """Numbers as these trees see them, in single precision; too large ones they refuse."""
    with np.errstate(over="ignore"):
        found = rows.astype(np.float32).astype(np.float64)
    if np.isinf(found).any():
        raise UnsureError
    return found


def _added(base: Floats, values: Floats) -> Floats:
    """A start and what each tree adds to it, (n_rows, n_trees, k) to (n_rows, k), in the trees' order.

    In that order, because a sum in another one differs in its last digit, and then a tie of two classes ends otherwise.
    """
    terms = np.concatenate((np.broadcast_to(base, (len(values), 1, base.shape[1])), values), axis=1)
    return np.asarray(np.add.accumulate(terms, axis=1)[:, -1])
