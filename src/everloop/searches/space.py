"""What may be tried: for each parameter a choice of values, or a range of numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from everloop.errors import Invalid

Value = None | bool | int | float | str


@dataclass(frozen=True)
class Choice:
    """One of these values."""

    values: tuple[Value, ...]

    def draw(self, chance: random.Random) -> Value:
        return chance.choice(self.values)

    def all_values(self) -> tuple[Value, ...] | None:
        return self.values

    def as_json(self) -> dict[str, Any]:
        return {"choice": list(self.values)}


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, both included; whole ones if both are. `log`: each doubling is as likely."""

    low: float
    high: float
    log: bool = False

    @property
    def is_whole(self) -> bool:
        return type(self.low) is int and type(self.high) is int

    def draw(self, chance: random.Random) -> Value:
        if not self.log:
            return (
                chance.randint(int(self.low), int(self.high))
                if self.is_whole
                else chance.uniform(self.low, self.high)
            )
        # for whole numbers each stands for the reals that round to it, so that the ends are not half as likely
        half = 0.5 if self.is_whole else 0.0
        drawn = math.exp(chance.uniform(math.log(self.low - half), math.log(self.high + half)))
        bounded = min(max(round(drawn) if self.is_whole else drawn, self.low), self.high)
        return int(bounded) if self.is_whole else bounded

    def all_values(self) -> tuple[Value, ...] | None:
        return tuple(range(int(self.low), int(self.high) + 1)) if self.is_whole and not self.log else None

    def as_json(self) -> dict[str, Any]:
        return {"between": [self.low, self.high], "log": self.log}


Space = Mapping[str, Choice | Between]


def choice(*values: Value) -> Choice:
    """One of these values."""
    if not values:
        raise Invalid(
            "choice() was given no value; name those that may be tried: el.choice('linear', 'forest')."
        )
    for value in values:
        if value is not None and type(value) not in (bool, int, float, str):
            raise Invalid(f"choice() was given {value!r}; a value is None, a truth, a number or a text.")
    return Choice(values)


def between(low: float, high: float, *, log: bool = False) -> Between:
    """A number from `low` to `high`, both included; a whole one if both are whole.

    Parameters
    ----------
    log
        Small numbers are as likely as large ones: for what matters by its order of magnitude.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        raise Invalid(f"between({low}, {high}) has no numbers in it; state the lower one first.")
    if log and low <= 0:
        raise Invalid(f"between({low}, {high}, log=True): a logarithm needs numbers above 0.")
    return Between(low, high, log)


def space_from_json(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, Choice | Between]:
    """A space from its stored form."""
    return {name: _one_from_json(one) for name, one in stored.items()}


def _one_from_json(stored: Mapping[str, Any]) -> Choice | Between:
    if "choice" in stored:
        return Choice(tuple(stored["choice"]))
    low, high = stored["between"]
    return Between(low, high, stored["log"])
