"""What products look like: colours and textures, which say something of the category but not all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from everloop.demo.dice import Dice

Rgb = tuple[int, int, int]

RGB: dict[str, Rgb] = {
    "black": (44, 44, 50), "white": (240, 238, 232), "red": (202, 54, 48), "blue": (58, 112, 190),
    "green": (72, 138, 84), "yellow": (240, 198, 62), "grey": (142, 148, 154), "brown": (128, 86, 56),
    "orange": (232, 128, 48), "pink": (230, 148, 168), "teal": (40, 134, 140), "sand": (212, 190, 150),
    "navy": (40, 56, 100), "wine": (122, 36, 58),
}  # fmt: skip

_PALETTES = {
    "Kettles": "grey white black red teal",
    "Pans": "black grey red navy",
    "Mugs": "white blue yellow pink teal green sand",
    "Fans": "white black teal pink",
    "Heaters": "white sand grey wine",
    "Sandals": "brown sand black pink orange",
    "Trail Shoes": "grey brown green orange black",
    "Winter Boots": "brown black sand wine grey",
    "Rain Jackets": "yellow blue red green teal orange",
    "Winter Coats": "navy wine black sand brown grey",
    "Tents": "green orange blue sand",
    "Lanterns": "black green brown red sand",
    "Backpacks": "navy green grey wine orange black",
    "Cool Bags": "blue teal red grey pink",
}
_TEXTURES = {
    "Mugs": ("plain", "stripes", "dots", "dots"), "Winter Coats": ("quilt", "quilt", "plain"),
    "Rain Jackets": ("plain", "plain", "stripes"), "Cool Bags": ("plain", "stripes", "check"),
    "Backpacks": ("plain", "plain", "check"), "Kettles": ("plain", "plain", "stripes"),
}  # fmt: skip
_ANY_COLOUR = 0.2  # of the products come in a colour that is not their category's fashion


@dataclass(frozen=True)
class Look:
    """How a product is drawn: which sketch, colours, texture, and how wide and tall against the usual."""

    sketch: str
    colour: str
    body: Rgb
    accent: Rgb
    texture: str
    wide: float
    tall: float
    variant: int

    @property
    def edge(self) -> Rgb:
        return shade(self.body, 0.62)


def look_of(category: str, variants: Sequence[int], dice: Dice) -> Look:
    """A look for a new product of the category, in one of the variants of its sketch."""
    fashion = _PALETTES[category].split()
    colour = dice.pick(list(RGB)) if dice.chance(_ANY_COLOUR) else dice.pick(fashion)
    return Look(
        sketch=category,
        colour=colour,
        body=shade(RGB[colour], dice.between(0.9, 1.1)),
        accent=shade(RGB[dice.pick(("black", "grey", "brown", "white", "sand", "orange"))], 0.95),
        texture=dice.pick(_TEXTURES.get(category, ("plain",))),
        wide=dice.between(0.85, 1.1),
        tall=dice.between(0.85, 1.1),
        variant=dice.pick(variants),
    )


@lru_cache(maxsize=4096)
def shade(colour: Rgb, light: float) -> Rgb:
    """The colour, darker below 1 and lighter above."""
    red, green, blue = (min(255, round(part * light)) for part in colour)
    return red, green, blue
