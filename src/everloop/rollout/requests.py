"""What the judge counts: the requests of a rollout as they stand in the prediction log, and what was said of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop import feedback, serving
from everloop.rollout.audited import wrong_answers
from everloop.rollout.endpoints import REST, endpoint, folder
from everloop.rollout.evidence import (
    MetricEvidence,
    Split,
    Stretch,
    count_keys,
    count_requests,
    first_of_each_request,
    is_slow,
    units_of,
)
from everloop.rollout.judge import CanaryHealth, recent_failures
from everloop.rollout.records import Rollout
from everloop.workspace import Workspace

_MOST_REPORTS = 1_000_000  # of one rollout
_KNOWN_REPORTS = 1_000  # the newest before a rollout, from which it is learned how late reports come
_LATELY = timedelta(hours=1)
_TO_SWITCH = timedelta(minutes=1)  # so long a serving process may go on with the split before
_COLUMNS = [
    "id",
    "epoch",
    "release",
    "status",
    "at",
    "latency_us",
    "key",
    "replay",
    "shadow_of",
    "request",
    "variant",
]


@dataclass(frozen=True)
class _Requests:
    """What the judge counts, in the order of arrival: requests, or single rows where keys are counted instead."""

    in_canary: NDArray[np.bool_]
    stretch: NDArray[np.int64]
    failed: NDArray[np.bool_]
    checked: NDArray[np.bool_]  # the model was asked
    refused: NDArray[np.bool_]  # by the version's signature
    latency_ms: NDArray[np.float64]
    contradicted: NDArray[np.bool_]
    is_replay: NDArray[np.bool_]
    at: NDArray[np.datetime64]
    keys: NDArray[np.object_]
    ids: list[str]
    request: list[str | None]


def evidence_of(ws: Workspace, rollout: Rollout) -> tuple[list[MetricEvidence], CanaryHealth]:
    """What was counted while both versions answered, by metric, and what the fuse looks at.

    Of a rollout that is done these are the same requests as before, with what has been said of them since; the fuse looks
    at what the new version alone has answered lately.
    """
    sticky = endpoint(ws, rollout.endpoint).stickiness == "key"
    rows = _rows(ws, rollout)
    together = _together(rows)
    requests = rows if sticky else together
    splits = [
        Split(stage, rollout.stages[stage].weight / 100) for stage in range(len(_judged_epochs(rollout)))
    ]

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
        MetricEvidence(metric, _wrong(ws, rollout, rows, splits, sticky=sticky))
        if metric == "wrong"
        else count(metric, *bad_by_metric[metric])
        for metric in rollout.canary.excess_at_most
    ]
    if rollout.state == "done":
        return found, _alone(ws, rollout)
    return found, recent_failures(together.failed[~together.refused], together.in_canary[~together.refused])


def _wrong(
    ws: Workspace, rollout: Rollout, rows: _Requests, splits: list[Split], *, sticky: bool
) -> tuple[Stretch, ...]:
    units = units_of(rows.ids, rows.request, rows.keys.tolist(), sticky=sticky)
    return wrong_answers(
        ws,
        rollout,
        ids=rows.ids,
        units=units,
        in_canary=rows.in_canary,
        stretch=rows.stretch,
        splits=splits,
        sticky=sticky,
    )


def _judged_epochs(rollout: Rollout) -> tuple[int, ...]:
    """When the stages began in which both versions answered."""
    return rollout.epochs[:-1] if rollout.state == "done" else rollout.epochs


def _alone(ws: Workspace, rollout: Rollout) -> CanaryHealth:
    """How the new version does since all traffic is its own, by the requests of the newest hour."""
    since = max(rollout.ended_at or rollout.started_at, ws.now() - _LATELY)
    columns = ["id", "epoch", "release", "status", "shadow_of", "request"]
    table = serving.log.read(folder(ws), endpoint=rollout.endpoint, start=since, columns=columns)
    table = table.sort_by("id")
    status = np.asarray(table["status"], dtype=object)
    counted = (
        (np.asarray(table["epoch"], dtype=np.int64) >= rollout.epochs[-1])
        & (np.asarray(table["release"], dtype=object) == rollout.release)
        & np.asarray(table["shadow_of"].is_null())
        & (status != "refused")
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
        checked=any_of(rows.checked),
        refused=any_of(rows.refused),
        latency_ms=slowest,
        contradicted=any_of(rows.contradicted),
        is_replay=rows.is_replay[first],
        at=rows.at[first],
        keys=rows.keys[first],
        ids=[rows.ids[row] for row in first],
        request=[rows.request[row] for row in first],
    )


def _rows(ws: Workspace, rollout: Rollout) -> _Requests:
    epochs = _judged_epochs(rollout)
    end = rollout.ended_at + _TO_SWITCH if rollout.state == "done" and rollout.ended_at else None
    table = serving.log.read(
        folder(ws), endpoint=rollout.endpoint, start=rollout.started_at, end=end, columns=_COLUMNS
    )
    table = table.sort_by("id")
    epoch = np.asarray(table["epoch"], dtype=np.int64)
    release = np.asarray(table["release"], dtype=object)
    in_canary = release == rollout.release
    judged = (
        (epoch >= rollout.epochs[0])
        & (np.full(len(epoch), end is None) | (epoch < rollout.epochs[-1]))
        & (in_canary | (release == rollout.from_release))
        & np.asarray(table["shadow_of"].is_null())
        & (np.asarray(table["variant"], dtype=object) != REST)
    )
    table = table.filter(pa.array(judged))
    reports = feedback.corrections(ws, rollout.endpoint, start=rollout.started_at, limit=_MOST_REPORTS)
    contradicted = {report.prediction_id for report in reports if report.contradicts}
    return _Requests(
        in_canary=in_canary[judged],
        stretch=np.searchsorted(np.asarray(epochs), epoch[judged], side="right") - 1,
        failed=np.asarray(table["status"], dtype=object) == "failed",
        checked=np.asarray(table["status"], dtype=object) != "refused",
        refused=np.asarray(table["status"], dtype=object) == "refused",
        latency_ms=np.asarray(table["latency_us"], dtype=np.float64) / 1_000,
        contradicted=np.asarray([one in contradicted for one in table["id"].to_pylist()], dtype=bool),
        is_replay=np.asarray(table["replay"], dtype=bool),
        at=np.asarray(table["at"].cast(pa.timestamp("us"))),
        keys=np.asarray(table["key"].to_pylist(), dtype=object),
        ids=[str(one) for one in table["id"].to_pylist()],
        request=table["request"].to_pylist(),
    )
