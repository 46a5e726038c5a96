"""What the judge counts: the requests of a rollout as they stand in the prediction log, and what was said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop import feedback, predictions
from everloop.rollout import store
from everloop.rollout.dealt import has_timed_out, was_dealt
from everloop.rollout.endpoints import REST, endpoint, folder
from everloop.rollout.evidence import (
    MetricEvidence,
    Split,
    count_keys,
    count_requests,
    first_of_each_request,
    is_slow,
    of_units,
    units_of,
)
from everloop.rollout.judge import CanaryHealth, recent_failures
from everloop.rollout.kpis import values_of
from everloop.rollout.means import ODDS_OF_A_CLASS, ODDS_OF_KPIS, ODDS_OF_TRUTHS, Arms, Badness, MeanEvidence
from everloop.rollout.plans import is_truth
from everloop.rollout.records import Rollout, TrafficSplit
from everloop.rollout.truths import Truth, is_about, known_by, truths_of
from everloop.workspace import Workspace

MOST_REPORTS = 1_000_000  # of one rollout
_KNOWN_REPORTS = 1_000  # the newest before a rollout, from which it is learned how late reports come
_LATELY = timedelta(hours=1)
_TO_SWITCH = timedelta(minutes=1)  # so long a serving process may go on with the split before
_COLUMNS = [
    "id",
    "epoch",
    "release",
    "status",
    "error",
    "at",
    "latency_us",
    "key",
    "replay",
    "shadow_of",
    "request",
    "variant",
    "assigned",
    "probability",
]


@dataclass(frozen=True)
class _Requests:
    """What the judge counts, in the order of arrival: requests, or single rows where keys are counted instead."""

    in_canary: NDArray[np.bool_]
    stretch: NDArray[np.int64]
    failed: NDArray[np.bool_]
    timed_out: NDArray[np.bool_]  # failed, for there was no answer in time
    checked: NDArray[np.bool_]  # the model was asked
    refused: NDArray[np.bool_]  # by the version's signature
    latency_ms: NDArray[np.float64]
    contradicted: NDArray[np.bool_]
    is_replay: NDArray[np.bool_]
    at: NDArray[np.datetime64]
    keys: NDArray[np.object_]
    ids: list[str]
    request: list[str | None]
    probability: NDArray[np.float64]


def evidence_of(ws: Workspace, rollout: Rollout) -> tuple[list[MetricEvidence], CanaryHealth]:
    """What was counted while both versions answered, by metric, and what the fuse looks at.

    Of a rollout that is done these are the same requests as before, with what has been said of them since; the fuse looks
    at what the new version alone has answered lately.
    """
    sticky = endpoint(ws, rollout.endpoint).stickiness == "key"
    rows = _rows(ws, rollout)
    together = _together(rows)
    requests = rows if sticky else together
    splits = _splits(rollout)

    units = units_of(requests.ids, requests.request, requests.keys.tolist(), sticky=sticky)

    def count(metric: str, bad: NDArray[np.bool_], counted: NDArray[np.bool_]) -> MetricEvidence:
        arms, stretch = requests.in_canary[counted], requests.stretch[counted]
        stretches = (
            count_keys(
                units[counted],
                bad[counted],
                in_canary=arms,
                stretch=stretch,
                splits=splits,
            )
            if sticky
            else count_requests(bad[counted], arms, stretch=stretch, splits=splits)
        )
        known_bad, known_total = rollout.before.get(metric, (0, 0))
        return MetricEvidence(metric, stretches, before_bad=known_bad, before_total=known_total)

    checked = requests.checked
    bad_by_metric = {
        "errors": (requests.failed, checked),
        "timeouts": (requests.timed_out, checked),
        "refused": (requests.refused, np.ones(len(checked), dtype=bool)),
        "slow": (
            is_slow(requests.latency_ms, above_ms=rollout.slow_above_ms or np.inf),
            checked & ~requests.failed,
        ),
        # nobody corrects a replayed request, and nobody has yet corrected a young one: neither says anything
        "contradicted": (
            requests.contradicted,
            checked & ~requests.is_replay & is_old(ws, rollout.endpoint, rollout.started_at, requests.at),
        ),
    }
    found = [
        count(metric, *bad_by_metric[metric])
        for metric in rollout.canary.excess_at_most
        if not is_truth(metric)
    ]
    if rollout.state == "done" and not _is_held_back_now(ws, rollout):
        return found, _alone(ws, rollout)
    return found, recent_failures(together.failed[~together.refused], together.in_canary[~together.refused])


def means_of(ws: Workspace, rollout: Rollout) -> list[MeanEvidence]:
    """What both versions' numbers were that no request tells by itself: the audit sample's truths, and the user's KPIs."""
    asked = [rule.metric for rule in rollout.canary.rules.metrics if rule.is_mean]
    if not asked:
        return []
    sticky = endpoint(ws, rollout.endpoint).stickiness == "key"
    rows = _rows(ws, rollout)
    end = _over(ws, rollout)[0]
    truths = truths_of(
        ws, rollout.endpoint, start=rollout.started_at, end=end or ws.now() + timedelta(seconds=1)
    )
    known = [truths.get(one) for one in rows.ids]
    weights = np.asarray([1.0 if one is None else one.weight for one in known])
    shares = [split.canary_share for split in _splits(rollout)]
    units = _Units(rows, units_of(rows.ids, rows.request, list(rows.keys), sticky=sticky), sticky, shares)
    found = [
        replace(
            units.evidence(metric, wrong_by(known, metric), weights),
            on_odds=ODDS_OF_TRUTHS if metric == "wrong" else ODDS_OF_A_CLASS,
            known=units.known_of_control(known, metric, before=rollout.before.get(metric, (0, 0))),
        )
        for metric in asked
        if is_truth(metric)
    ]
    for kpi in rollout.canary.kpis:
        values = values_of(
            ws,
            kpi,
            rollout.endpoint,
            start=rollout.started_at,
            end=end,
            ids=set(rows.ids),
            sticky=sticky,
        )
        badness = kpi.badness(values.of(rows.ids, list(rows.keys)))
        evidence = units.evidence(kpi.name, badness, 1.0 / rows.probability)
        found.append(
            replace(evidence, on_odds=ODDS_OF_KPIS, best=kpi.best, span=kpi.span, problem=values.problem)
        )
    return found


def wrong_by(known: Sequence[Truth | None], metric: str) -> NDArray[np.float64]:
    """1 where the answer was wrong, 0 where it was right; not-a-number where that is not known, or not what is asked."""
    return np.asarray(
        [np.nan if one is None or not is_about(one, metric) else float(one.is_wrong) for one in known],
        dtype=np.float64,
    )


@dataclass(frozen=True)
class _Units:
    """What chance dealt: requests, or keys where they stick."""

    rows: _Requests
    of: NDArray[np.str_]
    sticky: bool
    shares: Sequence[float]  # the canary's, by stage

    def evidence(
        self, metric: str, badness: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> MeanEvidence:
        """The numbers of each stage; a key counts at its first, and in the stage that is running at its first there."""
        known = np.flatnonzero(~np.isnan(badness))
        numbers = np.unique(self.rows.stretch)
        counted = known
        if self.sticky:
            counted = known[np.sort(np.unique(self.of[known], return_index=True)[1])]

        def arms(of: NDArray[np.int64], stretch: int) -> Arms:
            here = of[self.rows.stretch[of] == stretch]
            canary, control = (here[self.rows.in_canary[here] == arm] for arm in (True, False))
            return Arms(
                self._badness(canary, badness, weights),
                self._badness(control, badness, weights),
                self.shares[stretch],
            )

        latest = arms(known, int(numbers[-1])) if len(numbers) else Arms()
        return MeanEvidence(metric, tuple(arms(counted, int(one)) for one in numbers), latest)

    def known_of_control(
        self, truths: Sequence[Truth | None], metric: str, *, before: tuple[int, int]
    ) -> tuple[int, int]:
        """Wrong and all answers of the control that were known when the running stage began: what comes later is no guess."""
        stretch = self.rows.stretch
        if not len(stretch):
            return before
        began = self.rows.at[stretch == stretch.max()].min()
        earlier = np.flatnonzero((stretch < stretch.max()) & ~self.rows.in_canary)
        told = (truths[int(row)] for row in earlier)
        bad, total = known_by(
            (
                one
                for one in told
                if one is not None and np.datetime64(one.known_at.replace(tzinfo=None), "us") < began
            ),
            metric,
        )
        return before[0] + bad, before[1] + total

    def _badness(
        self, rows: NDArray[np.int64], badness: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> Badness:
        return Badness(
            of_units(self.of[rows], badness[rows], sticky=self.sticky),
            of_units(self.of[rows], weights[rows], sticky=self.sticky),
        )


def _judged_epochs(rollout: Rollout) -> tuple[int, ...]:
    """When the stages began in which both versions answered."""
    is_over = rollout.state == "done" and not rollout.is_held_back
    return rollout.epochs[:-1] if is_over else rollout.epochs


def _splits(rollout: Rollout) -> list[Split]:
    """The split of each of these stages; a person may have skipped some before the last."""
    numbers = list(range(len(_judged_epochs(rollout))))
    if rollout.is_held_back:
        numbers[-1] = rollout.stage
    return [Split(number, rollout.stages[number].weight / 100) for number in numbers]


def _is_held_back_now(ws: Workspace, rollout: Rollout) -> bool:
    held = _holdback(ws, rollout)
    return held is not None and held.state == "running"


def _holdback(ws: Workspace, rollout: Rollout) -> TrafficSplit | None:
    with ws.read() as connection:
        return store.holdback_of(connection, rollout.id)


def _over(ws: Workspace, rollout: Rollout) -> tuple[datetime | None, int | None]:
    """When both versions had answered, and the epoch from which one alone did; None while it goes on."""
    if rollout.state != "done" or rollout.ended_at is None:
        return None, None
    held = _holdback(ws, rollout)
    if held is not None:
        return held.ended_at, None
    return rollout.ended_at + _TO_SWITCH, rollout.epochs[-1]


def _alone(ws: Workspace, rollout: Rollout) -> CanaryHealth:
    """How the new version does since all traffic is its own, by the requests of the newest hour."""
    since = max(rollout.ended_at or rollout.started_at, ws.now() - _LATELY)
    columns = [
        "id", "epoch", "release", "status", "shadow_of", "request", "assigned", "key", "replay", "probability",
    ]  # fmt: skip
    table = predictions.read(folder(ws), endpoint=rollout.endpoint, start=since, columns=columns)
    table, _ = predictions.evenly(table.sort_by("id"))  # failures may be kept more often
    status = np.asarray(table["status"], dtype=object)
    counted = (
        (np.asarray(table["epoch"], dtype=np.int64) >= rollout.epochs[-1])
        & (np.asarray(table["release"], dtype=object) == rollout.release)
        & np.asarray(table["shadow_of"].is_null())
        & (status != "refused")
        & was_dealt(table)
    )
    table, failed = table.filter(pa.array(counted)), status[counted] == "failed"
    first, request = first_of_each_request(
        [str(one) for one in table["id"].to_pylist()], table["request"].to_pylist()
    )
    has_failed = np.bincount(request, weights=failed, minlength=len(first)) > 0
    seen = recent_failures(has_failed, np.ones(len(first), dtype=bool))
    return CanaryHealth(failures_in_a_row=seen.failures_in_a_row)


def is_old(
    ws: Workspace, endpoint_name: str, started_at: datetime, at: NDArray[np.datetime64]
) -> NDArray[np.bool_]:
    """Which requests are old enough that nine reports in ten would have come by now; all when none came before."""
    known = feedback.corrections(ws, endpoint_name, end=started_at, limit=_KNOWN_REPORTS)
    delays_s = [(report.at - report.predicted_at).total_seconds() for report in known]
    delay_s = float(np.quantile(delays_s, 0.9)) if delays_s else 0.0
    newest = ws.now().replace(tzinfo=None) - timedelta(seconds=delay_s)
    return np.asarray(at <= np.datetime64(newest, "us"), dtype=bool)


def _together(rows: _Requests) -> _Requests:
    """The rows of each HTTP request that one arm answered as one: bad when one of them is, as slow as the slowest."""
    in_arms = [one and f"{one} {arm}" for one, arm in zip(rows.request, rows.in_canary.tolist(), strict=True)]
    first, request = first_of_each_request(rows.ids, in_arms)

    def any_of(what: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.bincount(request, weights=what, minlength=len(first)) > 0

    slowest = np.zeros(len(first))
    np.maximum.at(slowest, request, rows.latency_ms)
    return _Requests(
        in_canary=rows.in_canary[first],
        stretch=rows.stretch[first],
        failed=any_of(rows.failed),
        timed_out=any_of(rows.timed_out),
        checked=any_of(rows.checked),
        refused=any_of(rows.refused),
        latency_ms=slowest,
        contradicted=any_of(rows.contradicted),
        is_replay=rows.is_replay[first],
        at=rows.at[first],
        keys=rows.keys[first],
        ids=[rows.ids[row] for row in first],
        request=[rows.request[row] for row in first],
        probability=rows.probability[first],
    )


def _rows(ws: Workspace, rollout: Rollout) -> _Requests:
    epochs = _judged_epochs(rollout)
    end, last_epoch = _over(ws, rollout)
    table = predictions.read(
        folder(ws), endpoint=rollout.endpoint, start=rollout.started_at, end=end, columns=_COLUMNS
    )
    table = table.sort_by("id")
    epoch = np.asarray(table["epoch"], dtype=np.int64)
    release = np.asarray(table["release"], dtype=object)
    in_canary = release == rollout.release
    judged = (
        (epoch >= rollout.epochs[0])
        & (epoch < (np.iinfo(np.int64).max if last_epoch is None else last_epoch))
        & (in_canary | (release == rollout.from_release))
        & np.asarray(table["shadow_of"].is_null())
        & (np.asarray(table["variant"], dtype=object) != REST)
        & was_dealt(table)
    )
    table = table.filter(pa.array(judged))
    reports = feedback.corrections(ws, rollout.endpoint, start=rollout.started_at, limit=MOST_REPORTS)
    contradicted = {report.prediction_id for report in reports if report.contradicts}
    return _Requests(
        in_canary=in_canary[judged],
        stretch=np.searchsorted(np.asarray(epochs), epoch[judged], side="right") - 1,
        failed=np.asarray(table["status"], dtype=object) == "failed",
        timed_out=has_timed_out(table),
        checked=np.asarray(table["status"], dtype=object) != "refused",
        refused=np.asarray(table["status"], dtype=object) == "refused",
        latency_ms=np.asarray(table["latency_us"], dtype=np.float64) / 1_000,
        contradicted=np.asarray([one in contradicted for one in table["id"].to_pylist()], dtype=bool),
        is_replay=np.asarray(table["replay"], dtype=bool),
        at=np.asarray(table["at"].cast(pa.timestamp("us"))),
        keys=np.asarray(table["key"].to_pylist(), dtype=object),
        ids=[str(one) for one in table["id"].to_pylist()],
        request=table["request"].to_pylist(),
        probability=np.asarray([one or 1.0 for one in table["probability"].to_pylist()], dtype=np.float64),
    )
