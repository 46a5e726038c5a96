"""The groups of rows that a model's quality is looked at by: of single columns, and of pairs of columns."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from everloop.checks.columns import NULL, Codes, Column, Floats, codes, floats, kind_of, plain

MIN_ROWS = 30  # of a segment
_VALUES = 20  # distinct values, up to which each is a segment
_BANDS = (4, 10)  # fewest and most ranges that numbers and times are cut into
_ROWS_A_BAND = 100
_PAIRED = 12  # columns, the first of them, that are tried together: 66 pairs at most
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Cut:
    """A column, or two together, as groups: the group of each row, (n_rows,) int64, -1 for rows in none.

    Of a pair, `within` are the cuts of its two columns, and `parts` the group in each that a group lies in.
    """

    column: str
    group: Codes
    names: tuple[str, ...]
    within: tuple[Cut, ...] = ()
    parts: tuple[tuple[int, int], ...] = field(default=(), repr=False)


def cuts_of(
    table: pa.Table,
    *,
    by: Sequence[str] = (),
    left_out: Collection[str] = (),
    uncut: Collection[str | None] = (),
) -> list[Cut]:
    """Each column as groups, without those that tell the label's value and nothing else.

    Columns with 2 to 20 values have a group for each; numbers and times with more are cut into 4 to 10 ranges of as many
    rows, unless named in `uncut` (codes such as a key). A column named in `by` has a group for each value, however many,
    unless it holds measured numbers or times.
    """
    labels = codes(table["label"])[0]
    names = by or [name for name in table.column_names if name not in left_out]
    found = (
        _cut(name, plain(table[name]), is_named=bool(by), is_code=name in uncut)
        for name in names
        if name in table.column_names and not name.startswith("_")
    )
    return [one for one in found if one and (one.column == "label" or not np.array_equal(one.group, labels))]


def pairs_of(cuts: Sequence[Cut]) -> Iterator[Cut]:
    """Every two of the first twelve cuts together, with the pairs of groups that have rows."""
    for one, other in itertools.combinations(
        [each for each in cuts if len(each.names) <= _VALUES][:_PAIRED], 2
    ):
        both = np.where(
            (one.group == NULL) | (other.group == NULL), NULL, one.group * len(other.names) + other.group
        )
        place = np.full(len(one.names) * len(other.names), NULL, np.int64)
        seen = np.unique(both[both != NULL])
        place[seen] = np.arange(len(seen))
        parts = tuple((int(each) // len(other.names), int(each) % len(other.names)) for each in seen)
        yield Cut(
            f"{one.column} & {other.column}",
            np.where(both == NULL, NULL, place[both]),
            tuple(f"{one.names[left]} & {other.names[right]}" for left, right in parts),
            (one, other),
            parts,
        )


def bands(values: Floats, number: int, *, is_time: bool = False) -> tuple[Codes, list[str]]:
    """Numbers in ranges of about as many rows, (n_rows,) int64 with -1 for NaN, and the ranges' names."""
    is_known = np.isfinite(values)
    known = values[is_known]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, number + 1)[1:-1]))
    found = np.full(len(values), NULL, np.int64)
    found[is_known] = np.unique(np.searchsorted(edges, known, side="right"), return_inverse=True)[1]
    own = [values[found == band] for band in range(int(found.max()) + 1)]
    told = (
        _day if is_time and known.max() - known.min() > number * _DAY_S else _moment if is_time else _number
    )
    return found, [f"{told(float(band.min()))} to {told(float(band.max()))}" for band in own]


def _cut(name: str, column: Column, *, is_named: bool, is_code: bool) -> Cut | None:
    found, values = codes(column)
    is_measured = kind_of(column.type) == "time" or pa.types.is_floating(column.type)
    if len(values) <= _VALUES or (is_named and not is_measured):
        texts = tuple(str(value) for value in values.to_pylist())
        return Cut(name, found, texts) if is_named or len(texts) >= 2 else None
    if kind_of(column.type) not in ("number", "time") or (is_code and not is_named):
        return None
    numbers = floats(column)
    known = int(np.isfinite(numbers).sum())
    if known == 0:
        return None
    group, names = bands(
        numbers, int(np.clip(known // _ROWS_A_BAND, *_BANDS)), is_time=kind_of(column.type) == "time"
    )
    return Cut(name, group, tuple(names)) if len(names) >= 2 else None


def _number(value: float) -> str:
    return f"{value:g}"


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
