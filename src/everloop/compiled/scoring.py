"""Answers to columns from what was kept of a pipeline: numpy alone, no library of models.

Each row's answer is the same to the last bit whichever rows stand beside it: sums run in one order, and no product of matrices is
asked of a library that would divide it by its size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everloop.compiled.kept import Block, Kept, Linear, Lookup, Number, Trees, Words
from everloop.compiled.reading import Column, numbers_of, terms_of, values_of

MOST_LEAVES = 32  # of a tree: a bit each
_TIE = 2e-9  # two classes that are nearer are the model's: sums in another order differ in their last digits
_AT_ONCE = 1_024  # rows of which all trees' leaves are found together: they stay in the processor's cache
Floats = NDArray[np.float64]
Sure = NDArray[np.bool_]


@dataclass(frozen=True)
class Answered:
    """`outputs` (n_rows,) are numbers, or positions of classes; `shares` (n_rows, n_classes). Rows that are not `sure` are the model's."""

    outputs: NDArray[Any]
    shares: Floats | None
    sure: Sure


@dataclass(frozen=True)
class Scoring:
    """What was kept, made ready to answer."""

    kept: Kept
    ask: Callable[[Sequence[Column]], tuple[Floats, Sure]]

    @classmethod
    def of(cls, kept: Kept) -> Scoring:
        ending = kept.ending
        return cls(kept, _linear(kept, ending) if isinstance(ending, Linear) else _trees(kept, ending))

    def answer(self, columns: Sequence[Column]) -> Answered:
        """The answers to rows given as a column for each that the model takes. Raises UnsureError for columns of other types."""
        with np.errstate(all="ignore"):  # what comes of it is looked at
            raw, sure = self.ask(columns)
            sure &= np.isfinite(raw).all(axis=1)
            if self.kept.classes is None:
                return Answered(raw[:, 0], None, sure)
            if self.kept.shares is None:
                marks = np.hstack((-raw, raw)) if raw.shape[1] == 1 else raw
                return Answered(marks.argmax(axis=1), None, sure & ~_is_tie(marks))
            shares = _SHARES[self.kept.shares](raw)
            sure &= np.isfinite(shares).all(axis=1) & ~_is_tie(shares)
            return Answered(shares.argmax(axis=1), shares, sure)


def _is_tie(marks: Floats) -> Sure:
    """Of rows whose two best classes are as good as equal."""
    if marks.shape[1] == 1:
        return np.zeros(len(marks), dtype=bool)
    first = marks.max(axis=1, keepdims=True)
    near = marks >= first - _TIE * np.maximum(1.0, np.abs(first))
    return np.asarray(near.sum(axis=1) > 1)


def _softmax(raw: Floats) -> Floats:
    shares = np.exp(raw - raw.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _each(raw: Floats) -> Floats:
    shares = 1.0 / (1.0 + np.exp(-raw))
    if raw.shape[1] == 1:
        return np.hstack((1.0 - shares, shares))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


_SHARES: dict[str, Callable[[Floats], Floats]] = {"softmax": _softmax, "each": _each}


def _linear(kept: Kept, ending: Linear) -> Callable[[Sequence[Column]], tuple[Floats, Sure]]:
    adders, offset = [], 0
    for block in kept.blocks:
        weights = ending.weights[offset : offset + block.width]
        adders.append((block.column, _ADDERS[type(block)](block, weights)))
        offset += block.width

    def ask(columns: Sequence[Column]) -> tuple[Floats, Sure]:
        count = len(columns[0])
        raw, sure = np.tile(ending.add, (count, 1)), np.ones(count, dtype=bool)
        for column, add in adders:
            add(columns[column], raw, sure)
        return raw, sure

    return ask


Add = Callable[[Column, Floats, Sure], None]
"""Adds what a column says to (n_rows, n_values), and takes rows that it is not sure of out."""


def _add_words(block: Words, weights: Floats) -> Add:
    find = terms_of(block.terms, block.lengths, is_lower=block.is_lower)
    by_value = np.ascontiguousarray(weights.T)  # (n_values, n_terms)

    def add(column: Column, raw: Floats, sure: Sure) -> None:
        if column.null_count and not block.is_filled:
            sure &= ~column.is_null().to_numpy()
        row, term, value = _weighed(block, *find(column), len(column))
        # a sum for each value in turn: all of a term's weights together would be ten times the memory to go through
        raw += np.array([np.bincount(row, each.take(term) * value, len(column)) for each in by_value]).T

    return add


def _weighed(block: Words, row: Any, term: Any, rows: int) -> tuple[Any, Any, Floats]:
    """The terms of texts, each once: in which row, which one, and what it weighs there."""
    both = row * np.int64(block.width) + term
    both.sort()
    is_first = np.concatenate(([True], both[1:] != both[:-1])) if len(both) else np.zeros(0, dtype=bool)
    starts = np.flatnonzero(is_first)
    row, term = np.divmod(both[starts], max(block.width, 1))
    value = np.ones(len(starts))
    if not block.is_binary:
        value = np.diff(np.append(starts, len(both))).astype(np.float64)
    if block.is_sublinear:
        value = np.log(value) + 1.0
    if block.idf is not None:
        value *= block.idf.take(term)
    if block.norm is not None:
        sizes = np.bincount(row, value * value if block.norm == "l2" else np.abs(value), rows)
        value /= (np.sqrt(sizes) if block.norm == "l2" else sizes).take(row)
    return row, term, value


def _add_lookup(block: Lookup, weights: Floats) -> Add:
    cells = _looked_up(block)

    def add(column: Column, raw: Floats, sure: Sure) -> None:
        numbers, is_known, codes = cells(column)
        if block.places:
            table = np.where(numbers[:, None] >= 0, weights[numbers.astype(np.intp)], 0.0)
        else:
            table = numbers[:, None] * weights
        raw += table[codes]
        sure &= is_known[codes]

    return add


def _add_number(block: Number, weights: Floats) -> Add:
    def add(column: Column, raw: Floats, _sure: Sure) -> None:
        raw += _scaled(block, column)[:, None] * weights

    return add


_ADDERS: dict[type, Callable[[Any, Floats], Add]] = {
    Words: _add_words,
    Lookup: _add_lookup,
    Number: _add_number,
}


def _scaled(block: Number, column: Column) -> Floats:
    found = numbers_of(column)
    if block.fill is not None:
        found = np.where(np.isnan(found), block.fill, found)
    return found if (block.less, block.by) == (0.0, 1.0) else np.asarray((found - block.less) / block.by)


Cells = tuple[Floats, Sure, NDArray[np.intp] | None]
"""A column as numbers, which of them may be answered, and which of them each row has; None: each its own."""


def _read_cells(block: Block) -> Callable[[Column], Cells]:
    if isinstance(block, Lookup):
        return _looked_up(block)
    assert isinstance(block, Number)  # noqa: S101  (trees are given no terms: `kept_of`)

    def cells(column: Column) -> Cells:
        numbers = _scaled(block, column)
        return numbers, ~np.isinf(numbers), None

    return cells


def _looked_up(block: Lookup) -> Callable[[Column], tuple[Floats, Sure, NDArray[np.intp]]]:
    table: dict[Any, float | None] = dict(zip(block.values, block.answers.tolist(), strict=True))

    def of(value: Any) -> float | None:
        if value is None:
            return block.null
        return block.nan if value != value else table.get(value, block.other)

    def cells(column: Column) -> tuple[Floats, Sure, NDArray[np.intp]]:
        values, codes = values_of(column)
        found = [of(one) for one in values]
        is_known = np.array([one is not None for one in found], dtype=bool)
        return np.array([-1.0 if one is None else one for one in found]), is_known, codes

    return cells


def _trees(kept: Kept, ending: Trees) -> Callable[[Sequence[Column]], tuple[Floats, Sure]]:
    """Trees by the leaves that a row cannot end in.

    A split says of a value that it goes right: then the leaves on its left are out. For each column there is a table of which leaves
    of which tree are left, by where the value stands among all thresholds of that column; what is left by all columns, its first leaf is where
    the path ends (Lucchese et al., QuickScorer, SIGIR 2015). So a row costs a look into a table for each column, whatever the trees' depth:
    half of what scikit-learn's walk takes for 60 trees of Adult.
    """
    masks = _masks(ending)
    readers = [
        (block.column, _read_cells(block), masks.get(place)) for place, block in enumerate(kept.blocks)
    ]
    trees, each = len(ending.roots), len(ending.base)
    values, first = _leaf_values(ending)

    def ask(columns: Sequence[Column]) -> tuple[Floats, Sure]:
        count = len(columns[0])
        sure, looked = np.ones(count, dtype=bool), []
        for column, cells, mask in readers:
            numbers, is_known, codes = cells(columns[column])
            sure &= is_known if codes is None else is_known[codes]
            if mask is not None:
                thresholds, table = mask
                where = np.searchsorted(thresholds, numbers)
                where[np.isnan(numbers)] = len(thresholds) + 1
                looked.append((table, where if codes is None else where[codes]))
        raw = np.empty((count, each))
        for start in range(0, count, _AT_ONCE):
            some = slice(start, min(start + _AT_ONCE, count))
            left = np.full((some.stop - some.start, trees), 0xFFFFFFFF, dtype=np.uint32)
            for table, where in looked:
                left &= table.take(where[some], axis=0)
            leaf = np.bitwise_count((left & -left) - np.uint32(1))
            found = values.take(leaf + first).reshape(len(left), -1, each)
            raw[some] = ending.base + found.sum(axis=1)
        return raw, sure

    return ask


def _masks(ending: Trees) -> dict[int, tuple[Floats, NDArray[np.uint32]]]:
    """For each column that is split by: its thresholds in order, and (n_thresholds + 2, n_trees) the leaves that are left for a value above
    so many of them; the last row is for one that is missing."""
    trees, outs = len(ending.roots), _outs(ending)
    found = {}
    is_split = ending.left > 0
    tree_of = np.repeat(np.arange(trees), np.diff(np.append(ending.roots, len(ending.left))))
    for place in np.unique(ending.feature[is_split]).tolist():
        nodes = np.flatnonzero(is_split & (ending.feature == place))
        thresholds = np.unique(ending.threshold[nodes])
        table = np.full((len(thresholds) + 2, trees), 0xFFFFFFFF, dtype=np.uint32)
        at = (np.searchsorted(thresholds, ending.threshold[nodes]) + 1, tree_of[nodes])
        np.bitwise_and.at(table, at, outs[nodes])
        table[:-1] = np.bitwise_and.accumulate(table[:-1], axis=0)
        table[-1] = 0xFFFFFFFF
        right = nodes[ending.nan_goes_left[nodes] == 0]
        np.bitwise_and.at(table, (np.full(len(right), len(table) - 1), tree_of[right]), outs[right])
        found[int(place)] = (thresholds, table)
    return found


def _outs(ending: Trees) -> NDArray[np.uint32]:
    """(n_nodes,) the leaves of its tree that are left where a value goes right, as bits in their order from the left."""
    outs = np.full(len(ending.left), 0xFFFFFFFF, dtype=np.uint32)
    for root, leaves in zip(ending.roots.tolist(), _leaves(ending), strict=True):
        number = {leaf: place for place, leaf in enumerate(leaves)}
        waiting = [(0, False)]
        spans: dict[int, tuple[int, int]] = {}
        while waiting:
            node, is_seen = waiting.pop()
            left, right = int(ending.left[root + node]), int(ending.right[root + node])
            if left <= 0:
                spans[node] = (number[node], number[node] + 1)
            elif is_seen:
                begin, end = spans[left]
                outs[root + node] = 0xFFFFFFFF ^ ((1 << end) - (1 << begin))
                spans[node] = (begin, spans[right][1])
            else:
                waiting += [(node, True), (right, False), (left, False)]
    return outs


def _leaves(ending: Trees) -> list[list[int]]:
    """The leaves of each tree from left to right."""
    found = []
    for root in ending.roots.tolist():
        leaves, waiting = [], [0]
        while waiting:
            node = waiting.pop()
            left = int(ending.left[root + node])
            if left <= 0:
                leaves.append(node)
            else:
                waiting += [int(ending.right[root + node]), left]
        found.append(leaves)
    return found


def _leaf_values(ending: Trees) -> tuple[Floats, NDArray[np.intp]]:
    """The values of all leaves in order, and where each tree's begin."""
    leaves = _leaves(ending)
    values = [
        ending.value[root + np.array(each)] for root, each in zip(ending.roots.tolist(), leaves, strict=True)
    ]
    return np.concatenate(values), np.cumsum([0, *(len(one) for one in values[:-1])])
