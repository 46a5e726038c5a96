"""Records of predictions as tables, live ones and sealed ones alike: which columns there are, what stands in them, and the way back."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from everloop.clock import to_micros
from everloop.errors import Invalid
from everloop.predictions.kept import HIDDEN
from everloop.predictions.records import PredictionRecord
from everloop.predictions.segments import MAPS

_FIELDS: list[pa.Field[Any]] = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("endpoint", pa.string(), nullable=False),
    pa.field("variant", pa.string(), nullable=False),
    pa.field("release", pa.string(), nullable=False),
    pa.field("model", pa.string(), nullable=False),
    pa.field("version", pa.int64(), nullable=False),
    pa.field("epoch", pa.int64(), nullable=False),
    pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("key", pa.string()),
    pa.field("inputs", pa.string(), nullable=False),
    pa.field("features", pa.string(), nullable=False),
    pa.field("output", pa.string()),
    pa.field("output_number", pa.float64()),
    pa.field("scores", pa.string(), nullable=False),
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
    pa.field("latency_us", pa.int64(), nullable=False),
    pa.field("replay", pa.bool_(), nullable=False),
    pa.field("shadow_of", pa.string()),
    pa.field("request", pa.string()),
    pa.field("probability", pa.float64(), nullable=False),
    pa.field("assigned", pa.string()),
]
SCHEMA = pa.schema(_FIELDS)
"""Of the tables that `read` gives. `output` is the class, `output_number` the number, one of them null;
`inputs`, `features` and `scores` are JSON texts (see `unpack`)."""

_Features = dict[str, tuple[int | float | str | None, int | None]]
_json = msgspec.json.Encoder().encode


def schema_of(columns: Sequence[str] | None) -> pa.Schema:
    """These columns of `SCHEMA`, all if None. Raises Invalid for one that it does not have."""
    if columns is None:
        return SCHEMA
    unknown = [name for name in columns if name not in SCHEMA.names]
    if unknown:
        raise Invalid(f"the prediction log has no columns {unknown}; it has {', '.join(SCHEMA.names)}.")
    return pa.schema([SCHEMA.field(name) for name in columns])


def unpack(texts: pa.ChunkedArray[Any] | pa.Array[Any], types: Mapping[str, pa.DataType]) -> pa.Table:
    """The JSON texts of `inputs` or `scores` as columns of the given types; what a text lacks is null.

    Raises Invalid when a value does not fit its type: read records with status ok or failed, whose inputs
    were checked, not refused ones.
    """
    schema = pa.schema([pa.field(name, kind) for name, kind in types.items()])
    lines = [str(text) for text in texts.to_pylist()]
    if not lines:
        return schema.empty_table()
    try:
        return pa.json.read_json(
            io.BytesIO("\n".join(lines).encode()),
            read_options=pa.json.ReadOptions(block_size=max(1 << 20, 8 * max(map(len, lines)))),
            parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid as error:
        raise Invalid(
            f"logged inputs do not fit {dict(types)}: {error}. Leave refused records out and give the signature's types."
        ) from error


def readable(
    texts: pa.ChunkedArray[Any] | pa.Array[Any], types: Mapping[str, pa.DataType]
) -> dict[str, pa.DataType]:
    """Those of the inputs of which every value is in the texts as it was given, neither hashed nor left out."""
    kept = {}
    for name, kind in types.items():
        start = re.escape(_json(name).decode())
        hidden = pc.match_substring_regex(texts, f'[{{,]{start}:"({HIDDEN})')
        if not pc.any(hidden).as_py():
            kept[name] = kind
    return kept


def to_batch(records: Sequence[PredictionRecord], names: Sequence[str] = SCHEMA.names) -> pa.RecordBatch:
    """Records in these columns of `SCHEMA`."""
    schema = schema_of(names)
    return pa.record_batch(
        [pa.array(_values(name, records), type=schema.field(name).type) for name in names], schema=schema
    )


def _values(name: str, records: Sequence[PredictionRecord]) -> list[Any]:
    if name == "output":
        return [one.output if isinstance(one.output, str) else None for one in records]
    if name == "output_number":
        return [None if isinstance(one.output, str) else one.output for one in records]
    values = list(map(attrgetter(name), records))
    return [_text(one) for one in values] if name in MAPS else values


def _text(value: dict[str, Any] | msgspec.Raw) -> str:
    return _json(msgspec.msgpack.decode(value) if isinstance(value, msgspec.Raw) else value).decode()


def from_row(row: Mapping[str, Any]) -> PredictionRecord:
    """The record of a sealed row, equal to what was written."""
    # what was sealed before there was sampling has no chance
    values = {"probability": 1.0} | {
        name: row[name] for name in PredictionRecord.__struct_fields__ if name in row
    }
    values |= {name: msgspec.json.decode(row[name]) for name in ("inputs", "scores")}
    values["features"] = msgspec.json.decode(row["features"], type=_Features)
    values["at"] = to_micros(row["at"])
    if row["assigned"] is None:  # sealed before these two were kept
        values |= {"probability": 1.0, "assigned": ""}
    if row["output"] is None:
        values["output"] = row["output_number"]
    return PredictionRecord(**values)
