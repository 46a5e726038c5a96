"""What may be tried: for each parameter a choice of values, or a range of numbers."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from everloop.errors import Invalid
from everloop.pipelines import Between

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


def space_from_json(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, Choice | Between]:
    """A space from its stored form."""
    return {name: _one_from_json(one) for name, one in stored.items()}


def _one_from_json(stored: Mapping[str, Any]) -> Choice | Between:
    if "choice" in stored:
        return Choice(tuple(stored["choice"]))
    low, high = stored["between"]
    return Between(low, high, stored["log"])
