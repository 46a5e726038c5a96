"""The groups that fairness is about: of protected columns, and of pairs of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from everloop.checks.columns import NULL, Codes, Column, class_codes, floats, kind_of, plain
from everloop.checks.segments import bands

_BANDS = 4  # that a column of numbers, such as age, is cut into
_NUMBERS = 10  # distinct numbers, up to which each is a group
_MOST_GROUPS = 100


@dataclass(frozen=True)
class Attribute:
    """A protected column, or two together: the group of each row, -1 for rows of small groups, and all names."""

    by: str
    group: Codes
    names: tuple[str, ...]
    small: tuple[tuple[str, int], ...]


def attributes_of(table: pa.Table, by: Sequence[str], *, min_rows: int) -> list[Attribute]:
    """Each of the columns, then each pair of them.

    Of a column with more than ten numbers four groups of equal size are made; missing values are a group; of more than
    100 groups the largest are judged.
    """
    singles = [(name,) for name in dict.fromkeys(by)]
    pairs = itertools.combinations(dict.fromkeys(by), 2)
    return [_attribute(table, names, min_rows) for names in (*singles, *pairs)]


def _attribute(table: pa.Table, by: tuple[str, ...], min_rows: int) -> Attribute:
    group, names = _groups(table[by[0]])
    for name in by[1:]:
        other, others = _groups(table[name])
        pairs, group = np.unique(group * len(others) + other, return_inverse=True)
        names = [f"{names[pair // len(others)]} & {others[pair % len(others)]}" for pair in pairs]
    count = np.bincount(group, minlength=len(names))
    large = np.flatnonzero(count >= max(1, min_rows))
    if len(large) > _MOST_GROUPS:
        large = np.sort(large[np.argsort(-count[large], kind="stable")[:_MOST_GROUPS]])
    place = np.full(len(names), NULL, np.int64)
    place[large] = np.arange(len(large))
    rest = [one for one in range(len(names)) if place[one] == NULL and count[one]]
    return Attribute(
        " & ".join(by),
        place[group],
        tuple(names[one] for one in large),
        tuple((names[one], int(count[one])) for one in rest),
    )


def _groups(column: Column) -> tuple[Codes, list[str]]:
    """The group of each row, (n_rows,) int64, and the groups' names; missing values are the last group."""
    column = plain(column)
    values = floats(column)
    if kind_of(column.type) == "number" and len(np.unique(values[np.isfinite(values)])) > _NUMBERS:
        found, names = bands(values, _BANDS)
    else:
        found, names = class_codes(column)
    return np.where(found == NULL, len(names), found), [*names, "missing"]
