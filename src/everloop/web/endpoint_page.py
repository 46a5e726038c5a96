"""`/endpoints/NAME`: what is live, is it well, what did the system do and why; all on one time axis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from everloop import feedback, monitoring, retraining, rollout, serving
from everloop.clock import wall
from everloop.errors import NotFound
from everloop.monitoring import (
    AccuracyWatch,
    DriftWatch,
    Finding,
    LatencyWatch,
    Measure,
    Traffic,
    wilson_interval,
)
from everloop.retraining import Decision
from everloop.rollout import Endpoint, RolloutEvent, TrafficSplit
from everloop.serving import Limits, Worker
from everloop.web.rollout_page import judged
from everloop.web.static_files import plotly_address
from everloop.web.visits import Shown, Visit
from everloop.web.words import duration
from everloop.workspace import Workspace

# what is looked at, and the width of a bar in it
_SPANS = {
    "24h": (timedelta(hours=24), timedelta(hours=1)),
    "7d": (timedelta(days=7), timedelta(hours=3)),
    "30d": (timedelta(days=30), timedelta(days=1)),
    "90d": (timedelta(days=90), timedelta(days=1)),
    "1y": (timedelta(days=365), timedelta(days=3)),
}
_DRIFT_SHOWN = 5  # columns that moved most
_LIST = 20
_MOST_MEASURES = 5_000
_CRASHED = timedelta(hours=1)
_LIMITS = {
    "deadline_ms": ("An answer within", "ms"),
    "own_process": ("Each version in a process of its own", ""),
    "memory_mb": ("Memory of a version's process", "MB"),
    "cores": ("Cores of a version's process", ""),
    "hang_s": ("A batch that hangs is stopped after", "s"),
    "batch_rows": ("Rows asked together", ""),
    "wait_ms": ("A batch waits for more rows", "ms"),
    "queue": ("Rows that may wait", ""),
}


@dataclass(frozen=True)
class _Span:
    name: str
    start: datetime
    end: datetime
    bucket: timedelta


@dataclass(frozen=True)
class Mark:
    """Something that happened, to be drawn on the time axis; `link` is its story on the page."""

    at: datetime
    kind: str
    tone: str
    title: str
    link: str


@dataclass(frozen=True)
class VariantRow:
    """A version that answered in the span: what it was asked, how it did."""

    version: str
    role: str
    weight: float | None
    requests: int
    asked: int
    failed: int
    failed_low: float | None
    failed_high: float | None
    p50_ms: float | None
    p99_ms: float | None
    accuracy: Measure | None
    paths: Sequence[str]  # which path answers in the serving processes, and why the model does where it does
    corrected: int
    contradicted: int


@dataclass(frozen=True)
class ProcessRow:
    """A process that answers predictions: whether it follows the newest routes, and since when it runs."""

    pid: int
    port: int
    says: str
    tone: str
    epoch: int | None
    up: str
    problem: str | None


def view(visit: Visit) -> Shown:
    ws, name = visit.ws, visit.path["name"]
    endpoint = rollout.endpoint(ws, name)
    span = _span(visit, endpoint)
    counted = monitoring.traffic(ws, name, start=span.start, end=span.end, bucket=span.bucket)
    total = monitoring.traffic(ws, name, start=span.start, end=span.end, bucket=None)
    accuracy = _accuracy(ws, name, span)
    findings = monitoring.findings(ws, name, since=span.start, limit=_LIST)
    newest = next(iter(rollout.rollouts(ws, endpoint_name=name, limit=1)), None)
    moves = rollout.history(ws, endpoint_name=name, without_looks=True, limit=100)
    retrains = retraining.decisions(ws, model=endpoint.model, limit=_LIST)
    in_span = [one for one in moves if one.at >= span.start]
    marks = _marks(findings, in_span, [one for one in retrains if one.at >= span.start])
    return {
        "endpoint": endpoint,
        "span": span.name,
        "spans": list(_SPANS),
        "start": span.start,
        "end": span.end,
        "variants": _variants(ws, endpoint, span, total, accuracy),
        "series": _series(ws, endpoint, span, counted, accuracy, marks),
        "has_traffic": bool(counted),
        "findings": findings,
        "retrains": retrains,
        "rollout": newest,
        "judged": None if newest is None else judged(ws, newest),
        "split": _split(ws, name),
        "processes": [_process(one, endpoint.epoch) for one in serving.workers(ws.home / "serving")],
        "crashes": [one for one in serving.crashes(ws.home / "serving") if one.at >= wall() - _CRASHED],
        "limits": _limits(endpoint.limits),
        "moves": moves[:_LIST],
        "plotly": plotly_address(),
    }


def _span(visit: Visit, endpoint: Endpoint) -> _Span:
    """The span that was asked for, else the shortest of a day, a week and a month that shows the whole history."""
    age = visit.ws.now() - endpoint.created_at
    fitting = next((name for name in ("24h", "7d") if age <= _SPANS[name][0]), "30d")
    name = visit.query.get("span", fitting)
    name = name if name in _SPANS else fitting
    length, bucket = _SPANS[name]
    return _Span(name, visit.ws.now() - length, visit.ws.now(), bucket)


def _split(ws: Workspace, name: str) -> TrafficSplit | None:
    """The split that is under way, if one is."""
    try:
        found = rollout.split_of(ws, name)
    except NotFound:
        return None
    return found if found.state == "running" else None


def _process(one: Worker, epoch: int) -> ProcessRow:
    """`epoch` is that of the endpoint's last change, which each process is to follow."""
    if one.epoch is None or one.epoch < epoch:
        says, tone = "is loading", "attention"
    else:
        says, tone = "follows", "ok"
    problem = one.error or one.log_error
    if problem is not None:
        says, tone = "in trouble", "failed"
    return ProcessRow(one.pid, one.port, says, tone, one.epoch, duration(wall() - one.started_at), problem)


def _limits(limits: Limits) -> list[tuple[str, str]]:
    """What was limited, in words."""
    return [
        (_LIMITS[name][0], "yes" if value is True else f"{value:g} {_LIMITS[name][1]}".strip())
        for name, value in limits.stated.items()
    ]


def _accuracy(ws: Workspace, name: str, span: _Span) -> list[Measure]:
    return monitoring.measures(ws, name, names=("accuracy",), start=span.start, limit=_MOST_MEASURES)


def _variants(
    ws: Workspace, endpoint: Endpoint, span: _Span, counted: Sequence[Traffic], accuracy: Sequence[Measure]
) -> list[VariantRow]:
    """Who answers now, then who answered earlier in the span, the newest first."""
    live = {one.version: one for one in endpoint.variants}
    seen = {one.version for one in counted if one.version}
    said = feedback.contradictions(ws, endpoint.name, start=span.start, end=span.end).by_variant
    corrected: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for one in said:
        corrected[f"{one.model}@{one.version}"][0] += one.corrected
        corrected[f"{one.model}@{one.version}"][1] += one.contradicted
    paths = [one.paths for one in serving.workers(ws.home / "serving")]
    newest = {one.variant: one for one in accuracy}  # oldest first: the last one stays
    earlier = sorted(seen - set(live), key=lambda ref: -int(ref.rpartition("@")[2]))
    rows = []
    for version in [*live, *earlier]:
        own = next((one for one in counted if one.version == version), None)
        total, failed = (own.asked, own.failed) if own else (0, 0)
        low, high = wilson_interval(failed / total, total) if total else (None, None)
        release = live[version].release if version in live else ""
        rows.append(
            VariantRow(
                version,
                live[version].name if version in live else "earlier",
                live[version].weight if version in live else None,
                own.requests if own else 0,
                total,
                failed,
                low,
                high,
                own.p50_ms if own else None,
                own.p99_ms if own else None,
                newest.get(version),
                sorted({each[release] for each in paths if release in each}),
                *corrected[version],
            )
        )
    return rows


def _series(
    ws: Workspace,
    endpoint: Endpoint,
    span: _Span,
    counted: Sequence[Traffic],
    accuracy: Sequence[Measure],
    marks: Sequence[Mark],
) -> dict[str, Any]:
    """Everything that the plot draws: lists by version on one grid of buckets, with None where nothing was."""
    watches = monitoring.watches(ws, endpoint.name)
    whole = [one for one in accuracy if not one.variant]
    return {
        "start": span.start,
        "end": span.end,
        "bucket_s": span.bucket.total_seconds(),
        "roles": {one.version: one.name for one in endpoint.variants},
        "traffic": _by_version(counted, span.bucket),
        "accuracy": {
            "x": [one.end for one in whole],
            "y": [one.value for one in whole],
            "low": [one.low for one in whole],
            "high": [one.high for one in whole],
            "n": [one.n for one in whole],
        },
        "drift": _drift(ws, endpoint.name, span),
        "drift_matters": next((one.effect_at_least for one in watches if isinstance(one, DriftWatch)), None),
        "accuracy_at_least": next((one.at_least for one in watches if isinstance(one, AccuracyWatch)), None),
        "p99_ms": next((one.p99_ms for one in watches if isinstance(one, LatencyWatch)), None),
        "errors_at_most": next(
            (one.errors_at_most for one in watches if isinstance(one, LatencyWatch)), None
        ),
        "marks": marks,
    }


def _by_version(counted: Sequence[Traffic], bucket: timedelta) -> dict[str, dict[str, list[Any]]]:
    """Each version's buckets from its first to its last; a bucket without requests is a gap, not a zero rate."""
    found: dict[str, dict[str, list[Any]]] = {}
    for version in dict.fromkeys(one.version for one in counted if one.version):
        own = {one.start: one for one in counted if one.version == version}
        at, last = min(own), max(own)
        columns: dict[str, list[Any]] = {
            name: []
            for name in ("x", "requests", "replayed", "asked", "failed", "error_rate", "p50_ms", "p99_ms")
        }
        while at <= last:
            one = own.get(at)
            asked = one.asked if one else 0
            columns["x"].append(at)
            columns["requests"].append(one.requests if one else 0)
            columns["replayed"].append(one.replayed if one else 0)
            columns["asked"].append(asked)
            columns["failed"].append(one.failed if one else 0)
            columns["error_rate"].append(one.failed / asked if one and asked else None)
            columns["p50_ms"].append(one.p50_ms if one else None)
            columns["p99_ms"].append(one.p99_ms if one else None)
            at += bucket
        found[version] = columns
    return found


def _drift(ws: Workspace, name: str, span: _Span) -> list[dict[str, Any]]:
    """Effects of the columns that moved most, look by look, of the version that answered most at the time."""
    looks: dict[str, dict[datetime, Measure]] = defaultdict(dict)
    found = monitoring.measures(ws, name, names=("drift:",), start=span.start, limit=_MOST_MEASURES)
    for one in found:
        known = looks[one.name].get(one.end)
        if one.value is not None and (known is None or one.n > known.n):
            looks[one.name][one.end] = one
    most = sorted(looks, key=lambda column: -max(one.value or 0.0 for one in looks[column].values()))
    return [
        {
            "name": column.removeprefix("drift:"),
            "x": list(looks[column]),
            "y": [one.value for one in looks[column].values()],
            "n": [one.n for one in looks[column].values()],
            "version": [one.variant for one in looks[column].values()],
        }
        for column in most[:_DRIFT_SHOWN]
        if looks[column]
    ]


def _marks(
    findings: Sequence[Finding], moves: Sequence[RolloutEvent], retrains: Sequence[Decision]
) -> list[Mark]:
    tones = {"rolled_back": "failed", "paused": "attention", "finished": "ok", "first": "ok"}
    marks = [
        Mark(one.at, one.kind.replace("_", " "), "attention", one.message, f"#{one.id}") for one in findings
    ]
    marks += [
        Mark(
            one.at,
            f"rollout {one.act.replace('_', ' ')}",
            tones.get(one.act, "live"),
            one.reason,
            f"#{one.id}",
        )
        for one in moves
    ]
    marks += [Mark(one.at, "retrain", "live", one.reason, f"#{one.id}") for one in retrains]
    return sorted(marks, key=lambda one: one.at)
