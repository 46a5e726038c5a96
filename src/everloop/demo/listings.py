"""Arrivals become listings: each gets a number, a title, a description and a photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from everloop.demo.arrivals import Arrival
from everloop.demo.categories import neighbours
from everloop.demo.dice import Dice
from everloop.demo.photos import photo
from everloop.demo.writing import description_of, title_of

Row = dict[str, Any]
"""A listing with all that is known about it, the truth included; the files choose their columns."""

Progress = Callable[[str, int, int], None]
"""Called with the name of the file being made, how many listings are done and how many there will be."""

_FIRST_ID = 100_000
_TOLD_EVERY = 250
_MOST_OFFERS = 11  # of one title among the repeated ones


class Desk:
    """Makes the listings of one file after the other; no title occurs twice but where that is asked for."""

    def __init__(self, seed: int, *, total: int, on_progress: Progress) -> None:
        self._seed = seed
        # In no order, so that a listing's number says nothing about its time or file.
        self._numbers = iter(Dice(seed, "numbers").several(range(_FIRST_ID, _FIRST_ID + total), total))
        self._titles: set[str] = set()
        self._total = total
        self._done = 0
        self._on_progress = on_progress

    def rows(self, name: str, arrivals: Sequence[Arrival]) -> list[Row]:
        """A listing for each arrival, in their order."""
        text, camera = Dice(self._seed, f"text of {name}"), Dice(self._seed, f"photos of {name}")
        return [
            self._row(name, arrival, title=self._new_title(arrival, text), text=text, camera=camera)
            for arrival in arrivals
        ]

    def repeated(self, name: str, firsts: Sequence[Arrival], *, rows: int) -> list[Row]:
        """Listings of several merchants under one title: each of `firsts` is copied a few times.

        The last two rows are two products of neighbouring categories under the same title.
        """
        text, camera = Dice(self._seed, f"text of {name}"), Dice(self._seed, f"photos of {name}")
        made: list[Row] = []
        for first in firsts:
            room = rows - 2 - len(made)
            if room < 2:
                break
            # one left over would be a title that is not repeated
            offers = min(2 + text.below(_MOST_OFFERS - 1), room)
            offers += room - offers == 1
            copies = [first] + [
                replace(first, merchant=text.pick(firsts).merchant) for _ in range(offers - 1)
            ]
            title = self._new_title(first, text)
            made += [self._row(name, one, title=title, text=text, camera=camera) for one in copies]
        title = self._new_title(firsts[-1], text)
        twin = replace(firsts[-1].product, id=1, category=neighbours(firsts[-1].product.category)[0])
        for one in (firsts[-1], replace(firsts[-1], product=twin)):
            made.append(self._row(name, one, title=title, text=text, camera=camera))
        return made

    def copied(self, row: Row, *, received_at: datetime) -> Row:
        """The same listing entered again later, under a number of its own."""
        self._tell("seed_labelled")
        return row | {"listing_id": next(self._numbers), "received_at": received_at}

    def _row(self, name: str, arrival: Arrival, *, title: str, text: Dice, camera: Dice) -> Row:
        self._tell(name)
        product, merchant = arrival.product, arrival.merchant
        return {
            "listing_id": next(self._numbers),
            "title": title,
            "description": description_of(product, merchant, text),
            "image": photo(product.look, merchant.camera, camera),
            "merchant_id": merchant.id,
            "received_at": arrival.received_at.replace(
                tzinfo=None
            ),  # UTC, without a zone like the real files
            "product_id": product.id,
            "product_name": product.name,
            "category_id": product.category.id,
            "category": product.category.name,
            "week": arrival.week,
            "origin": "drift" if arrival.is_season else "normal",
        }

    def _new_title(self, arrival: Arrival, dice: Dice) -> str:
        """A title that no listing has yet, however it is spaced and cased."""
        title = title_of(arrival.product, arrival.merchant, dice)
        if _folded(title) in self._titles:
            # the merchant's own counter keeps them apart
            title = f"{title.strip()} {100 + len(self._titles)}"
        self._titles.add(_folded(title))
        return title

    def _tell(self, name: str) -> None:
        self._done += 1
        if self._done % _TOLD_EVERY == 0 or self._done == self._total:
            self._on_progress(name, self._done, self._total)


def _folded(title: str) -> str:
    return " ".join(title.casefold().split())
