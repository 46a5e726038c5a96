"""What sellers and moderators report about the traffic of month 2: late, and now and then wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from everloop.demo.arrivals import Arrival
from everloop.demo.categories import Category
from everloop.demo.dice import Dice
from everloop.demo.seed_labels import mistaken

BY_SELLERS = 0.61
"""Share of the reports that come from sellers; the others come from moderators, who are right."""

SELLERS_WRONG = 0.05
"""Share of the sellers' reports that are wrong."""

DELAY_H = (1.0, 72.0)
"""Shortest and longest time in hours from a listing's arrival to the report on it."""


@dataclass(frozen=True)
class Report:
    """Somebody says which category is right for a listing (its position in month 2)."""

    listing: int
    category: Category
    corrected_at: datetime
    reporter: Literal["seller", "moderator"]


def reports_on(seed: int, arrivals: Sequence[Arrival], *, share: float) -> list[Report]:
    """Reports on a random share of the arrivals, in the order in which they come in."""
    dice = Dice(seed, "reports")
    listings = dice.several(range(len(arrivals)), round(share * len(arrivals)))
    sellers = round(BY_SELLERS * len(listings))
    wrong = round(SELLERS_WRONG * sellers)
    reports = []
    for number, listing in enumerate(listings):
        right = arrivals[listing].product.category
        after = timedelta(seconds=round(3600 * dice.between(*DELAY_H)))
        reports.append(
            Report(
                listing,
                mistaken(right, dice) if number < wrong else right,
                arrivals[listing].received_at + after,
                "seller" if number < sellers else "moderator",
            )
        )
    return sorted(reports, key=lambda one: (one.corrected_at, one.listing))
