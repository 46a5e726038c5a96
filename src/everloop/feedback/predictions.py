"""Finding the prediction that somebody talks about, in the serving log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from everloop import predictions
from everloop.clock import from_micros
from everloop.errors import Invalid, NotFound
from everloop.feedback.records import Prediction
from everloop.workspace import Workspace

LOOK_BACK = timedelta(days=90)  # how far before a report its prediction is looked for by key
_COLUMNS = (
    "id", "endpoint", "variant", "release", "model", "version", "key", "at", "output", "output_number",
    "status", "replay", "shadow_of", "probability",
)  # fmt: skip
_MICROSECOND = timedelta(microseconds=1)


def by_id(ws: Workspace, endpoint: str, prediction_id: str) -> Prediction:
    """The answered live prediction with this id.

    Raises
    ------
    NotFound
        The log does not have it.
    Invalid
        It is another endpoint's, a replay, a shadow's, or was never answered: none of these takes feedback.
    """
    record = predictions.find(_folder(ws), prediction_id)
    if record is None:
        raise NotFound(
            f"the prediction log has no {prediction_id}. Take the id from the answer's field prediction_id, or name "
            "the key and time instead."
        )
    if record.endpoint != endpoint:
        raise Invalid(
            f"{prediction_id} was answered by endpoint {record.endpoint!r}, not {endpoint!r}. Name that one."
        )
    if record.output is None or record.status != "ok":
        raise Invalid(
            f"{prediction_id} was {record.status}: there is no answer to judge. Label the row instead."
        )
    if record.replay or record.shadow_of is not None:
        kind = "a replay" if record.replay else f"a shadow of {record.shadow_of}"
        raise Invalid(
            f"{prediction_id} is {kind} and is kept out of feedback. Name the prediction of live traffic."
        )
    return Prediction(
        record.id,
        record.endpoint,
        record.variant,
        record.release,
        record.model,
        record.version,
        record.key,
        from_micros(record.at),
        record.output,
        record.probability,
    )


def by_key(ws: Workspace, endpoint: str, key: str, *, at: datetime) -> Prediction:
    """The newest answered live prediction for a key that is not later than `at`. Raises NotFound."""
    (found,) = by_keys(ws, endpoint, [(key, at)])
    if found is None:
        raise NotFound(
            f"endpoint {endpoint!r} answered nothing for the key {key!r} in the {LOOK_BACK.days} days up to "
            f"{at.isoformat()}. Check key and time, or name the prediction's id."
        )
    return found


def by_keys(ws: Workspace, endpoint: str, asked: Sequence[tuple[str, datetime]]) -> list[Prediction | None]:
    """As `by_key` for many keys and times in one pass over the log; None where there is none."""
    if not asked:
        return []
    times = [at for _, at in asked]
    keys = {key for key, _ in asked}
    per_key: dict[str, list[Prediction]] = defaultdict(list)
    start, end = min(times) - LOOK_BACK, max(times) + _MICROSECOND
    for table in live_tables(ws, endpoint, start=start, end=end, keys=keys):
        for one in predictions_in(table):
            per_key[str(one.key)].append(one)
    for found in per_key.values():
        found.sort(key=lambda one: (one.at, one.id), reverse=True)
    return [next((one for one in per_key[key] if at - LOOK_BACK <= one.at <= at), None) for key, at in asked]


def by_ids(ws: Workspace, endpoint: str, prediction_ids: Sequence[str]) -> list[Prediction | None]:
    """The answered live predictions with these ids in one pass over the log; None where there is none."""
    wanted = pc.field("id").isin(pa.array(sorted(set(prediction_ids)), pa.string()))
    tables = live_tables(ws, endpoint, start=None, end=None)
    found = {one.id: one for table in tables for one in predictions_in(table.filter(wanted))}
    return [found.get(one) for one in prediction_ids]


def live_tables(
    ws: Workspace,
    endpoint: str,
    *,
    start: datetime | None,
    end: datetime | None,
    keys: Collection[str] | None = None,
) -> Iterator[pa.Table]:
    """Answered predictions of live traffic made in [start, end): no replays, no shadows, no failures.

    A few thousand at a time, in the columns of the log that `predictions_in` needs.
    """
    is_live = (pc.field("status") == "ok") & ~pc.field("replay") & pc.field("shadow_of").is_null()
    for batch in predictions.batches(
        _folder(ws), endpoint=endpoint, start=start, end=end, keys=keys, columns=_COLUMNS
    ):
        yield pa.Table.from_batches([batch]).filter(is_live)


def predictions_in(table: pa.Table) -> Iterator[Prediction]:
    return map(_prediction, table.to_pylist())


def _prediction(row: dict[str, Any]) -> Prediction:
    return Prediction(
        row["id"],
        row["endpoint"],
        row["variant"],
        row["release"],
        row["model"],
        row["version"],
        row["key"],
        row["at"],
        row["output_number"] if row["output"] is None else row["output"],
        row["probability"],
    )


def _folder(ws: Workspace) -> Path:
    return ws.home / "serving"
