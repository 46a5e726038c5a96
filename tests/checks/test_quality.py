"""Whether columns hold what they are meant to hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everloop.checks import CheckInput, gate, run_checks
from everloop.checks.quality import quality
from everloop.errors import Invalid
from tests.checks.tables import shop, split, with_column

SHOP = shop(800)
RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.normal(size=800)


def some(values: Sequence[Any], share: float, other: Any) -> list[Any]:
    """The values, every so many of them replaced."""
    every = round(1 / share)
    return [other if place % every == 0 else value for place, value in enumerate(values)]


SPOILT: dict[str, tuple[str, list[Any]]] = {
    "nulls": ("is empty in 98.0%", some([None] * 800, 0.02, 1.0)),
    "constants": ("has one value in all rows", ["same"] * 800),
    "outliers": ("has 10 numbers far from all others, above", some(NORMAL.tolist(), 0.0125, 1e9)),
    "placeholders": (
        "a placeholder for nothing, such as N/A, in 40 of 800",
        some(["red", "blue"] * 400, 0.05, "N/A "),
    ),
    "unseen": ("has 50 of 200 test rows with a category", ["a", "b"] * 300 + ["a", "b", "a", "new"] * 50),
}


@pytest.mark.parametrize("measure", SPOILT)
def test_what_a_column_should_not_hold_is_a_warning_without_being_asked_for(measure: str) -> None:
    says, values = SPOILT[measure]
    result = next(one for one in run_checks(with_column(SHOP, "spoilt", values)) if one.name == "quality")
    assert result.verdict == "warned"
    assert says in result.found
    assert result.found.startswith("1 of 4 columns: 'spoilt'")
    assert result.details[0]["measure"] == measure


def test_plain_rows_pass() -> None:
    assert quality(SHOP).verdict == "passed"


@pytest.mark.parametrize("measure", SPOILT)
def test_a_gate_with_a_limit_fails_and_one_about_something_else_does_not(measure: str) -> None:
    given = with_column(SHOP, "spoilt", SPOILT[measure][1])
    assert quality(given, measure=measure, at_most=0.01).verdict == "failed"
    assert quality(given, at_most=0.01).verdict == "failed"
    assert quality(given, measure=measure, at_most=1.0).verdict == "warned"
    others = [one for one in SPOILT if one not in (measure, "nulls", "constants")]
    assert {quality(given, measure=one, at_most=0.01).verdict for one in others} <= {"passed", "skipped"}
    assert quality(given, at_most=0.01, trusted=["spoilt"]).verdict == "passed"


def test_the_rows_that_prove_it_are_named() -> None:
    result = quality(with_column(SHOP, "size", [*NORMAL[:-1], -1e9]))
    assert result.evidence == (SHOP.test["_row_id"][-1].as_py(),)


def test_nulls_on_one_side_are_named_from_a_difference_of_a_fifth_on() -> None:
    apart = [None, 1.0, 2.0, 3.0] * 150 + [1.0] * 200
    near = [None, 1.0, 2.0, 3.0] * 150 + [1.0] * 150 + [None] * 50
    assert (
        "25.0% of the training rows and 0.0% of the test rows" in quality(with_column(SHOP, "a", apart)).found
    )
    assert quality(with_column(SHOP, "a", near)).verdict == "passed"


@pytest.mark.parametrize(
    "values",
    [
        RANDOM.lognormal(0, 1, 800),
        RANDOM.exponential(size=800),
        RANDOM.poisson(0.3, 800),
        np.where(RANDOM.random(800) < 0.9, 0, RANDOM.lognormal(3, 1, 800)),
        np.arange(800) * 1000,
    ],
    ids=["prices", "waits", "counts", "mostly nothing", "numbers of things"],
)
def test_long_tails_are_no_outliers(values: np.ndarray[Any, Any]) -> None:
    assert quality(with_column(SHOP, "a", values.tolist())).verdict == "passed"


def test_plain_numbers_are_called_far_seldom() -> None:
    tables = [
        with_column(SHOP, "a", np.random.default_rng(one).normal(size=800).tolist()) for one in range(100)
    ]
    assert sum(quality(one).verdict != "passed" for one in tables) == 0


def test_rare_categories_are_to_be_expected_in_test_rows() -> None:
    """Of 300 categories in 600 rows every tenth is new: training saw as many of them once."""
    random = np.random.default_rng(3)
    rare = [str(round(one)) for one in random.exponential(25, 800)]
    assert quality(with_column(SHOP, "town", rare), measure="unseen").verdict == "passed"


def test_categories_that_a_split_by_group_keeps_apart_are_meant_so() -> None:
    given = with_column(SHOP, "kind", [f"kind {place // 20}" for place in range(800)])
    assert quality(given).verdict == "warned"
    lots = with_column(
        replace(given, group="lot"), "lot", [place // 40 for place in range(800)], as_input=False
    )
    assert quality(lots).verdict == "passed"


def test_a_measure_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Invalid, match="it is one of nulls, constants"):
        gate("quality", measure="beauty")


@pytest.mark.parametrize(
    ("file", "by", "label", "inputs"),
    [
        ("marketplace/seed_labelled", "product_id", "category", ("title", "merchant_id")),
        (
            "marketplace/seed_labelled",
            "listing_id",
            "category",
            ("title", "merchant_id", "product_name", "received_at"),
        ),
        ("adult/train", "person_id", "income_over_50k", ()),
        ("shopping/demographics", "household_id", "income", ()),
        ("shopping/products", "product_id", "department", ()),
    ],
)
def test_real_rows_raise_no_alarm(
    shared_data: Path, file: str, by: str, label: str, inputs: tuple[str, ...]
) -> None:
    table = pq.read_table(shared_data / f"{file}.parquet")
    columns = inputs or tuple(name for name in table.column_names if name not in (by, label))
    result = quality(split(table, by, columns, label=label, group=by if by == "product_id" else None))
    assert result.verdict == "passed", result.found


def test_real_rows_that_are_odd_are_called_so(shared_data: Path) -> None:
    """Two orders of 74,215 and 80,995 pieces, both cancelled, and two prices below nothing, which adjust a bad debt."""
    table = pq.read_table(shared_data / "online_retail" / "lines.parquet")
    result = quality(split(table, "invoice_no", ("quantity", "unit_price"), label="country"))
    assert result.verdict == "warned"
    assert result.numbers["problems"] == 2
    assert len(result.evidence) <= 8


def test_empty_and_strange_rows_are_looked_at_all_the_same() -> None:
    given = CheckInput(pa.table({"a": pa.nulls(3)}), pa.table({"b": [1]}), ("a", "b", "c"))
    assert quality(given, at_most=0.5).verdict == "failed"
