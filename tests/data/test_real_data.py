"""The room on real files: see the README beside them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from everloop import data
from everloop.data import DropConflicts, DropDuplicates
from everloop.workspace import Workspace

FILES = {
    "adult/train": "person_id",
    "grocery/products": "product_id",
    "grocery/images": "image_id",
    "marketplace/corrections_month_2": None,
    "marketplace/month_2_truth": "listing_id",
    "marketplace/taxonomy": "category_id",
    "online_retail/lines": None,
    "shopping/campaign_descriptions": "campaign_id",
    "shopping/campaigns": None,
    "shopping/demographics": "household_id",
    "shopping/products": "product_id",
    "shopping/transactions": None,
    "taxonomy/bestbuy_categories": "category_id",
}


@pytest.mark.parametrize("name", FILES)
def test_a_real_file_comes_back_as_it_is(ws: Workspace, shared_data: Path, name: str) -> None:
    path = shared_data / f"{name}.parquet"
    data.define(ws, "real", key=FILES[name])
    data.ingest(ws, "real", path, mode="append")
    rows, original = data.read(ws, "real").drop_columns(["_row_id"]), pq.read_table(path)
    for column in original.column_names:
        assert rows[column].equals(original[column].cast(rows[column].type)), column


def test_listings_arrive_month_by_month(ws: Workspace, shared_data: Path) -> None:
    market = shared_data / "marketplace"
    data.define(ws, "listings", key="listing_id", time="received_at", inputs=["title", "merchant_id"])
    for name in ("seed_labelled", "seed_validation", "seed_unlabelled", "month_1", "month_2"):
        data.ingest(ws, "listings", market / f"{name}.parquet")
    newest = data.version(ws, "listings")
    assert (newest.ref, newest.rows, newest.personal) == ("listings@5", 18_780, {})
    assert data.ingest(ws, "listings", market / "month_1.parquet") == newest
    assert {row: one.ref for row, one in data.origins(ws, "listings", [0, 18_779]).items()} == {
        0: "listings@1",
        18_779: "listings@5",
    }


def test_repeated_titles_are_found_by_cleaning(ws: Workspace, shared_data: Path) -> None:
    data.define(ws, "listings", key="listing_id")
    data.ingest(ws, "listings", shared_data / "marketplace/repeated_titles.parquet")
    report = data.clean(ws, "listings", [DropConflicts(("title",), "category"), DropDuplicates(("title",))])
    assert report.steps[0].dropped == 2, "one title carries two categories, in two rows"
    assert report.dropped + report.version.rows == 1_284
    profile = data.profile(ws, "listings")
    title = next(one for one in profile.columns if one.name == "title")
    assert title.distinct == title.count == report.version.rows


def test_csv_and_parquet_of_real_listings_have_one_digest(
    ws: Workspace, shared_data: Path, tmp_path: Path
) -> None:
    original = shared_data / "marketplace/seed_labelled.parquet"
    pyarrow.csv.write_csv(pq.read_table(original), tmp_path / "a.csv")
    digests = set()
    for name, path in (("parquet", original), ("csv", tmp_path / "a.csv")):
        data.define(ws, name, key="listing_id", time="received_at")
        digests.add(data.ingest(ws, name, path).digest)
    assert len(digests) == 1


def test_real_photos_are_images(ws: Workspace, shared_data: Path) -> None:
    data.define(ws, "photos", key="image_id", inputs=["image"])
    data.ingest(ws, "photos", shared_data / "grocery/images.parquet")
    image = data.profile(ws, "photos").columns[-1]
    assert (image.type, image.count, image.figures["formats"]) == ("image", 2_025, {"JPEG": 2_025})
    assert image.figures["width_maximum"] == image.figures["height_maximum"] == 128


def test_naive_times_are_utc(ws: Workspace, shared_data: Path) -> None:
    data.define(ws, "lines", key=None, time="invoiced_at")
    data.ingest(ws, "lines", shared_data / "online_retail/lines.parquet", mode="append")
    first = data.read(ws, "lines", columns=["invoiced_at"], row_ids=[0])["invoiced_at"][0].as_py()
    assert first == datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
