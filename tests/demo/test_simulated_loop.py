"""The simulated marketplace has the shape that its loop file is shown on, and for the causes that are stated."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_limits

import everloop as el
from everloop.demo.loops import simulated
from everloop.demo.marketplace import FAST_FIGURES
from everloop.demo.seasons import SEASONAL
from tests.demo.conftest import Table

START_OF_WEEK_4 = np.datetime64("2026-10-22T00:00:00")
INPUTS = ("title", "description", "image", "merchant_id")


class Year:
    """The loop file's own `fit` on the marketplace's files, before the season and with the reports of its weeks 1 to 3."""

    def __init__(self, table: Table) -> None:
        seed = table("seed_labelled"), table("seed_unlabelled")
        labels = table("seed_labelled"), table("seed_unlabelled_truth")
        self.seed = pa.concat_tables([_labelled(*pair) for pair in zip(seed, labels, strict=True)])
        self.month_1 = _labelled(table("month_1"), table("month_1_truth"))
        self.month_2 = _labelled(table("month_2"), table("month_2_truth"))
        self.week = np.asarray(table("month_2_truth")["week"])
        reports = table("corrections_month_2")
        self.is_reported = np.isin(self.month_2["listing_id"], reports["listing_id"])
        came = reports.filter(pa.array(np.asarray(reports["corrected_at"]) < START_OF_WEEK_4))
        place = {one: k for k, one in enumerate(self.month_2["listing_id"].to_pylist())}
        rows = self.month_2.take([place[one] for one in came["listing_id"].to_pylist()])
        self.reported = rows.drop_columns("label").append_column("label", came["category"])
        self.answers = cache(self._answers)

    def _answers(self, is_retrained: bool = False, *, sees_photos: bool = True) -> Any:
        """(n_month_1 + n_month_2,) whether each listing of the two months is put where it belongs."""
        parts = [self.seed, self.reported] if is_retrained else [self.seed]
        months = pa.concat_tables([self.month_1, self.month_2])
        rows = pa.concat_tables([*parts, months])
        rows = rows.append_column("merchant_volume", pa.nulls(len(rows), pa.int64()).fill_null(0))
        rows = rows.append_column("_row_id", pa.array(range(len(rows))))
        if not sees_photos:
            rows = rows.drop_columns("image").append_column("image", pa.nulls(len(rows), pa.large_binary()))
        known = len(rows) - len(months)
        data = el.Split(rows[:known], rows[known:], INPUTS, features=("merchant_volume",))
        with threadpool_limits(1):  # with more threads than free cores they wait for each other
            model = simulated.fit(data, 3.0, False)
        return np.asarray(model.evaluation["predicted"]) == np.asarray(model.evaluation["label"])

    def weeks(self) -> list[float]:
        right = self.answers()[len(self.month_1) :]
        return [float(np.mean(right[self.week == k])) for k in (1, 2, 3, 4)]

    def uncorrected(self, *, is_retrained: bool = False) -> float:
        """Of the listings of week 4 that nobody ever reported on."""
        right = self.answers(is_retrained)[len(self.month_1) :]
        return float(np.mean(right[(self.week == 4) & ~self.is_reported]))


@pytest.fixture(scope="module")
def year(table: Table) -> Year:
    return Year(table)


def test_the_first_model_is_good_in_the_month_after_its_training(year: Year) -> None:
    assert np.mean(year.answers()[: len(year.month_1)]) >= FAST_FIGURES.month_1_at_least


def test_it_gets_worse_week_by_week_as_the_season_moves(year: Year) -> None:
    weeks = year.weeks()
    assert all(later < earlier - 0.03 for earlier, later in pairwise(weeks)), weeks
    assert weeks[3] <= FAST_FIGURES.week_4_without_at_most


def test_what_had_been_reported_by_week_4_brings_it_back(year: Year) -> None:
    recovered = year.uncorrected(is_retrained=True)
    assert recovered >= FAST_FIGURES.week_4_with_at_least
    assert recovered >= year.uncorrected() + FAST_FIGURES.gain_at_least


def test_photos_help(year: Year) -> None:
    month_1 = slice(len(year.month_1))
    assert np.mean(year.answers()[month_1]) > np.mean(year.answers(sees_photos=False)[month_1]) + 0.02


def test_the_season_is_what_it_gets_wrong_and_not_the_new_merchants(year: Year) -> None:
    right = year.answers()[len(year.month_1) :]
    of_season = np.isin(year.month_2["label"], SEASONAL)
    is_new = ~np.isin(year.month_2["merchant_id"], year.seed["merchant_id"])
    assert np.mean(right[of_season]) < 0.5
    assert np.mean(right[~of_season & is_new]) > 0.85


def test_reports_contradict_the_model_more_and_more(year: Year) -> None:
    wrong = ~year.answers()[len(year.month_1) :] & year.is_reported
    by_week = [int(np.sum(wrong[year.week == k])) for k in (1, 2, 3, 4)]
    assert 0 < 2 * by_week[0] < by_week[1] < by_week[2]


def _labelled(listings: pa.Table, truth: pa.Table) -> pa.Table:
    listings = listings.select(["listing_id", *INPUTS])
    return listings.append_column("label", truth["category"])
