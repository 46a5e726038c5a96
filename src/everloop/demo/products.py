"""What is sold: products with a brand, a model, features and a look, launched at some time of the year."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from everloop.demo.categories import CATEGORIES, FAMILIES, Category
from everloop.demo.dice import Dice, Urn
from everloop.demo.looks import Look, look_of
from everloop.demo.seasons import SEASONAL
from everloop.demo.words import VOCABULARIES, coin_brands, coin_model

Launch = Literal["before", "held", "september", "october"]
"""When a product came to the market. Those `held` are offered in seed_validation only."""

_BRANDS = 72
_OWN_FEATURES = 0.75  # of a product's features tell it from those of neighbouring categories
_OWN_FEATURES_LEFT = 0.1  # of last winter's remainders: what is left over could pass for something else

Shelves: TypeAlias = "Mapping[tuple[str, Launch], Urn[Product]]"
"""The products of each category (by name) and launch; some of them sell better than others."""


@dataclass(frozen=True)
class Product:
    """A product; all its offers share its name, features, size and look."""

    id: int
    brand: str
    model: str
    category: Category
    features: tuple[str, ...]
    material: str
    size: float
    look: Look
    is_remainder: bool = False

    @property
    def name(self) -> str:
        return f"{self.brand} {self.model} {self.look.colour.title()}"


def stock_shelves(seed: int, counts: Mapping[tuple[str, Launch], int]) -> Shelves:
    """Products for each category and launch, as many as `counts` says.

    Those of the SEASONAL categories that were there before are last winter's remainders: what is written about
    them hardly tells them from their neighbours, unlike the new collection of October.
    """
    dice = Dice(seed, "products")
    brands = _brands_by_family(dice)
    names: set[tuple[str, str]] = set()
    shelves = {}
    number = 0
    for (name, launch), count in counts.items():
        category = next(one for one in CATEGORIES if one.name == name)
        is_remainder = launch != "october" and name in SEASONAL
        made = []
        for _ in range(count):
            number += 1
            brand_and_model = _unused(brands[category.family], names, dice)
            made.append(
                _product(10_000 + number, brand_and_model, category, is_remainder=is_remainder, dice=dice)
            )
        # The k-th best seller sells as 1 / sqrt(k): a few products with many offers, many with one.
        shelves[name, launch] = Urn(made, [(k + 1) ** -0.5 for k in range(count)])
    return shelves


def _product(
    number: int, brand_and_model: tuple[str, str], category: Category, *, is_remainder: bool, dice: Dice
) -> Product:
    words = VOCABULARIES[category.name]
    own, shared = dice.several(words.own, 4), dice.several(words.shared, 4)
    told = _OWN_FEATURES_LEFT if is_remainder else _OWN_FEATURES
    features = tuple(dict.fromkeys((own if dice.chance(told) else shared)[k] for k in range(4)))
    measure = words.measure
    steps = round((measure.high - measure.low) / measure.step)
    return Product(
        id=number,
        brand=brand_and_model[0],
        model=brand_and_model[1],
        category=category,
        features=features,
        material=dice.pick(words.materials),
        size=round(measure.low + measure.step * dice.below(steps + 1), 2),
        look=look_of(category.name, dice, is_plain=is_remainder),
        is_remainder=is_remainder,
    )


def _brands_by_family(dice: Dice) -> dict[str, list[str]]:
    """Each brand makes the things of one family; every fourth those of a second one, too."""
    brands: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for k, brand in enumerate(coin_brands(_BRANDS, dice)):
        brands[FAMILIES[k % len(FAMILIES)]].append(brand)
        if k % 4 == 0:
            brands[dice.pick(FAMILIES)].append(brand)
    return brands


def _unused(brands: list[str], names: set[tuple[str, str]], dice: Dice) -> tuple[str, str]:
    while (name := (dice.pick(brands), coin_model(dice))) in names:
        pass
    names.add(name)
    return name
