"""What a version's columns hold."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from everloop.clock import from_micros
from everloop.data import store
from everloop.data.arrow import AnyArray, one_array
from everloop.data.arrow import compute as pc
from everloop.data.definitions import version as version_named
from everloop.data.image_files import header_of
from everloop.data.layout import read_manifest
from everloop.data.personal import personal_kinds
from everloop.data.reading import all_rows
from everloop.data.records import Column, ColumnProfile, Profile
from everloop.storage import to_json
from everloop.workspace import Workspace

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_TOP = 10
_TOP_CHARACTERS = 120  # of a value that is shown


def profile(ws: Workspace, ref: str) -> Profile:
    """The profile of a version's columns: computed once over all rows, then kept as a blob.

    Values of columns marked as personal, or in which something looks like personal data, are not shown.

    Writes the blob, and its digest beside the version.
    """
    found = version_named(ws, ref)
    with ws.read() as connection:
        blob = store.profile_of(connection, found)
    if blob is not None and ws.blobs.has(blob):
        return profile_from_json(json.loads(ws.blobs.get(blob)))
    manifest = read_manifest(ws, found.manifest)
    columns = []
    for column in found.schema.columns:  # one at a time: a column of photos is large enough
        rows = all_rows(ws, manifest, found.schema, [column.name])
        columns.append(profile_column(one_array(rows[column.name]), column))
    made = Profile(found.ref, found.digest, found.rows, tuple(columns))
    kept = ws.blobs.put(to_json(made.as_json()).encode())
    ws.write(lambda tx: store.set_profile(tx, found, kept), power_safe=False)
    return made


def profile_from_json(value: dict[str, Any]) -> Profile:
    columns = tuple(ColumnProfile(**column) for column in value["columns"])
    return Profile(value["ref"], value["digest"], value["rows"], columns)


def profile_column(values: AnyArray, column: Column) -> ColumnProfile:
    """The profile of one column; figures are over the values that are there."""
    there = values.drop_null()
    personal = personal_kinds(there) if column.type == "string" else {}
    is_shown = not column.personal and not personal
    return ColumnProfile(
        name=column.name,
        type=column.type,
        count=len(there),
        nulls=values.null_count,
        distinct=pc.count_distinct(there).as_py(),
        figures=_figures(there, column, is_shown=is_shown) if len(there) else {},
        personal=personal,
    )


def _figures(values: AnyArray, column: Column, *, is_shown: bool) -> dict[str, Any]:
    if column.type == "boolean":
        return {"top": _top(values)} if is_shown else {}
    if column.type == "string":
        lengths = _spread("length", np.asarray(pc.utf8_length(values)))
        return {**lengths, "top": _top(values)} if is_shown else lengths
    if column.type in ("image", "binary"):
        return _sizes(values, column)
    if not is_shown:
        return {}
    if column.type == "time":
        return _times(values)
    return _numbers(values, column)


def _numbers(values: AnyArray, column: Column) -> dict[str, Any]:
    numbers = np.asarray(values, np.float64)
    is_finite = np.isfinite(numbers)
    finite = numbers[is_finite]
    figures: dict[str, Any] = {"top": _top(values)} if column.type == "integer" else {}
    if len(finite) < len(numbers):
        figures["infinite"] = len(numbers) - len(finite)
    if len(finite) == 0:
        return figures
    bounds = pc.min_max(values.filter(pa.array(is_finite)))
    figures["minimum"], figures["maximum"] = bounds["min"].as_py(), bounds["max"].as_py()
    with np.errstate(over="ignore", invalid="ignore"):  # sums of the largest numbers overflow: left out
        quantiles = dict(zip(map(str, QUANTILES), np.quantile(finite, QUANTILES).tolist(), strict=True))
        moments = {
            "mean": float(finite.mean()),
            "standard_deviation": float(finite.std(ddof=1)) if len(finite) > 1 else math.nan,
        }
    return {**figures, **_finite(moments), "quantiles": _finite(quantiles)}


def _finite(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _times(values: AnyArray) -> dict[str, Any]:
    micros = np.sort(np.asarray(values.cast(pa.int64())))
    places = np.round(np.array(QUANTILES) * (len(micros) - 1)).astype(np.int64)
    quantiles = [_iso(micros[place]) for place in places]
    return {
        "minimum": _iso(micros[0]),
        "maximum": _iso(micros[-1]),
        "quantiles": dict(zip(map(str, QUANTILES), quantiles, strict=True)),
    }


def _iso(micros: np.int64) -> str:
    return from_micros(int(micros)).isoformat()


def _sizes(values: AnyArray, column: Column) -> dict[str, Any]:
    figures = _spread("size_bytes", np.asarray(pc.binary_length(values)))
    if column.type == "image":
        headers = [header for value in values if (header := header_of(value.as_py()))]
        figures |= _spread("width", np.array([header.width for header in headers]))
        figures |= _spread("height", np.array([header.height for header in headers]))
        figures["formats"] = dict(sorted(Counter(header.format for header in headers).items()))
    return figures


def _spread(name: str, values: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {
        f"{name}_minimum": int(values.min()),
        f"{name}_mean": float(values.mean()),
        f"{name}_maximum": int(values.max()),
    }


def _top(values: AnyArray) -> list[list[Any]]:
    """The most frequent values with their counts, equally frequent ones in their own order; none if all differ."""
    counted = pc.value_counts(values)
    if len(counted) == len(values) > 1:
        return []
    table = pa.table({"value": counted.field("values"), "count": counted.field("counts")})
    first = table.take(pc.sort_indices(table, [("count", "descending"), ("value", "ascending")])[:_TOP])
    return [[_shown(row["value"]), row["count"]] for row in first.to_pylist()]


def _shown(value: Any) -> Any:
    return (
        f"{value[:_TOP_CHARACTERS]}..." if isinstance(value, str) and len(value) > _TOP_CHARACTERS else value
    )
