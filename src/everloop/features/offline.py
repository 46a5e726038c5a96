"""Features for training: each row sees only what its entity had done before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from everloop.errors import Invalid
from everloop.features.records import ARROW_TYPES, FeatureFunction, FeatureView, evaluate
from everloop.storage import replacing


def training_values(
    view: FeatureView, function: FeatureFunction, rows: pa.Table, *, history: pa.Table | None = None
) -> pa.Array[Any]:
    """The feature's value for each row of `rows`, as of that row's event time.

    For a row of entity e at time t the function gets the rows of e in `history` with t - window <= t' < t,
    oldest first: never the row itself, never a row of the same instant. A row without an entity has no past.

    Parameters
    ----------
    rows
        Must hold the view's entity and time columns; any order.
    history
        Where the past is looked for; `rows` itself when not given. Must hold all of the view's columns.

    Returns
    -------
    pa.Array
        (n_rows,) in the order of `rows`, int64, double or string by the view's dtype.

    Raises
    ------
    Invalid
        A column is missing or of another type, a time is null, or the function failed.

    Notes
    -----
    O(n log n): one sort, two binary searches a row, then slices that copy nothing.
    """
    asked = standard(rows, view, columns=(view.entity, view.time))
    past = standard(rows if history is None else history, view)
    entities = pa.concat_arrays([past[view.entity].combine_chunks(), asked[view.entity].combine_chunks()])
    codes = _codes(entities)
    times = np.concatenate([_micros(past[view.time], view.time), _micros(asked[view.time], view.time)])
    known = past.num_rows
    order = np.lexsort((times[:known], codes[:known]))
    ordered = past.take(order).combine_chunks()
    starts, stops = _spans(codes, times, order, known=known, window_us=int(view.window_s * 1_000_000))
    values = [
        evaluate(view, function, ordered.slice(start, stop - start))
        for start, stop in zip(starts, stops, strict=True)
    ]
    return pa.array(values, type=ARROW_TYPES[view.dtype])


def materialise(view: FeatureView, rows: pa.Table, path: Path) -> int:
    """Write the rows that a starting server needs to answer for the view; returns how many.

    These are the rows of the last two windows before the newest one (see `OnlineHistory`). The Arrow file
    appears whole or not at all, and survives a power cut.
    """
    table = standard(rows, view)
    if table.num_rows:
        newest = pc.max(table[view.time]).as_py()
        oldest = pa.scalar(newest - 2 * view.window, type=ARROW_TYPES["time"])
        table = table.filter(pc.greater_equal(table[view.time], oldest)).sort_by(view.time)
    with replacing(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return table.num_rows


def standard(rows: pa.Table, view: FeatureView, *, columns: Sequence[str] | None = None) -> pa.Table:
    """The view's columns of `rows` in the types that its function sees, offline and online.

    Whole numbers are int64, text is string, times are microseconds in UTC (a time without a zone counts as
    UTC), whatever types the file had: so that a function cannot come to depend on one of the two.
    """
    arrays = []
    names = tuple(view.columns) if columns is None else tuple(columns)
    for name in names:
        if name not in rows.column_names:
            raise Invalid(
                f"the rows for feature {view.name!r} have no column {name!r} (they have {', '.join(rows.column_names)}). "
                "Give rows with the view's entity, time and inputs."
            )
        column, wanted = rows[name], ARROW_TYPES[view.columns[name]]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_timestamp(column.type) and column.type.tz is None and view.columns[name] == "time":
            column = column.cast(pa.timestamp("us"))
        try:
            arrays.append(column.cast(wanted))
        except pa.ArrowInvalid as error:
            raise Invalid(
                f"column {name!r} of the rows for feature {view.name!r} holds {column.type} that do not fit "
                f"{view.columns[name]}: {error}. Declare the column's type as it is in the data."
            ) from error
    return pa.table(arrays, names=list(names))


def _codes(entities: pa.Array[Any]) -> NDArray[np.int64]:
    """(n,) a number per entity, -1 for null."""
    encoded: pa.DictionaryArray[Any, Any] = entities.dictionary_encode()
    return np.asarray(encoded.indices.cast(pa.int64()).fill_null(-1))


def _micros(times: pa.ChunkedArray[Any], name: str) -> NDArray[np.int64]:
    if times.null_count:
        raise Invalid(
            f"{times.null_count} rows have no {name!r}; a point-in-time feature needs the time of every row. "
            "Fill or drop them first."
        )
    return np.asarray(times.cast(pa.int64()).combine_chunks())


def _spans(
    codes: NDArray[np.int64], times: NDArray[np.int64], order: NDArray[np.intp], *, known: int, window_us: int
) -> tuple[list[int], list[int]]:
    """Where each asked row's past starts and stops in the ordered history, (n_asked,) each.

    Entity and time are folded into one int64 (entity code x number of instants + rank of the instant), so
    that both ends of all windows come from two vectorised searches instead of a loop per entity.
    """
    instants = np.unique(times[:known])
    place = codes[:known][order] * (len(instants) + 1) + np.searchsorted(instants, times[:known][order])
    asked, asked_times = codes[known:], times[known:]
    base = asked * (len(instants) + 1)
    starts = np.searchsorted(place, base + np.searchsorted(instants, asked_times - window_us))
    stops = np.searchsorted(place, base + np.searchsorted(instants, asked_times))
    stops = np.where(asked < 0, starts, stops)
    return starts.tolist(), stops.tolist()
