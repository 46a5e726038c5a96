"""Declaring watches, and reading what they found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from everloop.errors import NotFound
from everloop.monitoring import store
from everloop.monitoring.records import (
    AccuracyWatch,
    DriftWatch,
    Finding,
    FindingKind,
    KpiWatch,
    LatencyWatch,
    Measure,
    Watch,
    from_value,
    name_of,
    to_value,
)
from everloop.storage import Tx
from everloop.workspace import Workspace


def drift(
    *,
    window_h: float = 168.0,
    every_h: float = 24.0,
    least_rows: int = 200,
    effect_at_least: float = DriftWatch.effect_at_least,
) -> DriftWatch:
    """Watch inputs and predicted classes for drift from what the live version was trained on.

    Parameters
    ----------
    effect_at_least
        The share of rows (0 to 1) that must have changed before a significant change is called drift.
    """
    return DriftWatch(window_h, every_h, least_rows, effect_at_least)


def accuracy(
    *, audit: float = 0.02, at_least: float | None = None, window_h: float = 168.0, every_h: float = 24.0
) -> AccuracyWatch:
    """Watch accuracy, estimated from a random share of the predictions that people look at."""
    return AccuracyWatch(audit, at_least, window_h, every_h)


def latency(
    *, p99_ms: float, errors_at_most: float = 0.05, window_h: float = 24.0, every_h: float = 1.0
) -> LatencyWatch:
    """Watch how long answers take and how many fail."""
    return LatencyWatch(p99_ms, errors_at_most, window_h, every_h)


def kpi(
    sql: str,
    *,
    name: str,
    at_most: float | None = None,
    at_least: float | None = None,
    window_h: float = 168.0,
    every_h: float = 24.0,
) -> KpiWatch:
    """Watch a number of your own: SQL text over the views predictions, corrections and outcomes of a window."""
    return KpiWatch(name, sql, at_most, at_least, window_h, every_h)


def set_watches(ws: Workspace, tx: Tx, endpoint: str, watches: Sequence[Watch]) -> None:
    """What is watched on an endpoint from now on."""
    for watch in watches:
        store.upsert_watch(tx, endpoint, name_of(watch), to_value(watch), looked_at=ws.now())
    store.keep_watches(tx, endpoint, [name_of(watch) for watch in watches])


def watches(ws: Workspace, endpoint: str) -> list[Watch]:
    with ws.read() as connection:
        return [from_value(row.watch) for row in store.all_watches(connection, endpoint)]


def findings(
    ws: Workspace,
    endpoint: str | None = None,
    *,
    kinds: Sequence[FindingKind] = (),
    since: datetime | None = None,
    limit: int = 100,
) -> list[Finding]:
    """What was found, newest first; `since` is domain time, exclusive."""
    with ws.read() as connection:
        return store.newest_findings(connection, endpoint=endpoint, kinds=kinds, since=since, limit=limit)


def finding(ws: Workspace, finding_id: str) -> Finding:
    """One finding. Raises NotFound."""
    with ws.read() as connection:
        found = store.finding_by_id(connection, finding_id)
    if found is None:
        raise NotFound(f"there is no finding {finding_id}. 'everloop monitors findings' shows the newest.")
    return found


def measures(
    ws: Workspace,
    endpoint: str,
    *,
    names: Sequence[str] = (),
    start: datetime | None = None,
    limit: int = 2_000,
) -> list[Measure]:
    """What was measured, oldest first."""
    with ws.read() as connection:
        return store.measures_between(connection, endpoint, names=names, start=start, limit=limit)
