"""The simulated marketplace is what the story, the docs and its own figures say of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from everloop.demo import generate, is_simulated
from everloop.demo.arrivals import NEW_MERCHANTS_BY_WEEK
from everloop.demo.categories import CATEGORIES
from everloop.demo.files import COLUMNS
from everloop.demo.marketplace import FAST, MARK
from everloop.demo.reports import BY_SELLERS, DELAY_H, SELLERS_WRONG
from everloop.demo.seasons import SEASONAL, WINTER_BY_WEEK
from everloop.demo.seed_labels import CONFLICTS, DUPLICATES, WRONG_LABELS
from tests.demo.conftest import Table

LISTINGS = ("seed_labelled", "seed_validation", "seed_unlabelled", "month_1", "month_2", "repeated_titles")
TRUE = ("seed_labelled", "seed_validation", "seed_unlabelled_truth", "month_1_truth", "month_2_truth")


def test_the_same_seed_makes_the_same_rows_and_another_seed_others(
    tmp_path: Path, marketplace: Path, table: Table
) -> None:
    generate(tmp_path / "same", fast=True)
    generate(tmp_path / "other", fast=True, seed=8)
    for name in COLUMNS:
        assert pq.read_table(tmp_path / "same" / f"{name}.parquet").equals(table(name)), name
    assert not pq.read_table(tmp_path / "other" / "month_1.parquet").equals(table("month_1"))


def test_a_folder_that_exists_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        generate(tmp_path, fast=True)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_progress_counts_every_listing(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    generate(tmp_path / "new", fast=True, on_progress=lambda *one: told.append(one))
    assert told[-1][1:] == (FAST.listings, FAST.listings)
    assert len(told) > 20


def test_it_says_that_it_is_simulated_in_the_folder_and_in_each_file(marketplace: Path) -> None:
    assert is_simulated(marketplace)
    assert json.loads((marketplace / MARK).read_text())["simulated"] is True
    for name in COLUMNS:
        assert b"simulated" in pq.read_schema(marketplace / f"{name}.parquet").metadata[b"everloop.demo"]


def test_the_layout_is_the_real_marketplaces_and_more(table: Table, shared_data: Path) -> None:
    real_files = sorted((shared_data / "marketplace").glob("*.parquet"))
    assert real_files
    for path in real_files:
        here = table(path.stem).schema
        for field in pq.read_schema(path):
            assert here.field(field.name).type == field.type, f"{path.stem}.{field.name}"


def test_a_listing_has_one_number_in_all_files(table: Table) -> None:
    numbers = [one for name in LISTINGS for one in table(name)["listing_id"].to_pylist()]
    assert len(set(numbers)) == len(numbers) == FAST.listings


@pytest.mark.parametrize("name", ["seed_labelled", "seed_unlabelled", "month_1", "month_2"])
def test_the_truth_is_known_for_every_row(table: Table, name: str) -> None:
    truth = table(f"{name}_truth")
    assert truth["listing_id"].equals(table(name)["listing_id"])
    assert set(truth["category"].to_pylist()) <= {one.name for one in CATEGORIES}


def test_what_a_live_system_sees_does_not_hold_the_answer(table: Table) -> None:
    live = ["listing_id", "title", "description", "image", "merchant_id", "received_at"]
    for name in ("seed_unlabelled", "month_1", "month_2"):
        assert table(name).column_names == live


def test_a_product_gives_its_category_away(table: Table) -> None:
    for column in ("product_id", "product_name"):
        pairs = {pair for name in TRUE[1:] for pair in _pairs(table(name), column, "category")}
        assert len({product for product, _ in pairs}) == len(pairs)


def test_validation_shares_no_product_with_any_other_file(table: Table) -> None:
    held = set(table("seed_validation")["product_id"].to_pylist())
    others = {
        one for name in TRUE if name != "seed_validation" for one in table(name)["product_id"].to_pylist()
    }
    assert not held & others
    assert set(table("seed_labelled")["product_id"].to_pylist()) & set(
        table("month_1_truth")["product_id"].to_pylist()
    )


def test_the_season_comes_in_the_stated_steps(table: Table) -> None:
    truth = table("month_2_truth")
    of_season = _by_week(truth, np.asarray(truth["origin"]) == "drift")
    assert of_season == pytest.approx(WINTER_BY_WEEK, abs=0.002)
    assert _by_week(truth, np.isin(truth["category"], SEASONAL))[3] > 0.4
    for name in ("seed_labelled", "month_1_truth"):
        assert 0.004 < np.mean(np.isin(table(name)["category"], SEASONAL)) < 0.02  # wrong labels included


def test_new_merchants_come_in_the_stated_steps(table: Table) -> None:
    known = table("seed_labelled")["merchant_id"]
    of_new = _by_week(table("month_2_truth"), ~np.isin(table("month_2")["merchant_id"], known))
    assert of_new == pytest.approx(NEW_MERCHANTS_BY_WEEK, abs=0.01)
    assert np.isin(table("month_1")["merchant_id"], known).all()


def test_merchants_write_in_their_own_way(table: Table) -> None:
    """One case of letters a merchant, but for those who leave the case as it is."""
    cases: dict[int, set[str]] = {}
    for merchant, title in _pairs(table("month_1"), "merchant_id", "title"):
        cases.setdefault(merchant, set()).add(
            "upper" if title.isupper() else "lower" if title.islower() else "mixed"
        )
    kinds = Counter(next(iter(one)) for one in cases.values() if len(one) == 1)
    assert kinds["upper"] > 5
    assert kinds["lower"] > 15


def test_most_of_what_month_2_offers_was_never_seen_before(table: Table) -> None:
    before = {one for name in TRUE[:4] for one in table(name)["product_id"].to_pylist()}
    new = [one not in before for one in table("month_2_truth")["product_id"].to_pylist()]
    assert 0.5 < np.mean(new) < 0.9


def test_two_seed_labels_in_a_hundred_are_wrong(table: Table) -> None:
    flaws = Counter(table("seed_labelled_truth")["flaw"].to_pylist())
    rows = len(table("seed_labelled"))
    wrong = np.mean(_unequal(table("seed_labelled")["category"], table("seed_labelled_truth")["category"]))
    assert wrong == pytest.approx(WRONG_LABELS + CONFLICTS, abs=1 / rows)
    assert flaws["duplicate"] == round(DUPLICATES * rows)
    assert flaws["conflict"] == round(CONFLICTS * rows)


def test_reports_come_after_the_listing_within_three_days(table: Table) -> None:
    received = dict(_pairs(table("month_2"), "listing_id", "received_at"))
    reports = table("corrections_month_2")
    delays = [at - received[one] for one, at in _pairs(reports, "listing_id", "corrected_at")]
    assert min(delays) >= timedelta(hours=DELAY_H[0])
    assert max(delays) <= timedelta(hours=DELAY_H[1])
    assert np.mean([one > timedelta(hours=24) for one in delays]) > 0.5  # late
    assert len(set(reports["listing_id"].to_pylist())) == len(reports) == round(FAST.reported * FAST.month_2)


def test_some_sellers_report_wrongly_and_moderators_never(table: Table) -> None:
    truth = dict(_pairs(table("month_2_truth"), "listing_id", "category"))
    wrong: dict[str, list[bool]] = {"seller": [], "moderator": []}
    for row in table("corrections_month_2").to_pylist():
        wrong[row["reporter"]].append(row["category"] != truth[row["listing_id"]])
    sellers = len(wrong["seller"])
    assert sellers / len(table("corrections_month_2")) == pytest.approx(BY_SELLERS, abs=0.01)
    assert np.mean(wrong["seller"]) == pytest.approx(SELLERS_WRONG, abs=1 / sellers)
    assert not any(wrong["moderator"])


def test_a_title_repeats_only_where_it_is_meant_to_and_one_has_two_categories(table: Table) -> None:
    repeated = table("repeated_titles")
    categories: dict[str, set[str]] = {}
    for title, category in _pairs(repeated, "title", "category"):
        categories.setdefault(title, set()).add(category)
    assert min(Counter(repeated["title"].to_pylist()).values()) >= 2
    assert [len(one) for one in categories.values() if len(one) > 1] == [2]
    for name in ("seed_validation", "seed_unlabelled", "month_1", "month_2"):
        titles = table(name)["title"].to_pylist()
        assert len(set(titles)) == len(titles)
        assert not set(titles) & set(categories)


def test_each_photo_is_a_small_picture(table: Table) -> None:
    for row in table("examples").to_pylist():
        content = row["image"]
        with Image.open(BytesIO(content)) as picture:
            picture.load()
            assert (picture.format, picture.size, picture.mode) == ("JPEG", (48, 48), "RGB")
        assert len(content) < 4_000


def test_the_taxonomy_has_three_levels_and_no_cycle(table: Table) -> None:
    nodes = {row["id"]: row for row in table("taxonomy_tree").to_pylist()}
    for row in table("taxonomy").to_pylist():
        leaf = nodes[row["category_id"]]
        family = nodes[leaf["parent"]]
        department = nodes[family["parent"]]
        found = [(one["level"], one["name"]) for one in (department, family, leaf)]
        assert found == [(level, row[level]) for level in ("department", "family", "category")]
        assert department["parent"] is None
    assert len(table("taxonomy")) == len(CATEGORIES) == 14


def _pairs(table: pa.Table, first: str, second: str) -> Iterable[tuple[Any, Any]]:
    return zip(table[first].to_pylist(), table[second].to_pylist(), strict=True)


def _by_week(truth: pa.Table, holds: Any) -> list[float]:
    week = np.asarray(truth["week"])
    return [float(np.mean(holds[week == k])) for k in (1, 2, 3, 4)]


def _unequal(one: Any, other: Any) -> list[bool]:
    return [a != b for a, b in zip(one.to_pylist(), other.to_pylist(), strict=True)]
