"""What the arms of a split did so far, with bounds that hold whenever one looks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from math import exp, log
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop import feedback, serving
from everloop.rollout.bounded import MeanBounds, mean_bounds
from everloop.rollout.endpoints import folder
from everloop.rollout.eprocess import MAX_LOG_E, shares_log_e
from everloop.rollout.evidence import is_slow, of_units, units_of
from everloop.rollout.records import TrafficSplit
from everloop.rollout.requests import is_old, is_trial
from everloop.workspace import Workspace

_COLUMNS = ["id", "at", "epoch", "release", "status", "latency_us", "key", "shadow_of", "request", "replay"]
_MOST_REPORTS = 1_000_000
_OFF = 1_000.0  # the e-value at which a split is not what was asked for
_GOOD = ("correct",)  # measures of which more is better

Says = Literal["better", "worse", "not told apart", "control"]


@dataclass(frozen=True)
class ArmMeasure:
    """A share of what an arm did, and the difference to the control's, with the bounds of both."""

    measure: str
    bounds: MeanBounds
    difference: tuple[float, float] | None
    says: Says


@dataclass(frozen=True)
class ArmResult:
    """One arm: how many keys or requests it got, and where it stands in each measure."""

    name: str
    version: str
    weight: float
    n: int
    measures: tuple[ArmMeasure, ...]


@dataclass(frozen=True)
class SplitResults:
    """The arms of a split, the control first; `is_off` says that the traffic was not split as asked."""

    split: TrafficSplit
    unit: Literal["key", "request"]
    arms: tuple[ArmResult, ...]
    ratio_e_value: float
    is_off: bool


def split_results(ws: Workspace, split: TrafficSplit, *, confidence: float = 0.95) -> SplitResults:
    """Compare the arms of a split, by keys where they stick: each counts by its first request.

    For each measure the bounds of all arms hold together, at every look, with this confidence. `errors`, `slow` and
    `contradicted` are shares of the keys or requests, `correct` one of the outcomes of the audit sample.
    """
    table = serving.log.read(
        folder(ws), endpoint=split.endpoint, start=split.started_at, end=split.ended_at, columns=_COLUMNS
    ).sort_by("id")
    arm_of = {arm.release: number for number, arm in enumerate(split.arms)}
    status = np.asarray(table["status"], dtype=object)
    arm = np.asarray([arm_of.get(str(one), -1) for one in table["release"].to_pylist()], dtype=np.int64)
    counted = (
        (np.asarray(table["epoch"], dtype=np.int64) >= split.epoch)
        & (arm >= 0)
        & np.asarray(table["shadow_of"].is_null())
        & (status != "refused")
        & ~is_trial(table)
    )
    rows, arm, failed = table.filter(pa.array(counted)), arm[counted], status[counted] == "failed"
    sticky = split.stickiness == "key"
    ids = [str(one) for one in rows["id"].to_pylist()]
    units = units_of(ids, rows["request"].to_pylist(), rows["key"].to_pylist(), sticky=sticky)
    values: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {
        "errors": (failed, np.ones_like(failed))
    }
    if split.slow_above_ms is not None:
        latency_ms = np.asarray(rows["latency_us"], dtype=np.float64) / 1_000
        values["slow"] = (is_slow(latency_ms, above_ms=split.slow_above_ms), ~failed)
    values["contradicted"] = _contradicted(ws, split, rows)
    found = {
        name: [
            of_units(units[rows_], bad[rows_], sticky=sticky)
            for rows_ in (known & (arm == number) for number in range(len(split.arms)))
        ]
        for name, (bad, known) in values.items()
    }
    found["correct"] = _correct(ws, split, arm_of)
    totals = [len(one) for one in found["errors"]]
    log_e = shares_log_e(totals, [one.weight / 100 for one in split.arms])
    doubt = (1.0 - confidence) / len(split.arms)
    bounds = {
        name: [mean_bounds(one, confidence=1.0 - doubt) for one in of_arms] for name, of_arms in found.items()
    }
    arms = tuple(
        ArmResult(
            one.name,
            one.version,
            one.weight,
            totals[number],
            tuple(_measure(name, of_arms, number) for name, of_arms in bounds.items()),
        )
        for number, one in enumerate(split.arms)
    )
    return SplitResults(split, split.stickiness, arms, exp(min(log_e, MAX_LOG_E)), log_e >= log(_OFF))


def _measure(name: str, of_arms: list[MeanBounds], number: int) -> ArmMeasure:
    own, control = of_arms[number], of_arms[0]
    if number == 0:
        return ArmMeasure(name, own, None, "control")
    difference = (own.lower - control.upper, own.upper - control.lower)
    is_more, is_less = difference[0] > 0, difference[1] < 0
    if not (is_more or is_less):
        return ArmMeasure(name, own, difference, "not told apart")
    return ArmMeasure(name, own, difference, "better" if is_more == (name in _GOOD) else "worse")


def _contradicted(
    ws: Workspace, split: TrafficSplit, rows: Any
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which answers were contradicted, and about which it would be known by now."""
    reports = feedback.corrections(ws, split.endpoint, start=split.started_at, limit=_MOST_REPORTS)
    wrong = {report.prediction_id for report in reports if report.contradicts}
    at = np.asarray(rows["at"].cast(pa.timestamp("us")))
    known = is_old(ws, split.endpoint, split.started_at, at) & ~np.asarray(rows["replay"], dtype=bool)
    return np.asarray([one in wrong for one in rows["id"].to_pylist()], dtype=np.bool_), known


def _correct(ws: Workspace, split: TrafficSplit, arm_of: dict[str, int]) -> list[NDArray[np.float64]]:
    """Whether the audited answers of each arm were right: of the one sample, by source and chance, that most are of."""
    end = split.ended_at or ws.now() + timedelta(seconds=1)
    table = feedback.outcomes(ws, split.endpoint, start=split.started_at, end=end)
    designs = Counter((one["source"], one["inclusion_probability"]) for one in table.to_pylist()).most_common(
        1
    )
    first: dict[str, tuple[int, bool]] = {}
    for one in table.to_pylist():
        if one["release"] in arm_of and (one["source"], one["inclusion_probability"]) == designs[0][0]:
            unit = (
                one["key"] if split.stickiness == "key" and one["key"] is not None else one["prediction_id"]
            )
            first.setdefault(unit, (arm_of[one["release"]], one["is_correct"]))
    return [
        np.asarray([right for arm, right in first.values() if arm == number], dtype=np.float64)
        for number in range(len(arm_of))
    ]
