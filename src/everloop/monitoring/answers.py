"""How requests ended and how long they took, version by version, in counts that add up: all that a look at latency needs.

A day's window that moves by an hour has 23 hours in common with the one before. Those were counted when they were new, with the
traffic, in pieces as long as the watch's step; a look adds the pieces up and reads from the log what is in none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from everloop import predictions
from everloop.clock import from_micros, to_micros
from everloop.monitoring import store
from everloop.monitoring.records import LatencyWatch, Measure, TrafficWatch, every_of, from_value, window_of
from everloop.storage import Tx
from everloop.workspace import Workspace

Ints = NDArray[np.int64]

PIECE = "piece:answered"
BY = ["endpoint", "model", "version", "status", "replay", "probability"]
_HOUR_US = 3_600 * 1_000_000
_BINS_PER_OCTAVE = 8  # of the hourly counts, whose percentiles are right to 4.5 %
_BITS = 9  # of a latency that pieces keep: right to 0.2 %
_MOST_PIECES = 100_000


def _none() -> Ints:
    return np.empty(0, dtype=np.int64)


@dataclass
class Answers:
    """Of one version: how many requests failed, and how many (`times`) were answered after so many microseconds, which rise."""

    failed: int = 0
    latency_us: Ints = field(default_factory=_none)
    times: Ints = field(default_factory=_none)

    def add(self, other: Answers) -> None:
        self.failed += other.failed
        times = np.concatenate([self.times, other.times])
        self.latency_us, places = np.unique(
            np.concatenate([self.latency_us, other.latency_us]), return_inverse=True
        )
        self.times = np.bincount(places, weights=times, minlength=len(self.latency_us)).astype(np.int64)

    @property
    def answered(self) -> int:
        return int(self.times.sum())

    @property
    def asked(self) -> int:
        return self.failed + self.answered

    def percentile_ms(self, share: float) -> float:
        """The smallest latency that so many of the answers took at most; some must be there."""
        reached = np.cumsum(self.times)
        return int(self.latency_us[np.searchsorted(reached, share * reached[-1])]) / 1_000


@dataclass
class Counted:
    """By version, and between which chances the records were kept; 1 and 0 when there were none."""

    by_version: dict[str, Answers] = field(default_factory=dict)
    least: float = 1.0
    most: float = 0.0

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


def alike(found: predictions.Tally, pieces: Pieces | None = None) -> pa.Table:
    """Those together that are counted alike.

    `n` is how many they are, `weight` how many requests they stand for, `probability` the chance with which each was kept.
    """
    columns = zip(*found.kinds, strict=True) if found.kinds else [[]] * len(found.by)
    kinds = pa.table(
        list(map(list, columns)), schema=pa.schema([predictions.SCHEMA.field(one) for one in found.by])
    )
    at_us, is_ok = found.at_us, np.array([one == "ok" for one in kinds["status"].to_pylist()], dtype=np.bool_)
    latency_us = np.where(is_ok[found.kind], np.maximum(found.latency_us, 1), 1)
    dropped = np.maximum(np.frexp(latency_us.astype(np.float64))[1] - _BITS, 0)
    table = pa.table(
        {
            "hour": at_us // _HOUR_US,
            "piece": np.zeros_like(at_us) if pieces is None else (at_us - pieces.mark_us) // pieces.every_us,
            "kind": found.kind,
            "octave_bin": np.rint(_BINS_PER_OCTAVE * np.log2(latency_us)).astype(np.int64),
            "latency_us": (latency_us >> dropped << dropped) + (1 << dropped >> 1),
        }
    )
    grouped = table.group_by(table.column_names, use_threads=False).aggregate([([], "count_all")])
    grouped = grouped.rename_columns([*table.column_names, "n"])
    for name in found.by:
        grouped = grouped.append_column(name, kinds[name].take(grouped["kind"]))
    return grouped.append_column("weight", pc.divide(grouped["n"], grouped["probability"]))


def named(model: str, version: int) -> str:
    """The version of a record, as it is counted under; none answered a request that was refused before one was chosen."""
    return f"{model}@{version}" if version else ""


def counted(found: pa.Table) -> dict[int, Counted]:
    """What `alike` gave, by piece; replays are left out."""
    grouped = (
        found.filter(pc.invert(found["replay"]))
        .group_by(["piece", "model", "version", "status"], use_threads=False)
        .aggregate(
            [
                ("latency_us", "list"),
                ("n", "list"),
                ("n", "sum"),
                ("probability", "min"),
                ("probability", "max"),
            ]
        )
    )
    pieces: dict[int, Counted] = {}
    for piece, model, version, status, latency_us, times, n, least, most in zip(
        *(one.to_pylist() for one in grouped.columns), strict=True
    ):
        answers = Answers()
        if status == "failed":
            answers.failed = n
        elif status == "ok":
            answers = _answers(0, latency_us, times)
        new = Counted({named(model, version): Answers()}, least, most)
        new.by_version[named(model, version)].add(answers)
        pieces.setdefault(piece, Counted()).add(new)
    return pieces


def hours(found: pa.Table) -> Iterable[tuple[datetime, str, str, bool, int, float]]:
    """What `alike` gave, by hour: version, status, whether replayed, bin of its octave, how many requests."""
    names = ["hour", "model", "version", "status", "replay", "octave_bin"]
    grouped = found.group_by(names, use_threads=False).aggregate([("weight", "sum")])
    for hour, model, version, *rest in zip(*(one.to_pylist() for one in grouped.columns), strict=True):
        yield from_micros(hour * _HOUR_US), named(model, version), *rest


def keep(tx: Tx, endpoint: str, pieces: Pieces, new: Mapping[int, Counted]) -> None:
    """Add to what was counted of the same pieces before."""
    if not new:
        return
    ends = {number: from_micros(pieces.mark_us + (number + 1) * pieces.every_us) for number in new}
    every = timedelta(microseconds=pieces.every_us)
    known = store.measures_between(
        tx.connection, endpoint, names=(PIECE,), start=min(ends.values()) - every, limit=_MOST_PIECES
    )
    for row in known:
        for number, end in ends.items():
            if end == row.end:
                new[number].add(_read(row))
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
            for number, one in new.items()
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
    found, known = Counted(), pieces_of(traffic)
    if pieces is None or known is None or not pieces.fits(known):
        return _read_log(ws, endpoint, found, start, end)
    first = from_micros(known.end_after(max(to_micros(start), known.since_us)))
    last = min(looked_at, end)
    if last <= first:
        return _read_log(ws, endpoint, found, start, end)
    for row in rows:
        if first <= row.start and row.end <= end:
            found.add(_read(row))
    _read_log(ws, endpoint, found, start, first)
    return _read_log(ws, endpoint, found, last, end)


def _read_log(ws: Workspace, endpoint: str, found: Counted, start: datetime, end: datetime) -> Counted:
    if start < end:
        folder = ws.home / "serving"
        some = list(predictions.tallies(folder, endpoint=endpoint, start=start, end=end, by=BY))
        for one in counted(alike(predictions.Tally.joined(some))).values() if some else ():
            found.add(one)
    return found


def _told(one: Counted) -> dict[str, Any]:
    # flat lists: a list for each latency would be some ten thousand, which are slow to read and which the collector goes through
    return {
        version: {
            "failed": answers.failed,
            "latency_us": answers.latency_us.tolist(),
            "times": answers.times.tolist(),
        }
        for version, answers in one.by_version.items()
    }


def _read(row: Measure) -> Counted:
    by_version = {version: _answers(**one) for version, one in (row.detail or {}).items()}
    return Counted(by_version, 1.0 if row.low is None else row.low, row.high or 0.0)


def _answers(failed: int, latency_us: Sequence[int], times: Sequence[int]) -> Answers:
    return Answers(failed, np.array(latency_us, dtype=np.int64), np.array(times, dtype=np.int64))
