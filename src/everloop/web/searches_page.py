"""`/searches` and `/searches/ID`: which parameters were tried, what came of each, and which did best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log10
from typing import Any

from everloop import searches
from everloop.searches import Search, Trial
from everloop.web.pictures import nice_scale
from everloop.web.visits import Shown, Visit

_PAGE = 50
_SEARCHES = 100
_ORDERS = ("best", "begun")


@dataclass(frozen=True)
class Mark:
    """A trial in a plot: where it stands, 0 to 1000 each way, from the left and from below."""

    number: int
    run: str
    x: float
    y: float
    value: float
    state: str
    is_best: bool


@dataclass(frozen=True)
class Plot:
    """The trials' values over one thing: the order they began, or a parameter.

    `ends` are words at its left and right, or when `is_even` in the middle of equal parts.
    """

    title: str
    marks: tuple[Mark, ...]
    ends: tuple[str, ...]
    is_even: bool = False
    best_so_far: str | None = None


def view(visit: Visit) -> Shown:
    return {"searches": searches.searches(visit.ws, limit=_SEARCHES), "most": _SEARCHES}


def view_one(visit: Visit) -> Shown:
    search = searches.find(visit.ws, visit.path["id"])
    trials = searches.trials(visit.ws, search.id)
    order = "begun" if visit.query.get("order") == "begun" else "best"
    text = visit.query.get("first", "")
    first = int(text) if text.isdigit() and len(text) < 9 else 0
    lined_up = trials if order == "begun" else sorted(trials, key=lambda one: _rank(search, one))
    states = [one.state for one in trials]
    scale = _scale(trials)
    return {
        "search": search,
        "space": {name: one.as_json() for name, one in search.plan.space.items()},
        "counts": {
            one: states.count(one) for one in ("running", "done", "stopped", "failed") if one in states
        },
        "trials": lined_up[first : first + _PAGE],
        "all": len(trials),
        "first": first,
        "page": _PAGE,
        "order": order,
        "names": list(search.plan.space),
        "scale": scale,
        "drawn": list(_plots(search, trials, scale)) if scale else [],
    }


def _rank(search: Search, one: Trial) -> tuple[int, float, int]:
    """Those that came to their end first, the best of them first; then those that were stopped, and the rest."""
    value = one.value or 0.0
    place = (
        2
        if one.value is None
        else ("done", "stopped").index(one.state)
        if one.state in ("done", "stopped")
        else 2
    )
    return place, -value if search.plan.highest else value, one.number


def _scale(trials: list[Trial]) -> tuple[float, float] | None:
    """From the lowest to the highest value, with round ends; None before there are two trials with one."""
    values = [one.value for one in trials if one.value is not None]
    if len(values) < 2:
        return None
    low, high, _ = nice_scale(min(values), max(values))
    return low, high


def _plots(search: Search, trials: list[Trial], scale: tuple[float, float]) -> Iterator[Plot]:
    valued = [one for one in trials if one.value is not None]
    last = max(one.number for one in valued)
    places = {one.number: one.number / max(1, last) for one in valued}
    marks = _marks(search, valued, places, scale)
    yield Plot("In the order they began", marks, ("first", "newest"), best_so_far=_best_so_far(search, marks))
    for name, spec in search.plan.space.items():
        asked: dict[str, Any] = spec.as_json()
        if "choice" in asked:
            choices: list[Any] = asked["choice"]
            ends = (
                tuple(str(one) for one in choices)
                if len(choices) <= 6
                else (str(choices[0]), str(choices[-1]))
            )
            places = {one.number: (choices.index(one.params[name]) + 0.5) / len(choices) for one in valued}
        else:
            low, high = asked["between"]
            ends = (f"{low:g}", f"{high:g}, by size" if asked["log"] else f"{high:g}")
            places = {
                one.number: _between(float(one.params[name]), low, high, is_log=asked["log"])
                for one in valued
            }
        is_even = "choice" in asked and len(ends) == len(asked["choice"])
        yield Plot(name, _marks(search, valued, places, scale), ends, is_even=is_even)


def _between(value: float, low: float, high: float, *, is_log: bool) -> float:
    if is_log:
        value, low, high = log10(value), log10(low), log10(high)
    return (value - low) / (high - low) if high > low else 0.5


def _marks(
    search: Search, trials: list[Trial], places: dict[int, float], scale: tuple[float, float]
) -> tuple[Mark, ...]:
    low, high = scale
    best = None if search.best is None else search.best.number
    return tuple(
        Mark(
            number=one.number,
            run=one.run,
            x=1000 * places[one.number],
            y=1000 * (one.value - low) / (high - low),
            value=one.value,
            state=one.state,
            is_best=one.number == best,
        )
        for one in trials
        if one.value is not None
    )


def _best_so_far(search: Search, marks: tuple[Mark, ...]) -> str | None:
    """A stair over the trials that came to their end, as the points of a path in a box of 1000 by 1000 with y down."""
    better = max if search.plan.highest else min
    path, best = [], None
    for one in marks:
        if one.state != "done":
            continue
        now = one.y if best is None else better(best, one.y)
        path.append(f"M{one.x:.0f} {1000 - now:.0f}" if best is None else f"H{one.x:.0f}V{1000 - now:.0f}")
        best = now
    return "".join([*path, "H1000"]) if path else None
