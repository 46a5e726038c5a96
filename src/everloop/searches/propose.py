"""What is tried next: pure functions of the space, the seed, the trial's number and the trials there are."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any, Protocol

from everloop.errors import Invalid, MissingExtra
from everloop.searches.records import Plan, Trial

GROUP = "everloop.searchers"
_MOST_GRID = 100_000


class Searcher(Protocol):
    """Proposes trials; made with the plan."""

    def propose(self, number: int, trials: Sequence[Trial]) -> dict[str, Any] | None:
        """The parameters of a trial, given all that began before it; None: there is nothing more to try."""
        ...


class Grid:
    """Every combination, in order."""

    def __init__(self, plan: Plan) -> None:
        self._names = list(plan.space)
        self._values = []
        for name, one in plan.space.items():
            if (values := one.all_values()) is None:
                raise Invalid(
                    f"a grid needs the values of {name!r}, and there is no end of numbers between two. Name them: "
                    "el.choice(0.1, 1, 10); or search by 'random'."
                )
            self._values.append(values)
        size = math.prod(map(len, self._values))
        if size > _MOST_GRID:
            raise Invalid(
                f"the grid has {size:,} combinations; that is {_MOST_GRID:,} at most. Search by 'random'."
            )

    def propose(self, number: int, trials: Sequence[Trial]) -> dict[str, Any] | None:
        values = next(itertools.islice(itertools.product(*self._values), number, None), None)
        return None if values is None else dict(zip(self._names, values, strict=True))


class Random:
    """Each parameter drawn for itself, the same ones again for the same seed and number."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def propose(self, number: int, trials: Sequence[Trial]) -> dict[str, Any] | None:
        chance = random.Random(f"{self._plan.seed}:{number}")  # noqa: S311  (to be drawn again, not to be secret)
        return {name: one.draw(chance) for name, one in self._plan.space.items()}


def searcher_of(plan: Plan) -> Searcher:
    """The plan's way to propose trials.

    Raises
    ------
    Invalid
        There is no such way, or it cannot search this space.
    MissingExtra
        It needs a package that is not installed.
    """
    if plan.method == "grid":
        return Grid(plan)
    if plan.method == "random":
        return Random(plan)
    found = {one.name: one for one in entry_points(group=GROUP)}
    if plan.method not in found:
        raise Invalid(
            f"there is no searcher {plan.method!r}; there are grid, random, {', '.join(found) or 'no others'}."
        )
    try:
        made: Searcher = found[plan.method].load()(plan)
    except ModuleNotFoundError as error:
        raise MissingExtra(plan.method, needed_for=f"a search by {plan.method!r}") from error
    return made
