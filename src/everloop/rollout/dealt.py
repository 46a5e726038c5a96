"""Which logged predictions chance dealt: only these tell versions apart."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop import predictions, serving
from everloop.rollout import store
from everloop.rollout.endpoints import REST, folder
from everloop.rollout.records import LiveSegment
from everloop.workspace import Workspace


def was_dealt(table: pa.Table) -> NDArray[np.bool_]:
    """Not those that a rule or the request itself sent to their version, nor trials: by `assigned`, `key` and `replay`."""
    reasons = table["assigned"].to_pylist()
    placed = np.asarray([serving.is_placed(one or "") for one in reasons], dtype=np.bool_)
    return ~placed & ~is_trial(table)


def is_trial(table: pa.Table) -> NDArray[np.bool_]:
    """Which rows of the log somebody sent by hand to try the endpoint: they are no sample of what is asked.

    Examples
    --------
    >>> is_trial(pa.table({"key": ["try:ann", "try:ann", None], "replay": [True, False, True]})).tolist()
    [True, False, False]
    """
    is_trial = np.array(table["replay"], dtype=np.bool_)
    replayed = np.flatnonzero(is_trial)
    is_trial[replayed] = [
        str(key).startswith(serving.TRIED) for key in table["key"].take(replayed).to_pylist()
    ]
    return is_trial


def has_timed_out(table: pa.Table) -> NDArray[np.bool_]:
    """Which rows of the log failed since the time for an answer was over."""
    return np.asarray(
        [str(one).startswith("deadline_exceeded") for one in table["error"].to_pylist()], dtype=bool
    )


def segment_of(ws: Workspace, endpoint_name: str) -> LiveSegment | None:
    """The segment that the rollout under way on an endpoint is limited to; None when there is none."""
    with ws.read() as connection:
        open_ones = store.newest_rollouts(
            connection, endpoint=endpoint_name, states=("running", "paused"), limit=1
        )
    for rollout in open_ones:
        when = rollout.canary.segment
        if when is not None and rollout.weight > 0 and rollout.from_version is not None:
            return LiveSegment(when, _share(ws, endpoint_name, rollout.started_at), rollout.from_version)
    return None


def _share(ws: Workspace, endpoint_name: str, since: datetime) -> float | None:
    columns = ["variant", "assigned", "shadow_of", "key", "replay"]
    table = predictions.read(folder(ws), endpoint=endpoint_name, start=since, columns=columns)
    asked = table.filter(pa.array(was_dealt(table) & np.asarray(table["shadow_of"].is_null())))
    if not asked.num_rows:
        return None
    return 1.0 - asked["variant"].to_pylist().count(REST) / asked.num_rows
