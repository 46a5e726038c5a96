"""What is sold: products with a brand, a model, features and a look, launched at some time of the year."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

from everloop.demo.categories import FAMILIES, Category
from everloop.demo.dice import Dice
from everloop.demo.looks import Look, look_of
from everloop.demo.seasons import SEASONAL
from everloop.demo.words import VOCABULARIES, coin_brands, coin_model

Launch = Literal["before", "held", "september", "october"]
"""When a product came to the market. Those `held` are offered in seed_validation only."""

Collection = Literal["usual", "winter", "remainder"]
"""What is left of last winter's seasonal products could pass for something else; the new winter ones could not."""

_BRANDS = 72
_NEW = 0.5  # of the offers are a product's first, so that a product has about two

# How many of a product's features, of four, tell it from the products of neighbouring categories.
_OWN_FEATURES: dict[Collection, float] = {"usual": 0.75, "winter": 0.95, "remainder": 0.1}
# Which variants of its sketch they have: variant 0 is the plainest, the most like a neighbour's.
_VARIANTS: dict[Collection, tuple[int, ...]] = {
    "usual": (0, 1, 2),
    "winter": (0, 1, 1, 2, 2),
    "remainder": (0,),
}


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
    collection: Collection

    @property
    def name(self) -> str:
        """As the catalogue has it, once somebody has sorted the product in: it says what the thing is."""
        noun = VOCABULARIES[self.category.name].nouns["en"][0]
        return f"{self.brand} {self.model} {noun} {self.look.colour}".title()


class Shelves:
    """All products so far; those that came first are offered most."""

    def __init__(self, seed: int) -> None:
        self._dice = Dice(seed, "products")
        self._brands = _brands_by_family(self._dice)
        self._names: set[tuple[str, str]] = set()
        self._shelves: dict[tuple[Category, Launch], list[Product]] = defaultdict(list)

    def product(self, category: Category, launch: Launch) -> Product:
        """A product of the category, launched then: a new one, or one that was offered before."""
        shelf = self._shelves[category, launch]
        if shelf and not self._dice.chance(_NEW):
            return self._dice.pick(shelf)
        shelf.append(self._made(category, launch))
        return shelf[-1]

    def _made(self, category: Category, launch: Launch) -> Product:
        dice, words = self._dice, VOCABULARIES[category.name]
        brand, model = self._unused_name(category)
        collection = _collection(category, launch)
        own, shared = dice.several(words.own, 4), dice.several(words.shared, 4)
        told = _OWN_FEATURES[collection]
        measure = words.measure
        steps = round((measure.high - measure.low) / measure.step)
        return Product(
            id=10_000 + len(self._names),
            brand=brand,
            model=model,
            category=category,
            features=tuple(dict.fromkeys((own if dice.chance(told) else shared)[k] for k in range(4))),
            material=dice.pick(words.materials),
            size=round(measure.low + measure.step * dice.below(steps + 1), 2),
            look=look_of(category.name, _VARIANTS[collection], dice),
            collection=collection,
        )

    def _unused_name(self, category: Category) -> tuple[str, str]:
        while True:
            name = self._dice.pick(self._brands[category.family]), coin_model(self._dice)
            if name not in self._names:
                self._names.add(name)
                return name


def _collection(category: Category, launch: Launch) -> Collection:
    if category.name not in SEASONAL:
        return "usual"
    return "winter" if launch == "october" else "remainder"


def _brands_by_family(dice: Dice) -> dict[str, list[str]]:
    """Each brand makes the things of one family; every fourth those of a second one, too."""
    brands: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for k, brand in enumerate(coin_brands(_BRANDS, dice)):
        brands[FAMILIES[k % len(FAMILIES)]].append(brand)
        if k % 4 == 0:
            brands[dice.pick(FAMILIES)].append(brand)
    return brands
