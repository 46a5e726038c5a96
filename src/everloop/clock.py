"""The only place that reads the time. There are two times, and they never mix.

*Domain time* says when something happened to the business: event times, schedules, windows, cool-downs.
It comes from a workspace's `Clock` and may be moved, but only in a workspace created as a simulation.
*Elapsed time* says how long a machine took: leases, heartbeats, back-off, latency. Nothing moves it.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from everloop.errors import Invalid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BARE_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Where domain time comes from."""

    def now(self) -> datetime:
        """The domain time, timezone-aware UTC."""
        ...


class SystemClock:
    """Domain time is the machine's time: every workspace that is not a simulation."""

    def now(self) -> datetime:
        return wall()


class SimulatedClock:
    """Domain time that stands still until it is set, shared by all processes through an 8-byte file.

    The file is memory-mapped, so that reading costs no system call on the prediction path and a move is seen
    by every process at once. An aligned 8-byte store is atomic on the platforms that everloop supports.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR)
        try:
            self._cell = mmap.mmap(descriptor, 8)
        finally:
            os.close(descriptor)

    @classmethod
    def create(cls, path: Path, *, at: datetime) -> SimulatedClock:
        """Write a new clock file that shows `at`."""
        path.write_bytes(struct.pack("<q", to_micros(at)))
        return cls(path)

    def now(self) -> datetime:
        return from_micros(struct.unpack_from("<q", self._cell)[0])

    def set(self, at: datetime) -> None:
        """Move domain time to `at`. Raises Invalid when that would turn it back."""
        if at < self.now():
            raise Invalid(
                f"simulated time stands at {self.now().isoformat()} and cannot go back to {at.isoformat()}: "
                "records already carry later times. Start a new simulation to replay an earlier period."
            )
        struct.pack_into("<q", self._cell, 0, to_micros(at))

    def advance(self, by: timedelta) -> None:
        self.set(self.now() + by)


def wall() -> datetime:
    """The machine's time, timezone-aware UTC: for leases and heartbeats, which compare between processes."""
    return datetime.now(UTC)  # noqa: TID251  (this is the one place)


def wall_ns() -> int:
    """The machine's time in nanoseconds since 1970-01-01 UTC: for identifiers."""
    return time.time_ns()


def elapsed_s() -> float:
    """Seconds on a clock that never jumps; only differences within one process mean something."""
    return time.monotonic()


def parse_time(text: str) -> datetime:
    """An ISO 8601 time with its zone, as UTC.

    >>> parse_time("2026-09-01T02:00:00+02:00").isoformat()
    '2026-09-01T00:00:00+00:00'
    """
    try:
        at = datetime.fromisoformat(text.strip())
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # in UTC it may be before year 1 or after year 9999
        raise Invalid(f"{text!r} is not a time; write it as 2026-09-01T12:00:00Z.") from error
    raise Invalid(f"{text!r} has no time zone; add one, such as Z for UTC: 2026-09-01T12:00:00Z.")


def parse_moment(text: str, *, is_end: bool = True) -> datetime:
    """As `parse_time`, for what a person types: a bare date is the end of that day in UTC, or its beginning.

    >>> parse_moment("2026-12-24").isoformat(), parse_moment("2026-12-24", is_end=False).isoformat()
    ('2026-12-25T00:00:00+00:00', '2026-12-24T00:00:00+00:00')
    """
    if not _BARE_DATE.fullmatch(text.strip()):
        return parse_time(text)
    day = parse_time(f"{text.strip()}T00:00:00Z")
    return day + timedelta(days=1) if is_end else day


def to_micros(at: datetime) -> int:
    """Microseconds since 1970-01-01 UTC. Raises Invalid for a time without a zone."""
    if at.tzinfo is None:
        raise Invalid(
            f"{at.isoformat()} has no time zone; everloop stores UTC. Attach one, for example .replace(tzinfo=UTC)."
        )
    return (at - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
