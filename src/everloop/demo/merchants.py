"""Who sells: merchants with a language, phrases, an order of words, a camera and categories of their own."""

from __future__ import annotations

from dataclasses import dataclass

from everloop.demo.categories import CATEGORIES, FAMILIES, Category
from everloop.demo.dice import Dice, Urn
from everloop.demo.photos import Camera, camera_of
from everloop.demo.words import Language

_LANGUAGES: Urn[Language] = Urn(("en", "de", "fr"), (0.76, 0.14, 0.10))
_ORDERS = (
    ("brand", "model", "noun", "features", "size", "colour"),
    ("brand", "noun", "model", "features", "colour", "size"),
    ("noun", "brand", "model", "colour", "features", "size"),
    ("brand", "model", "colour", "size", "noun", "features"),
    ("features", "brand", "noun", "model", "size", "colour"),
    ("noun", "features", "colour", "brand", "model", "size"),
)
_FIRST_ID, _LAST_ID = 100, 999


@dataclass(frozen=True)
class Merchant:
    """A merchant and its habits; shares are of its listings.

    `volume` is how much it sells relative to other merchants, `wants` how much of each category.
    """

    id: int
    volume: float
    wants: dict[Category, float]
    language: Language
    order: tuple[str, ...]
    separator: str
    case: str
    names_noun: float
    describes: float
    features: int
    shortens: float
    hype: float
    article_code: float
    misspells: float
    is_metric: bool
    is_sloppy: bool
    camera: Camera


def found_merchants(seed: int, *, established: int, new: int) -> tuple[list[Merchant], list[Merchant]]:
    """The merchants who were there from the start, a few large and many small, and those who arrive in month 2.

    Their numbers are drawn from one range, so that a number does not say who is new.
    """
    dice = Dice(seed, "merchants")
    ids = dice.several(range(_FIRST_ID, _LAST_ID + 1), established + new)
    known = [_merchant(one, rank=k, dice=dice) for k, one in enumerate(ids[:established])]
    return known, [_merchant(one, rank=established // 3, dice=dice) for one in ids[established:]]


def _merchant(number: int, *, rank: int, dice: Dice) -> Merchant:
    return Merchant(
        id=number,
        volume=(rank + 3) ** -0.9,  # a few large ones, many small ones
        wants=_wants(dice),
        language=_LANGUAGES.draw(dice),
        order=dice.pick(_ORDERS),
        separator=dice.pick((" ", " ", " ", " - ", " | ", ", ")),
        case=dice.pick(("lower", "lower", "title", "plain", "upper")),
        names_noun=dice.between(0.2, 0.75),
        describes=dice.between(0.1, 0.5),
        features=dice.below(3),
        shortens=dice.pick((0.0, 0.0, 0.2, 0.8)),
        hype=dice.pick((0.0, 0.0, 0.1, 0.5)),
        article_code=dice.pick((0.0, 0.0, 0.3)),
        misspells=dice.between(0.0, 0.08),
        is_metric=dice.chance(0.75),
        is_sloppy=dice.chance(0.1),
        camera=camera_of(dice),
    )


def _wants(dice: Dice) -> dict[Category, float]:
    """Two families are a merchant's trade; of the rest it sells a little."""
    first, second = dice.several(FAMILIES, 2)
    trade = {first: 1.0, second: 0.5}
    return {one: trade.get(one.family, 0.08) * dice.pick((0.3, 1.0, 1.0, 1.7)) for one in CATEGORIES}
