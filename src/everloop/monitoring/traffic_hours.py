"""Traffic by the hour: how many requests each version answered, how many failed, how long they took.

Counted from the prediction log in the background, so that a page draws a month of traffic from some hundred rows
whatever the log's size. Latencies are kept as a histogram, which adds up over hours as percentiles do not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from everloop import predictions
from everloop.clock import from_micros, to_micros
from everloop.monitoring import store
from everloop.monitoring.answers import BY, Counted, Pieces, alike, counted, hours
from everloop.monitoring.records import Measure, TrafficWatch, every_of
from everloop.storage import Tx
from everloop.workspace import Workspace

HOURLY, DAILY = "traffic", "traffic:day"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_AT_ONCE = 128  # tallies of some 512 records: what is counted alike is found so much less often
_IN_FLIGHT = timedelta(seconds=10)  # a request is logged when it is answered, under the time at which it came
# A look ends up to a look's length and _IN_FLIGHT before now: after three that found the log unchanged all is counted.
_QUIET_LOOKS = 3
_HOURS_SHOWN = timedelta(days=8)  # a longer time is drawn from days: at most some hundred rows a version
_MOST_ROWS = 20_000
_BINS_PER_OCTAVE = 8  # a percentile is right to 4.5 %


@dataclass(frozen=True)
class Traffic:
    """What one version did in [start, end). `version` is empty for requests refused before one was chosen.

    `requests` counts all, `failed`, `refused` and `replayed` are parts of it. Percentiles are of what was answered,
    right to 4.5 %, None when nothing was.
    """

    version: str
    start: datetime
    end: datetime
    requests: int
    failed: int
    refused: int
    replayed: int
    p50_ms: float | None
    p99_ms: float | None

    @property
    def asked(self) -> int:
        """Requests that reached a model."""
        return self.requests - self.refused


@dataclass
class _Count:
    """Where the log is sampled each record counts for those that it stands for, so that numbers are not whole."""

    requests: float = 0.0
    failed: float = 0.0
    refused: float = 0.0
    replayed: float = 0.0
    latency: dict[int, float] = field(default_factory=dict)

    def add(self, other: _Count) -> None:
        self.requests += other.requests
        self.failed += other.failed
        self.refused += other.refused
        self.replayed += other.replayed
        for place, times in other.latency.items():
            self.latency[place] = self.latency.get(place, 0.0) + times


Counts = dict[tuple[datetime, str], _Count]


def traffic(
    ws: Workspace, endpoint: str, *, start: datetime, end: datetime, bucket: timedelta | None = HOUR
) -> list[Traffic]:
    """What each version of an endpoint did, bucket by bucket, oldest first; buckets without requests are left out.

    `bucket` is a whole number of hours; None gives each version's total. A span of more than 8 days is drawn from
    whole days.
    """
    name, unit = (HOURLY, HOUR) if end - start <= _HOURS_SHOWN else (DAILY, DAY)
    with ws.read() as connection:
        rows = store.measures_between(connection, endpoint, names=(name,), start=start, limit=_MOST_ROWS)
    merged: Counts = {}
    for row in rows:
        if row.start < end:
            at = start if bucket is None else _floor(row.start, max(bucket, unit))
            merged.setdefault((at, row.variant), _Count()).add(_read(row))
    return [
        _told(version, at, end if bucket is None else at + max(bucket, unit), found)
        for (at, version), found in sorted(merged.items())
    ]


def answered(ws: Workspace, endpoint: str, *, start: datetime, end: datetime) -> dict[str, float]:
    """About how many requests each version answered, replays left out; of an hour or a day that lies in it in part, that part."""
    name, unit = (HOURLY, HOUR) if end - start <= 2 * DAY else (DAILY, DAY)
    with ws.read() as connection:
        rows = store.measures_between(connection, endpoint, names=(name,), start=start, limit=_MOST_ROWS)
    found: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        part = (min(row.end, end) - max(row.start, start)) / unit
        if part > 0:
            one = _read(row)
            found[row.variant] += part * (one.requests - one.failed - one.refused - one.replayed)
    return found


def is_due(ws: Workspace, watch: TrafficWatch, *, looked_at: datetime) -> bool:
    """Whether there may be requests that are not counted yet."""
    if end_of_look(ws, watch, looked_at=looked_at) <= looked_at:
        return False
    return watch.quiet_looks < _QUIET_LOOKS or watch.log_end != predictions.end(ws.home / "serving")


def looked(watch: TrafficWatch, look: Look, *, log_end: str, passed: dict[str, int]) -> TrafficWatch:
    """The watch after a look, before which the log ended at `log_end`."""
    quiet_looks = watch.quiet_looks + 1 if log_end == watch.log_end else 0
    pieces = None if look.pieces is None else astuple(look.pieces)
    return replace(watch, log_end=log_end, quiet_looks=quiet_looks, passed=passed, pieces=pieces)


def end_of_look(ws: Workspace, watch: TrafficWatch, *, looked_at: datetime) -> datetime:
    """Up to when a look that begins now counts."""
    every = every_of(watch)
    return looked_at + max(0, int((ws.now() - late(ws) - looked_at) / every)) * every


def late(ws: Workspace) -> timedelta:
    """How long after it came a request may still be missing in the log."""
    if not predictions.has_copies(ws.home / "serving"):
        return _IN_FLIGHT
    return _IN_FLIGHT + 2 * timedelta(
        seconds=ws.settings.log_ship_s
    )  # what other machines log comes this much later


@dataclass(frozen=True)
class Look:
    """What one endpoint's watch counts: what was logged in [start, end), by hour, and in pieces where these are asked for."""

    endpoint: str
    start: datetime
    end: datetime
    pieces: Pieces | None
    hours: Counts = field(default_factory=dict)
    in_pieces: dict[int, Counted] = field(default_factory=dict)

    def take(self, found: pa.Table) -> None:
        """Count what `alike` gave."""
        for hour, version, status, is_replay, octave_bin, requests in hours(found):
            one = _Count(
                requests,
                requests * (status == "failed"),
                requests * (status == "refused"),
                requests * is_replay,
                {octave_bin: requests} if status == "ok" else {},
            )
            self.hours.setdefault((hour, version), _Count()).add(one)
        if self.pieces is not None:
            for piece, counts in counted(found).items():
                self.in_pieces.setdefault(piece, Counted()).add(counts)


def count(ws: Workspace, looks: Sequence[Look], known: Mapping[str, int]) -> dict[str, int]:
    """Count for all of them in one reading of the log; what the next one may pass by (`predictions.Passed`)."""
    start, end = min(one.start for one in looks), max(one.end for one in looks)
    passed = predictions.Passed(known, until=min(one.end for one in looks))
    folder = ws.home / "serving"
    only = looks[0].endpoint if len(looks) == 1 else None
    found = predictions.tallies(folder, endpoint=only, start=start, end=end, by=BY, passed=passed)
    while some := list(islice(found, _AT_ONCE)):
        tally = predictions.Tally.joined(some)
        for look in looks:
            look.take(alike(_of_look(tally, look), look.pieces))
    return passed.found


def _of_look(tally: predictions.Tally, look: Look) -> predictions.Tally:
    own_kinds = np.array([endpoint == look.endpoint for endpoint, *_ in tally.kinds], dtype=np.bool_)
    is_own = own_kinds[tally.kind]
    return tally.where(is_own & (tally.at_us >= to_micros(look.start)) & (tally.at_us < to_micros(look.end)))


def add(tx: Tx, endpoint: str, new: Counts) -> None:
    """Add to what was counted of the same hours, and of their days, before."""
    if not new:
        return
    for name, unit in ((HOURLY, HOUR), (DAILY, DAY)):
        merged: Counts = {}
        for (at, version), one in new.items():
            merged.setdefault((_floor(at, unit), version), _Count()).add(one)
        first = min(at for at, _ in merged)
        for row in store.measures_between(
            tx.connection, endpoint, names=(name,), start=first, limit=_MOST_ROWS
        ):
            if (row.start, row.variant) in merged:
                merged[row.start, row.variant].add(_read(row))
        store.put_measures(
            tx,
            [_measure(endpoint, name, at, at + unit, version, one) for (at, version), one in merged.items()],
        )


def _percentile_ms(latency: dict[int, float], share: float) -> float | None:
    total = sum(latency.values())
    reached = 0.0
    for one in sorted(latency):
        reached += latency[one]
        if reached >= share * total:
            return float(2 ** (one / _BINS_PER_OCTAVE)) / 1_000
    return None


def _told(version: str, start: datetime, end: datetime, one: _Count) -> Traffic:
    p50_ms, p99_ms = (_percentile_ms(one.latency, share) for share in (0.5, 0.99))
    requests, failed, refused, replayed = map(round, (one.requests, one.failed, one.refused, one.replayed))
    return Traffic(version, start, end, requests, failed, refused, replayed, p50_ms, p99_ms)


def _measure(endpoint: str, name: str, start: datetime, end: datetime, version: str, one: _Count) -> Measure:
    detail: dict[str, Any] = {
        "failed": one.failed,
        "refused": one.refused,
        "replayed": one.replayed,
        "latency": sorted(one.latency.items()),
    }
    return Measure(endpoint, name, version, start, end, one.requests, None, None, round(one.requests), detail)


def _read(row: Measure) -> _Count:
    detail = row.detail or {}
    latency = {int(place): float(times) for place, times in detail["latency"]}
    requests = float(row.n) if row.value is None else row.value
    return _Count(requests, detail["failed"], detail["refused"], detail["replayed"], latency)


def _floor(at: datetime, to: timedelta) -> datetime:
    micros = to // timedelta(microseconds=1)
    return from_micros(to_micros(at) // micros * micros)
