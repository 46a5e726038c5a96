"""Outcomes: the truth about predictions, collected whatever the model answered."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from everloop import labels
from everloop.errors import Invalid
from everloop.feedback import store
from everloop.feedback.predictions import by_id
from everloop.feedback.records import Outcome, Prediction, fields_of
from everloop.feedback.truth import Dictionary, Words
from everloop.ids import new_id
from everloop.labels import Value
from everloop.storage import Tx
from everloop.workspace import Workspace


def record_outcome(
    ws: Workspace,
    *,
    endpoint: str,
    prediction_id: str,
    value: Value,
    source: str,
    inclusion_probability: float = 1.0,
    at: datetime | None = None,
) -> Outcome:
    """Keep the truth about a prediction, as a later fact told it; the same truth from the same source is kept once.

    Writes `outcome` in one transaction. It is not a label: record one if it is to train.

    Parameters
    ----------
    inclusion_probability
        The chance that the truth of this prediction would be looked for, above 0 and at most 1; 1 where every
        prediction's truth arrives. It must not depend on what anybody thought of the answer. Where the log is sampled it is
        kept multiplied by the chance that the prediction had to be in it.

    Raises
    ------
    NotFound
        There is no such prediction.
    Invalid
        The prediction takes no feedback (a replay, a shadow, no answer), the value is no label, the probability is
        out of range, or `at` is in the future or before the prediction was made.
    """
    if not 0 < inclusion_probability <= 1:
        raise Invalid(f"the inclusion probability is {inclusion_probability}; it is above 0 and at most 1.")
    if not source or len(source) > 60:
        raise Invalid(f"an outcome names its source in 1 to 60 characters, not {source[:60]!r}.")
    prediction = by_id(ws, endpoint, prediction_id)
    said_at = labels.said_at(ws, at)
    if said_at < prediction.at:
        raise Invalid(
            f"{prediction_id} was made at {prediction.at.isoformat()}, after its outcome of {said_at.isoformat()}. "
            "Check the time."
        )
    new = outcome_of(
        Dictionary(ws).words(prediction.release),
        prediction,
        value=value,
        source=source,
        inclusion_probability=inclusion_probability * prediction.logged,
        at=said_at,
        recorded_at=ws.now(),
    )
    return ws.write(lambda tx: _keep(tx, new))


def outcomes(
    ws: Workspace, endpoint: str, *, start: datetime, end: datetime, source: str | None = None
) -> pa.Table:
    """The newest outcome, by source, of each prediction made in [start, end), in the order of the predictions.

    Columns: `prediction_id`, `variant`, `release`, `model`, `version` int64, `key`, `predicted_at`, `at` and
    `recorded_at` (timestamps in UTC), `answer` and `value` (string or float64), `is_correct` bool, `source`,
    `inclusion_probability` float64. An estimate weighs each by the inverse of its inclusion probability and stays
    within one source.
    """
    newest: dict[tuple[str, str], Outcome] = {}
    with ws.read() as connection:
        for one in store.read_outcomes(connection, endpoint, start=start, end=end, source=source):
            known = newest.get((one.prediction_id, one.source))
            if known is None or (known.at, known.id) < (one.at, one.id):
                newest[one.prediction_id, one.source] = one
    return _table(list(newest.values()))


def outcome_of(
    words: Words,
    prediction: Prediction,
    *,
    value: object,
    source: str,
    inclusion_probability: float,
    at: datetime,
    recorded_at: datetime,
) -> Outcome:
    """The outcome that would be kept; nothing is written. Raises Invalid for a value that cannot be the truth."""
    checked = words.checked(prediction, value)
    return Outcome(
        id=new_id("out"),
        **fields_of(prediction),
        value=checked,
        source=source,
        inclusion_probability=inclusion_probability,
        at=at,
        recorded_at=recorded_at,
        is_correct=not words.differ(prediction.answer, checked),
    )


def _keep(tx: Tx, new: Outcome) -> Outcome:
    tx.lock(f"feedback:{new.endpoint}")
    earlier = store.newest_outcome(tx.connection, new.prediction_id, source=new.source)
    if earlier is not None and earlier.value == new.value:
        return earlier
    store.insert_outcomes(tx, [new])
    return new


def _table(found: list[Outcome]) -> pa.Table:
    is_number = bool(found) and all(isinstance(one.value, float) for one in found)
    truth = pa.float64() if is_number else pa.string()
    moment = pa.timestamp("us", tz="UTC")
    columns: dict[str, pa.DataType] = {
        "prediction_id": pa.string(),
        "variant": pa.string(),
        "release": pa.string(),
        "model": pa.string(),
        "version": pa.int64(),
        "key": pa.string(),
        "predicted_at": moment,
        "at": moment,
        "recorded_at": moment,
        "answer": truth,
        "value": truth,
        "is_correct": pa.bool_(),
        "source": pa.string(),
        "inclusion_probability": pa.float64(),
    }
    return pa.table(
        {name: pa.array([getattr(one, name) for one in found], kind) for name, kind in columns.items()}
    )
