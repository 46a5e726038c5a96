"""Turns a column as it was found into the type that the schema gives it, or says which row is wrong and how."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from everloop.data.arrow import ARROW_TYPES, AnyArray, kind_of, where
from everloop.data.arrow import compute as pc
from everloop.data.image_files import FORMATS, header_of
from everloop.data.records import Column, ColumnType
from everloop.errors import Invalid

# Text that means "missing" in a column that is not text. In text itself "NA" may be Namibia.
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
INTEGER = r"^[+-]?\d+(\.0+)?$"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
TIME = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})?)?$"
_ZONED = r"[T ].*(Z|[+-]\d{2}:?\d{2})$"
_TRUE, _FALSE = ("true", "t", "yes", "1"), ("false", "f", "no", "0")
# Which kinds of Arrow column a column takes beside text. Whole numbers come as numbers out of pandas.
_TAKES: dict[ColumnType, tuple[ColumnType, ...]] = {
    "string": (),
    "integer": ("integer", "number"),
    "number": ("integer", "number"),
    "boolean": ("boolean",),
    "time": ("time",),
    "image": ("binary",),
    "binary": ("binary",),
}
_EXPECTED = {
    "string": "text",
    "integer": "a whole number of 64 bits",
    "number": "a number",
    "boolean": "true or false",
    "time": "a time in ISO 8601, to the microsecond",
    "image": f"an image ({', '.join(FORMATS)})",
    "binary": "bytes (base64 in CSV and JSONL)",
}


def converted(values: AnyArray, column: Column) -> AnyArray:
    """The values in the Arrow type of the column.

    Times without a zone are taken as UTC; NaN becomes missing; whole numbers written as 3.0 are whole numbers.

    Raises
    ------
    Invalid
        A value is not of the column's type. The message has the row, counted from 1, and the kind of the value,
        never the value itself: it may be personal.
    """
    if pa.types.is_null(values.type):
        return values.cast(ARROW_TYPES[column.type])
    is_text = kind_of(values.type) == "string"
    found = _from_text(values, column) if is_text else _from_typed(values, column)
    if column.type == "number":
        found = _without_nan(found)
    if column.type == "image":
        _check_images(found, column)
    return found


def _from_typed(values: AnyArray, column: Column) -> AnyArray:
    kind = kind_of(values.type)
    if kind not in _TAKES[column.type]:
        raise Invalid(
            f"column {column.name!r} is of the Arrow type {values.type} where the schema says {column.type}. "
            "Convert the column, or define the dataset with another type for it."
        )
    if kind == "number":
        # Out of pandas, whole numbers with gaps come as floats with NaN in the gaps.
        values = _without_nan(values)
    if pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("ms"))
    return _cast(values, ARROW_TYPES[column.type], column)


def _without_nan(values: AnyArray) -> AnyArray:
    if not pa.types.is_floating(values.type):
        return values
    is_nan = pc.is_nan(values)
    return where(pc.invert(is_nan), values) if pc.any(is_nan).as_py() else values


def _from_text(values: AnyArray, column: Column) -> AnyArray:
    text = values.cast(pa.large_string())
    if column.type == "string":
        return text
    text = pc.utf8_trim_whitespace(text)
    text = where(pc.invert(pc.is_in(text, pa.array(MISSING, pa.large_string()))), text)
    parse: dict[str, Callable[[AnyArray, Column], AnyArray]] = {
        "integer": _integers,
        "number": _numbers,
        "boolean": _booleans,
        "time": _times,
        "image": _base64,
        "binary": _base64,
    }
    return parse[column.type](text, column)


def _integers(text: AnyArray, column: Column) -> AnyArray:
    _must_match(text, INTEGER, column)
    plain = pc.replace_substring_regex(text, r"^\+|\.0+$", "")
    return _cast(plain, pa.int64(), column)


def _numbers(text: AnyArray, column: Column) -> AnyArray:
    _must_match(text, NUMBER, column)
    return _cast(pc.replace_substring_regex(text, r"^\+", ""), pa.float64(), column)


def _booleans(text: AnyArray, column: Column) -> AnyArray:
    small = pc.utf8_lower(text)
    is_true, is_false = (pc.is_in(small, pa.array(words, pa.large_string())) for words in (_TRUE, _FALSE))
    _must(pc.or_(is_true, is_false), text, column)
    return where(pc.is_valid(text), is_true)


def _times(text: AnyArray, column: Column) -> AnyArray:
    """ISO 8601 with and without a zone in one column; without one it is UTC."""
    _must_match(text, TIME, column)
    zoned = pc.match_substring_regex(text, _ZONED)
    naive = _cast(where(pc.invert(zoned), text), pa.timestamp("us"), column)
    aware = _cast(where(zoned, text), ARROW_TYPES["time"], column)
    found: AnyArray = pc.coalesce(aware, naive.cast(ARROW_TYPES["time"]))
    return found


def _base64(text: AnyArray, column: Column) -> AnyArray:
    found: list[bytes | None] = []
    for row, value in enumerate(text.to_pylist()):
        try:
            found.append(None if value is None else base64.b64decode(value, validate=True))
        except (binascii.Error, ValueError):
            raise wrong_value(text, row, column) from None
    return pa.array(found, ARROW_TYPES[column.type])


def _check_images(values: AnyArray, column: Column) -> None:
    for row, value in enumerate(values):
        if value.is_valid and header_of(value.as_py()) is None:
            raise wrong_value(values, row, column)


def _must_match(text: AnyArray, pattern: str, column: Column) -> None:
    _must(pc.match_substring_regex(text, pattern), text, column)


def _must(is_right: AnyArray, values: AnyArray, column: Column) -> None:
    """Raise Invalid for the first value that is there and not right."""
    wrong = pc.and_(pc.is_valid(values), pc.invert(is_right))
    if pc.any(wrong).as_py():
        raise wrong_value(values, int(np.argmax(np.asarray(pc.fill_null(wrong, False)))), column)


def _cast(values: AnyArray, target: pa.DataType, column: Column) -> AnyArray:
    try:
        return values.cast(target)
    except pa.ArrowInvalid:
        # Arrow's message shows the value, which may be personal: the cause is not passed on.
        raise wrong_value(values, _first_refused(values, target), column) from None


def _first_refused(values: AnyArray, target: pa.DataType) -> int:
    """The position of the first value that does not cast, by halving."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            values.slice(low, middle - low).cast(target)
        except pa.ArrowInvalid:
            high = middle
        else:
            low = middle
    return low


def wrong_value(values: AnyArray, row: int, column: Column) -> Invalid:
    """The error for one value of the wrong type."""
    return Invalid(
        f"column {column.name!r}, row {row + 1} has {_kind(values[row])} where {_EXPECTED[column.type]} is expected. "
        "Correct the value, or define the dataset with another type for the column."
    )


def _kind(value: Any) -> str:
    kind = kind_of(value.type)
    if kind == "string":
        return f"text of {len(value.as_py())} characters"
    if kind == "binary":
        return f"{len(value.as_py())} bytes"
    return f"a value of the Arrow type {value.type} that does not fit"
