"""The year of the simulated marketplace: how much of the trade is the winter's, and what is traded when.

Two mixes, one of the warm and one of the cold half of the year, and `winter_share` says how much of the cold one is
in force. It stands at 0 from May to September, climbs through the four weeks of October in the steps that the real
marketplace shows, stays at 1 until the end of February and goes back over March and April.
"""

from __future__ import annotations

from datetime import date

SEASONAL = ("Heaters", "Winter Boots", "Winter Coats")
"""Categories with hardly a label in the seed that become the season."""

WINTER_BY_WEEK = (0.05, 0.30, 0.70, 0.95)
"""Share of the cold mix in the weeks of October that begin on the 1st, 8th, 15th and 22nd."""

WARM = {
    "Kettles": 10.0, "Pans": 10.0, "Mugs": 8.0, "Fans": 10.5, "Heaters": 0.35, "Sandals": 11.0, "Trail Shoes": 13.0,
    "Winter Boots": 0.35, "Rain Jackets": 12.0, "Winter Coats": 0.3, "Tents": 9.0, "Lanterns": 6.0,
    "Backpacks": 10.0, "Cool Bags": 9.5,
}  # fmt: skip
"""How much is sold of each category from May to September, relative to the others."""

COLD = {
    "Kettles": 8.0, "Pans": 6.0, "Mugs": 7.0, "Fans": 2.0, "Heaters": 15.0, "Sandals": 2.0, "Trail Shoes": 6.0,
    "Winter Boots": 16.0, "Rain Jackets": 8.0, "Winter Coats": 14.0, "Tents": 3.0, "Lanterns": 6.0,
    "Backpacks": 5.0, "Cool Bags": 2.0,
}  # fmt: skip
"""The same from November to February."""


def winter_share(day: date) -> float:
    """How much of the cold mix is in force on a day, from 0 to 1.

    Examples
    --------
    >>> [winter_share(date(2026, month, 15)) for month in (1, 4, 7, 10)]
    [1.0, 0.25, 0.0, 0.7]
    """
    if day.month == 10:
        return WINTER_BY_WEEK[min(3, (day.day - 1) // 7)]
    return {11: 1.0, 12: 1.0, 1: 1.0, 2: 1.0, 3: 0.75, 4: 0.25}.get(day.month, 0.0)
