"""Importing labels that exist already, from a file or table: all of them or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa

from everloop.errors import Invalid, NotFound
from everloop.events import emit
from everloop.labels import store
from everloop.labels.define import schema
from everloop.labels.files import Claims, read_claims
from everloop.labels.record import append, prepare
from everloop.labels.records import ImportReport, LabelEvent, LabelSchema, NewLabel, Value
from everloop.labels.resolve import Statement
from everloop.labels.taxonomy import refuse_unknown
from everloop.ledger import Node, audit
from everloop.storage import Tx
from everloop.workspace import Workspace

_SHOWN = 5


def import_labels(
    ws: Workspace,
    name: str,
    source: Path | pa.Table,
    *,
    key: str,
    value: str,
    annotator: str | None = None,
    annotator_column: str | None = None,
    at: str | None = None,
    unknown_rows: Literal["refuse", "skip"] = "refuse",
) -> ImportReport:
    """Record the labels of a file (CSV, JSONL, Parquet) or table; what is known already is not recorded again.

    A label is known when its annotator said the same about the row at the same time; without times, when it is the
    annotator's last word on the row. Writes `label_event`, an audit entry and an event in one transaction.

    Parameters
    ----------
    key, value
        The columns with the dataset's key and with the label.
    annotator, annotator_column
        Who gave the labels: one name, or the column that names them.
    at
        The column that says when each was given; times without a zone are UTC. None: now.
    unknown_rows
        What to do with keys that the newest dataset version does not have.

    Raises
    ------
    Invalid
        No row, a missing column, an empty value, an unknown label (the message names near ones), one annotator
        saying two things about a row at one time, a time in the future. Nothing was recorded.
    NotFound
        There is no such label set, or a row is unknown and `unknown_rows` is `refuse`. Nothing was recorded.
    """
    if (annotator is None) == (annotator_column is None):
        raise Invalid("an import says who gave the labels: either annotator or annotator_column, not both.")
    current = schema(ws, name)
    claims = read_claims(source, key=key, value=value, by=annotator, by_column=annotator_column, at=at)
    refuse_unknown(current, claims.values, origin=claims.origin)
    labels = _distinct(claims)
    prepared = prepare(ws, name, labels)
    unknown = tuple(str(one.key) for one in prepared.unknown)
    if unknown and unknown_rows == "refuse":
        raise NotFound(
            f"{claims.origin} labels {len(unknown)} rows that {current.dataset!r} does not have: "
            f"{', '.join(unknown[:_SHOWN])}. Ingest them first, or skip them with unknown_rows='skip'. "
            "Nothing was recorded."
        )
    is_timed = at is not None
    return ws.write(lambda tx: _keep(ws, tx, current, claims, prepared.found, unknown, is_timed))


def _keep(
    ws: Workspace,
    tx: Tx,
    current: LabelSchema,
    claims: Claims,
    events: Sequence[LabelEvent],
    unknown: tuple[str, ...],
    is_timed: bool,
) -> ImportReport:
    tx.lock(f"labels:{current.name}")
    known = _Known(store.statements_of_rows(tx.connection, current.name, [one.row_id for one in events]))
    new = [one for one in events if not known.has(one, is_timed)]
    append(ws, tx, new)
    report = ImportReport(
        schema=current.ref,
        file=claims.file,
        imported=len(new),
        repeated=len(claims.keys) - len(unknown) - len(new),
        unknown_rows=unknown,
        per_class=dict(Counter(str(one.value) for one in new)) if current.kind == "class" else {},
    )
    if new:
        node = Node("label_schema", current.ref)
        told = f"{len(new)} labels for {current.ref} imported from {claims.origin}"
        audit(ws, tx, "labels.import", node, labels=len(new), file=claims.file)
        emit(ws, tx, "labels.imported", node, message=told)
    return report


class _Known:
    """What annotators have said about some rows."""

    def __init__(self, statements: Sequence[Statement]) -> None:
        ordered = sorted(statements, key=lambda one: (one.at, one.recorded_at, one.id))
        self._said = {(one.row_id, one.annotator, one.at, one.value) for one in ordered}
        self._last = {(one.row_id, one.annotator): one.value for one in ordered}

    def has(self, one: LabelEvent, is_timed: bool) -> bool:
        if is_timed:
            return (one.row_id, one.annotator, one.at, one.value) in self._said
        return self._last.get((one.row_id, one.annotator)) == one.value


def _distinct(claims: Claims) -> list[NewLabel]:
    """The claims without repetitions. Raises Invalid when one person says two things of a row at one time."""
    said: dict[tuple[str, str, datetime | None], Value] = {}
    torn = []
    for key, value, by, at in zip(claims.keys, claims.values, claims.by, claims.at, strict=True):
        if said.setdefault((key, by, at), value) != value:
            torn.append(key)
    if torn:
        raise Invalid(
            f"{claims.origin} says different things about {len(torn)} rows in one breath (same annotator, same "
            f"time): {', '.join(torn[:_SHOWN])}. Keep one label a row, or give a column with times. "
            "Nothing was recorded."
        )
    return [
        NewLabel(key, value, by, source="import", at=at, file=claims.file)
        for (key, by, at), value in said.items()
    ]
