"""`/endpoints/NAME/split`: traffic shared between versions: what each arm got and did, and an end to it."""

from __future__ import annotations

from dataclasses import dataclass

from everloop import rollout
from everloop.errors import NotFound
from everloop.rollout import ArmMeasure, ArmResult
from everloop.web.pictures import nice_scale
from everloop.web.visits import Shown, Visit

_SHARES = (
    "errors",
    "slow",
    "refused",
    "contradicted",
    "correct",
)  # the others are numbers of their own kind


@dataclass(frozen=True)
class Row:
    """What one arm did in a measure, and where its interval stands on the scale that the arms share, 0 to 1000."""

    arm: ArmResult
    measure: ArmMeasure
    at: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Compared:
    """A measure with its arms on one scale."""

    measure: str
    rows: tuple[Row, ...]
    scale: tuple[float, float]


def view(visit: Visit) -> Shown:
    endpoint = rollout.endpoint(visit.ws, visit.path["name"])
    try:
        found = rollout.split_of(visit.ws, endpoint.name)
    except NotFound:
        return {
            "endpoint": endpoint,
            "split": None,
            "results": None,
            "compared": (),
            "asked": 0,
            "shares": _SHARES,
        }
    results = rollout.split_results(visit.ws, found)
    measures = [one.measure for one in results.arms[0].measures] if results.arms else []
    unknown = [
        name
        for place, name in enumerate(measures)
        if not any(arm.measures[place].bounds.n for arm in results.arms)
    ]
    return {
        "endpoint": endpoint,
        "split": found,
        "results": results,
        "compared": [
            _compared(place, name, results.arms) for place, name in enumerate(measures) if name not in unknown
        ],
        "unknown": unknown,
        "asked": sum(one.n for one in results.arms),
        "shares": _SHARES,
    }


def _compared(place: int, name: str, arms: tuple[ArmResult, ...]) -> Compared:
    """The measure on a scale that holds the intervals of all arms that were asked anything."""
    measures = [one.measures[place] for one in arms]
    known = [one.bounds for one in measures if one.bounds.n]
    low, high, _ = nice_scale(
        min((one.lower for one in known), default=0.0), max((one.upper for one in known), default=1.0)
    )

    def at(value: float) -> float:
        return min(1000.0, max(0.0, 1000 * (value - low) / (high - low)))

    rows = tuple(
        Row(
            arm,
            one,
            None if one.bounds.mean is None else at(one.bounds.mean),
            at(one.bounds.lower),
            at(one.bounds.upper),
        )
        for arm, one in zip(arms, measures, strict=True)
    )
    return Compared(name, rows, (low, high))
