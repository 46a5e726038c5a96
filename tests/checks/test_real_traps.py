"""The checks on the real data sets: what gives the answer away there is caught, and what is honest is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everloop.checks import CheckInput, CheckResult, giveaways, run_checks
from everloop.checks.duplicates import duplicates
from everloop.checks.leakage import leakage
from everloop.checks.near_duplicates import near_duplicates
from tests.checks.tables import split

LISTING = ("title", "merchant_id")


@pytest.fixture(scope="module")
def listings(shared_data: Path) -> pa.Table:
    return pq.read_table(shared_data / "marketplace" / "seed_labelled.parquet")


@pytest.fixture(scope="module")
def by_product(listings: pa.Table) -> CheckInput:
    return split(listings, "product_id", LISTING, label="category", group="product_id", key="listing_id")


@pytest.fixture(scope="module")
def repeated(shared_data: Path) -> pa.Table:
    return pq.read_table(shared_data / "marketplace" / "repeated_titles.parquet")


@pytest.fixture(scope="module")
def adult(shared_data: Path) -> CheckInput:
    train, test = (pq.read_table(shared_data / "adult" / f"{side}.parquet") for side in ("train", "test"))
    inputs = tuple(name for name in train.column_names if name not in ("person_id", "income_over_50k"))
    return CheckInput(train, test, inputs, label="income_over_50k")


@pytest.fixture(scope="module")
def photos(shared_data: Path) -> pa.Table:
    images = pq.read_table(shared_data / "grocery" / "images.parquet")
    products = pq.read_table(shared_data / "grocery" / "products.parquet").select(
        ["product_id", "description"]
    )
    texts = dict(zip(*products.to_pydict().values(), strict=True))
    return images.append_column(
        "description", pa.array([texts[one] for one in images["product_id"].to_pylist()])
    )


def with_input(given: CheckInput, *names: str) -> CheckInput:
    return replace(given, inputs=(*given.inputs, *names))


def certain(result: CheckResult) -> set[str]:
    return {row["column"] for row in result.details if row["level"] == "certain"}


def test_title_and_merchant_are_honest(by_product: CheckInput) -> None:
    result = leakage(by_product)
    assert result.verdict == "passed"
    assert result.numbers["group_overlap"] == pytest.approx(
        0.008, abs=0.01
    )  # of product_name: a guess, tolerated


@pytest.mark.parametrize("column", ["product_id", "product_name"])
def test_product_columns_are_caught(by_product: CheckInput, column: str) -> None:
    result = leakage(with_input(by_product, column))
    assert result.verdict == "failed"
    assert certain(result) == {column}


def test_the_row_number_is_caught_since_the_source_was_sorted_by_category(by_product: CheckInput) -> None:
    result = leakage(replace(with_input(by_product, "listing_id"), key=None))
    assert result.verdict == "failed"
    assert certain(result) == {"listing_id"}


@pytest.mark.parametrize("group", ["product_id", None])
def test_a_split_by_row_fails_on_products_on_both_sides(listings: pa.Table, group: str | None) -> None:
    given = split(listings, "listing_id", LISTING, label="category", group=group)
    result = leakage(given)
    assert result.verdict == "failed"
    assert "'product_id'" in result.found
    assert 0.3 < (result.numbers["group_overlap"] or 0) < 0.4
    assert len(result.evidence) == 20


def test_the_products_of_the_validation_file_are_apart(listings: pa.Table, shared_data: Path) -> None:
    test = pq.read_table(shared_data / "marketplace" / "seed_validation.parquet")
    given = CheckInput(listings, test, LISTING, label="category", group="product_id")
    assert leakage(given).verdict == "passed"


def test_repeated_titles_are_duplicates_and_one_pair_contradicts(repeated: pa.Table) -> None:
    whole = replace(split(repeated, "listing_id", ("title",), label="category", test=0.0))
    result = duplicates(whole)
    assert result.verdict == "failed"
    assert result.numbers["redundant"] == 420
    assert result.numbers["conflicting"] == 2
    labels = dict(zip(whole.train["_row_id"].to_pylist(), whole.train["title"].to_pylist(), strict=True))
    assert len({labels[row] for row in result.evidence}) == 1  # the two rows have one title


def test_repeated_titles_on_both_sides_fail(repeated: pa.Table) -> None:
    result = leakage(split(repeated, "product_id", ("title",), label="category"))
    assert result.verdict == "failed"
    assert (result.numbers["copies_share"] or 0) > 0.25


def test_the_census_raises_no_false_alarm(adult: CheckInput) -> None:
    for result in run_checks(replace(adult, reference=adult.train)):
        assert result.verdict in ("passed", "skipped"), result.message
    strongest = giveaways(adult, adult.inputs)[0]
    assert (strongest.column, strongest.level) == ("capital_gain", "none")
    assert (strongest.power.skill or 0) < 0.25


def test_the_census_person_number_is_only_suspected(adult: CheckInput) -> None:
    result = leakage(with_input(adult, "person_id"))
    assert result.verdict == "warned"
    assert "'person_id' is different in every row" in result.found


@pytest.mark.parametrize("label", ["category", "department"])
@pytest.mark.parametrize("column", ["source_path", "product", "product_id", "description"])
def test_what_names_the_photographed_thing_is_caught(photos: pa.Table, label: str, column: str) -> None:
    given = split(photos, "product_id", ("image", column), label=label, group="product_id")
    result = leakage(given)
    assert result.verdict == "failed"
    assert certain(result) == {column}


def test_photos_themselves_are_honest(photos: pa.Table) -> None:
    given = split(photos, "product_id", ("image",), label="department", group="product_id")
    assert leakage(given).verdict == "passed"
    by_photo = split(photos, "image_id", ("image",), label="department", group="product_id")
    assert leakage(by_photo).numbers["group_overlap"] == 1.0


def test_honest_listings_are_nearly_alike_in_few_rows(by_product: CheckInput) -> None:
    result = near_duplicates(by_product)
    assert result.verdict == "passed"
    assert 0.02 < (result.numbers["near_share"] or 0) < 0.06
    assert result.numbers["contradicting"] == 0


def test_listings_told_again_with_a_typo_are_caught(by_product: CheckInput) -> None:
    titles = [
        f"{one[:9]}x{one[9:]}"
        for one in map(str, by_product.train["title"].to_pylist()[: by_product.test.num_rows])
    ]
    labels = by_product.train["category"].slice(0, by_product.test.num_rows)
    test = by_product.test.set_column(1, "title", pa.array(titles))
    test = test.set_column(test.column_names.index("category"), "category", labels)
    result = near_duplicates(replace(by_product, test=test))
    assert result.verdict == "failed"
    assert (
        result.numbers["near_share"] or 0
    ) > 0.5  # a title of 30 letters with a typo has less than 0.8 in common
    assert leakage(replace(by_product, test=test, group=None)).numbers["copies"] == 0


def test_the_repeated_title_that_carries_two_categories_is_reported_across_the_split(
    repeated: pa.Table,
) -> None:
    title = "bosch kur15a50gb integrated undercounter fridge"
    rows = repeated.append_column("_row_id", pa.array(range(repeated.num_rows)))
    place = rows["title"].to_pylist().index(title)
    given = CheckInput(
        rows.slice(place + 1),
        rows.slice(place, 1),
        ("title", "merchant_id"),
        label="category",
        key="listing_id",
    )
    result = near_duplicates(given)
    assert (result.numbers["contradicting"], result.verdict) == (1, "failed")
    assert result.evidence == (place,)


@pytest.mark.parametrize("month", [1, 2])
def test_the_order_of_a_month_is_caught(shared_data: Path, month: int) -> None:
    """Its rows are numbered as the source was sorted: by category."""
    rows, truth = (
        pq.read_table(shared_data / "marketplace" / f"month_{month}{part}.parquet") for part in ("", "_truth")
    )
    given = split(
        rows.join(truth, "listing_id"),
        "product_id",
        (*LISTING, "listing_id"),
        label="category",
        group="product_id",
    )
    assert certain(leakage(given)) == {"listing_id"}
    arrival = leakage(replace(given, inputs=(*LISTING, "received_at")))
    assert arrival.verdict == "passed"  # when a listing arrives says little, also in the season


def test_what_is_known_only_later_is_caught(shared_data: Path) -> None:
    rows = pq.read_table(shared_data / "marketplace" / "month_2.parquet")
    truth = pq.read_table(shared_data / "marketplace" / "month_2_truth.parquet")
    corrections = pq.read_table(shared_data / "marketplace" / "corrections_month_2.parquet")
    known = corrections.rename_columns(["listing_id", "corrected", "corrected_at", "reporter"])
    given = split(
        rows.join(truth, "listing_id").join(known, "listing_id", join_type="inner"),
        "product_id",
        (*LISTING, "corrected_at"),
        label="category",
        group="product_id",
        time="received_at",
    )
    result = leakage(given)
    assert result.verdict == "failed"
    assert "'corrected_at' lies after 'received_at'" in result.found
    assert certain(leakage(replace(given, inputs=(*LISTING, "corrected"), time=None))) == {"corrected"}


def test_the_time_of_a_listing_itself_is_no_time_travel(by_product: CheckInput) -> None:
    given = replace(by_product, inputs=(*LISTING, "received_at"), time="received_at")
    assert leakage(given).verdict == "passed"
