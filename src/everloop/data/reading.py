"""Reads the rows of a version."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from everloop.data.arrow import arrow_schema
from everloop.data.definitions import version as version_named
from everloop.data.layout import Manifest, Part, Positions, read_manifest, read_part
from everloop.data.records import ROW_ID, Column, DatasetVersion, Schema
from everloop.errors import Invalid
from everloop.workspace import Workspace


def read(
    ws: Workspace, ref: str, *, columns: Sequence[str] | None = None, row_ids: Iterable[int] | None = None
) -> pa.Table:
    """The rows of a version as an Arrow table: `_row_id` first, then the columns, in order of row id.

    Parameters
    ----------
    ref
        `listings@3`, or `listings` for the newest version.
    columns
        Which columns, in which order; all by default. `_row_id` is always there.
    row_ids
        Only these rows, in order of row id; ids that the version does not have are left out.

    Returns
    -------
    pa.Table
        Strings are large_string, images and binaries large_binary, times timestamp[us, UTC]. The schema's metadata
        has under b"everloop" a JSON object with dataset, version (the ref), digest, key, time, inputs
        and the columns marked personal.
    """
    found = version_named(ws, ref)
    manifest = read_manifest(ws, found.manifest)
    names = checked_names(found.schema, columns)
    wanted = None if row_ids is None else np.unique(np.fromiter(row_ids, np.int64))
    tables = [
        _rows_of(ws, part, found.schema, names, wanted)
        for part in manifest.parts
        if wanted is None or _may_have(part, wanted)
    ]
    return as_version(found, in_order(tables, found.schema, names))


def origins(ws: Workspace, ref: str, row_ids: Iterable[int]) -> dict[int, DatasetVersion]:
    """For each row, the version that wrote it as it is in `ref`: its operation names the file or the cleaning.

    Rows that the version does not have are left out.
    """
    found = version_named(ws, ref)
    wanted = np.unique(np.fromiter(row_ids, np.int64))
    since: dict[int, int] = {}
    for part in read_manifest(ws, found.manifest).parts:
        if _may_have(part, wanted):
            rows = _rows_of(ws, part, found.schema, [ROW_ID], wanted)
            since.update(dict.fromkeys(np.asarray(rows[ROW_ID]).tolist(), part.since))
    made = {number: version_named(ws, f"{found.dataset}@{number}") for number in set(since.values())}
    return {row_id: made[since[row_id]] for row_id in sorted(since)}


def all_rows(ws: Workspace, manifest: Manifest, schema: Schema, columns: Sequence[str]) -> pa.Table:
    """`_row_id` and columns of all rows that are alive, in order of row id."""
    names = [ROW_ID, *columns]
    tables = [_rows_of(ws, part, schema, names, None) for part in manifest.parts]
    return in_order(tables, schema, names)


def _rows_of(
    ws: Workspace, part: Part, schema: Schema, names: list[str], wanted: Positions | None
) -> pa.Table:
    """The part's rows that are alive and, if row ids are given, among those."""
    if wanted is None:
        rows = read_part(ws, part, schema, names)
        return rows.filter(pa.array(part.is_alive())) if part.deleted_count else rows
    ids = np.asarray(read_part(ws, part, schema, [ROW_ID])[ROW_ID])
    hit = np.flatnonzero(part.is_alive() & np.isin(ids, wanted))
    return read_part(ws, part, schema, names, positions=hit)


def _may_have(part: Part, wanted: Positions) -> bool:
    first = np.searchsorted(wanted, part.first_row_id)
    return bool(first < len(wanted) and wanted[first] <= part.last_row_id)


def in_order(tables: list[pa.Table], schema: Schema, names: list[str]) -> pa.Table:
    """The tables as one, in order of row id."""
    if not tables:
        return arrow_schema(schema).empty_table().select(names)
    rows = pa.concat_tables(tables)
    ids = np.asarray(rows[ROW_ID])
    # Looking costs a hundredth of sorting, and a dataset that only grew is in order already.
    is_sorted = bool((ids[1:] > ids[:-1]).all())
    return rows if is_sorted else rows.take(np.argsort(ids, kind="stable"))


def checked_names(schema: Schema, columns: Sequence[str] | None) -> list[str]:
    """`_row_id`, then these columns or all. Raises Invalid when the schema has no such column."""
    chosen = [name for name in (schema.names if columns is None else columns) if name != ROW_ID]
    for name in chosen:
        check_column(schema, name)
    return [ROW_ID, *chosen]


def check_column(schema: Schema, name: str) -> None:
    """Raises Invalid, with the nearest name, when the schema has no such column."""
    if name not in schema.names:
        near = difflib.get_close_matches(name, schema.names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"It has: {', '.join(schema.names)}."
        raise Invalid(f"there is no column {name!r} in this version. {hint}")


def _rules(column: Column) -> dict[str, Any]:
    """What the schema says of a column's values that holds for a live request too."""
    said = {name: getattr(column, name) for name in ("allowed", "minimum", "maximum", "max_length")}
    return {name: value for name, value in said.items() if value is not None}


def as_version(version: DatasetVersion, rows: pa.Table) -> pa.Table:
    """The rows with the version's name and meaning in their metadata."""
    about: dict[str, Any] = {
        "dataset": version.dataset,
        "version": version.ref,
        "digest": version.digest,
        "key": version.schema.key,
        "time": version.schema.time,
        "inputs": list(version.schema.inputs),
        "personal": [one.name for one in version.schema.columns if one.personal],
    }
    if rules := {one.name: said for one in version.schema.columns if (said := _rules(one))}:
        about["rules"] = rules
    return rows.replace_schema_metadata({b"everloop": json.dumps(about).encode()})
