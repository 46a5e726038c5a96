"""Reads the rows of a version."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from everloop.data.arrow import AnyArray, arrow_schema
from everloop.data.arrow import compute as pc
from everloop.data.definitions import version as version_named
from everloop.data.layout import Manifest, Part, Positions, read_manifest, read_part
from everloop.data.records import ROW_ID, DatasetVersion, Schema
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
        has under b"everloop" a JSON object with dataset, version (the ref), digest, key, time and inputs.
    """
    found = version_named(ws, ref)
    manifest = read_manifest(ws, found.manifest)
    names = _names(found.schema, columns)
    wanted = None if row_ids is None else np.unique(np.fromiter(row_ids, np.int64))
    tables = [
        _rows_of(ws, part, found.schema, names, wanted)
        for part in manifest.parts
        if wanted is None or _may_have(part, wanted)
    ]
    return _as_version(found, _in_order(tables, found.schema, names))


def rows_by_key(
    ws: Workspace, ref: str, keys: Iterable[str | int], *, columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows whose key is among `keys`, as `read` gives them; keys that are not there are left out.

    Whole-number keys may also be given as text, as they arrive over HTTP.

    Raises
    ------
    Invalid
        The dataset has no key.
    """
    found = version_named(ws, ref)
    key = found.schema.key
    column = found.schema.get(key) if key is not None else None
    if key is None or column is None:
        raise Invalid(f"dataset {found.dataset!r} has no key to look rows up by. Read them by row id.")
    wanted = _key_values(keys, is_integer=column.type == "integer")
    manifest = read_manifest(ws, found.manifest)
    names = _names(found.schema, columns)
    tables = []
    for part in manifest.parts:
        there = read_part(ws, part, found.schema, [key])[key]
        hit = np.asarray(pc.is_in(there, wanted)) & part.is_alive()
        if hit.any():
            tables.append(read_part(ws, part, found.schema, names, positions=np.flatnonzero(hit)))
    return _as_version(found, _in_order(tables, found.schema, names))


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
    return _in_order(tables, schema, names)


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


def _in_order(tables: list[pa.Table], schema: Schema, names: list[str]) -> pa.Table:
    if not tables:
        return arrow_schema(schema).empty_table().select(names)
    rows = pa.concat_tables(tables)
    ids = np.asarray(rows[ROW_ID])
    # Looking costs a hundredth of sorting, and a dataset that only grew is in order already.
    is_sorted = bool((ids[1:] > ids[:-1]).all())
    return rows if is_sorted else rows.take(np.argsort(ids, kind="stable"))


def _names(schema: Schema, columns: Sequence[str] | None) -> list[str]:
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


def _key_values(keys: Iterable[str | int], *, is_integer: bool) -> AnyArray:
    if not is_integer:
        return pa.array([str(key) for key in keys], pa.large_string())
    numbers = [int(key) for key in keys if isinstance(key, int) or key.removeprefix("-").isdecimal()]
    return pa.array([number for number in numbers if -(2**63) <= number < 2**63], pa.int64())


def _as_version(version: DatasetVersion, rows: pa.Table) -> pa.Table:
    about = {
        "dataset": version.dataset,
        "version": version.ref,
        "digest": version.digest,
        "key": version.schema.key,
        "time": version.schema.time,
        "inputs": list(version.schema.inputs),
    }
    return rows.replace_schema_metadata({b"everloop": json.dumps(about).encode()})
