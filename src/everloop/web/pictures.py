"""What the picture of a check's result shows, on a scale of its own: from its plot, or from the numbers it kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import floor, isfinite, log10
from typing import Any, Literal

from everloop.checks import CheckResult, Point

Kind = Literal["bars", "intervals", "curve"]
_MOST = 40  # things in one picture
_TICKS = 4


@dataclass(frozen=True)
class Picture:
    """Things on a common scale, with limits (a value and what it says) across all of them.

    `bars` are amounts from 0, `intervals` estimates, a `curve` has numbers on both axes. `title` names what is measured.
    """

    kind: Kind
    title: str
    spots: tuple[Point, ...]
    limits: tuple[tuple[float, str], ...] = ()
    left_out: int = 0
    at: str = ""
    scale: tuple[float, float] = field(init=False)
    ticks: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        every = [
            number
            for one in self.spots
            for number in (one.value, one.low, one.high, one.expected)
            if number is not None and isfinite(number)
        ]
        every += [limit for limit, _ in self.limits]
        if self.kind == "bars":
            every.append(0.0)
        if self.kind == "curve":
            every += [one.at for one in self.spots if not isinstance(one.at, str)]
        low, high, step = nice_scale(min(every, default=0.0), max(every, default=1.0))
        object.__setattr__(self, "scale", (low, high))
        number = round((high - low) / step)
        object.__setattr__(self, "ticks", tuple(_plain(low + step * i) for i in range(number + 1)))

    def place(self, value: float) -> float:
        """Where a value stands, 0 to 1000."""
        low, high = self.scale
        return min(1000.0, max(0.0, 1000 * (value - low) / (high - low)))

    @property
    def has_series(self) -> bool:
        return len({one.series for one in self.spots}) > 1


def nice_scale(low: float, high: float) -> tuple[float, float, float]:
    """A scale that holds both, with round ends and a round step.

    >>> nice_scale(0.82, 0.97), nice_scale(0.0, 1234.0), nice_scale(0.5, 0.5)
    ((0.8, 1.0, 0.05), (0.0, 1500.0, 500.0), (0.45, 0.55, 0.025))
    """
    if high <= low:
        pad = abs(low) / 10 or 0.5
        low, high = low - pad, high + pad
    rough = (high - low) / _TICKS
    power = 10.0 ** floor(log10(rough))
    step = next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= rough * 0.999)
    first, last = floor(low / step + 1e-9), -floor(-high / step + 1e-9)
    return _plain(first * step), _plain(last * step), _plain(step)


def picture_of(result: CheckResult) -> Picture | None:
    """The picture of a result; None where one number says it all."""
    plot = result.plot
    if plot is not None:
        limits = tuple((one.value, one.says) for one in plot.limits)
        return Picture(plot.kind, plot.value, plot.points, limits, plot.left_out, plot.at)
    make = _OF_DETAILS.get(result.name.partition(":")[0], _of_threshold)
    try:
        return make(result)
    except (KeyError, TypeError):  # a check of this name that keeps something else, now or in an older report
        return None


def _of_threshold(result: CheckResult) -> Picture | None:
    """A metric with its interval against its limit, or against the live version's."""
    numbers = result.numbers
    value, limit, live = (numbers.get(one) for one in ("value", "limit", "live"))
    metric = result.name.partition(":")[0].replace("_", " ")
    low, high = numbers.get("low"), numbers.get("high")
    better_by, margin = numbers.get("better_by"), numbers.get("margin")
    if better_by is not None and value is not None and live is not None:
        spots = (
            Point("this version", value),
            Point("the live version", live),
        )
        if low is None or high is None:
            return Picture("bars", metric, spots)
        return Picture(
            "intervals",
            f"{metric}, better than the live version by",
            (Point("better by", better_by, low, high, is_marked=result.verdict != "passed"),),
            ((0.0, "as good as live"), *(((-margin, "the most it may be below"),) if margin else ())),
        )
    if value is None or limit is None:
        return None
    spot = Point("this version", value, low, high, is_marked=result.verdict != "passed")
    return Picture("intervals", metric, (spot,), ((limit, "the gate's limit"),))


def _of_slices(result: CheckResult) -> Picture | None:
    overall = result.numbers.get("overall")
    spots = [
        Point(
            f"{one['column']} = {one['value']}",
            one["quality"],
            one["low"],
            one["high"],
            expected=one["others"],
            rows=one["rows"],
        )
        for one in result.details
    ]
    return _made("intervals", "quality", spots, {"on all rows": overall})


def _of_calibration(result: CheckResult) -> Picture | None:
    spots = [
        Point(one["probability"], one["right"], expected=one["probability"], rows=one["rows"])
        for one in result.details
    ]
    return _made("curve", "share of right answers", spots, {}, at="mean probability of the answer")


def _of_fairness(result: CheckResult) -> Picture | None:
    groups = [one for one in result.details if "favourable" in one and "group" in one]
    spots = [
        Point(
            f"{one['by']} = {one['group']}",
            float(one[rate]),
            rows=one["rows"],
            series=f"{rate} of {one['favourable']}",
        )
        for rate in ("selected", "true_positive_rate", "false_positive_rate")
        for one in groups
        if one.get(rate) is not None
    ]
    return _made("bars", "share of rows that get the answer", spots, {})


def _of_robustness(result: CheckResult) -> Picture | None:
    spots = [Point(one["by"], one["lost"], one["low"], one["high"]) for one in result.details]
    return _made("intervals", "quality lost", spots, {"the gate's limit": result.numbers.get("limit")})


def _of_drift(result: CheckResult) -> Picture | None:
    spots = [Point(one["column"], one["distance"], expected=one["chance"]) for one in result.details]
    return _made("bars", "distance from the last snapshot", spots, {})


def _of_classes(result: CheckResult) -> Picture | None:
    spots = [
        Point(one["class"], one[f"{side}_rows"], series=side)
        for one in result.details
        for side in ("train", "test")
    ]
    return _made("bars", "rows", spots, {})


def _of_leakage(result: CheckResult) -> Picture | None:
    spots = [
        Point(
            one["column"],
            one["skill"],
            one["skill_at_least"],
            rows=one["rows"],
            is_marked=one["level"] == "certain",
        )
        for one in result.details
        if one["skill"] is not None
    ]
    return _made("bars", "share of the errors that the column alone removes", spots, {})


_OF_DETAILS = {
    "slices": _of_slices,
    "calibration": _of_calibration,
    "fairness": _of_fairness,
    "robustness": _of_robustness,
    "drift": _of_drift,
    "classes": _of_classes,
    "leakage": _of_leakage,
}


def _made(
    kind: Kind, title: str, spots: Iterable[Point], limits: Mapping[str, Any], *, at: str = ""
) -> Picture | None:
    every = list(spots)
    if not every:
        return None
    drawn = tuple((float(value), says) for says, value in limits.items() if value is not None)
    return Picture(kind, title, tuple(every[:_MOST]), drawn, max(0, len(every) - _MOST), at)


def _plain(value: float) -> float:
    return float(f"{value:.9g}")
