"""The labels of the seed as people gave them: a few wrong, a few listings entered twice, some with two labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from everloop.demo.categories import CATEGORIES, Category, neighbours
from everloop.demo.dice import Dice

Flaw = Literal["", "wrong label", "duplicate", "conflict"]

WRONG_LABELS = 0.015
"""Share of the seed's rows with a wrong label of their own."""

CONFLICTS = 0.005
"""Share that copy an earlier row, but with another, wrong label: with WRONG_LABELS, 2 % of the labels are wrong."""

DUPLICATES = 0.015
"""Share that copy an earlier row, its label included."""

_FAMILY = 0.8  # of the wrong labels lie in the right family


@dataclass(frozen=True)
class SeedLabel:
    """One row of the seed: which listing's content it shows, the label it was given, and what is wrong with it."""

    listing: int
    label: Category
    flaw: Flaw


def originals_of(rows: int) -> int:
    """How many different listings a seed of so many rows has; the others are copies."""
    return rows - round(DUPLICATES * rows) - round(CONFLICTS * rows)


def flawed_labels(seed: int, truth: Sequence[Category], *, rows: int) -> list[SeedLabel]:
    """Labels for `rows` rows: the originals in their order, then the copies.

    `truth` holds the right categories of the originals, `originals_of(rows)` of them. No row is copied twice and
    none with a wrong label is copied.
    """
    dice = Dice(seed, "seed labels")
    chosen = dice.several(range(len(truth)), round(WRONG_LABELS * rows) + rows - len(truth))
    wrong = set(chosen[len(chosen) - round(WRONG_LABELS * rows) :])
    labels = [
        SeedLabel(k, mistaken(right, dice), "wrong label") if k in wrong else SeedLabel(k, right, "")
        for k, right in enumerate(truth)
    ]
    for number, k in enumerate(chosen[: rows - len(truth)]):
        if number < round(DUPLICATES * rows):
            labels.append(SeedLabel(k, truth[k], "duplicate"))
        else:
            labels.append(SeedLabel(k, mistaken(truth[k], dice), "conflict"))
    return labels


def mistaken(right: Category, dice: Dice) -> Category:
    """A wrong category, mostly one of the same family."""
    if dice.chance(_FAMILY):
        return dice.pick(neighbours(right))
    return dice.pick([one for one in CATEGORIES if one != right])
