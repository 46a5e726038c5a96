"""Columns as arrays that statistics can work on: codes, numbers, normalised text, whole rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from everloop.checks.records import EVIDENCE_ROWS, ROW_ID, CheckInput

Kind = Literal["text", "number", "time", "boolean", "binary", "other"]
Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Column: TypeAlias = "pa.ChunkedArray[Any]"
Values: TypeAlias = "pa.Array[Any]"

# Its stubs ask for the type of the elements, which nobody knows of the columns of a user's table.
compute: Any = pc

NULL = -1
_WORDS_OF_TEXT = 3.0  # mean words a value from which on a text column counts as free text
_PHRASES_SHARE = (
    0.1  # of rows up to which different texts are phrases that name a class, such as "2 adults no kids"
)
_ENOUGH = 20_000  # rows from which to tell what a column holds
_DISTINCT_SHARE = 0.5  # of rows from which on a column of measured numbers tells rows apart


def kind_of(column_type: pa.DataType) -> Kind:
    """What a column holds, whatever its width or encoding."""
    if pa.types.is_dictionary(column_type):
        column_type = column_type.value_type
    if (
        pa.types.is_string(column_type)
        or pa.types.is_large_string(column_type)
        or pa.types.is_string_view(column_type)
    ):
        return "text"
    if pa.types.is_boolean(column_type):
        return "boolean"
    if (
        pa.types.is_integer(column_type)
        or pa.types.is_floating(column_type)
        or pa.types.is_decimal(column_type)
    ):
        return "number"
    if pa.types.is_timestamp(column_type) or pa.types.is_date(column_type):
        return "time"
    if pa.types.is_binary(column_type) or pa.types.is_large_binary(column_type):
        return "binary"
    return "other"


def pooled(given: CheckInput, name: str) -> tuple[Column, int] | None:
    """A column of the training rows followed by the test rows, and how many are training rows.

    Where the two sides have different types both become text. None when a side lacks the column.
    """
    if name not in given.train.column_names or name not in given.test.column_names:
        return None
    sides = [plain(given.train[name]), plain(given.test[name])]
    if sides[0].type != sides[1].type:
        if kind_of(sides[0].type) == kind_of(sides[1].type) == "number":
            sides = [side.cast(pa.float64()) for side in sides]
        else:
            sides = [as_text(side) for side in sides]
    return pa.chunked_array([*sides[0].chunks, *sides[1].chunks], type=sides[0].type), len(sides[0])


def plain(column: Column) -> Column:
    """Without dictionary encoding, without width (large_string is string), with NaN as null."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if kind_of(column.type) == "text":
        return column.cast(pa.large_string())
    if pa.types.is_decimal(column.type):
        return column.cast(pa.float64())
    if pa.types.is_floating(column.type):
        without_nan: Column = compute.if_else(compute.is_nan(column), None, column)
        return without_nan
    return column


def as_text(column: Column) -> Column:
    """The values as text, as Python writes them; nested ones become null, they are not looked into."""
    if kind_of(column.type) in ("other", "binary"):
        return pa.chunked_array([pa.nulls(len(column), pa.large_string())])
    if kind_of(column.type) == "boolean":
        words: Column = compute.if_else(column, "True", "False").cast(pa.large_string())
        return words
    return column.cast(pa.large_string())


def codes(column: Column) -> tuple[Codes, Values]:
    """A number per distinct value, (n_rows,) int64 with -1 for null, and the values in order of first sight."""
    column = plain(column)
    if pa.types.is_null(column.type) or kind_of(column.type) == "other":
        return np.full(len(column), NULL, np.int64), pa.nulls(0)
    encoded: Any = column.combine_chunks().dictionary_encode()
    numbers: Codes = compute.fill_null(encoded.indices.cast(pa.int64()), NULL).to_numpy(zero_copy_only=False)
    return numbers, encoded.dictionary


def class_codes(column: Column) -> tuple[Codes, list[str]]:
    """As `codes`, with the classes as text: a label 1 and a label "1" are the same class."""
    found, classes = codes(as_text(plain(column)))
    return found, [str(one) for one in classes.to_pylist()]


def floats(column: Column) -> Floats:
    """The values as (n_rows,) float64 with NaN for null; times in seconds, other kinds all NaN."""
    kind = kind_of(column.type)
    if kind == "time":
        return column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).to_numpy() / 1e6
    if kind not in ("number", "boolean"):
        return np.full(len(column), np.nan)
    column = column.cast(pa.int8()) if kind == "boolean" else column
    values: Floats = column.cast(pa.float64(), safe=False).to_numpy()
    return values


def normalised(column: Column) -> Column:
    """Text as a reader would compare it: NFKC, lower case, single spaces, no punctuation around words."""
    text = compute.utf8_lower(compute.utf8_normalize(column.cast(pa.large_string()), form="NFKC"))
    words: Column = compute.replace_substring_regex(text, pattern=r"[^\p{L}\p{N}]+", replacement=" ")
    trimmed: Column = compute.utf8_trim_whitespace(words)
    return trimmed


def row_codes(table: pa.Table, names: Sequence[str]) -> Codes:
    """A number per distinct row over the named columns, (n_rows,) int64; text is compared as `normalised`.

    -1 where all of them are null: such rows have no content to be equal in.
    """
    combined = np.zeros(table.num_rows, np.int64)
    is_empty = np.ones(table.num_rows, np.bool_)
    for name in names:
        column = plain(table[name])
        if kind_of(column.type) == "text":
            column = normalised(column)
        found, values = codes(column)
        is_empty &= found == NULL
        combined = np.unique(combined * (len(values) + 1) + found + 1, return_inverse=True)[1].astype(
            np.int64
        )
    combined[is_empty] = NULL
    return combined


def content_columns(table: pa.Table, names: Sequence[str]) -> list[str]:
    """Those columns whose equality says that two rows are copies: free text, bytes, measured numbers.

    Two people of the same age and trade are not copies; two listings with the same sentence are.
    """
    return [name for name in names if name in table.column_names and _is_content(plain(table[name]))]


def row_ids(table: pa.Table, positions: npt.NDArray[np.intp]) -> tuple[int, ...]:
    """The `_row_id`s at the first positions, as evidence; none when the table has no row ids."""
    if ROW_ID not in table.column_names:
        return ()
    found = table[ROW_ID].take(positions[:EVIDENCE_ROWS])
    return tuple(value for value in found.to_pylist() if value is not None)


def thinned(column: Column, rows: int) -> Column:
    """The column, or so many of its rows, evenly spread."""
    if len(column) <= rows:
        return column
    return column.take(np.linspace(0, len(column) - 1, rows).astype(np.int64))


def _is_content(column: Column) -> bool:
    kind = kind_of(column.type)
    filled = thinned(column.drop_null(), _ENOUGH)
    if kind == "binary":
        return len(filled) > 0
    if kind == "text":
        spaces = compute.mean(compute.count_substring(normalised(filled), " ")).as_py()
        if spaces is None or spaces + 1 < _WORDS_OF_TEXT:
            return False
        return bool(compute.count_distinct(filled).as_py() > _PHRASES_SHARE * len(filled))
    if pa.types.is_floating(column.type) and len(filled) > 0:
        return bool(compute.count_distinct(filled).as_py() >= _DISTINCT_SHARE * len(filled))
    return False
