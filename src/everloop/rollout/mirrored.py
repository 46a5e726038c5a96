"""The pairs of answers that a mirrored version left in the prediction log beside those that people got."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop import serving
from everloop.rollout.endpoints import endpoint, folder
from everloop.rollout.evidence import is_slow
from everloop.rollout.judge import CanaryHealth
from everloop.rollout.paired import Pairs
from everloop.rollout.records import Rollout
from everloop.workspace import Workspace

_COLUMNS = [
    "id", "epoch", "release", "status", "error", "latency_us", "key",
    "shadow_of", "request", "output", "output_number",
]  # fmt: skip
_SAME = 1e-9  # numbers that differ relatively by less are the same answer


def pairs_of(ws: Workspace, rollout: Rollout) -> tuple[list[Pairs], CanaryHealth]:
    """What both versions answered to the mirrored requests of the running stage, by metric, and what the fuse looks at.

    Copies that found no room in the queue are left out: they say that the machine was busy. Where keys stick, each
    counts once, at its first pair.
    """
    shadow, live = _rows(ws, rollout)
    sticky = endpoint(ws, rollout.endpoint).stickiness == "key"
    ids = live["id"].to_pylist()
    requests, keys = live["request"].to_pylist(), live["key"].to_pylist()
    unit = np.asarray(
        [
            f"key {key}" if sticky and key is not None else request or one
            for one, request, key in zip(ids, requests, keys, strict=True)
        ],
        dtype=str,
    )
    failed = _failed(shadow), _failed(live)
    both = ~failed[0] & ~failed[1]
    slow = [_slow(table, rollout) for table in (shadow, live)]
    differs = _differs(shadow, live)
    pairs = [
        Pairs("errors", *_by_unit(unit, *failed, sticky=sticky)),
        Pairs("slow", *_by_unit(unit[both], slow[0][both], slow[1][both], sticky=sticky)),
        Pairs("differs", *_by_unit(unit[both], differs[both], np.zeros(both.sum()), sticky=sticky)),
    ]
    return pairs, _health(pairs[0])


def _rows(ws: Workspace, rollout: Rollout) -> tuple[pa.Table, pa.Table]:
    """The copies, and the answers to the same requests that people got, row by row in the order of arrival."""
    table = serving.log.read(
        folder(ws), endpoint=rollout.endpoint, start=rollout.started_at, columns=_COLUMNS
    )
    table = table.sort_by("id")
    status = np.asarray(table["status"], dtype=object)
    release = np.asarray(table["release"], dtype=object)
    asked = (np.asarray(table["epoch"], dtype=np.int64) >= rollout.epochs[-1]) & (status != "refused")
    copied_from = table["shadow_of"].to_pylist()
    errors = table["error"].to_pylist()
    ids = table["id"].to_pylist()
    answered = {ids[row]: int(row) for row in np.flatnonzero(asked & (release == rollout.from_release))}
    copies = [
        (int(row), answered[copied_from[row]])
        for row in np.flatnonzero(asked & (release == rollout.release))
        if copied_from[row] in answered and not str(errors[row]).startswith("overloaded")
    ]
    in_order = sorted(copies, key=lambda pair: pair[1])
    return table.take([row for row, _ in in_order]), table.take([row for _, row in in_order])


def _failed(table: pa.Table) -> NDArray[np.bool_]:
    return np.asarray(np.asarray(table["status"], dtype=object) == "failed", dtype=np.bool_)


def _slow(table: pa.Table, rollout: Rollout) -> NDArray[np.bool_]:
    latency_ms = np.asarray(table["latency_us"], dtype=np.float64) / 1_000
    return is_slow(latency_ms, above_ms=rollout.slow_above_ms or np.inf)


def _differs(shadow: pa.Table, live: pa.Table) -> NDArray[np.bool_]:
    classes = [_texts(table) for table in (shadow, live)]
    numbers = [
        np.asarray([one or 0.0 for one in table["output_number"].to_pylist()], dtype=np.float64)
        for table in (shadow, live)
    ]
    is_far = np.abs(numbers[0] - numbers[1]) > _SAME * np.maximum(1.0, np.abs(numbers[1]))
    return np.asarray((classes[0] != classes[1]) | is_far, dtype=np.bool_)


def _texts(table: pa.Table) -> NDArray[Any]:
    return np.asarray([one or "" for one in table["output"].to_pylist()], dtype=str)


def _by_unit(
    unit: NDArray[Any], shadow: NDArray[Any], live: NDArray[Any], *, sticky: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One pair for each request: the share of its rows; or for each key, its first."""
    _, first, of = np.unique(unit, return_index=True, return_inverse=True)
    order = np.argsort(first)
    if sticky:
        rows = first[order]
        return shadow[rows].astype(np.float64), live[rows].astype(np.float64)
    size = np.bincount(of, minlength=len(first))
    shares = [np.bincount(of, weights=one, minlength=len(first)) / size for one in (shadow, live)]
    return shares[0][order], shares[1][order]


def _health(errors: Pairs) -> CanaryHealth:
    good = np.flatnonzero(errors.shadow == 0)
    since = int(good[-1]) + 1 if good.size else 0
    return CanaryHealth(
        failures_in_a_row=len(errors.shadow) - since,
        control_successes_meanwhile=int((errors.live[since:] == 0).sum()),
    )
