"""Numbers that the world says of predictions, such as what a customer spent: no truth, no label, never an estimate of accuracy."""

from __future__ import annotations

import math
from datetime import datetime

import pyarrow as pa

from everloop import labels
from everloop.errors import Conflict, Invalid
from everloop.feedback import store
from everloop.feedback.predictions import by_id, by_key
from everloop.feedback.records import ReportedValue
from everloop.ids import new_id
from everloop.storage import Tx
from everloop.workspace import Workspace

_MOST_LETTERS = 60


def report_value(
    ws: Workspace,
    *,
    endpoint: str,
    name: str,
    value: float,
    prediction_id: str | None = None,
    key: str | None = None,
    at: datetime | None = None,
) -> ReportedValue:
    """Keep a number about a prediction, or about the newest one of a key; the same one of the same moment is kept once.

    Writes `reported_value` in one transaction. KPIs read what was reported in the view `reported`.

    Parameters
    ----------
    at
        When it happened, now when left out; give it where a report may be sent twice.

    Raises
    ------
    NotFound
        There is no such prediction.
    Invalid
        Not exactly one of prediction_id and key is given, the value is not finite, the name is no name, or `at` is in the
        future or before the prediction was made.
    Conflict
        Another value of this name was reported for that prediction and moment.
    """
    if not 0 < len(name) <= _MOST_LETTERS or not math.isfinite(value):
        raise Invalid(
            f"{name[:_MOST_LETTERS]!r} is {value}; a reported value has a name of 1 to {_MOST_LETTERS} characters and is a finite "
            "number. Report one such as revenue 12.5."
        )
    said_at = labels.said_at(ws, at)
    if prediction_id is not None and key is None:
        prediction = by_id(ws, endpoint, prediction_id)
    elif key is not None and prediction_id is None:
        prediction = by_key(ws, endpoint, key, at=said_at)
    else:
        raise Invalid("a reported value is about one prediction. Give its prediction_id, or its key.")
    if said_at < prediction.at:
        raise Invalid(
            f"{prediction.id} was made at {prediction.at.isoformat()}, after the value of {said_at.isoformat()}. Check the time."
        )
    new = ReportedValue(
        id=new_id("val"),
        endpoint=endpoint,
        prediction_id=prediction.id,
        key=prediction.key,
        name=name,
        value=float(value),
        at=said_at,
        recorded_at=ws.now(),
        predicted_at=prediction.at,
    )
    return ws.write(lambda tx: _keep(tx, new))


def reported_values(ws: Workspace, endpoint: str, *, start: datetime, end: datetime) -> pa.Table:
    """What was reported about predictions made in [start, end), in the order in which it became known.

    Columns: `prediction_id`, `key`, `name`, `value` float64, `at`, `recorded_at` and `predicted_at` (timestamps in UTC).
    """
    with ws.read() as connection:
        found = store.read_values(connection, endpoint, start=start, end=end)
    moment = pa.timestamp("us", tz="UTC")
    columns: dict[str, pa.DataType] = {
        "prediction_id": pa.string(),
        "key": pa.string(),
        "name": pa.string(),
        "value": pa.float64(),
        "at": moment,
        "recorded_at": moment,
        "predicted_at": moment,
    }
    return pa.table(
        {name: pa.array([getattr(one, name) for one in found], kind) for name, kind in columns.items()}
    )


def _keep(tx: Tx, new: ReportedValue) -> ReportedValue:
    tx.lock(f"feedback:{new.endpoint}")
    earlier = store.value_at(tx.connection, new.prediction_id, name=new.name, at=new.at)
    if earlier is None:
        store.insert_value(tx, new)
        return new
    if earlier.value != new.value:
        raise Conflict(
            f"{new.name} of {new.prediction_id} at {new.at.isoformat()} was reported as {earlier.value:g}, now as {new.value:g}; "
            "what was reported stays. Report the difference at its own time."
        )
    return earlier
