"""Takes rows in: a file, a folder or a table becomes the next version of its dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from everloop.data.arrow import AnyArray, AnyColumn, one_array
from everloop.data.constraints import check_rules, refuse, repeated
from everloop.data.conversion import converted
from everloop.data.definitions import dataset as dataset_named
from everloop.data.identity import row_digests
from everloop.data.indexing import Index, load_index
from everloop.data.inference import grown_schema
from everloop.data.layout import Positions, read_at
from everloop.data.merging import Decision, Matches, decide, match
from everloop.data.records import Column, DatasetVersion, Format, Mode, Schema
from everloop.data.sources import Source, load
from everloop.data.versioning import Proposal, State, change, proposal
from everloop.errors import Conflict, Invalid
from everloop.ledger import Node
from everloop.workspace import Workspace


def ingest(
    ws: Workspace,
    dataset: str,
    source: str | Path | pa.Table,
    *,
    mode: Mode = "merge",
    format: Format | None = None,  # noqa: A002  (the word that users of pandas and pyarrow know)
    made_from: Sequence[Node] = (),
) -> DatasetVersion:
    """Make the next version of a dataset from a file, a folder or a table.

    A row whose key is known and whose content differs replaces the earlier one and keeps its row id; a row with a
    new key gets the next row id, in the order of the file; a key that was removed earlier gets its old row id
    back. A file that changes nothing makes no version: the newest is returned. Columns that the file lacks keep
    their values in rows that are there and are missing in new ones; key, time, inputs and columns that may not be
    missing must be in every file. Columns that the dataset has not seen are added.

    Times without a zone are UTC. NaN is stored as missing.

    Parameters
    ----------
    source
        CSV, JSONL or Parquet by the file's ending, or by `format`; a folder of such files of one format, or of images.
    mode
        `merge` leaves rows alone whose key is not in the file; `replace` removes them; `append` allows only keys
        that are not there yet. A dataset without a key takes `append`, and `replace`, which gives all rows new
        row ids.
    made_from
        What else the rows were made from, such as a run: it stands in the lineage and in the version's operation.

    Raises
    ------
    Invalid
        The file is broken or empty, a column is missing or of the wrong type, a key is missing or there twice, a
        rule of the schema is broken. Nothing is kept then.
    NotFound
        No such dataset or file.
    Conflict
        `append` met a key that is there, or other writers were first too often.
    StorageFailed
        The disk or the database refused.

    Writes the parts as blobs, then `dataset_version` (and `dataset` where the schema grows) with lineage, audit
    entry and event in one transaction: a process that dies before leaves blobs that nothing names.
    """
    found = dataset_named(ws, dataset)
    if mode == "merge" and found.key is None:
        raise Invalid(
            f"dataset {dataset!r} has no key, and merging finds known rows by their key. "
            "Use mode 'append' or 'replace', or define a dataset with a key."
        )
    path = Path(source) if isinstance(source, str) else source
    rows = load(path, key=found.key, file_format=format)
    return change(ws, dataset, lambda state: _propose(ws, state, rows, mode, made_from))


def typed(source: Source) -> tuple[pa.Table, Schema]:
    """The rows of a source in the types that a first ingest would give them, and those types; keeps nothing.

    Raises Invalid when the type of a column cannot be told.
    """
    schema = grown_schema(Schema((), None), source)
    return _typed(source, schema), schema


def load_typed(path: Path, *, file_format: Format | None = None) -> tuple[pa.Table, Source]:
    """As `load` and then `typed`, for rows without a key: the typed rows, and the source without any.

    What was read is let go column by column, and what has its type already stays as it is: rows are not in memory twice.
    """
    source = load(path, key=None, file_format=file_format)
    schema = grown_schema(Schema((), None), source)
    columns = dict(zip(source.rows.column_names, source.rows.columns, strict=True))
    source = dataclasses.replace(source, rows=source.rows.schema.empty_table())
    return pa.table({one.name: _in_chunks(columns.pop(one.name), one) for one in schema.columns}), source


def _in_chunks(column: AnyColumn, to: Column) -> AnyColumn:
    try:
        found = [converted(one_array(column.slice(0, 0)), to)]
        found += [converted(one_array(pa.chunked_array([one])), to) for one in column.chunks]
    except Invalid:  # which counts rows from the beginning of what it is given
        found = [converted(one_array(column), to)]
    return pa.chunked_array(found)


def _propose(
    ws: Workspace, state: State, source: Source, mode: Mode, made_from: Sequence[Node]
) -> Proposal | None:
    schema = grown_schema(state.dataset.schema, source)
    rows = _typed(source, schema)
    check_rules(rows, schema)
    keys = _keys(rows, schema)
    index = load_index(ws, state.manifest, schema)
    matches = match(index, keys, incoming=rows.num_rows)
    if mode == "append" and (matches.positions >= 0).any():
        raise _known_keys(state, matches)
    rows = _completed(ws, state, schema, rows, matches)
    digests = row_digests(rows, schema)
    decision = decide(index, matches, digests, mode=mode, next_row_id=state.manifest.next_row_id)
    written = _rows_at(rows, decision.written)
    _check_unique_columns(ws, state, schema, written, index=index, decision=decision)
    return proposal(
        ws,
        state,
        schema,
        written,
        index=index,
        decision=decision,
        digests=digests[decision.written],
        operation={
            "kind": "ingest",
            "mode": mode,
            "format": source.format,
            "file": source.file,
            **({"made_from": [list(node) for node in made_from]} if made_from else {}),
        },
        sources=(*((Node("file", source.file["digest"]),) if source.file else ()), *made_from),
    )


def _typed(source: Source, schema: Schema) -> pa.Table:
    """The columns of the schema that the source has, in their types."""
    return pa.table(
        {
            column.name: converted(one_array(source.rows[column.name]), column)
            for column in schema.columns
            if column.name in source.rows.column_names
        }
    )


def _keys(rows: pa.Table, schema: Schema) -> AnyArray | None:
    column = schema.get(schema.key) if schema.key is not None else None
    if column is None:
        return None
    keys = one_array(rows[column.name])
    refuse(column, "the key identifies a row, so no value is there twice", repeated(keys))
    return keys


def _completed(ws: Workspace, state: State, schema: Schema, rows: pa.Table, matches: Matches) -> pa.Table:
    """The rows with all columns of the schema: what the source does not say stays as it is, or is missing."""
    absent = [name for name in schema.names if name not in rows.column_names]
    if absent:
        there = np.flatnonzero(matches.positions >= 0)
        there = there[np.argsort(matches.positions[there])]  # parts are read in order, each once
        old = read_at(ws, state.manifest.parts, schema, absent, matches.positions[there])
        place = np.full(rows.num_rows, -1, np.int64)
        place[there] = np.arange(len(there))
        old = old.take(pa.array(place, pa.int64(), mask=place < 0))
        for name in absent:
            rows = rows.append_column(name, old[name])
    return rows.select(list(schema.names))


def _rows_at(rows: pa.Table, positions: Positions) -> pa.Table:
    """The rows at these positions; without a copy, an eighth of a first ingest, when that is all of them in order."""
    is_all = np.array_equal(positions, np.arange(rows.num_rows))
    return rows if is_all else rows.take(positions)


def _check_unique_columns(
    ws: Workspace, state: State, schema: Schema, written: pa.Table, *, index: Index, decision: Decision
) -> None:
    """No unique column may have the same value twice among the rows that stay and those that are written."""
    stays = index.is_alive.copy()
    stays[decision.deleted] = False
    for column in schema.columns:
        if not column.unique or column.name == schema.key or written.num_rows == 0:
            continue
        kept = read_at(ws, state.manifest.parts, schema, [column.name], np.flatnonzero(stays))
        again = repeated(one_array(pa.concat_tables([kept, written.select([column.name])])[column.name]))
        positions = again[again >= kept.num_rows] - kept.num_rows
        refuse(column, "values are unique over all rows of a version", np.sort(decision.written[positions]))


def _known_keys(state: State, matches: Matches) -> Conflict:
    known = np.flatnonzero(matches.positions >= 0)
    ref = state.version.ref if state.version else state.dataset.name
    return Conflict(
        f"{len(known)} keys are in {ref} already (the first in row {known[0] + 1}); mode 'append' takes new rows only. "
        "Use mode 'merge' to replace the rows that are there."
    )
