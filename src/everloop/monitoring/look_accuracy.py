"""Accuracy of a window, estimated from the random audit sample that people looked at."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from everloop import feedback
from everloop.errors import Conflict
from everloop.monitoring.estimates import Estimate, estimate_accuracy
from everloop.monitoring.records import AccuracyWatch, Measure
from everloop.monitoring.seen import Seen, Window, in_percent
from everloop.workspace import Workspace

_LATE = timedelta(days=14)  # how long after a window its reviews still come in and are counted


def look_at_accuracy(ws: Workspace, watch: AccuracyWatch, window: Window) -> Seen:
    """Draw the window's audit sample, and estimate accuracy of this and of the windows just before it.

    Truth comes late, so each look measures again what ended within the last two weeks.
    """
    every = timedelta(hours=watch.every_h)
    _draw(ws, watch, window)
    measures = _measures(ws, window)
    span = window.end - window.start
    for back in range(1, int(_LATE / every) + 1):
        end = window.end - back * every
        measures += _measures(ws, replace(window, start=end - span, end=end))
    whole = next((one for one in measures if not one.variant and one.end == window.end), None)
    if watch.at_least is None or whole is None or whole.high is None or whole.high >= watch.at_least:
        return Seen(tuple(measures))
    told = f"Accuracy fell below {in_percent(watch.at_least)}: {accuracy_in_words(ws, window)}"
    versions = tuple(version for version, _, _ in window.by_version())
    found = window.finding(
        "accuracy", told, detail={"about": "accuracy", "high": whole.high}, versions=versions
    )
    return Seen(tuple(measures), (found,))


def accuracy_in_words(ws: Workspace, window: Window) -> str:
    """What is known of a window's accuracy, as a sentence."""
    found = estimate(feedback.outcomes(ws, window.endpoint, start=window.start, end=window.end))
    if found.value is None or found.low is None or found.high is None:
        return "Accuracy is not known yet: no audited prediction of this window."
    return (
        f"Accuracy {in_percent(found.value)} ({in_percent(found.low)} to {in_percent(found.high)}, "
        f"{found.n} audited predictions)."
    )


def estimate(outcomes: pa.Table) -> Estimate:
    """Accuracy from outcomes, each weighed by its inclusion probability."""
    return estimate_accuracy(
        np.asarray(outcomes["is_correct"], dtype=bool),
        probability=np.asarray(outcomes["inclusion_probability"], dtype=np.float64),
    )


def _draw(ws: Workspace, watch: AccuracyWatch, window: Window) -> None:
    drawn = feedback.audits(ws, window.endpoint, limit=1)
    start = max([window.start, *(one.end_at for one in drawn)])
    if start >= window.end:
        return
    try:
        feedback.sample_for_audit(ws, window.endpoint, probability=watch.audit, start=start, end=window.end)
    except Conflict:
        return  # another process draws the same window just now


def _measures(ws: Workspace, window: Window) -> list[Measure]:
    outcomes = feedback.outcomes(ws, window.endpoint, start=window.start, end=window.end)
    groups = [("", outcomes)]
    for release in outcomes["release"].unique().to_pylist():
        rows = outcomes.filter(pc.equal(outcomes["release"], pa.scalar(str(release))))
        groups.append((f"{rows['model'][0]}@{rows['version'][0]}", rows))
    return [
        window.measure("accuracy", found.value, n=found.n, version=version, low=found.low, high=found.high)
        for version, rows in groups
        if rows.num_rows
        for found in [estimate(rows)]
    ]
