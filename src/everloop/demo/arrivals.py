"""Who offers what, when: the traffic of the simulated marketplace before anything is written or photographed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from everloop.demo.categories import CATEGORIES, Category
from everloop.demo.dice import Dice, Urn
from everloop.demo.merchants import Merchant
from everloop.demo.products import Launch, Product, Shelves
from everloop.demo.seasons import COLD, WARM, winter_share

NEW_MERCHANTS_BY_WEEK = (0.05, 0.22, 0.46, 0.64)
"""Share of listings from merchants that were never seen before, in the four weeks of month 2."""

SEED_START = datetime(2026, 6, 1, tzinfo=UTC)
MONTH_1_START = datetime(2026, 9, 1, tzinfo=UTC)
MONTH_2_START = datetime(2026, 10, 1, tzinfo=UTC)
WEEK = timedelta(days=7)

_HOURS = Urn(range(24), (1, 1, 1, 1, 1, 2, 4, 6, 8, 9, 9, 8, 7, 8, 8, 7, 7, 8, 9, 10, 9, 6, 3, 2))

# From which launches the offers of a period come.
_BEFORE: dict[Launch, float] = {"before": 1.0}
_HELD: dict[Launch, float] = {"held": 1.0}
_MONTH_1: dict[Launch, float] = {"before": 0.45, "september": 0.55}
_MONTH_2: dict[Launch, float] = {"before": 0.4, "september": 0.3, "october": 0.3}
_SEASON: dict[Launch, float] = {"before": 0.04, "september": 0.06, "october": 0.9}


@dataclass(frozen=True)
class Arrival:
    """One offer of a product. `is_season` says that it came with the winter; `week` counts from 1 in month 2."""

    received_at: datetime
    merchant: Merchant
    product: Product
    is_season: bool = False
    week: int = 0


class Town:
    """Everybody who sells and everything that is sold; draws the arrivals of one file after the other."""

    def __init__(self, seed: int, established: Sequence[Merchant], new: Sequence[Merchant]) -> None:
        self._seed = seed
        self._shelves = Shelves(seed)
        self._established = _sellers(established)
        # each week of month 2 has its newcomers so far
        arrived = [round(len(new) * share / NEW_MERCHANTS_BY_WEEK[-1]) for share in NEW_MERCHANTS_BY_WEEK]
        self._new = [_sellers(new[:count]) for count in arrived]

    def seed(self, name: str, rows: int, *, held: bool = False) -> list[Arrival]:
        """Offers from June to August; of products that no other file has if `held`."""
        return self._arrivals(name, SEED_START, MONTH_1_START, rows, usual=_HELD if held else _BEFORE)

    def month_1(self, rows: int) -> list[Arrival]:
        """September: the mix and the merchants of the seed, many new products."""
        return self._arrivals("month_1", MONTH_1_START, MONTH_2_START, rows, usual=_MONTH_1)

    def month_2(self, rows: int) -> list[Arrival]:
        """Four weeks of October: the winter comes and new merchants with it."""
        end = MONTH_2_START + 4 * WEEK
        return self._arrivals("month_2", MONTH_2_START, end, rows, usual=_MONTH_2, is_month_2=True)

    def _arrivals(
        self,
        name: str,
        start: datetime,
        end: datetime,
        rows: int,
        *,
        usual: Mapping[Launch, float],
        is_month_2: bool = False,
    ) -> list[Arrival]:
        """Offers of `rows` products spread evenly over about as many weeks as there are, in order of time."""
        dice = Dice(self._seed, f"arrivals of {name}")
        launches = {False: _urn(usual), True: _urn(_SEASON)}
        quotas = {False: _Quota(WARM), True: _Quota(COLD)}
        weeks = round((end - start) / WEEK)
        arrivals = []
        for k in range(weeks):
            begin, length = start + k * (end - start) / weeks, (end - start) / weeks
            count = rows * (k + 1) // weeks - rows * k // weeks
            of_season = round(winter_share(begin.date()) * count)
            kinds = [(False, one) for one in quotas[False].share(count - of_season)]
            kinds += [(True, one) for one in quotas[True].share(of_season)]
            new = _by_newcomers(kinds, round(NEW_MERCHANTS_BY_WEEK[k] * count), dice) if is_month_2 else ()
            offers = [(category, n in new) for n, (_, category) in enumerate(kinds)]
            # a merchant sends about as much in one week as in another
            sellers = {
                (category, is_new): (self._new[k] if is_new else self._established)[category].shares(
                    times, dice
                )
                for (category, is_new), times in Counter(offers).items()
            }
            for (is_season, category), offer in zip(kinds, offers, strict=True):
                arrivals.append(
                    Arrival(
                        _moment(begin, length, dice),
                        sellers[offer].pop(),
                        self._shelves.product(category, launches[is_season].draw(dice)),
                        is_season,
                        week=k + 1 if is_month_2 else 0,
                    )
                )
        return sorted(arrivals, key=lambda one: one.received_at)


class _Quota:
    """Hands out rows to categories so that their numbers follow the mix to within one row, whatever the dice say.

    A class with seventeen rows in the seed would otherwise have eleven with one seed and twenty-three with another.
    """

    def __init__(self, mix: Mapping[str, float]) -> None:
        self._shares = [mix[one.name] / sum(mix.values()) for one in CATEGORIES]
        self._owed = [0.0] * len(CATEGORIES)

    def share(self, rows: int) -> list[Category]:
        self._owed = [owed + rows * part for owed, part in zip(self._owed, self._shares, strict=True)]
        given: list[Category] = []
        for _ in range(rows):
            most = max(range(len(CATEGORIES)), key=self._owed.__getitem__)
            self._owed[most] -= 1
            given.append(CATEGORIES[most])
        return given


def _by_newcomers(kinds: Sequence[tuple[bool, Category]], count: int, dice: Dice) -> frozenset[int]:
    """Which rows the new merchants send: those that came with the season first."""
    places = dice.several(range(len(kinds)), len(kinds))
    return frozenset(sorted(places, key=lambda n: not kinds[n][0])[:count])


def _moment(begin: datetime, length: timedelta, dice: Dice) -> datetime:
    """A second within the stretch, more often by day and in the evening than at night."""
    midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    while True:
        days, hours = dice.below(length.days + 2), _HOURS.draw(dice)
        at = midnight + timedelta(days=days, hours=hours, seconds=dice.below(3600))
        if begin <= at < begin + length:
            return at


def _sellers(merchants: Sequence[Merchant]) -> dict[Category, Urn[Merchant]]:
    return {
        category: Urn(merchants, [one.volume * one.wants[category] for one in merchants])
        for category in CATEGORIES
    }


def _urn(weights: Mapping[Launch, float]) -> Urn[Launch]:
    return Urn(list(weights), list(weights.values()))
