"""What the arms of a split did so far, with bounds that hold whenever one looks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import exp, log
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop import feedback, predictions
from everloop.rollout.bounded import MeanBounds, mean_bounds
from everloop.rollout.dealt import was_dealt
from everloop.rollout.endpoints import endpoint, folder
from everloop.rollout.eprocess import MAX_LOG_E, shares_log_e
from everloop.rollout.evidence import is_slow, of_units, units_of
from everloop.rollout.kpis import values_of
from everloop.rollout.means import Badness, bounds_of
from everloop.rollout.plans import ArmKpi
from everloop.rollout.records import TrafficSplit
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
    rows = _rows(ws, split, confidence)
    counted = _counted(ws, split, rows)
    totals = [len(one) for one in counted["errors"]]
    log_e = shares_log_e(totals, [one.weight / 100 for one in split.arms])
    bounds = {
        name: [mean_bounds(one, confidence=rows.confidence) for one in of_arms]
        for name, of_arms in counted.items()
    }
    bounds["correct"] = _correct(ws, split, rows)
    kpis = {one.name: one for one in endpoint(ws, split.endpoint).canary.kpis}
    told = {name: _of_kpi(ws, split, rows, one) for name, one in kpis.items()}
    bounds |= {name: found for name, (found, _) in told.items()}
    arms = tuple(
        ArmResult(
            one.name,
            one.version,
            one.weight,
            totals[number],
            tuple(_measure(name, of_arms, number, kpis.get(name)) for name, of_arms in bounds.items()),
        )
        for number, one in enumerate(split.arms)
    )
    return SplitResults(
        split,
        split.stickiness,
        arms,
        exp(min(log_e, MAX_LOG_E)),
        log_e >= log(_OFF),
        tuple(problem for _, problem in told.values() if problem is not None),
    )


@dataclass(frozen=True)
class _Rows:
    """What chance dealt to the arms, row by row, and how sure the bounds of one arm are to be."""

    table: pa.Table
    ids: list[str]
    arm: NDArray[np.int64]
    unit: NDArray[np.str_]
    n_arms: int
    sticky: bool
    confidence: float

    @property
    def weights(self) -> NDArray[np.float64]:
        """The inverse of the chance with which each was logged."""
        logged = [one or 1.0 for one in self.table["probability"].to_pylist()]
        return 1.0 / np.asarray(logged, dtype=np.float64)

    def of_arms(self, values: NDArray[Any], known: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
        """The values of each arm's units, of the rows about which they are known."""
        chosen = (np.flatnonzero(known & (self.arm == number)) for number in range(self.n_arms))
        return [of_units(self.unit[rows], values[rows], sticky=self.sticky) for rows in chosen]

    def bounds(self, shares: NDArray[np.float64], weights: NDArray[np.float64]) -> list[MeanBounds]:
        """The bounds of each arm's mean, of the rows whose share is known, each with its weight."""
        known = ~np.isnan(shares)
        both = zip(self.of_arms(shares, known), self.of_arms(weights, known), strict=True)
        return [bounds_of(Badness(*one), confidence=self.confidence) for one in both]


def _rows(ws: Workspace, split: TrafficSplit, confidence: float) -> _Rows:
    table = predictions.read(
        folder(ws), endpoint=split.endpoint, start=split.started_at, end=split.ended_at, columns=_COLUMNS
    ).sort_by("id")
    arm_of = {arm.release: number for number, arm in enumerate(split.arms)}
    arm = np.asarray([arm_of.get(str(one), -1) for one in table["release"].to_pylist()], dtype=np.int64)
    counted = (
        (np.asarray(table["epoch"], dtype=np.int64) >= split.epoch)
        & (arm >= 0)
        & np.asarray(table["shadow_of"].is_null())
        & (np.asarray(table["status"], dtype=object) != "refused")
        & was_dealt(table)
    )
    table = table.filter(pa.array(counted))
    sticky = split.stickiness == "key"
    ids = [str(one) for one in table["id"].to_pylist()]
    unit = units_of(ids, table["request"].to_pylist(), table["key"].to_pylist(), sticky=sticky)
    n_arms = len(split.arms)
    return _Rows(table, ids, arm[counted], unit, n_arms, sticky, 1.0 - (1.0 - confidence) / n_arms)


def _counted(ws: Workspace, split: TrafficSplit, rows: _Rows) -> dict[str, list[NDArray[np.float64]]]:
    """By measure, what is a yes or no of every request, for the units of each arm."""
    failed = np.asarray(np.asarray(rows.table["status"], dtype=object) == "failed", dtype=np.bool_)
    found = {"errors": rows.of_arms(failed, np.ones_like(failed))}
    if split.slow_above_ms is not None:
        latency_ms = np.asarray(rows.table["latency_us"], dtype=np.float64) / 1_000
        found["slow"] = rows.of_arms(is_slow(latency_ms, above_ms=split.slow_above_ms), ~failed)
    found["contradicted"] = rows.of_arms(*_contradicted(ws, split, rows.table))
    return found


def _correct(ws: Workspace, split: TrafficSplit, rows: _Rows) -> list[MeanBounds]:
    """How many of each arm's answers were right, by the audit sample."""
    end = split.ended_at or ws.now() + timedelta(seconds=1)
    truths = truths_of(ws, split.endpoint, start=split.started_at, end=end)
    known = [truths.get(one) for one in rows.ids]
    chances = np.asarray([1.0 if one is None else one.weight for one in known])
    return rows.bounds(1.0 - wrong_by(known, "wrong"), chances)


def _of_kpi(
    ws: Workspace, split: TrafficSplit, rows: _Rows, kpi: ArmKpi
) -> tuple[list[MeanBounds], str | None]:
    """A KPI's bounds in its own unit, arm by arm, and why there are no values."""
    told = values_of(
        ws,
        kpi,
        split.endpoint,
        start=split.started_at,
        end=split.ended_at,
        ids=set(rows.ids),
        sticky=rows.sticky,
    )
    shares = (told.of(rows.ids, rows.table["key"].to_pylist()) - kpi.low) / (kpi.high - kpi.low)
    return [_in_unit(one, kpi) for one in rows.bounds(shares, rows.weights)], told.problem


def _in_unit(bounds: MeanBounds, kpi: ArmKpi) -> MeanBounds:
    span = kpi.high - kpi.low
    mean = None if bounds.mean is None else kpi.low + span * bounds.mean
    return MeanBounds(bounds.n, mean, kpi.low + span * bounds.lower, kpi.low + span * bounds.upper)


def _measure(name: str, of_arms: list[MeanBounds], number: int, kpi: ArmKpi | None) -> ArmMeasure:
    own, control = of_arms[number], of_arms[0]
    if number == 0:
        return ArmMeasure(name, own, None, "control", kpi is None)
    difference = (own.lower - control.upper, own.upper - control.lower)
    is_more, is_less = difference[0] > 0, difference[1] < 0
    if not (is_more or is_less):
        return ArmMeasure(name, own, difference, "not told apart", kpi is None)
    is_good = name == "correct" if kpi is None else kpi.better == "higher"
    return ArmMeasure(name, own, difference, "better" if is_more == is_good else "worse", kpi is None)


def _contradicted(
    ws: Workspace, split: TrafficSplit, rows: Any
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which answers were contradicted, and about which it would be known by now."""
    reports = feedback.corrections(ws, split.endpoint, start=split.started_at, limit=_MOST_REPORTS)
    wrong = {report.prediction_id for report in reports if report.contradicts}
    at = np.asarray(rows["at"].cast(pa.timestamp("us")))
    known = is_old(ws, split.endpoint, split.started_at, at) & ~np.asarray(rows["replay"], dtype=bool)
    return np.asarray([one in wrong for one in rows["id"].to_pylist()], dtype=np.bool_), known
