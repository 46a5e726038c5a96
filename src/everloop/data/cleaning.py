"""Cleans a dataset by recorded operations: a new version, and a report of what each operation did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from everloop.data import operations as ops
from everloop.data.constraints import check_rules
from everloop.data.definitions import version as version_named
from everloop.data.identity import row_digests
from everloop.data.indexing import Index, load_index
from everloop.data.layout import Positions, read_at
from everloop.data.merging import Decision
from everloop.data.operations import Operation
from everloop.data.reading import all_rows
from everloop.data.records import ROW_ID, CleaningReport, CleaningStep, DatasetVersion, Schema
from everloop.data.versioning import Proposal, State, change, proposal
from everloop.errors import Invalid
from everloop.workspace import Workspace

_NAMED_ROWS = 100


@dataclass(frozen=True)
class _Cleaned:
    """The columns that were looked at, after all operations, and what each one did."""

    rows: pa.Table
    changed_ids: Positions
    dropped_ids: Positions
    steps: tuple[CleaningStep, ...]


def clean(ws: Workspace, dataset: str, operations: Sequence[Operation]) -> CleaningReport:
    """Apply operations, one after the other, to the newest version of a dataset.

    The same operations on the same version give the same digest, and applied to their own result they change
    nothing and make no version. They are recorded in the version, so that they can be applied again to what is
    ingested later: `clean(ws, name, recorded_operations(version))`.

    Raises
    ------
    Invalid
        There is no operation, a column is not there or is not text, or a cleaned row breaks a rule of the schema.
    NotFound
        There is no such dataset, or it has no version.
    Conflict
        Other writers were first too often.

    Writes as `ingest` does: blobs first, then the version with lineage, audit entry and event in one transaction.
    """
    found = version_named(ws, dataset)
    if not operations:
        raise Invalid("no cleaning operation was given; name at least one, such as Trim(('title',)).")
    for operation in operations:
        ops.check_operation(operation, found.schema)
    steps: tuple[CleaningStep, ...] = ()

    def propose(state: State) -> Proposal | None:
        nonlocal steps  # of the attempt that was committed
        cleaned = _apply(ws, state, operations)
        steps = cleaned.steps
        return _propose(ws, state, cleaned)

    made = change(ws, found.dataset, propose)
    return CleaningReport(made, steps)


def recorded_operations(version: DatasetVersion) -> tuple[Operation, ...]:
    """The operations that made a version by cleaning; none for one that was made otherwise."""
    steps = version.operation["steps"] if version.operation["kind"] == "clean" else []
    return tuple(ops.from_json(step["operation"]) for step in steps)


def _apply(ws: Workspace, state: State, operations: Sequence[Operation]) -> _Cleaned:
    schema = state.dataset.schema
    looked_at = dict.fromkeys(name for operation in operations for name in ops.columns_of(operation))
    rows = all_rows(ws, state.manifest, schema, list(looked_at))
    steps, changed, dropped = [], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for operation in operations:
        ids = np.asarray(rows[ROW_ID])
        outcome = ops.applied(operation, rows)
        rows = outcome.rows
        changed.append(ids[outcome.changed])
        dropped.append(ids[outcome.dropped])
        steps.append(_step(operation, changed[-1], dropped[-1]))
    dropped_ids = np.concatenate(dropped)
    # A row may be changed by one operation and dropped by a later one: then it is only dropped.
    changed_ids = np.setdiff1d(np.concatenate(changed), dropped_ids)
    return _Cleaned(rows, changed_ids, np.sort(dropped_ids), tuple(steps))


def _step(operation: Operation, changed: Positions, dropped: Positions) -> CleaningStep:
    touched = np.sort(np.concatenate([changed, dropped]))[:_NAMED_ROWS]
    return CleaningStep(ops.as_json(operation), len(changed), len(dropped), tuple(touched.tolist()))


def _propose(ws: Workspace, state: State, cleaned: _Cleaned) -> Proposal | None:
    schema = state.dataset.schema
    index = load_index(ws, state.manifest, schema)
    rows = _whole_rows(ws, state, schema, index, cleaned)
    check_rules(rows, schema, row_ids=cleaned.changed_ids)
    touched = np.union1d(cleaned.changed_ids, cleaned.dropped_ids)
    decision = Decision(
        written=np.arange(len(cleaned.changed_ids)),
        row_ids=cleaned.changed_ids,
        deleted=np.sort(_positions(index, touched)),
        next_row_id=state.manifest.next_row_id,
        added=0,
        changed=len(cleaned.changed_ids),
        removed=len(cleaned.dropped_ids),
    )
    return proposal(
        ws,
        state,
        schema,
        rows,
        index=index,
        decision=decision,
        digests=row_digests(rows, schema),
        operation={"kind": "clean", "steps": [_step_json(step) for step in cleaned.steps]},
    )


def _whole_rows(ws: Workspace, state: State, schema: Schema, index: Index, cleaned: _Cleaned) -> pa.Table:
    """The changed rows with all their columns, in order of row id."""
    positions = _positions(index, cleaned.changed_ids)
    in_place = np.argsort(positions)
    rows = read_at(ws, state.manifest.parts, schema, list(schema.names), positions[in_place])
    rows = rows.take(np.argsort(in_place))
    mine = np.searchsorted(np.asarray(cleaned.rows[ROW_ID]), cleaned.changed_ids)
    for name in cleaned.rows.column_names[1:]:
        rows = rows.set_column(schema.names.index(name), name, cleaned.rows[name].take(mine))
    return rows


def _positions(index: Index, row_ids: Positions) -> Positions:
    """Where the rows that are alive stand in the index."""
    alive = np.flatnonzero(index.is_alive)
    order = alive[np.argsort(index.row_ids[alive])]
    return order[np.searchsorted(index.row_ids[order], row_ids)]


def _step_json(step: CleaningStep) -> dict[str, Any]:
    return {
        "operation": step.operation,
        "changed": step.changed,
        "dropped": step.dropped,
        "row_ids": list(step.row_ids),
    }
