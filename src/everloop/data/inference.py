"""Which type an undeclared column has, and how a dataset's schema grows with what a file brings."""

from __future__ import annotations

import dataclasses
import difflib

import pyarrow as pa

from everloop.data.arrow import AnyArray, kind_of, one_array
from everloop.data.arrow import compute as pc
from everloop.data.conversion import MISSING, NUMBER, TIME
from everloop.data.image_files import header_of
from everloop.data.records import Column, ColumnType, Schema
from everloop.data.sources import Source
from everloop.errors import Invalid

# Leading zeros mean something: 00501 is a postal code, not a number.
_PLAIN_INTEGER = r"^-?(0|[1-9]\d{0,17})$"
_LEADING_ZERO = r"^[+-]?0\d"
_SAMPLE = 1_000  # values looked at before the whole column is
_SAMPLE_IMAGES = 20


def grown_schema(schema: Schema, source: Source) -> Schema:
    """The schema with the columns that the source has and it has not: inferred, and allowed to be missing.

    Raises
    ------
    Invalid
        A column that every file must have is not in this one; a column's type cannot be told; the key is of a
        type that cannot be one.
    """
    found = source.rows.column_names
    _check_present(schema, found)
    new = [_new_column(name, schema, source) for name in found if name not in schema.names]
    grown = dataclasses.replace(schema, columns=(*schema.columns, *new))
    key = grown.get(grown.key) if grown.key else None
    if key is not None and key.type not in ("string", "integer"):
        raise Invalid(
            f"the key {key.name!r} holds values of type {key.type}; a key is text or a whole number. "
            "Define the dataset with another key."
        )
    return grown


def inferred_type(values: AnyArray, name: str, *, is_text: bool) -> ColumnType:
    """The type of a column by its Arrow type or, when it is text out of a CSV, by all of its values.

    Text is a time when every value is one in ISO 8601; a number or a boolean only where CSV left no other way
    to write it.
    """
    if pa.types.is_null(values.type):
        return "string"
    kind = kind_of(values.type)
    if kind is None:
        raise Invalid(
            f"column {name!r} is of the Arrow type {values.type}, which no column can hold: text, numbers, booleans, "
            "times and binaries can. Spread nested values over columns of their own, or leave the column out."
        )
    if kind == "string":
        return _type_of_text(values.cast(pa.large_string()), is_text=is_text)
    return _image_or_binary(values) if kind == "binary" else kind


def _check_present(schema: Schema, found: list[str]) -> None:
    must = [
        schema.key,
        schema.time,
        *schema.inputs,
        *(one.name for one in schema.columns if not one.nullable),
    ]
    missing = [name for name in dict.fromkeys(must) if name is not None and name not in found]
    if missing:
        others = [name for name in found if name not in schema.names]
        near = difflib.get_close_matches(missing[0], others, n=1)
        hint = f" It has {near[0]!r}: is that the same?" if near else ""
        raise Invalid(
            f"the column {missing[0]!r} is missing; key, time, inputs and columns that may not be missing must be in "
            f"every file.{hint} The file has: {', '.join(found)}. Rename or add the column, or change the definition."
        )


def _new_column(name: str, schema: Schema, source: Source) -> Column:
    if name == schema.time:
        return Column(name, "time", nullable=False)
    kind = inferred_type(one_array(source.rows[name]), name, is_text=source.is_text)
    return Column(name, kind, nullable=name != schema.key, unique=name == schema.key)


def _type_of_text(text: AnyArray, *, is_text: bool) -> ColumnType:
    if is_text:
        text = pc.utf8_trim_whitespace(text)
        is_missing = pc.is_in(text, pa.array(MISSING, pa.large_string()))
        text = text.filter(pc.fill_null(pc.invert(is_missing), False))
    text = text.drop_null()
    if len(text) == 0:
        return "string"
    if is_text and _all(text, _PLAIN_INTEGER):
        return "integer"
    if is_text and _all(text, NUMBER) and not pc.any(pc.match_substring_regex(text, _LEADING_ZERO)).as_py():
        return "number"
    if is_text and _all(text, "^(?i:true|false)$"):
        return "boolean"
    return "time" if _all(text, TIME) else "string"


def _all(text: AnyArray, pattern: str) -> bool:
    return all(
        pc.all(pc.match_substring_regex(part, pattern)).as_py() for part in (text.slice(0, _SAMPLE), text)
    )


def _image_or_binary(values: AnyArray) -> ColumnType:
    sample = [value.as_py() for value in values.drop_null().slice(0, _SAMPLE_IMAGES)]
    return "image" if sample and all(map(header_of, sample)) else "binary"
