"""What the endpoint of a model was asked lately, as the check `traffic_drift` compares it with the training rows."""

from __future__ import annotations

import functools
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from everloop import predictions, rollout, serving
from everloop.checks import Traffic
from everloop.workspace import Workspace

WINDOW = timedelta(days=7)  # a week holds each day and hour alike
MOST_REQUESTS = 20_000
_KEPT = ["id", "inputs", "shadow_of", "probability"]
_COLUMNS = [*_KEPT, "release", "status", "replay"]
_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
}


def asked_lately(ws: Workspace, model: str, *, most: int = MOST_REQUESTS) -> Traffic | None:
    """The inputs of the requests of the last week that the model's endpoint answered; None when nothing is live.

    Replayed traffic, shadows, refused and failed requests are left out, and those to releases whose inputs were of other
    types. Of more than `most` so many are taken, evenly spread. Times and photos are not read, nor inputs whose values
    the log does not keep.
    """
    endpoint = next((one for one in rollout.endpoints(ws) if one.model == model and one.variants), None)
    if endpoint is None:
        return None

    @functools.cache
    def types_of(release: str) -> dict[str, pa.DataType]:
        fields = serving.read_manifest(ws.home / "serving", release).signature.inputs
        return {one.name: _TYPES[one.type] for one in fields if one.type in _TYPES}

    end = ws.now()
    start = end - WINDOW
    types = types_of(endpoint.variants[0].release)
    taken = pa.schema([predictions.SCHEMA.field(name) for name in _KEPT]).empty_table()
    every = 1  # of how many requests one is kept: memory does not grow with the traffic
    for batch in predictions.batches(
        ws.home / "serving", endpoint=endpoint.name, start=start, end=end, columns=_COLUMNS
    ):
        alike = [one for one in batch["release"].unique().to_pylist() if types_of(one) == types]
        is_own = pc.and_(pc.invert(batch["replay"]), batch["shadow_of"].is_null())
        is_read = pc.and_(
            pc.equal(batch["status"], pa.scalar("ok")),
            pc.is_in(batch["release"], pa.array(alike, pa.string())),
        )
        read = pa.table(batch.select(_KEPT)).filter(pc.and_(is_own, is_read))
        taken = pa.concat_tables([taken, read.take(pa.array(range(0, read.num_rows, every), pa.int64()))])
        if taken.num_rows > 2 * most:
            taken = taken.take(pa.array(range(0, taken.num_rows, 2), pa.int64()))
            every *= 2
    taken, _ = predictions.evenly(taken)
    if taken.num_rows > most:
        step = taken.num_rows / most
        taken = taken.take(pa.array([int(place * step) for place in range(most)]))
    found = taken["inputs"]
    return Traffic(endpoint.name, start, end, predictions.unpack(found, predictions.readable(found, types)))
