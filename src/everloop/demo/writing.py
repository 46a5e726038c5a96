"""How a merchant writes about a product: a title and a description."""

from __future__ import annotations

from everloop.demo.dice import Dice
from everloop.demo.merchants import Merchant
from everloop.demo.products import Product
from everloop.demo.words import BOILERPLATE, COLOURS, HYPE, PRAISE, SHORT, VOCABULARIES

_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def title_of(product: Product, merchant: Merchant, dice: Dice) -> str:
    """One line: brand and model always, noun, features, size and colour as this merchant has it."""
    parts = {
        "brand": product.brand,
        "model": product.model,
        "noun": _noun(product, merchant, dice) if dice.chance(_names_noun(product, merchant)) else "",
        "features": " ".join(dice.several(product.features, dice.below(merchant.features + 1))),
        "size": _size(product, merchant) if dice.chance(0.6) else "",
        "colour": _colour(product, merchant) if dice.chance(0.55) else "",
    }
    words = [parts[name] for name in merchant.order if parts[name]]
    if dice.chance(merchant.hype):
        words.insert(0 if dice.chance(0.5) else len(words), dice.pick(HYPE))
    if dice.chance(merchant.article_code):
        words.append(f"{dice.pick('ABEKRW')}{10_000 + dice.below(90_000)}")
    return _sloppily(
        _cased(_shortened(merchant.separator.join(words), merchant, dice), merchant), merchant, dice
    )


def description_of(product: Product, merchant: Merchant, dice: Dice) -> str:
    """Up to three sentences; of merchants who do not describe, only what they say about every thing."""
    sentences = []
    if dice.chance(merchant.describes):
        praise = dice.pick(PRAISE[merchant.language])
        features = " & ".join(dice.several(product.features, 1 + dice.below(2)))
        sentences.append(praise.format(noun=_noun(product, merchant, dice), features=features))
    if dice.chance(0.4):
        sentences.append(f"{_colour(product, merchant)}, {product.material}, {_size(product, merchant)}.")
    if not sentences or dice.chance(0.6):
        sentences.append(dice.pick(BOILERPLATE[merchant.language]))
    return _shortened(" ".join(one[0].upper() + one[1:] for one in sentences), merchant, dice)


def _names_noun(product: Product, merchant: Merchant) -> float:
    """How likely this merchant says what it is: of what is new for the winter, more likely than of the rest."""
    return (1 + merchant.names_noun) / 2 if product.collection == "winter" else merchant.names_noun


def _noun(product: Product, merchant: Merchant, dice: Dice) -> str:
    words = VOCABULARIES[product.category.name]
    return dice.pick(
        (words.loose_nouns if product.collection == "remainder" else words.nouns)[merchant.language]
    )


def _colour(product: Product, merchant: Merchant) -> str:
    return COLOURS[merchant.language].get(product.look.colour, product.look.colour)


def _size(product: Product, merchant: Merchant) -> str:
    """The size in this merchant's units: 1.7l, 57 oz or 1,7 l."""
    measure = VOCABULARIES[product.category.name].measure
    if not merchant.is_metric:
        return f"{product.size * measure.factor + measure.offset:.0f} {measure.other}"
    number = f"{product.size:g}"
    if merchant.language != "en":
        return f"{number.replace('.', ',')} {measure.unit}"
    return number + measure.unit


def _shortened(text: str, merchant: Merchant, dice: Dice) -> str:
    if merchant.shortens and dice.chance(merchant.shortens):
        for word, short in SHORT.items():
            text = text.replace(word, short)
    return text


def _cased(text: str, merchant: Merchant) -> str:
    match merchant.case:
        case "lower":
            return text.lower()
        case "title":
            return text.title()
        case "upper":
            return text.upper()
        case _:
            return text


def _sloppily(text: str, merchant: Merchant, dice: Dice) -> str:
    """Now and then two letters change places, and some merchants leave odd spaces behind."""
    if dice.chance(merchant.misspells):
        at = dice.below(len(text) - 1)
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if merchant.is_sloppy and dice.chance(0.4):
        text = dice.pick(
            (text + " ", "  " + text, text.replace(" ", _NO_BREAK_SPACE, 1), text.replace(" ", "  ", 1))
        )
    return text
