"""Who offers what, when: the traffic of the simulated marketplace before anything is written or photographed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from everloop.demo.categories import CATEGORIES, Category
from everloop.demo.dice import Dice, Urn
from everloop.demo.merchants import Merchant
from everloop.demo.products import Launch, Product, Shelves
from everloop.demo.seasons import WINTER_BY_WEEK, mix

NEW_MERCHANTS_BY_WEEK = (0.05, 0.22, 0.46, 0.64)
"""Share of listings from merchants that were never seen before, in the four weeks of month 2."""

SEED_START = datetime(2026, 6, 1, tzinfo=UTC)
MONTH_1_START = datetime(2026, 9, 1, tzinfo=UTC)
MONTH_2_START = datetime(2026, 10, 1, tzinfo=UTC)
WEEK = timedelta(days=7)

_HOURS = Urn(range(24), (1, 1, 1, 1, 1, 2, 4, 6, 8, 9, 9, 8, 7, 8, 8, 7, 7, 8, 9, 10, 9, 6, 3, 2))

# From which launches the offers of a period come.
_BEFORE: Mapping[Launch, float] = {"before": 1.0}
_HELD: Mapping[Launch, float] = {"held": 1.0}
_MONTH_1: Mapping[Launch, float] = {"before": 0.45, "september": 0.55}
_MONTH_2: Mapping[Launch, float] = {"before": 0.4, "september": 0.3, "october": 0.3}
_SEASON: Mapping[Launch, float] = {"before": 0.05, "september": 0.15, "october": 0.8}


@dataclass(frozen=True)
class Arrival:
    """One offer of a product. `is_season` says that it came with the winter; `week` counts from 1 in month 2."""

    received_at: datetime
    merchant: Merchant
    product: Product
    is_season: bool = False
    week: int = 0

    @property
    def category(self) -> Category:
        return self.product.category


@dataclass(frozen=True)
class _Stretch:
    """A stretch of time in which everything is drawn from the same urns."""

    start: datetime
    end: datetime
    rows: int
    season_rows: int = 0
    new_merchant_rows: int = 0
    week: int = 0


class Town:
    """Everybody who sells and everything that is sold; draws the arrivals of one file after the other."""

    def __init__(
        self, seed: int, established: Sequence[Merchant], new: Sequence[Merchant], *, shelves: Shelves
    ) -> None:
        self._seed = seed
        self._established = established
        self._shelves = shelves
        self._sellers = {False: _sellers(established), True: _sellers(new)}

    def seed(self, name: str, rows: int, *, held: bool = False) -> list[Arrival]:
        """Offers from June to August; of products that no other file has if `held`."""
        launches = _HELD if held else _BEFORE
        return self._arrivals(
            name, _stretches(SEED_START, MONTH_1_START, rows), normal=launches, season=launches
        )

    def everybody(self, arrivals: list[Arrival]) -> list[Arrival]:
        """The arrivals, changed here and there so that each established merchant sells at least once."""
        dice = Dice(self._seed, "everybody")
        counts = {one.id: 0 for one in self._established}
        for arrival in arrivals:
            counts[arrival.merchant.id] += 1
        given = list(arrivals)
        for silent in [one for one in self._established if not counts[one.id]]:
            best = CATEGORIES[max(range(len(CATEGORIES)), key=silent.wants.__getitem__)]
            at = dice.pick(
                [k for k, one in enumerate(given) if one.category == best and counts[one.merchant.id] > 1]
            )
            counts[given[at].merchant.id] -= 1
            counts[silent.id] += 1
            given[at] = Arrival(given[at].received_at, silent, given[at].product)
        return given

    def month_1(self, rows: int) -> list[Arrival]:
        """September: the mix and the merchants of the seed, many new products."""
        stretches = _stretches(MONTH_1_START, MONTH_2_START, rows)
        return self._arrivals("month_1", stretches, normal=_MONTH_1, season=_MONTH_1)

    def month_2(self, rows: int) -> list[Arrival]:
        """Four weeks of October, each a quarter of the rows: the winter comes and new merchants with it."""
        of_week = rows // 4
        stretches = [
            _Stretch(
                MONTH_2_START + k * WEEK,
                MONTH_2_START + (k + 1) * WEEK,
                of_week,
                season_rows=round(WINTER_BY_WEEK[k] * of_week),
                new_merchant_rows=round(NEW_MERCHANTS_BY_WEEK[k] * of_week),
                week=k + 1,
            )
            for k in range(4)
        ]
        return self._arrivals("month_2", stretches, normal=_MONTH_2, season=_SEASON)

    def _arrivals(
        self,
        name: str,
        stretches: Sequence[_Stretch],
        *,
        normal: Mapping[Launch, float],
        season: Mapping[Launch, float],
    ) -> list[Arrival]:
        dice = Dice(self._seed, f"arrivals of {name}")
        launches = {False: _urn(normal), True: _urn(season)}
        quotas = {False: _Quota(winter=0.0), True: _Quota(winter=1.0)}
        arrivals = []
        for stretch in stretches:
            kinds = [
                (False, one) for one in quotas[False].share(stretch.rows - stretch.season_rows, stretch.start)
            ]
            kinds += [(True, one) for one in quotas[True].share(stretch.season_rows, stretch.start)]
            newcomers = _newcomers(kinds, stretch.new_merchant_rows, dice)
            for k, (is_season, category) in enumerate(kinds):
                merchant = self._sellers[k in newcomers][category.name].draw(dice)
                product = self._product(category, launches[is_season], dice)
                at = _moment(stretch, dice)
                arrivals.append(Arrival(at, merchant, product, is_season, stretch.week))
        return sorted(arrivals, key=lambda one: one.received_at)

    def _product(self, category: Category, launches: Urn[Launch], dice: Dice) -> Product:
        return self._shelves[category.name, launches.draw(dice)].draw(dice)


class _Quota:
    """Hands out rows to categories so that their numbers follow the mix to within one row, whatever the dice say.

    A class with seventeen rows in the seed would otherwise have eleven with one seed and twenty-three with another.
    """

    def __init__(self, *, winter: float) -> None:
        self._winter = winter
        self._owed = [0.0] * len(CATEGORIES)

    def share(self, rows: int, start: datetime) -> list[Category]:
        wanted = mix(start.date(), winter=self._winter)
        self._owed = [owed + rows * part for owed, part in zip(self._owed, wanted, strict=True)]
        given: list[Category] = []
        for _ in range(rows):
            most = max(range(len(CATEGORIES)), key=self._owed.__getitem__)
            self._owed[most] -= 1
            given.append(CATEGORIES[most])
        return given


def _stretches(start: datetime, end: datetime, rows: int) -> list[_Stretch]:
    """About a week each, the rows spread evenly."""
    count = max(1, round((end - start) / WEEK))
    edges = [start + (end - start) * k / count for k in range(count + 1)]
    return [
        _Stretch(a, b, rows * (k + 1) // count - rows * k // count)
        for k, (a, b) in enumerate(pairwise(edges))
    ]


def _newcomers(kinds: Sequence[tuple[bool, Category]], count: int, dice: Dice) -> frozenset[int]:
    """Which rows the new merchants send: those that came with the season first."""
    with_season = dice.several([k for k, (is_season, _) in enumerate(kinds) if is_season], count)
    others = [k for k, (is_season, _) in enumerate(kinds) if not is_season]
    return frozenset(with_season + dice.several(others, count - len(with_season)))


def _moment(stretch: _Stretch, dice: Dice) -> datetime:
    """A second within the stretch, more often by day and in the evening than at night."""
    days = (stretch.end - stretch.start) / timedelta(days=1)
    while True:
        day = stretch.start.replace(hour=0, minute=0, second=0, microsecond=0)
        day += timedelta(days=dice.below(int(days) + 2))
        at = day + timedelta(hours=_HOURS.draw(dice), seconds=dice.below(3600))
        if stretch.start <= at < stretch.end:
            return at


def _sellers(merchants: Sequence[Merchant]) -> dict[str, Urn[Merchant]]:
    return {
        category.name: Urn(merchants, [one.volume * one.wants[k] for one in merchants])
        for k, category in enumerate(CATEGORIES)
    }


def _urn(weights: Mapping[Launch, float]) -> Urn[Launch]:
    return Urn(list(weights), list(weights.values()))


def products_needed(
    *, seed: int, validation: int, month_1: int, month_2: int
) -> dict[tuple[str, Launch], int]:
    """How many products of each category and launch make about two offers a product."""
    needed: dict[tuple[str, Launch], int] = {}
    warm, cold = (mix(MONTH_2_START.date(), winter=winter) for winter in (0.0, 1.0))
    winter = sum(WINTER_BY_WEEK) / 4
    for k, category in enumerate(CATEGORIES):
        october = month_2 * (0.3 * (1 - winter) * warm[k] + 0.8 * winter * cold[k])
        september = month_1 * 0.55 * warm[k] + month_2 * 0.15 * winter * cold[k]
        counts = {
            "before": seed * warm[k],
            "held": validation * warm[k],
            "september": september,
            "october": october,
        }
        launches: tuple[Launch, ...] = ("before", "held", "september", "october")
        needed |= {(category.name, launch): 4 + round(counts[launch] / 2) for launch in launches}
    return needed
