"""What an explanation says, and how the many numbers that a model sees become a few about the inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

MOST_WORDS = 10
Method = Literal["linear", "tree paths", "tree shap", "shapley", "sampled shapley"]


class Word(msgspec.Struct, frozen=True):
    """What one word or category of an input added; `value` is the number that the model saw for it, 0 where it is absent."""

    part: str
    value: float
    contribution: float


class Contribution(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an input or feature added to the score: that of its `parts`, largest first, and of those not listed, the `rest`."""

    input: str
    contribution: float
    parts: tuple[Word, ...] = ()
    rest: float = 0.0


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a model answered as it did: `base` and all contributions add up to `score`.

    `of` says what the score is: log-odds, a decision value, a raw score, a probability or the number itself. `compared_with` is
    the row whose score is the base, where the model was asked about rows in between.
    """

    method: Method
    of: str
    score: float
    base: float
    contributions: tuple[Contribution, ...]
    label: str | None = msgspec.field(default=None, name="class")
    compared_with: dict[str, Any] | None = None


def added_up(names: Sequence[str], seen: Sequence[tuple[int, str, float, float]]) -> tuple[Contribution, ...]:
    """One contribution for each name, the largest first.

    Parameters
    ----------
    seen
        Of each number that the model saw and that counted: the position of its name, its part (empty: it has none), its value
        and what it added.
    """
    totals = [0.0] * len(names)
    parts: dict[int, list[Word]] = {}
    for position, part, value, amount in seen:
        totals[position] += amount
        if part:
            parts.setdefault(position, []).append(Word(part, value, amount))
    found = [_contribution(name, totals[place], parts.get(place, [])) for place, name in enumerate(names)]
    return tuple(sorted(found, key=lambda one: -abs(one.contribution)))


def _contribution(name: str, total: float, parts: list[Word]) -> Contribution:
    listed = tuple(sorted(parts, key=lambda one: -abs(one.contribution))[:MOST_WORDS])
    return Contribution(
        name, total, listed, total - sum(one.contribution for one in listed) if listed else 0.0
    )
