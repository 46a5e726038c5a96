"""What the judge saw, look by look, against its bounds: the charts of a rollout. Pure functions of its looks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import floor, log10
from typing import Any

from everloop.rollout import RolloutEvent, Stage
from everloop.web.words import count, number

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 410, 22, 138  # of the frame that `drawn.html` draws, 420 by 160
_MARGINS = 3.0  # an excess is drawn up to so many times its margin
_MOST_E = 1e4  # times the bound: more evidence than that looks the same


@dataclass(frozen=True)
class Seen:
    """One metric at one look; `requests` is how many of the new version it counted since the rollout began."""

    event: RolloutEvent
    requests: float
    verdict: dict[str, Any]

    @property
    def stage(self) -> int:
        """The stage that was judged; a rollout that went on is in the next one by then."""
        stage = self.event.stage or 0
        return stage - 1 if stage and self.event.act in ("advanced", "finished") else stage

    @property
    def in_words(self) -> str:
        counts, upper = self.verdict["counts"], self.verdict["excess_upper"]
        if means := self.verdict.get("means"):
            canary, control = ("unknown" if one is None else number(one) for one in means)
            return (
                f"{count(counts['canary_total'])} numbers, {canary} in the mean; control {count(counts['control_total'])}, "
                f"{control}: e = {number(self.verdict['e_value'])}, worse by at most {number(abs(self.verdict['span']) * upper)}"
            )
        return (
            f"{count(counts['canary_total'])} requests, {count(counts['canary_bad'])} bad; control "
            f"{count(counts['control_bad'])} of {count(counts['control_total'])}: e = {number(self.verdict['e_value'])}, excess at "
            f"most {100 * upper:.2f} points"
        )


@dataclass(frozen=True)
class Chart:
    """Lines in the frame; `limits` and `ticks` are heights with what they say, `stages` places."""

    lines: tuple[tuple[str, str], ...]  # class, points
    bands: tuple[str, ...]
    spots: tuple[tuple[float, float, str], ...]
    limits: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    stages: tuple[tuple[float, str], ...]
    most_requests: float


@dataclass(frozen=True)
class Charts:
    """A metric's evidence of harm against its bound, and its excess against its margin where it has one."""

    metric: str
    seen: tuple[Seen, ...]
    evidence: Chart
    excess: Chart | None


def charts_of(looks: Sequence[RolloutEvent], stages: Sequence[Stage]) -> list[Charts]:
    """The charts of each metric that any look of the rollout knows, from looks in the order of time."""
    metrics = dict.fromkeys(
        one["metric"] for look in looks if look.decision for one in look.decision["metrics"]
    )
    return [_charts(metric, _seen(metric, looks), stages) for metric in metrics]


def _seen(metric: str, looks: Iterable[RolloutEvent]) -> tuple[Seen, ...]:
    """The metric's looks, on an axis that goes on where the counting begins anew: after a shadow its pairs are behind."""
    found: list[Seen] = []
    behind = 0
    last = 0
    for look in looks:
        verdict = next(
            (one for one in (look.decision or {"metrics": ()})["metrics"] if one["metric"] == metric), None
        )
        if verdict is None:
            continue
        total = verdict["counts"]["canary_total"]
        if total < last:
            behind += last
        last = total
        found.append(Seen(look, behind + total, verdict))
    return tuple(found)


def _charts(metric: str, seen: tuple[Seen, ...], stages: Sequence[Stage]) -> Charts:
    margin = seen[-1].verdict["excess_at_most"]
    most = max(1.0, seen[-1].requests)
    x = _scale(0.0, most, _LEFT, _RIGHT)
    marks = tuple(_stages(seen, stages, x))
    excess = None if margin is None else _excess(seen, margin, x, marks, most)
    return Charts(metric, seen, _evidence(seen, x, marks, most), excess)


def _evidence(
    seen: Sequence[Seen],
    x: Callable[[float], float],
    marks: tuple[tuple[float, str], ...],
    most: float,
) -> Chart:
    """E-values on a scale of their logarithms, from 1 (no evidence at all) to beyond the bound."""
    bound = float(seen[-1].verdict["e_bound"])
    highest = max(bound * 3, min(bound * _MOST_E, max(one.verdict["e_value"] for one in seen)))
    height = _scale(0.0, log10(highest), _BOTTOM, _TOP)

    def y(value: float) -> float:
        return height(log10(min(highest, max(1.0, value))))

    step = max(1, round(log10(highest) / 3))
    ticks = tuple((y(10.0**power), f"{10**power:,}") for power in range(0, floor(log10(highest)) + 1, step))
    spots = tuple((x(one.requests), y(one.verdict["e_value"]), one.in_words) for one in seen)
    tone = "failed" if seen[-1].verdict["says"] == "roll_back" else "ok"
    line = (tone, _points((at, height) for at, height, _ in spots))
    return Chart((line,), (), spots, ((y(bound), f"rolls back at {bound:g}"),), ticks, marks, most)


def _excess(
    seen: Sequence[Seen],
    margin: float,
    x: Callable[[float], float],
    marks: tuple[tuple[float, str], ...],
    most: float,
) -> Chart:
    """The bound of each stage for itself, since it is about that stage's requests alone; a band where both ends are known."""
    lowers = [one.verdict.get("excess_lower") for one in seen]
    least = min([0.0, *(one for one in lowers if one is not None)])
    lowest, highest = max(least, -margin * _MARGINS), margin * _MARGINS
    height = _scale(lowest, highest, _BOTTOM, _TOP)

    def y(value: float) -> float:
        return height(min(highest, max(lowest, value)))

    lines: list[tuple[str, str]] = []
    bands: list[str] = []
    for _, group in groupby(seen, key=lambda one: one.stage):
        of_stage = list(group)
        upper = [(x(one.requests), y(one.verdict["excess_upper"])) for one in of_stage]
        lower = [
            (x(one.requests), y(low))
            for one in of_stage
            if (low := one.verdict.get("excess_lower")) is not None
        ]
        if lower:
            bands.append(_points([*upper, *reversed(lower)]))
        means = [
            (x(one.requests), y(one.verdict["excess"]))
            for one in of_stage
            if one.verdict["excess"] is not None
        ]
        lines.append(("mean", _points(means)))
        is_shown = of_stage[-1].verdict["excess_upper"] < margin
        lines.append(("ok" if is_shown else "attention", _points(upper)))
    spots = tuple((x(one.requests), y(one.verdict["excess_upper"]), one.in_words) for one in seen)
    ticks = [(y(0.0), "0"), (y(highest), f"{number(100 * highest)} pt")]
    if lowest < 0:
        ticks.append((y(lowest), f"{number(100 * lowest)} pt"))
    limits = ((y(margin), f"goes on under {number(100 * margin)} pt"),)
    return Chart(tuple(lines), tuple(bands), spots, limits, tuple(ticks), marks, most)


def _stages(
    seen: Sequence[Seen], stages: Sequence[Stage], x: Callable[[float], float]
) -> Iterable[tuple[float, str]]:
    """Where each stage that was looked at begins: where the one before was left."""
    left_at = 0.0
    for number_, group in groupby(seen, key=lambda one: one.stage):
        stage = stages[number_]
        yield x(left_at), f"shadow {stage.mirrored:g} %" if stage.mirrored else f"{stage.weight:g} %"
        left_at = list(group)[-1].requests


def _scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: first + (last - first) * (value - low) / span


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
