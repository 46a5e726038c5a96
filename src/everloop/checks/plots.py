"""What a result's picture shows, as numbers: every check gives the same shape, and whoever draws decides how it looks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from everloop.errors import Invalid

MOST_POINTS = 40

PlotKind = Literal["bars", "intervals", "curve"]


@dataclass(frozen=True)
class Point:
    """One thing in a picture.

    `at` is its place: a name, or in a curve a number. `value` is what was measured there, with its 95 % interval from
    `low` to `high`. `expected` is what this point alone would have to be, or what chance gives. `series` tells points
    at the same place apart. `is_marked`: the verdict rests on it.
    """

    at: str | float
    value: float
    low: float | None = None
    high: float | None = None
    expected: float | None = None
    rows: int | None = None
    series: str = ""
    is_marked: bool = False


@dataclass(frozen=True)
class Limit:
    """A value that all points are held against, and what lies beyond it."""

    value: float
    says: str


@dataclass(frozen=True)
class Plot:
    """Points, limits and the names of both axes.

    `bars` are amounts from 0, `intervals` estimates at named places, a `curve` has numbers on both axes. At most 40
    points, those that matter most first; `left_out` says how many more there were.
    """

    kind: PlotKind
    at: str
    value: str
    points: tuple[Point, ...]
    limits: tuple[Limit, ...] = field(default=())
    left_out: int = 0

    def as_json(self) -> dict[str, Any]:
        """What is stored: nothing that is empty."""
        kept = {**asdict(self), "points": [_filled(one) for one in self.points]}
        return {name: value for name, value in kept.items() if value or name != "left_out"}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Plot:
        return cls(
            kind=stored["kind"],
            at=stored["at"],
            value=stored["value"],
            points=tuple(Point(**one) for one in stored["points"]),
            limits=tuple(Limit(**one) for one in stored["limits"]),
            left_out=stored.get("left_out", 0),
        )


def _filled(one: Point) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(one).items()
        if not (value is None or value is False or value == "")
    }


def plot(
    kind: PlotKind,
    points: Iterable[Point],
    *,
    at: str,
    value: str,
    limits: Mapping[str, float | None] | None = None,
) -> Plot | None:
    """A picture of the points that are finite, in their order; None where none is.

    `limits` are values by what they say; None is no limit.
    """
    finite = [one for one in points if _is_finite(one)]
    if not finite:
        return None
    said = tuple(Limit(_short(place), says) for says, place in (limits or {}).items() if place is not None)
    kept = tuple(_plain(one) for one in finite[:MOST_POINTS])
    return Plot(kind, at, value, kept, said, max(0, len(finite) - MOST_POINTS))


def settled(made: Plot) -> Plot:
    """A user's own picture as it is stored. Raises Invalid for one that could not be stored or drawn."""
    if not isinstance(made, Plot):
        raise Invalid(
            f"the plot is a {type(made).__name__}; it is an el.Plot of el.Points. Give one or None."
        )
    if made.kind not in get_args(PlotKind):
        raise Invalid(
            f"the plot's kind is {made.kind!r}; it is one of {', '.join(get_args(PlotKind))}. Name one."
        )
    if not all(_is_finite(one) for one in made.points):
        raise Invalid(
            "a point of the plot is not finite; numbers of a plot are, or None. Leave the point out."
        )
    limits = {one.says: one.value for one in made.limits}
    return plot(made.kind, made.points, at=made.at, value=made.value, limits=limits) or replace(
        made, points=()
    )


def _is_finite(one: Point) -> bool:
    numbers = [one.value, one.low, one.high, one.expected, None if isinstance(one.at, str) else one.at]
    return all(math.isfinite(number) for number in numbers if number is not None)


def _plain(one: Point) -> Point:
    """With plain numbers of six digits."""
    low, high, expected = (None if it is None else _short(it) for it in (one.low, one.high, one.expected))
    return Point(
        at=one.at if isinstance(one.at, str) else _short(one.at),
        value=_short(one.value),
        low=low,
        high=high,
        expected=expected,
        rows=None if one.rows is None else int(one.rows),
        series=one.series,
        is_marked=bool(one.is_marked),
    )


def _short(value: float) -> float:
    return float(f"{value:.6g}")
