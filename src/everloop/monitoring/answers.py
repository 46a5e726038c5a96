"""How requests ended and how long they took, version by version, in counts that add up: all that a look at latency needs.

A day's window that moves by an hour has 23 hours in common with the one before. Those were counted when they were new, with the
traffic, in pieces as long as the watch's step; a look adds the pieces up and reads from the log what is in none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from everloop import predictions
from everloop.clock import from_micros, to_micros
from everloop.monitoring import store
from everloop.monitoring.records import LatencyWatch, Measure, TrafficWatch, every_of, from_value, window_of
from everloop.storage import Tx
from everloop.workspace import Workspace

PIECE = "piece:answers"
COLUMNS = [
    "endpoint", "at", "model", "version", "status", "latency_us", "replay", "shadow_of", "probability",
]  # fmt: skip
_HOUR_US = 3_600 * 1_000_000
_BINS_PER_OCTAVE = 8  # of the hourly counts, whose percentiles are right to 4.5 %
_BITS = 9  # of a latency that pieces keep: right to 0.2 %
_MOST_PIECES = 100_000


class Alike(NamedTuple):
    """Records that are counted together. `weight` is how many requests the `n` records stand for."""

    hour: datetime
    piece: int
    version: str
    status: str
    replay: bool
    octave_bin: int
    latency_us: int
    n: int
    weight: float
    least: float
    most: float


@dataclass
class Answers:
    """Of one version: how many requests failed, and how many were answered after so many microseconds."""

    failed: int = 0
    latency: dict[int, int] = field(default_factory=dict)

    def add(self, other: Answers) -> None:
        self.failed += other.failed
        for latency_us, n in other.latency.items():
            self.latency[latency_us] = self.latency.get(latency_us, 0) + n

    @property
    def answered(self) -> int:
        return sum(self.latency.values())

    @property
    def asked(self) -> int:
        return self.failed + self.answered

    def percentile_ms(self, share: float) -> float:
        """The smallest latency that so many of the answers took at most; some must be there."""
        values = sorted(self.latency)
        reached = np.cumsum([self.latency[one] for one in values])
        return values[int(np.searchsorted(reached, share * reached[-1]))] / 1_000


@dataclass
class Counted:
    """By version, and between which chances the records were kept; 1 and 0 when there were none."""

    by_version: dict[str, Answers] = field(default_factory=dict)
    least: float = 1.0
    most: float = 0.0

    def take(self, one: Alike) -> None:
        if one.replay:
            return
        answers = self.by_version.setdefault(one.version, Answers())
        if one.status == "failed":
            answers.failed += one.n
        elif one.status == "ok":
            answers.latency[one.latency_us] = answers.latency.get(one.latency_us, 0) + one.n
        self.least, self.most = min(self.least, one.least), max(self.most, one.most)

    def add(self, other: Counted) -> None:
        for version, answers in other.by_version.items():
            self.by_version.setdefault(version, Answers()).add(answers)
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)

    @property
    def is_even(self) -> bool:
        """Whether all were kept with one chance, so that shares among them hold."""
        return self.most in (0.0, self.least)


@dataclass(frozen=True)
class Pieces:
    """From when on, in which lengths, from which moment to both sides: what `TrafficWatch.pieces` says."""

    since_us: int
    every_us: int
    mark_us: int

    @classmethod
    def wanted(cls, watch: LatencyWatch, looked_at: datetime) -> Pieces | None:
        """Those that a watch adds up; None where they would not end where its windows do."""
        every_us = every_of(watch) // timedelta(microseconds=1)
        if not every_us or window_of(watch) % every_of(watch):
            return None
        return cls(0, every_us, to_micros(looked_at) % every_us)

    def fits(self, known: Pieces | None) -> bool:
        return known is not None and (self.every_us, self.mark_us) == (known.every_us, known.mark_us)

    def end_after(self, at_us: int) -> int:
        """The first end of a piece that is not before."""
        return at_us + (self.mark_us - at_us) % self.every_us


def pieces_of(watch: TrafficWatch) -> Pieces | None:
    return None if watch.pieces is None else Pieces(*watch.pieces)


def alike(found: pa.Table, pieces: Pieces | None = None) -> Iterable[Alike]:
    """The endpoint's own records, shadows left out, those together that are counted alike."""
    found = found.filter(found["shadow_of"].is_null())
    at_us = np.asarray(found["at"].cast(pa.int64()), dtype=np.int64)
    latency_us = np.asarray(found["latency_us"], dtype=np.int64)
    latency_us = np.where(
        np.asarray(pc.equal(found["status"], pa.scalar("ok"))), np.maximum(latency_us, 1), 1
    )
    dropped = np.maximum(np.frexp(latency_us.astype(np.float64))[1] - _BITS, 0)
    table = pa.table(
        {
            "hour": at_us // _HOUR_US,
            "piece": np.zeros_like(at_us) if pieces is None else (at_us - pieces.mark_us) // pieces.every_us,
            "model": found["model"],
            "version": found["version"],
            "status": found["status"],
            "replay": found["replay"],
            "octave_bin": np.rint(_BINS_PER_OCTAVE * np.log2(latency_us)).astype(np.int64),
            "latency_us": (latency_us >> dropped << dropped) + (1 << dropped >> 1),
            "weight": predictions.weights(found),
            "chance": found["probability"],
        }
    )
    grouped = table.group_by(table.column_names[:8]).aggregate(
        [("weight", "count"), ("weight", "sum"), ("chance", "min"), ("chance", "max")]
    )
    for hour, piece, model, version, *rest in zip(*(one.to_pylist() for one in grouped.columns), strict=True):
        yield Alike(from_micros(hour * _HOUR_US), piece, f"{model}@{version}" if version else "", *rest)


def keep(tx: Tx, endpoint: str, pieces: Pieces, counted: Mapping[int, Counted]) -> None:
    """Add to what was counted of the same pieces before."""
    if not counted:
        return
    ends = {number: from_micros(pieces.mark_us + (number + 1) * pieces.every_us) for number in counted}
    every = timedelta(microseconds=pieces.every_us)
    known = store.measures_between(
        tx.connection, endpoint, names=(PIECE,), start=min(ends.values()) - every, limit=_MOST_PIECES
    )
    for row in known:
        for number, end in ends.items():
            if end == row.end:
                counted[number].add(_read(row))
    store.put_measures(
        tx,
        [
            Measure(
                endpoint,
                PIECE,
                "",
                ends[number] - every,
                ends[number],
                None,
                one.least,
                one.most,
                0,
                _told(one),
            )
            for number, one in counted.items()
        ],
    )


def answers_of(
    ws: Workspace, endpoint: str, pieces: Pieces | None, *, start: datetime, end: datetime
) -> Counted:
    """What was answered in [start, end): from the pieces in it, and from the log where there are none."""
    with ws.read() as connection:
        looked_at, traffic = next(
            (row.looked_at, watch)
            for row in store.all_watches(connection, endpoint)
            if isinstance(watch := from_value(row.watch), TrafficWatch)
        )
        rows = store.measures_between(connection, endpoint, names=(PIECE,), start=start, limit=_MOST_PIECES)
    counted, known = Counted(), pieces_of(traffic)
    if pieces is None or known is None or not pieces.fits(known):
        return _read_log(ws, endpoint, counted, start, end)
    first = from_micros(known.end_after(max(to_micros(start), known.since_us)))
    last = min(looked_at, end)
    if last <= first:
        return _read_log(ws, endpoint, counted, start, end)
    for row in rows:
        if first <= row.start and row.end <= end:
            counted.add(_read(row))
    _read_log(ws, endpoint, counted, start, first)
    return _read_log(ws, endpoint, counted, last, end)


def _read_log(ws: Workspace, endpoint: str, counted: Counted, start: datetime, end: datetime) -> Counted:
    if start < end:
        folder = ws.home / "serving"
        for one in alike(predictions.read(folder, endpoint=endpoint, start=start, end=end, columns=COLUMNS)):
            counted.take(one)
    return counted


def _told(one: Counted) -> dict[str, Any]:
    return {
        version: {"failed": answers.failed, "latency": sorted(answers.latency.items())}
        for version, answers in one.by_version.items()
    }


def _read(row: Measure) -> Counted:
    by_version = {
        version: Answers(one["failed"], {int(latency_us): n for latency_us, n in one["latency"]})
        for version, one in (row.detail or {}).items()
    }
    return Counted(by_version, 1.0 if row.low is None else row.low, row.high or 0.0)
