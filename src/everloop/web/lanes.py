"""What was live when: the stages, aliases and endpoints of a model as lanes of one time line. A pure function of events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from everloop.registry import StageEvent
from everloop.rollout import RolloutEvent

WIDTH = 1_000  # of the time line, in its own units
_TICKS = 5


@dataclass(frozen=True)
class Stretch:
    """From `start` to `end` a lane had this version, with this share of the traffic; `end` is None as long as it has.

    `x` and `width` are its place on the time line; `above` is the share of those drawn above it.
    """

    version: str
    start: datetime
    end: datetime | None
    share: float = 100.0
    above: float = 0.0
    is_canary: bool = False
    x: float = 0.0
    width: float = 0.0

    @property
    def number(self) -> str:
        return self.version.rpartition("@")[2]


@dataclass(frozen=True)
class Lane:
    """A stage, an alias or an endpoint, and which versions it had, oldest first."""

    kind: str
    name: str
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True)
class TimeLine:
    """Lanes from `start` to `end`, with times along it and where they stand."""

    start: datetime
    end: datetime
    lanes: tuple[Lane, ...]
    ticks: tuple[tuple[float, datetime], ...]


def time_line(
    moves: Sequence[StageEvent], traffic: Sequence[RolloutEvent], *, start: datetime, end: datetime
) -> TimeLine:
    """Draw what stages and aliases meant and what endpoints served, from events in any order.

    What began before `start` is cut there, and what ended before is left out.
    """
    found: dict[tuple[str, str], list[Stretch]] = {}
    for name in sorted({one.endpoint for one in traffic}):
        served = [
            (one.at, _served(one)) for one in traffic if one.endpoint == name and one.variants is not None
        ]
        found["endpoint", name] = list(_stretches(served))
    for kind, name in sorted({(one.kind, one.name) for one in moves}, reverse=True):
        meant = [(one.at, _meant(one)) for one in moves if (one.kind, one.name) == (kind, name)]
        found[kind, name] = list(_stretches(meant))
    length = (end - start).total_seconds() or 1.0

    def x(at: datetime) -> float:
        return WIDTH * (at - start).total_seconds() / length

    def placed(one: Stretch) -> Stretch:
        left, right = x(max(one.start, start)), x(min(one.end or end, end))
        return replace(one, x=left, width=max(right - left, 1.0))

    return TimeLine(
        start,
        end,
        tuple(
            Lane(kind, name, tuple(placed(one) for one in stretches if one.end is None or one.end > start))
            for (kind, name), stretches in found.items()
        ),
        tuple((WIDTH * i / _TICKS, start + (end - start) * i / _TICKS) for i in range(_TICKS)),
    )


def _meant(event: StageEvent) -> tuple[Stretch, ...]:
    return () if event.ref is None else (Stretch(event.ref, event.at, None),)


def _served(event: RolloutEvent) -> tuple[Stretch, ...]:
    """The versions that answer from an event on, the one that was there before above the one that comes."""
    found: list[Stretch] = []
    for one in sorted(event.variants or (), key=lambda it: it.name, reverse=True):
        if one.weight > 0:
            above = sum(it.share for it in found)
            found.append(
                Stretch(one.version, event.at, None, one.weight, above, is_canary=one.name == "canary")
            )
    return tuple(found)


def _stretches(states: Iterable[tuple[datetime, tuple[Stretch, ...]]]) -> Iterator[Stretch]:
    """What held from each event until the next one that changed it."""
    held: tuple[Stretch, ...] = ()
    for at, state in sorted(states, key=lambda one: one[0]):
        if _look(state) == _look(held):
            continue
        yield from (replace(one, end=at) for one in held)
        held = state
    yield from held


def _look(state: Sequence[Stretch]) -> list[tuple[str, float, bool]]:
    return [(one.version, one.share, one.is_canary) for one in state]
