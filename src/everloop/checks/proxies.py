"""Which columns tell a protected one, so that leaving it out of the inputs changes little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from everloop.checks.columns import NULL, Codes, Column, codes, floats, kind_of, plain, thinned

STRONG = 0.3  # of Cramér's V: "medium" in Cohen's tables (1988, section 7.2) for two groups, and upwards
_RANGES = 20  # that a column of numbers is cut into
_ROWS = 50_000  # that are looked at, evenly spread


@dataclass(frozen=True)
class Proxy:
    """How strongly a column tells the protected column `of`, from 0 to 1."""

    column: str
    of: str
    association: float


def proxies(table: pa.Table, protected: str, columns: Sequence[str]) -> list[Proxy]:
    """The columns whose association with the protected one is 0.3 or more, the strongest first.

    Numbers are cut into at most 20 ranges of equally many rows. Values that stand in one row only are one value: what
    never returns tells nothing about the next row. Free text is not looked into.
    """
    own = coded(thinned(table[protected], _ROWS))
    found = [
        Proxy(name, protected, cramers_v(coded(thinned(table[name], _ROWS)), own))
        for name in dict.fromkeys(columns)
        if name != protected and name in table.column_names
    ]
    strong = [one for one in found if one.association >= STRONG]
    return sorted(strong, key=lambda one: (-one.association, one.column))


def cramers_v(left: Codes, right: Codes) -> float:
    """How much two columns of codes have to do with each other, from 0 to 1, without the bias of many values.

    V = sqrt(phi2' / min(r' - 1, c' - 1)) with phi2' = max(0, chi2 / n - (r - 1)(c - 1) / (n - 1)) and
    r' = r - (r - 1)^2 / (n - 1), c' likewise: Bergsma, A bias-correction for Cramér's V and Tschuprow's T, Journal of
    the Korean Statistical Society 42 (2013), section 2. 0 when a column has one value.

    >>> round(cramers_v(np.repeat([0, 1], 50), np.repeat([0, 1], 50)), 4)
    1.0
    >>> cramers_v(np.tile([0, 1], 50), np.repeat([0, 1], 50))
    0.0
    """
    n = len(left)
    left, right = (np.unique(one, return_inverse=True)[1] for one in (left, right))
    r, c = int(left.max(initial=0)) + 1, int(right.max(initial=0)) + 1
    if n < 2 or r < 2 or c < 2:
        return 0.0
    pairs, seen = np.unique(left * c + right, return_counts=True)
    of_left, of_right = np.bincount(left), np.bincount(right)
    phi2 = float((seen**2 / (of_left[pairs // c] * of_right[pairs % c].astype(np.float64))).sum()) - 1
    rest = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return min(1.0, float(np.sqrt(rest / smaller))) if smaller > 0 else 0.0


def coded(column: Column) -> Codes:
    """The column as codes, (n_rows,) int64: null is -1, rare values are one, numbers are ranges."""
    column = plain(column)
    if kind_of(column.type) in ("number", "time"):
        values = floats(column)
        known = values[np.isfinite(values)]
        if len(np.unique(known)) > _RANGES:
            edges = np.unique(np.quantile(known, np.linspace(0, 1, _RANGES + 1)[1:-1]))
            ranges = np.searchsorted(edges, values, side="right").astype(np.int64)
            return np.where(np.isfinite(values), ranges, NULL)
    found, values_ = codes(column)
    count = np.bincount(found[found != NULL], minlength=len(values_))
    is_once = (found != NULL) & (count[found] == 1) if len(values_) else np.zeros(len(found), np.bool_)
    return np.where(is_once, len(values_), found)
