"""Arrow's compute functions for columns whose type is known only when they run, and the room's physical types.

The stubs of pyarrow choose an overload by the static type of an array; here a column's type is data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute
from pyarrow import types

from everloop.data.records import ROW_ID, ColumnType, Schema

compute: Any = pyarrow.compute
AnyArray: TypeAlias = "pa.Array[Any]"  # pyarrow's classes take no brackets when they run
AnyColumn: TypeAlias = "pa.ChunkedArray[Any]"

# The large variants hold more than 2 GB a column: a few thousand photos are that much.
ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.large_string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "time": pa.timestamp("us", "UTC"),
    "image": pa.large_binary(),
    "binary": pa.large_binary(),
}

_KINDS: tuple[tuple[ColumnType, tuple[Callable[[pa.DataType], bool], ...]], ...] = (
    ("string", (types.is_string, types.is_large_string, types.is_string_view)),
    ("integer", (types.is_integer,)),
    ("number", (types.is_floating, types.is_decimal)),
    ("boolean", (types.is_boolean,)),
    ("time", (types.is_timestamp, types.is_date)),
    ("binary", (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)),
)


def kind_of(arrow_type: pa.DataType) -> ColumnType | None:
    """What a column of this Arrow type holds; None for types that no column can have."""
    return next((kind for kind, tests in _KINDS if any(test(arrow_type) for test in tests)), None)


def arrow_schema(schema: Schema, *, with_row_id: bool = True) -> pa.Schema:
    """The Arrow schema of a version's rows, `_row_id` first."""
    fields = [(column.name, ARROW_TYPES[column.type]) for column in schema.columns]
    return pa.schema([(ROW_ID, pa.int64()), *fields] if with_row_id else fields)


def one_array(column: AnyColumn) -> AnyArray:
    """The column in one piece, dictionaries decoded."""
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.combine_chunks()


def where(mask: AnyArray, values: AnyArray) -> AnyArray:
    """The values where the mask holds, missing elsewhere."""
    found: AnyArray = compute.if_else(mask, values, pa.scalar(None, values.type))
    return found
