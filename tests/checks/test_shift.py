from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from everloop.checks import CheckInput, Traffic
from everloop.checks.shift import (
    drift,
    ks_by_chance,
    ks_distance,
    total_variation,
    total_variation_by_chance,
    traffic_drift,
)
from tests.checks.tables import shop

CODES = st.lists(st.integers(-1, 5), min_size=1, max_size=40)
NUMBERS = st.lists(st.integers(-5, 5).map(float), min_size=4, max_size=40)


@given(CODES, CODES)
def test_total_variation_is_half_the_distance_of_shares(left: list[int], right: list[int]) -> None:
    by_hand = (
        sum(abs(left.count(one) / len(left) - right.count(one) / len(right)) for one in {*left, *right}) / 2
    )
    assert total_variation(np.array(left), np.array(right)) == pytest.approx(by_hand)


@given(NUMBERS, NUMBERS)
def test_the_ks_distance_is_that_of_scipy(left: list[float], right: list[float]) -> None:
    expected = stats.ks_2samp(left, right, method="asymp").statistic
    assert ks_distance(np.array([*left, math.nan]), np.array(right)) == pytest.approx(expected)


@given(NUMBERS, NUMBERS)
def test_the_ks_distance_survives_any_rising_change_of_unit(left: list[float], right: list[float]) -> None:
    one = ks_distance(np.array(left), np.array(right))
    assert ks_distance(np.exp(np.array(left)), np.exp(np.array(right))) == pytest.approx(one)
    assert ks_distance(np.array(right), np.array(left)) == pytest.approx(one)


@pytest.mark.parametrize(("n", "m"), [(60, 60), (500, 100), (2000, 2000)])
def test_chance_exceeds_its_bound_at_the_stated_rate_at_most(n: int, m: int) -> None:
    random = np.random.default_rng(n)
    alpha, rounds = 0.05, 400
    numbers = [(random.normal(size=n), random.normal(size=m)) for _ in range(rounds)]
    shares = [0.6, 0.2, 0.1, 0.05, 0.05]
    kinds = [(random.choice(5, n, p=shares), random.choice(5, m, p=shares)) for _ in range(rounds)]
    alarms = (
        np.mean([ks_distance(a, b) > ks_by_chance(n, m, alpha=alpha) for a, b in numbers]),
        np.mean([total_variation(a, b) > total_variation_by_chance(a, b, alpha=alpha) for a, b in kinds]),
    )
    assert max(alarms) <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / rounds)


def test_many_categories_lie_apart_by_chance_alone() -> None:
    random = np.random.default_rng(0)
    left, right = random.integers(0, 300, (2, 600))
    assert total_variation(left, right) > 0.2  # two samples of one distribution
    assert total_variation(left, right) < total_variation_by_chance(left, right, alpha=0.01)


def test_the_ks_bound_is_the_critical_value_of_the_tables() -> None:
    assert ks_by_chance(100, 100, alpha=0.05) == pytest.approx(1.358 * math.sqrt(2 / 100), abs=1e-3)


def test_nothing_is_said_without_a_last_snapshot() -> None:
    assert drift(shop()).verdict == "skipped"


def test_the_same_rows_have_not_shifted() -> None:
    given = shop(2000)
    result = drift(replace(given, reference=shop(2000, seed=1).train))
    assert result.verdict == "passed", result.found
    assert {row["column"] for row in result.details} == {"label", "price", "shade"}  # text is left to others


def test_a_moved_column_is_named_and_only_a_gate_makes_it_fail() -> None:
    given = shop(2000)
    price = given.train["price"].to_numpy() + 1.0
    reference = given.train.set_column(2, "price", pa.array(price))
    result = drift(replace(given, reference=reference))
    assert result.verdict == "warned"
    assert result.numbers["shifted"] == 1
    assert "'price'" in result.found
    assert drift(replace(given, reference=reference), at_most=0.3).verdict == "failed"
    assert drift(replace(given, reference=reference), at_most=0.6).verdict == "warned"


def test_a_large_distance_of_few_rows_is_chance() -> None:
    given = shop(40)
    result = drift(replace(given, reference=shop(8, seed=5).train))
    assert result.verdict == "passed"
    assert (result.numbers["largest"] or 0) > 0.05


def test_distances_measured_elsewhere_are_taken_as_they_are() -> None:
    result = drift(replace(shop(), shifts={"text": 0.4, "price": 0.01, "broken": math.nan}))
    assert result.verdict == "warned"
    assert result.numbers == {"columns": 2, "shifted": 1, "largest": 0.4}


def test_a_new_category_is_a_shift() -> None:
    given = shop(2000)
    old = given.train.filter(pa.array(given.train["shade"].to_numpy(zero_copy_only=False) != "blue"))
    result = drift(replace(given, reference=old))
    assert "'shade' by 0.3" in result.found


def asked(given: CheckInput, rows: pa.Table) -> CheckInput:
    """As if the live endpoint had been asked about these rows in a week."""
    first, last = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 8, tzinfo=UTC)
    inputs = rows.select(given.inputs)
    return replace(given, traffic=lambda: Traffic("kind", first, last, inputs))


def test_traffic_like_the_training_rows_has_not_shifted() -> None:
    verdicts = [
        traffic_drift(asked(shop(800), shop(800, seed=seed).train), at_most=0.05).verdict
        for seed in range(1, 21)
    ]
    assert verdicts.count("passed") >= 19


def test_a_moved_input_of_live_traffic_is_named_and_a_gate_makes_it_fail() -> None:
    given = shop(2000)
    lately = shop(2000, seed=1).train
    moved = lately.set_column(2, "price", pa.array(lately["price"].to_numpy() + 1.0))
    result = traffic_drift(asked(given, moved))
    assert result.verdict == "warned"
    assert "'price'" in result.found
    assert "1,500 requests to kind from 2026-05-01 00:00" in result.found
    assert {row["column"] for row in result.details} == {"price", "shade"}  # nobody sends the label
    assert traffic_drift(asked(given, moved), at_most=0.3).verdict == "failed"
    assert traffic_drift(asked(given, moved), at_most=0.6).verdict == "warned"


def test_numbers_of_other_width_are_compared_all_the_same() -> None:
    given = shop(2000)
    train = given.train.set_column(2, "price", given.train["price"].cast(pa.float32()))
    assert traffic_drift(asked(replace(given, train=train), shop(2000, seed=1).train)).numbers["columns"] == 2


def test_without_traffic_nothing_is_said_and_of_too_little_so() -> None:
    given = shop(800)
    rows = shop(800, seed=1).train
    results = [
        traffic_drift(given),
        traffic_drift(asked(given, rows.slice(0, 0))),
        traffic_drift(asked(given, rows.slice(0, 99)), at_most=0.1),
        traffic_drift(asked(given, rows.slice(0, 99)), min_rows=99),
    ]
    assert [one.verdict for one in results] == ["skipped", "skipped", "warned", "passed"]
    assert "No endpoint answers" in results[0].found
    assert "only 99 requests" in results[2].found
