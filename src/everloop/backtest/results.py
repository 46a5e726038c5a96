"""What a backtest showed: how right the answers were week by week, and what the loop did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

from everloop.events import Event
from everloop.labels import Value

_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Asked:
    """One row that was asked about: the answer with the loop, and that of the first version all the time.

    `with_loop` is None when the request failed; `truth` is what the row's label is now, None for a row without one.
    """

    at: datetime
    version: str
    with_loop: Value | None
    without: Value
    truth: Value | None


@dataclass(frozen=True)
class Week:
    """Seven days of answers. The accuracies are over the `labelled` rows, None when there is none."""

    start: datetime
    rows: int
    labelled: int
    failed: int
    with_loop: float | None
    without: float | None
    versions: tuple[str, ...]


@dataclass(frozen=True)
class Backtest:
    """`events` are what the loop did, oldest first; `home` is the simulated workspace that holds every record."""

    endpoint: str
    start: datetime
    end: datetime
    first_version: str
    weeks: tuple[Week, ...]
    whole: Week
    events: tuple[Event, ...]
    home: Path


def weeks_of(asked: Sequence[Asked], *, start: datetime) -> Iterator[Week]:
    """The weeks counted from `start`, those without a row left out; `asked` in the order of time."""
    for number, group in groupby(asked, key=lambda one: (one.at - start) // _WEEK):
        yield summary(list(group), start=start + number * _WEEK)


def summary(asked: Sequence[Asked], *, start: datetime) -> Week:
    """All of these as one."""
    labelled = [one for one in asked if one.truth is not None]
    return Week(
        start=start,
        rows=len(asked),
        labelled=len(labelled),
        failed=sum(one.with_loop is None for one in asked),
        with_loop=_share([one.with_loop == one.truth for one in labelled]),
        without=_share([one.without == one.truth for one in labelled]),
        versions=tuple(dict.fromkeys(one.version for one in asked)),
    )


def _share(right: Sequence[bool]) -> float | None:
    return sum(right) / len(right) if right else None
