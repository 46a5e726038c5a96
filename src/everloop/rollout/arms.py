"""What the arms of a split did so far, with bounds that hold whenever one looks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import exp, log
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop import feedback, serving
from everloop.rollout.bounded import MeanBounds, mean_bounds
from everloop.rollout.dealt import was_dealt
from everloop.rollout.endpoints import endpoint, folder
from everloop.rollout.eprocess import MAX_LOG_E, shares_log_e
from everloop.rollout.evidence import is_slow, of_units, units_of
from everloop.rollout.kpis import values_of
from everloop.rollout.means import Badness, bounds_of
from everloop.rollout.records import ArmKpi, TrafficSplit
from everloop.rollout.requests import is_old, wrong_by
from everloop.rollout.truths import truths_of
from everloop.workspace import Workspace

_COLUMNS = [
    "id",
    "at",
    "epoch",
    "release",
    "status",
    "latency_us",
    "key",
    "shadow_of",
    "request",
    "replay",
    "assigned",
    "probability",
]
_MOST_REPORTS = 1_000_000
_OFF = 1_000.0  # the e-value at which a split is not what was asked for

Says = Literal["better", "worse", "not told apart", "control"]


@dataclass(frozen=True)
class ArmMeasure:
    """A share of what an arm did, or a KPI in its own unit, and the difference to the control's, with the bounds of both."""

    measure: str
    bounds: MeanBounds
    difference: tuple[float, float] | None
    says: Says
    is_share: bool = True


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
    """The arms of a split, the control first; `is_off` says that the traffic was not split as asked.

    `problems` say why a KPI has no values.
    """

    split: TrafficSplit
    unit: Literal["key", "request"]
    arms: tuple[ArmResult, ...]
    ratio_e_value: float
    is_off: bool
    problems: tuple[str, ...] = ()


def split_results(ws: Workspace, split: TrafficSplit, *, confidence: float = 0.95) -> SplitResults:
    """Compare the arms of a split, by keys where they stick: each counts by its first request.

    For each measure the bounds of all arms hold together, at every look, with this confidence. `errors`, `slow` and
    `contradicted` are shares of the keys or requests; `correct` is one of all answers, estimated from the audit sample, where
    each stands for as many as its own chance of being looked at says. The endpoint's KPIs of arms follow.
    """
    problems: list[str] = []
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
        & was_dealt(table)
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
    totals = [len(one) for one in found["errors"]]
    log_e = shares_log_e(totals, [one.weight / 100 for one in split.arms])
    doubt = (1.0 - confidence) / len(split.arms)
    bounds = {
        name: [mean_bounds(one, confidence=1.0 - doubt) for one in of_arms] for name, of_arms in found.items()
    }
    weights = 1.0 / np.asarray([one or 1.0 for one in rows["probability"].to_pylist()], dtype=np.float64)
    end = split.ended_at or ws.now() + timedelta(seconds=1)
    truths = truths_of(ws, split.endpoint, start=split.started_at, end=end)
    known = [truths.get(one) for one in ids]
    chances = np.asarray([1.0 if one is None else one.weight for one in known])
    units_of_arms = _Units(units, arm, len(split.arms), sticky, 1.0 - doubt)
    bounds["correct"] = units_of_arms.bounds(1.0 - wrong_by(known, "wrong"), weights * chances)
    kpis = endpoint(ws, split.endpoint).canary.kpis
    for kpi in kpis:
        told = values_of(
            ws,
            kpi,
            split.endpoint,
            start=split.started_at,
            end=split.ended_at,
            ids=set(ids),
            sticky=sticky,
        )
        shares = (told.of(ids, rows["key"].to_pylist()) - kpi.low) / (kpi.high - kpi.low)
        bounds[kpi.name] = [_in_unit(one, kpi) for one in units_of_arms.bounds(shares, weights)]
        if told.problem is not None:
            problems.append(told.problem)
    good = {"correct", *(one.name for one in kpis if one.better == "higher")}
    own = {one.name for one in kpis}
    arms = tuple(
        ArmResult(
            one.name,
            one.version,
            one.weight,
            totals[number],
            tuple(
                _measure(name, of_arms, number, is_good=name in good, is_share=name not in own)
                for name, of_arms in bounds.items()
            ),
        )
        for number, one in enumerate(split.arms)
    )
    return SplitResults(
        split, split.stickiness, arms, exp(min(log_e, MAX_LOG_E)), log_e >= log(_OFF), tuple(problems)
    )


@dataclass(frozen=True)
class _Units:
    """What chance dealt, and to which arm; how sure the bounds are to be."""

    of: NDArray[np.str_]
    arm: NDArray[np.int64]
    n_arms: int
    sticky: bool
    confidence: float

    def bounds(self, shares: NDArray[np.float64], weights: NDArray[np.float64]) -> list[MeanBounds]:
        """The bounds of each arm's mean, of the rows whose share is known, each with its weight."""
        rows_of = [np.flatnonzero(~np.isnan(shares) & (self.arm == number)) for number in range(self.n_arms)]
        return [
            bounds_of(
                Badness(
                    *(of_units(self.of[rows], one[rows], sticky=self.sticky) for one in (shares, weights))
                ),
                confidence=self.confidence,
            )
            for rows in rows_of
        ]


def _in_unit(bounds: MeanBounds, kpi: ArmKpi) -> MeanBounds:
    span = kpi.high - kpi.low
    mean = None if bounds.mean is None else kpi.low + span * bounds.mean
    return MeanBounds(bounds.n, mean, kpi.low + span * bounds.lower, kpi.low + span * bounds.upper)


def _measure(
    name: str, of_arms: list[MeanBounds], number: int, *, is_good: bool, is_share: bool
) -> ArmMeasure:
    own, control = of_arms[number], of_arms[0]
    if number == 0:
        return ArmMeasure(name, own, None, "control", is_share)
    difference = (own.lower - control.upper, own.upper - control.lower)
    is_more, is_less = difference[0] > 0, difference[1] < 0
    if not (is_more or is_less):
        return ArmMeasure(name, own, difference, "not told apart", is_share)
    return ArmMeasure(name, own, difference, "better" if is_more == is_good else "worse", is_share)


def _contradicted(
    ws: Workspace, split: TrafficSplit, rows: Any
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which answers were contradicted, and about which it would be known by now."""
    reports = feedback.corrections(ws, split.endpoint, start=split.started_at, limit=_MOST_REPORTS)
    wrong = {report.prediction_id for report in reports if report.contradicts}
    at = np.asarray(rows["at"].cast(pa.timestamp("us")))
    known = is_old(ws, split.endpoint, split.started_at, at) & ~np.asarray(rows["replay"], dtype=bool)
    return np.asarray([one in wrong for one in rows["id"].to_pylist()], dtype=np.bool_), known
