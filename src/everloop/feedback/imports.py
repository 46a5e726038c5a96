"""Corrections from a file: all of them or none."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pyarrow as pa

from everloop import labels
from everloop.errors import Invalid, NotFound
from everloop.events import emit
from everloop.feedback.correct import keep, planned
from everloop.feedback.predictions import by_ids, by_keys
from everloop.feedback.records import Correction, ImportReport, Prediction
from everloop.feedback.truth import Dictionary
from everloop.labels import Claims
from everloop.ledger import Node, audit
from everloop.storage import Tx
from everloop.workspace import Workspace

_SHOWN = 5


def import_corrections(
    ws: Workspace,
    source: Path | pa.Table,
    *,
    endpoint: str,
    key: str | None = None,
    prediction_id: str | None = None,
    value: str = "value",
    reporter: str | None = None,
    reporter_column: str | None = None,
    at: str | None = None,
    unknown: Literal["refuse", "skip"] = "refuse",
) -> ImportReport:
    """Record the corrections of a file (CSV, JSONL, Parquet) or table, as `correct` does one by one.

    What is known already is not recorded again. Writes what `correct` writes in one transaction, then an audit entry
    and an event.

    Parameters
    ----------
    key, prediction_id
        The column that names the prediction: by key and time, or by id; one of them.
    value, at
        The columns with what is right and when it was said (without a zone: UTC; None: now).
    reporter, reporter_column
        Who says so: one name, or the column that names them.
    unknown
        What to do with rows whose prediction is not in the log.

    Raises
    ------
    Invalid
        No row, a missing column, an empty value, an unknown label (the message names near ones), a time in the
        future or before the prediction was made. Nothing was recorded.
    NotFound
        No prediction is found for a row and `unknown` is `refuse`. Nothing was recorded.
    """
    if (key is None) == (prediction_id is None) or (reporter is None) == (reporter_column is None):
        raise Invalid(
            "an import of corrections names one column for the prediction (key or prediction_id) and says who "
            "reports (reporter or reporter_column). Give one of each."
        )
    column = str(key or prediction_id)
    claims = labels.read_claims(
        source, key=column, value=value, by=reporter, by_column=reporter_column, at=at
    )
    found = _predictions(ws, endpoint, claims, is_by_key=key is not None)
    lost = tuple(name for name, one in zip(claims.keys, found, strict=True) if one is None)
    if lost and unknown == "refuse":
        raise NotFound(
            f"{claims.origin} corrects {len(lost)} predictions that endpoint {endpoint!r} did not answer by then: "
            f"{', '.join(lost[:_SHOWN])}. Check keys and times, or leave them out with --skip-unknown (unknown='skip'). "
            "Nothing was recorded."
        )
    kept = keep(ws, endpoint, _planned(ws, claims, found))
    report = ImportReport(
        endpoint=endpoint,
        file=claims.file,
        recorded=sum(is_new for _, is_new in kept),
        repeated=sum(not is_new for _, is_new in kept),
        contradicting=sum(is_new and one.contradicts for one, is_new in kept),
        unknown=lost,
    )
    if report.recorded:
        ws.write(lambda tx: _tell(ws, tx, report, claims.origin))
    return report


def _predictions(ws: Workspace, endpoint: str, claims: Claims, *, is_by_key: bool) -> list[Prediction | None]:
    if not is_by_key:
        return by_ids(ws, endpoint, claims.keys)
    asked = [(key, labels.said_at(ws, at)) for key, at in zip(claims.keys, claims.at, strict=True)]
    return by_keys(ws, endpoint, asked)


def _planned(ws: Workspace, claims: Claims, found: list[Prediction | None]) -> list[Correction]:
    words = Dictionary(ws)
    said = [
        (prediction, value, by, labels.said_at(ws, at))
        for prediction, value, by, at in zip(found, claims.values, claims.by, claims.at, strict=True)
        if prediction is not None
    ]
    for release in {prediction.release for prediction, *_ in said}:
        if (schema := words.words(release).today) is not None:
            values = [value for prediction, value, *_ in said if prediction.release == release]
            labels.refuse_unknown(schema, values, origin=claims.origin)
    return [
        planned(ws, words, prediction, value=value, reporter=by, at=at) for prediction, value, by, at in said
    ]


def _tell(ws: Workspace, tx: Tx, report: ImportReport, origin: str) -> None:
    node = Node("endpoint", report.endpoint)
    audit(ws, tx, "feedback.import", node, corrections=report.recorded, file=report.file)
    told = (
        f"{report.recorded} corrections for {report.endpoint} imported from {origin}, "
        f"{report.contradicting} contradict the answer"
    )
    emit(ws, tx, "feedback.imported", node, message=told)
