from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from everloop.checks import CheckResult, giveaways, run_checks
from everloop.checks.leakage import leakage
from tests.checks.tables import labels, shop, with_column

ROWS = 1400
CUT = 1050
SHOP = shop(ROWS)


def blamed(result: CheckResult) -> list[str]:
    """The inputs that a result calls certain."""
    return [row["column"] for row in result.details if row["level"] == "certain"]


def test_honest_inputs_pass_and_their_power_is_reported() -> None:
    result = leakage(SHOP)
    assert result.verdict == "passed"
    assert 0 < (result.numbers["strongest_skill"] or 0) < 0.9
    assert {row["column"] for row in result.details} == set(SHOP.inputs)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("copy", labels(SHOP)),
        ("renamed_copy", [{"drink": "b7", "other": "a1"}[label] for label in labels(SHOP)]),
        ("as_boolean", [label == "drink" for label in labels(SHOP)]),
        (
            "as_number",
            [
                1.0 + number / 1e6 if label == "drink" else -number / 1e6
                for number, label in enumerate(labels(SHOP))
            ],
        ),
        ("thing_name", [f"{label[0]} {number // 3}" for number, label in enumerate(labels(SHOP))]),
        (
            "filled_only_for_one",
            [f"v{number}" if label == "drink" else None for number, label in enumerate(labels(SHOP))],
        ),
        ("path", [f"shelf/{label}/{number}.jpg" for number, label in enumerate(labels(SHOP))]),
        (
            "coded_path",
            [
                f"x-{'k17' if label == 'drink' else 'k18'}-{number}"
                for number, label in enumerate(labels(SHOP))
            ],
        ),
    ],
)
def test_a_column_that_gives_the_answer_away_fails(name: str, values: list[object]) -> None:
    result = leakage(with_column(SHOP, name, values))
    assert result.verdict == "failed"
    assert name in blamed(result)
    assert name in result.found
    assert name in result.remedy


def test_it_does_not_matter_when_it_is_no_input() -> None:
    given = with_column(SHOP, "copy", labels(SHOP), as_input=False)
    assert leakage(given).verdict == "passed"


def test_a_trusted_input_is_reported_but_does_not_fail() -> None:
    given = with_column(SHOP, "copy", labels(SHOP))
    result = leakage(given, trusted=["copy"])
    assert result.verdict == "passed"
    assert blamed(result) == ["copy"]


def test_evidence_is_rows_that_show_it() -> None:
    given = with_column(SHOP, "copy", labels(SHOP))
    ids = set(given.train["_row_id"].to_pylist())
    evidence = leakage(given).evidence
    assert len(evidence) == 20
    assert set(evidence) <= ids


def test_too_few_rows_make_a_suspicion_not_a_verdict() -> None:
    small = shop(60)
    result = leakage(with_column(small, "copy", labels(small)))
    assert result.verdict == "warned"
    assert "copy" in result.found


def test_the_key_is_no_input_and_a_row_number_is_suspect() -> None:
    numbered = with_column(SHOP, "number", np.random.default_rng(0).permutation(ROWS).tolist())
    assert leakage(numbered).verdict == "warned"
    assert leakage(replace(numbered, key="number")).verdict == "failed"


def test_a_named_group_may_not_be_on_both_sides() -> None:
    groups = [number // 2 for number in range(ROWS)]  # pairs; the cut lies between two of them
    given = with_column(SHOP, "shop_id", groups, as_input=False)
    assert leakage(replace(given, group="shop_id")).verdict == "passed"
    moved = with_column(SHOP, "shop_id", [(number + 1) // 2 for number in range(ROWS)], as_input=False)
    result = leakage(replace(moved, group="shop_id"))
    assert result.verdict == "failed"
    assert result.numbers["group_overlap"] == pytest.approx(1 / 350)
    assert result.evidence == (1000 + CUT,)


def test_a_group_that_nobody_named_is_detected() -> None:
    random = np.random.default_rng(1)
    things = [f"{label} {random.integers(0, 900)}" for label in labels(SHOP)]
    result = leakage(with_column(SHOP, "thing", things, as_input=False))
    assert result.verdict == "failed"
    assert "by='thing'" in result.remedy
    assert leakage(with_column(SHOP, "thing", things, as_input=False), trusted=["thing"]).verdict == "passed"


def test_a_parent_class_is_no_group() -> None:
    kinds = [{"drink": "tea coffee juice", "other": "pen cup"}[label].split() for label in labels(SHOP)]
    random = np.random.default_rng(2)
    given = with_column(SHOP, "kind", [str(random.choice(one)) for one in kinds], as_input=False)
    assert leakage(given).verdict == "passed"


def test_copies_across_the_split_fail_and_alike_categories_do_not() -> None:
    copied = replace(SHOP, test=pa.concat_tables([SHOP.test, SHOP.train.slice(0, 10)]))
    result = leakage(copied)
    assert result.verdict == "failed"
    assert (result.numbers["copies"], result.evidence) == (10, tuple(range(1000, 1010)))
    assert leakage(replace(SHOP, inputs=("shade",))).numbers["copies"] == 0


def test_copies_are_found_whatever_the_case_and_spacing() -> None:
    loud = pa.array([f"  {str(one).upper()}!" for one in SHOP.train["text"].to_pylist()[:5]])
    again = SHOP.train.slice(0, 5).set_column(1, "text", loud)
    result = leakage(replace(SHOP, inputs=("text",), test=pa.concat_tables([SHOP.test, again])))
    assert result.numbers["copies"] == 5


def test_numbers_as_labels_have_giveaways_too() -> None:
    random = np.random.default_rng(3)
    size = random.normal(50, 10, ROWS)
    price = size * 2 + random.normal(0, 8, ROWS)
    given = with_column(
        with_column(SHOP, "size", size.tolist()), "price_in_cents", np.round(price * 100).tolist()
    )
    given = replace(
        given,
        label="price_",
        inputs=("size", "price_in_cents"),
        train=given.train.append_column("price_", pa.array(price[:CUT])),
        test=given.test.append_column("price_", pa.array(price[CUT:])),
    )
    levels = {one.column: one.level for one in giveaways(given, given.inputs)}
    assert levels == {"size": "none", "price_in_cents": "certain"}


def test_giveaways_ranks_all_columns_the_worst_first() -> None:
    given = with_column(SHOP, "copy", labels(SHOP), as_input=False)
    assert giveaways(given)[0].column == "copy"


def test_leakage_runs_by_default() -> None:
    result = next(one for one in run_checks(with_column(SHOP, "copy", labels(SHOP))) if one.name == "leakage")
    assert result.verdict == "failed"


def test_a_feature_may_leak_but_does_not_hide_a_copy() -> None:
    given = replace(with_column(SHOP, "copy", labels(SHOP), as_input=False), features=("copy",))
    assert leakage(given).verdict == "failed"
    again = SHOP.train.slice(0, 10).set_column(2, "price", pa.array([float(one) for one in range(10)]))
    given = replace(SHOP, inputs=("text",), features=("price",), test=pa.concat_tables([SHOP.test, again]))
    assert leakage(given).numbers["copies"] == 10
