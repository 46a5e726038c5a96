from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from everloop.checks import CheckInput
from everloop.checks.slices import lower_tail, slices
from tests.checks.tables import predictions, shop


def answered(right_share: dict[str, float], *, n: int = 2000, seed: int = 0) -> CheckInput:
    """Rows whose answers are right in the stated share of each shade."""
    given = shop(n, seed=seed)
    random = np.random.default_rng(seed)
    rows = zip(given.test["label"].to_pylist(), given.test["shade"].to_pylist(), strict=True)
    answers = [label if random.random() < right_share[str(shade)] else "wrong" for label, shade in rows]
    return replace(given, predictions=predictions(given, answers))


EVEN = {"red": 0.9, "green": 0.9, "blue": 0.9}
WEAK = {**EVEN, "blue": 0.6}


def test_a_weak_slice_is_named_with_its_interval_and_rows_that_show_it() -> None:
    given = answered(WEAK)
    result = slices(given)
    assert result.verdict == "warned"
    assert "shade = 'blue'" in result.found
    worst = result.details[0]
    assert worst["low"] < worst["quality"] < worst["high"] < worst["others"]
    shades = dict(zip(given.test["_row_id"].to_pylist(), given.test["shade"].to_pylist(), strict=True))
    assert {shades[row] for row in result.evidence} == {"blue"}


def test_even_slices_are_named_in_one_report_of_a_hundred_at_most() -> None:
    named = sum(slices(answered(EVEN, n=800, seed=seed)).verdict != "passed" for seed in range(40))
    assert named <= 2


def test_a_gate_asks_the_same_of_every_slice() -> None:
    assert slices(answered(EVEN), at_least=0.7).verdict == "passed"
    result = slices(answered(WEAK), at_least=0.7)
    assert result.verdict == "failed"
    assert result.numbers["worst"] == pytest.approx(0.6, abs=0.1)


def test_slices_of_few_rows_are_left_out() -> None:
    assert slices(answered(WEAK, n=80)).verdict == "skipped"
    assert slices(answered(WEAK, n=80), min_rows=3).numbers["slices"] == 3


def test_a_named_column_is_sliced_however_many_values_it_has() -> None:
    given = answered(EVEN)
    many = pa.array([f"m{number % 30}" for number in range(given.test.num_rows)])
    given = replace(given, test=given.test.append_column("merchant", many))
    assert slices(given, by=["merchant"], min_rows=10).numbers["slices"] == 30
    assert {row["column"] for row in slices(given).details} == {"shade"}


def test_numbers_are_sliced_by_their_error() -> None:
    given = shop(2000)
    random = np.random.default_rng(1)
    truth = random.normal(size=500)
    noise = np.where(np.array(given.test["shade"].to_pylist()) == "blue", 1.0, 0.1)
    table = pa.table(
        {
            "_row_id": given.test["_row_id"],
            "label": truth,
            "predicted": truth + noise * random.normal(size=500),
        }
    )
    test = given.test.set_column(4, "label", pa.array(truth))
    result = slices(replace(given, test=test, train=test, predictions=table))
    assert result.verdict == "warned"
    assert "shade = 'blue'" in result.found


@pytest.mark.parametrize(("good", "rows", "others_good", "others"), [(40, 60, 850, 940), (10, 30, 20, 40)])
def test_the_p_value_is_that_of_a_chi_square_test(
    good: int, rows: int, others_good: int, others: int
) -> None:
    table = [[good, rows - good], [others_good, others - others_good]]
    pooled = (good + others_good) / (rows + others)
    deviation = (pooled * (1 - pooled) * (1 / rows + 1 / others)) ** 0.5
    expected = stats.chi2_contingency(table, correction=False).pvalue / 2
    assert lower_tail(good / rows - others_good / others, deviation) == pytest.approx(expected)
