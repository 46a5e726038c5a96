"""Chance that depends on the seed and on a name only.

Each part of the simulated marketplace throws dice of its own name, so that changing one part leaves the others as
they were.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import MutableSequence, Sequence
from itertools import accumulate
from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")


class Dice:
    """A stream of draws named `name` in the world of `seed`; the same two give the same stream.

    Of Python's own generator only `random()` is used: it gives the same numbers in every version, `shuffle` does not.
    """

    def __init__(self, seed: int, name: str) -> None:
        self._random = Random(f"{seed} {name}")  # noqa: S311  (a simulation, not a secret)

    def unit(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def below(self, count: int) -> int:
        """A whole number from 0 to count - 1."""
        return int(self.unit() * count)

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def pick(self, among: Sequence[T]) -> T:
        return among[self.below(len(among))]

    def several(self, among: Sequence[T], count: int) -> list[T]:
        """`count` different ones, or all of them in a new order when there are fewer."""
        left = list(among)
        self.shuffle(left)
        return left[:count]

    def shuffle(self, items: MutableSequence[T]) -> None:
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]


class Urn(Generic[T]):
    """Things with weights; a draw puts the thing back."""

    def __init__(self, things: Sequence[T], weights: Sequence[float]) -> None:
        self._things = things
        self._sums = list(accumulate(weights))

    def draw(self, dice: Dice) -> T:
        return self._at(dice.unit())

    def shares(self, count: int, dice: Dice) -> list[T]:
        """`count` things in no order, each as often as its weight says, to within one."""
        things = [self._at((k + dice.unit()) / count) for k in range(count)]
        dice.shuffle(things)
        return things

    def _at(self, place: float) -> T:
        return self._things[min(bisect_right(self._sums, place * self._sums[-1]), len(self._things) - 1)]
