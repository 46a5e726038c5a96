"""What a table looked like, small enough to keep: counts in bins that were learned once from a reference.

    number      counts in 256 bins that hold equal parts of the reference, and beyond its range in widths of it
    category    counts of the 1,024 most common values, of values that are new, and of the rest
    text        three numbers a row: characters, words, share of unfamiliar words
    size        bytes of a binary value (an image, a document)

Counts over the same bins add up, whatever the order and wherever they were made: a window is the sum of its days, and
a table need never be in memory as a whole. A column of numbers takes 2 KB, a vocabulary of texts at most about 200 KB.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from everloop.errors import Invalid
from everloop.monitoring.bins import N_CATEGORIES, CategoryBins, CategoryCounts, NumberBins
from everloop.monitoring.text import Vocabulary, text_numbers

Kind = Literal["number", "category", "text", "size"]
Column: TypeAlias = "pa.ChunkedArray[Any]"
Counts: TypeAlias = NDArray[np.int64] | CategoryCounts


@dataclass(frozen=True, eq=False)
class ColumnBins:
    """How one column is counted: bins of each of its series, `values` or those of a text or a size."""

    kind: Kind
    series: Mapping[str, NumberBins | CategoryBins]
    vocabulary: Vocabulary | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "series": {name: bins.as_dict() for name, bins in self.series.items()},
            "vocabulary": self.vocabulary.as_dict() if self.vocabulary else None,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ColumnBins:
        read: Callable[[Mapping[str, Any]], NumberBins | CategoryBins]
        read = CategoryBins.from_dict if value["kind"] == "category" else NumberBins.from_dict
        series = {name: read(bins) for name, bins in value["series"].items()}
        return cls(
            value["kind"], series, Vocabulary.from_dict(value["vocabulary"]) if value["vocabulary"] else None
        )


@dataclass(frozen=True, eq=False)
class Bins:
    """How a table is counted. `left_out` says of each column that is not, why."""

    columns: Mapping[str, ColumnBins]
    left_out: Mapping[str, str]

    @cached_property
    def id(self) -> str:
        """The same for equal bins: only counts made in the same bins add up or compare."""
        return blake2b(json.dumps(self.as_dict(), sort_keys=True).encode(), digest_size=12).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        columns = {name: column.as_dict() for name, column in self.columns.items()}
        return {"columns": columns, "left_out": dict(self.left_out)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Bins:
        columns = {name: ColumnBins.from_dict(column) for name, column in value["columns"].items()}
        return cls(columns, dict(value["left_out"]))


@dataclass(frozen=True, eq=False)
class ColumnCounts:
    """Rows of one column by bin; `missing` are nulls and NaN."""

    missing: int
    series: Mapping[str, Counts]

    def __add__(self, other: ColumnCounts) -> ColumnCounts:
        added = {name: _added(counts, other.series[name]) for name, counts in self.series.items()}
        return ColumnCounts(self.missing + other.missing, added)

    def as_dict(self) -> dict[str, Any]:
        series = {
            name: one.as_dict() if isinstance(one, CategoryCounts) else one.tolist()
            for name, one in self.series.items()
        }
        return {"missing": self.missing, "series": series}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ColumnCounts:
        series: dict[str, Counts] = {
            name: CategoryCounts.from_dict(one) if isinstance(one, dict) else np.array(one, dtype=np.int64)
            for name, one in value["series"].items()
        }
        return cls(value["missing"], series)


def _added(one: Counts, other: Counts) -> Counts:
    if isinstance(one, CategoryCounts):
        return one + cast("CategoryCounts", other)  # the same bins, so the same kind
    return one + cast("NDArray[np.int64]", other)


@dataclass(frozen=True, eq=False)
class Profile:
    """Counts of some rows in given bins; profiles in the same bins add up."""

    bins_id: str
    n_rows: int
    columns: Mapping[str, ColumnCounts]

    def __add__(self, other: Profile) -> Profile:
        if self.bins_id != other.bins_id:
            raise Invalid(
                f"profiles were counted in bins {self.bins_id} and {other.bins_id}; only counts in the same bins add up. "
                "Count both with the bins of one reference."
            )
        columns = {name: counts + other.columns[name] for name, counts in self.columns.items()}
        return Profile(self.bins_id, self.n_rows + other.n_rows, columns)

    def as_dict(self) -> dict[str, Any]:
        columns = {name: counts.as_dict() for name, counts in self.columns.items()}
        return {"bins_id": self.bins_id, "n_rows": self.n_rows, "columns": columns}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Profile:
        columns = {name: ColumnCounts.from_dict(counts) for name, counts in value["columns"].items()}
        return cls(value["bins_id"], value["n_rows"], columns)


@dataclass(frozen=True, eq=False)
class Reference:
    """What later windows are compared with: bins, and the counts of the rows that they were learned from."""

    bins: Bins
    profile: Profile

    def as_dict(self) -> dict[str, Any]:
        """JSON values only; `from_dict` reads them back exactly."""
        return {"bins": self.bins.as_dict(), "profile": self.profile.as_dict()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Reference:
        return cls(Bins.from_dict(value["bins"]), Profile.from_dict(value["profile"]))

    def without(self, names: Collection[str], *, why: str) -> Reference:
        """The same without some columns, which the report then names as left out."""
        if not names:
            return self
        columns = {name: one for name, one in self.bins.columns.items() if name not in names}
        bins = Bins(columns, {**self.bins.left_out, **dict.fromkeys(names, why)})
        return Reference(bins, replace(self.profile, bins_id=bins.id))


def learn_reference(table: pa.Table, *, kinds: Mapping[str, Kind | None] | None = None) -> Reference:
    """Keep what a table looks like.

    Parameters
    ----------
    table
        The rows a model was trained on, or a quiet time.
    kinds
        Overrules what is guessed from a column's type and values; None leaves the column out.

    Raises
    ------
    Invalid
        The table is empty, a kind does not fit its column, or names a column that is not there.

    Examples
    --------
    >>> reference = learn_reference(pa.table({"age": [31, 45, None], "town": ["Ulm", "Ulm", "Bonn"]}))
    >>> {name: column.kind for name, column in reference.bins.columns.items()}
    {'age': 'number', 'town': 'category'}
    >>> reference.profile.columns["age"].missing
    1
    """
    bins = learn_bins(table, kinds=kinds)
    return Reference(bins, profile_of(table, bins, own=True))


def learn_bins(table: pa.Table, *, kinds: Mapping[str, Kind | None] | None = None) -> Bins:
    """Learn bins alone, from a sample of a table that is too large for memory; then count its batches.

    The sample should be spread over the whole table: a table is often sorted by time.
    """
    if not table.num_rows:
        raise Invalid("the reference has no rows; what is usual is learned from rows. Choose a longer time.")
    kinds = kinds or {}
    if unknown := kinds.keys() - set(table.column_names):
        raise Invalid(
            f"kinds names {sorted(unknown)}; the table has {table.column_names}. Name columns of the table."
        )
    columns: dict[str, ColumnBins] = {}
    left_out: dict[str, str] = {}
    for name in table.column_names:
        column = table.column(name)
        kind = kinds[name] if name in kinds else guess_kind(name, column)
        if kind is None:
            left_out[name] = "asked to leave out"
        elif kind in _LEARN:
            columns[name] = _LEARN[kind](_as_kind(name, column, kind))
        else:
            left_out[name] = kind
    return Bins(columns, left_out)


def guess_kind(name: str, column: Column) -> str:
    """The kind of a column, or the reason why it is not compared.

    Strings are categories, unless most are different: then they are texts if they have three words or more, and
    identifiers otherwise. Whole numbers named `..._id` or `..._code` have no order and are treated as strings.
    """
    kind = column.type
    if pa.types.is_boolean(kind):
        return "category"
    if pa.types.is_integer(kind) and name.lower().endswith(("_id", "_code")):
        return _guess_by_values(column)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if _is_string(kind):
        return _guess_by_values(column)
    if pa.types.is_dictionary(kind):
        return guess_kind(name, column.cast(kind.value_type))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "size"
    if pa.types.is_temporal(kind):
        return "a time: later rows are later"
    return f"values of type {kind} are not compared"


def _guess_by_values(column: Column) -> str:
    present = column.drop_null()
    n_distinct = pc.count_distinct(present).as_py() or 0
    mostly_different = n_distinct > max(0.5 * len(present), 20)
    if _is_string(column.type):
        spaces = pc.sum(pc.count_substring(present, " ")).as_py() or 0
        if spaces >= 2 * len(present) and (mostly_different or n_distinct > N_CATEGORIES):
            return "text"
    return "nearly every value is different: an identifier" if mostly_different else "category"


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _as_kind(name: str, column: Column, kind: str) -> Column:
    """The column in the type that its kind is counted in."""
    wanted: dict[str, pa.DataType] = {
        "category": pa.large_string(),
        "text": pa.large_string(),
        "size": pa.large_binary(),
    }
    if kind == "number" and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return column
    if pa.types.is_dictionary(column.type):
        if kind == "category" and _is_string(column.type.value_type):
            return column
        column = column.cast(column.type.value_type)
    try:
        return column.cast(wanted.get(kind, pa.float64()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise Invalid(
            f"column {name!r} is of type {column.type}; it is compared as a {kind}, which it cannot be read as. "
            f"Give it the type it had in the reference, or name another kind: kinds={{{name!r}: ...}}."
        ) from error


def _learn_number(column: Column) -> ColumnBins:
    return ColumnBins("number", {"values": NumberBins.learn(np.concatenate(_chunks(column)))})


def _learn_category(column: Column) -> ColumnBins:
    return ColumnBins("category", {"values": CategoryBins.learn(column)})


def _learn_text(column: Column) -> ColumnBins:
    vocabulary = Vocabulary.learn(column)
    numbers = text_numbers(column, vocabulary, own=True)
    return ColumnBins(
        "text", {name: NumberBins.learn(values) for name, values in numbers.items()}, vocabulary
    )


def _learn_size(column: Column) -> ColumnBins:
    return ColumnBins("size", {"bytes": NumberBins.learn(_sizes(column))})


_LEARN: dict[str, Callable[[Column], ColumnBins]] = {
    "number": _learn_number,
    "category": _learn_category,
    "text": _learn_text,
    "size": _learn_size,
}


def profile_of(table: pa.Table, bins: Bins, *, own: bool = False) -> Profile:
    """Count rows in given bins, one column after the other; columns that have no bins are not looked at.

    Parameters
    ----------
    own
        The rows are those that the bins were learned from (see `text.Vocabulary`).

    Raises
    ------
    Invalid
        A column is missing, or cannot be read as the kind that it had.
    """
    if missing := bins.columns.keys() - set(table.column_names):
        raise Invalid(
            f"columns {sorted(missing)} are not in the table; each column of the reference is compared. "
            "Give the same columns, or learn the reference anew without them."
        )
    columns = {
        name: _count(name, table.column(name), column, own=own) for name, column in bins.columns.items()
    }
    return Profile(bins.id, table.num_rows, columns)


def _count(name: str, raw: Column, bins: ColumnBins, *, own: bool) -> ColumnCounts:
    column = _as_kind(name, raw, bins.kind)
    numbers = _numbers(column, bins, own=own)
    counts: dict[str, Counts] = {
        series: of.count(column)
        if isinstance(of, CategoryBins)
        else np.sum([of.count(chunk) for chunk in numbers[series]], axis=0, dtype=np.int64)
        for series, of in bins.series.items()
    }
    present = sum(map(len, numbers["values"])) if bins.kind == "number" else len(column) - column.null_count
    return ColumnCounts(len(column) - present, counts)


def _numbers(column: Column, bins: ColumnBins, *, own: bool) -> Mapping[str, list[NDArray[Any]]]:
    """The numbers of each series of a column, in chunks."""
    if bins.vocabulary is not None:
        return {series: [values] for series, values in text_numbers(column, bins.vocabulary, own=own).items()}
    if bins.kind == "size":
        return {"bytes": [_sizes(column)]}
    return {"values": _chunks(column)} if bins.kind == "number" else {}


def _chunks(column: Column) -> list[NDArray[Any]]:
    """The values without nulls and NaN, without a copy where there are none; at least one chunk."""
    chunks: list[NDArray[Any]] = []
    for chunk in column.chunks:
        values = (chunk.drop_null() if chunk.null_count else chunk).to_numpy()
        if values.dtype.kind == "f":
            is_nan = np.isnan(values)
            values = values[~is_nan] if is_nan.any() else values
        chunks.append(values)
    return chunks or [np.empty(0)]


def _sizes(column: Column) -> NDArray[np.float64]:
    return np.asarray(pc.binary_length(column.drop_null()).to_numpy(), dtype=np.float64)
