"""Bins that are learned once from a reference and then only counted in.

A quantile-binned column needs 2 KB, adds up exactly, and tells the Kolmogorov-Smirnov distance to within one bin's
share (1/256); the sketches that were tried need more and tell less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_BINS = 256
N_CATEGORIES = 1_024

# Edges are learned from at most so many rows, evenly spread; more would not place them better than 1/256.
_LEARN_FROM = 131_072
# Edges beyond the reference's range, in widths of that range.
_BEYOND = np.array([0.25, 1.0, 4.0, 16.0])
_CELLS = 4_096
_EDGES_IN_A_CELL = 6  # more comparisons than that cost as much as a binary search
_BLOCK = 32_768  # values at a time, so that they stay in the processor's cache: twice the speed of a million


@dataclass(frozen=True, eq=False)
class NumberBins:
    """Bin i holds the values from ``edges[i - 1]`` up to, but not including, ``edges[i]``; the outer ones are open."""

    edges: Floats  # (n_edges,), rising
    low: float  # the range of the values that the edges were learned from
    high: float
    is_discrete: bool  # each value of the reference has a bin of its own

    @classmethod
    def learn(cls, values: NDArray[Any]) -> NumberBins:
        """Bins that hold equal parts of the values; (n,) of any real type, NaN and infinities are left out.

        Examples
        --------
        >>> bins = NumberBins.learn(np.array([1.0, 2.0, 2.0, 5.0]))
        >>> bins.count(np.array([2.0, 2.5, 5.0, 100.0])).nonzero()[0].tolist() == [6, 7, 12]
        True
        """
        sample = values[:: max(1, len(values) // _LEARN_FROM)].astype(np.float64)
        ordered = np.sort(sample[np.isfinite(sample)])
        if not ordered.size:
            return cls(np.empty(0), 0.0, 0.0, is_discrete=True)
        low, high = float(ordered[0]), float(ordered[-1])
        distinct = ordered[np.append(True, ordered[1:] != ordered[:-1])]
        is_discrete = len(distinct) <= N_BINS
        inner = distinct if is_discrete else ordered[np.arange(1, N_BINS) * len(ordered) // N_BINS]
        with np.errstate(over="ignore"):
            steps = _BEYOND * ((high - low) or max(abs(high), 1.0))
            edges = np.concatenate([low - steps, [low], inner, [np.nextafter(high, np.inf)], high + steps])
        return cls(np.unique(edges[np.isfinite(edges)]), low, high, is_discrete=is_discrete)

    @property
    def n_bins(self) -> int:
        return len(self.edges) + 1

    def count(self, values: NDArray[Any]) -> Ints:
        """How many values are in each bin, (n_bins,) int64; (n,) of any real type, without NaN.

        8 ns a value where a cell of the grid holds few edges, against 60 for a binary search.
        """
        total = np.zeros(self.n_bins, dtype=np.int64)
        for start in range(0, len(values), _BLOCK):
            block = values[start : start + _BLOCK].astype(np.float64, copy=False)
            total += np.bincount(self.index(block), minlength=self.n_bins)
        return total

    def index(self, block: Floats) -> Ints:
        """The bin of each value: ``searchsorted(edges, block, side="right")``, found by a grid of equal cells.

        The cell of a value tells the edges that are certainly below it; the few edges in the cell itself are compared.
        """
        grid = self._grid
        if grid is None:
            return np.searchsorted(self.edges, block, side="right")
        with np.errstate(over="ignore"):  # a value beyond all measure is outside the grid
            position = block - grid.low
            position *= grid.cells_per_unit
        cell = np.clip(position, 0.0, _CELLS - 1.0)
        is_outside = cell != position  # or in the last cell, which is searched as well
        index = grid.edges_before.take(cell.astype(np.intp))
        for _ in range(grid.edges_in_a_cell):
            index += block >= grid.padded_edges.take(index)
        if is_outside.any():
            outside = np.flatnonzero(is_outside)
            index[outside] = np.searchsorted(self.edges, block[outside], side="right")
        return index

    @cached_property
    def _grid(self) -> _Grid | None:
        if self.is_discrete:
            # A little beyond, since the largest value may be a frequent one.
            return _Grid.over(self.edges, self.low, self.high + 0.01 * (self.high - self.low))
        # The outer bins of a long-tailed column would stretch the grid: their values are searched instead.
        inside = self.edges[(self.edges > self.low) & (self.edges <= self.high)]
        return _Grid.over(self.edges, float(inside[0]), float(inside[-1]))

    def median(self, counts: Ints) -> float | None:
        """The middle value, to within its bin."""
        total = int(counts.sum())
        if not total or not len(self.edges):
            return None
        at = int(np.searchsorted(counts.cumsum(), total / 2.0))
        lower, upper = self.edges[max(at - 1, 0)], self.edges[min(at, len(self.edges) - 1)]
        if self.is_discrete or at in (0, len(counts) - 1):
            return float(lower)
        part = (total / 2.0 - (counts[:at].sum())) / counts[at]
        return float((1.0 - part) * lower + part * upper)

    def share_outside(self, counts: Ints) -> float:
        """The share of values below or above the reference's range."""
        total = counts.sum()
        below = counts[: np.searchsorted(self.edges, self.low, side="left") + 1].sum()
        above = counts[np.searchsorted(self.edges, self.high, side="right") + 1 :].sum()
        return float((below + above) / total) if total else 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "edges": self.edges.tolist(),
            "low": self.low,
            "high": self.high,
            "is_discrete": self.is_discrete,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> NumberBins:
        edges = np.array(value["edges"], dtype=np.float64)
        return cls(edges, value["low"], value["high"], is_discrete=value["is_discrete"])


@dataclass(frozen=True, eq=False)
class _Grid:
    """Equal cells over a range, and for each how many edges lie in earlier cells."""

    low: float
    cells_per_unit: float
    edges_before: Ints  # (n_cells,)
    edges_in_a_cell: int
    padded_edges: Floats  # (n_edges + 1,), ends with NaN, which nothing passes

    @classmethod
    def over(cls, edges: Floats, low: float, high: float) -> _Grid | None:
        """None where a grid would not pay: no range, or edges so uneven that one cell holds many."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            cells_per_unit = np.float64(_CELLS) / (high - low)
            position = (edges - low) * cells_per_unit
        if not (np.isfinite(high) and np.isfinite(cells_per_unit) and np.isfinite(position).all()):
            return None
        # The same arithmetic as for values, and monotonic: an edge of an earlier cell is below the value, rounding
        # included.
        cell = position[(position >= 0.0) & (position < _CELLS)].astype(np.int64)
        edges_in_a_cell = int(np.bincount(cell).max(initial=0))
        if edges_in_a_cell > _EDGES_IN_A_CELL:
            return None
        before = np.searchsorted(cell, np.arange(_CELLS), side="left") + np.count_nonzero(position < 0.0)
        return cls(low, float(cells_per_unit), before, edges_in_a_cell, np.append(edges, np.nan))


@dataclass(frozen=True)
class CategoryCounts:
    """How often each kept value came, each value that is not kept, and all others together."""

    kept: Ints  # (n_kept,), in the order of the bins
    new: Mapping[str, int]
    rest: int

    def __add__(self, other: CategoryCounts) -> CategoryCounts:
        new = Counter(self.new) + Counter(other.new)
        return CategoryCounts.bounded(self.kept + other.kept, new, rest=self.rest + other.rest)

    @classmethod
    def bounded(cls, kept: Ints, new: Counter[str], *, rest: int) -> CategoryCounts:
        """At most 1,024 new values by name, the others with the rest."""
        named = dict(new.most_common(N_CATEGORIES))
        return cls(kept, named, rest + new.total() - sum(named.values()))

    @property
    def total(self) -> int:
        return int(self.kept.sum()) + sum(self.new.values()) + self.rest

    def as_dict(self) -> dict[str, Any]:
        return {"kept": self.kept.tolist(), "new": dict(self.new), "rest": self.rest}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> CategoryCounts:
        return cls(np.array(value["kept"], dtype=np.int64), dict(value["new"]), value["rest"])


@dataclass(frozen=True)
class CategoryBins:
    """The values that are counted one by one.

    `is_complete`: they are all that the reference had, so that any other is new. Otherwise they are those that are
    clearly more common than the 1,025th (by four standard deviations): a value that made the list by luck would seem
    to fade in every later sample.
    """

    kept: tuple[str, ...]
    is_complete: bool

    @classmethod
    def learn(cls, values: pa.ChunkedArray[Any]) -> CategoryBins:
        """From a column of strings, plain or encoded; nulls are left out. The most common first, equals by name."""
        counted = sorted(_value_counts(values).items(), key=lambda one: (-one[1], one[0]))
        if len(counted) <= N_CATEGORIES:
            return cls(tuple(value for value, _ in counted), is_complete=True)
        left_out = counted[N_CATEGORIES][1]
        clearly = left_out + 4.0 * np.sqrt(left_out)
        return cls(
            tuple(value for value, count in counted[:N_CATEGORIES] if count > clearly), is_complete=False
        )

    def count(self, values: pa.ChunkedArray[Any]) -> CategoryCounts:
        """Counts of a column of strings, plain or encoded; nulls are left out."""
        counts = Counter(_value_counts(values))
        kept = np.array([counts.pop(value, 0) for value in self.kept], dtype=np.int64)
        if not self.is_complete:
            return CategoryCounts(kept, {}, counts.total())
        return CategoryCounts.bounded(kept, counts, rest=0)

    def as_dict(self) -> dict[str, Any]:
        return {"kept": list(self.kept), "is_complete": self.is_complete}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> CategoryBins:
        return cls(tuple(value["kept"]), is_complete=value["is_complete"])


def _value_counts(values: pa.ChunkedArray[Any]) -> dict[str, int]:
    if pa.types.is_dictionary(values.type):
        return _encoded_counts(values)
    counted: Any = pc.value_counts(values.drop_null())
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def _encoded_counts(values: pa.ChunkedArray[Any]) -> dict[str, int]:
    """Numbers are counted instead of strings: a sixth of the time, and Parquet stores repeated strings that way."""
    total: Counter[str] = Counter()
    chunk: Any
    for chunk in values.chunks:
        codes = chunk.indices.drop_null().to_numpy()
        counts = np.bincount(codes, minlength=len(chunk.dictionary)).tolist()
        total.update(
            {
                value: n
                for value, n in zip(chunk.dictionary.to_pylist(), counts, strict=True)
                if n and value is not None
            }
        )
    return dict(total)
