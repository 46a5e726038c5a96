from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from everloop.checks.columns import Column
from everloop.checks.power import (
    by_name,
    by_range,
    by_range_number,
    by_value,
    by_value_number,
    by_word,
)

CODES = st.lists(st.tuples(st.integers(-1, 6), st.integers(-1, 3)), min_size=1, max_size=60)


def text(values: Sequence[str | None]) -> Column:
    return pa.chunked_array([pa.array(values, pa.large_string())])


def plain_by_value(pairs: list[tuple[int, int]]) -> tuple[int, int, int]:
    """Rows, errors and baseline errors, in the words of the definition."""
    pairs = [(value, label) for value, label in pairs if value >= 0 and label >= 0]
    if not pairs:
        return 0, 0, 0
    counts = Counter(label for _, label in pairs)
    majority = min(counts, key=lambda label: (-counts[label], label))
    groups = defaultdict(list)
    for value, label in pairs:
        groups[value].append(label)
    rows = errors = baseline = 0
    for labels in groups.values():
        for place, label in enumerate(labels if len(labels) > 1 else []):
            others = Counter(labels[:place] + labels[place + 1 :])
            best = others.most_common(1)[0][1]
            leaders = [one for one, count in others.items() if count == best]
            rows, errors, baseline = rows + 1, errors + (leaders != [label]), baseline + (label != majority)
    return rows, errors, baseline


@given(CODES)
def test_by_value_is_the_definition(pairs: list[tuple[int, int]]) -> None:
    found = by_value(np.array([value for value, _ in pairs]), np.array([label for _, label in pairs]))
    rows, errors, baseline = plain_by_value(pairs)
    assert (found.rows, found.baseline_errors) == (rows, baseline)
    assert found.skill == (pytest.approx(1 - errors / baseline) if baseline else None)


@given(CODES, st.randoms(use_true_random=False))
def test_by_value_depends_on_neither_order_nor_names(
    pairs: list[tuple[int, int]], random: np.random.Generator
) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    renamed = {value: 40 - value for value, _ in pairs if value >= 0} | {-1: -1}
    one = by_value(np.array([value for value, _ in pairs]), np.array([label for _, label in pairs]))
    other = by_value(
        np.array([renamed[value] for value, _ in shuffled]), np.array([label for _, label in shuffled])
    )
    assert one == other


def test_a_perfect_column_needs_59_baseline_errors_to_be_certain() -> None:
    for errors, is_certain in ((58, False), (59, True)):
        labels = np.repeat([0, 1], [200, errors])
        found = by_value(labels, labels)
        assert found.skill == 1.0
        assert (found.at_least >= 0.95) is is_certain


@pytest.mark.parametrize(("values", "classes"), [(5, 2), (300, 2), (900, 10)])
def test_a_column_without_any_relation_shows_none(values: int, classes: int) -> None:
    random = np.random.default_rng(3)
    found = [
        by_value(random.integers(0, values, 1000), np.minimum(random.geometric(0.5, 1000), classes) - 1)
        for _ in range(300)
    ]
    assert max(one.at_least for one in found) < 0.1


@pytest.mark.parametrize(("skill", "rows"), [(0.5, 100), (0.8, 100), (0.8, 1000), (0.9, 1000)])
def test_an_honest_column_is_certain_in_one_table_of_a_hundred_at_most(skill: float, rows: int) -> None:
    random = np.random.default_rng(4)
    certain = 0
    for _ in range(200):
        labels = random.integers(0, 2, rows)
        values = np.where(random.random(rows) < skill / 2 + 0.5, labels, 1 - labels)
        certain += by_value(values, labels).at_least >= 0.95
    assert certain <= 2


def test_how_much_of_the_future_brings_new_values_is_told_by_single_ones() -> None:
    assert by_value(np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1])).new_share == 0.5


def test_by_range_learns_on_one_side_and_is_measured_on_the_other() -> None:
    train, test = np.arange(80.0), np.array([3.0, 70.0, np.nan])
    labels = (train >= 40).astype(np.int64)
    found = by_range(train, labels, test, np.array([0, 1, 1]))
    assert (found.rows, found.baseline_errors) == (3, 2)
    assert found.skill == 0.5  # the empty one is not known from training: it gets the most frequent label


@given(st.floats(0.1, 1e6), st.floats(-1e6, 1e6))
def test_by_range_does_not_depend_on_the_unit(factor: float, shift: float) -> None:
    random = np.random.default_rng(5)
    values = np.round(random.normal(size=400), 3)
    labels = (values + random.normal(0, 0.3, 400) > 0).astype(np.int64)
    moved = values * factor + shift
    one = by_range(values[:300], labels[:300], values[300:], labels[300:])
    other = by_range(moved[:300], labels[:300], moved[300:], labels[300:])
    assert other.skill == pytest.approx(one.skill, abs=0.05)


def test_an_unrelated_number_has_no_range_skill() -> None:
    random = np.random.default_rng(6)
    found = by_range(
        random.normal(size=2000),
        random.integers(0, 2, 2000),
        random.normal(size=500),
        random.integers(0, 2, 500),
    )
    assert abs(found.skill or 0) < 0.15


def test_by_word_takes_the_word_that_decided_best() -> None:
    train = text(["red tea", "green tea", "red car", "fast car", "tea tin"])
    labels = np.array([0, 0, 1, 1, 0])
    found = by_word(train, labels, text(["blue TEA!", "car, blue", "blue", None]), np.array([0, 1, 1, 0]))
    assert (found.rows, found.baseline_errors) == (4, 2)
    assert (
        found.skill == 0.5
    )  # tea and car are right; a row without a known word gets the most frequent label


def test_by_word_never_sees_a_test_rows_own_label() -> None:
    random = np.random.default_rng(7)
    words = [f"only{number}" for number in range(400)]
    labels = random.integers(0, 2, 400)
    found = by_word(text(words[:300]), labels[:300], text(words[300:]), labels[300:])
    assert (found.skill or 0) <= 0.0


@pytest.mark.parametrize(
    ("texts", "skill"),
    [
        (["fruit/apple/1.jpg", "fruit/Sour-Cream/2.jpg", "apple_3", "x sour  cream"], 1.0),
        (["an apple", "an apple", "none", "none"], 0.0),
        (["apple sour cream"] * 4, None),
        (["applesauce", "soured creams", "pineapple", "cream"], 0.0),
    ],
)
def test_by_name_counts_rows_that_speak_their_labels_name(texts: list[str], skill: float | None) -> None:
    found = by_name(text(texts), np.array([0, 1, 0, 1]), ["Apple", "Sour Cream"])
    assert found.skill == skill


def test_numbers_by_value_are_predicted_by_the_mean_of_the_others() -> None:
    found = by_value_number(np.array([0, 0, 0, 1, 1, 2]), np.array([1.0, 2.0, 3.0, 10.0, 10.0, 7.0]))
    errors = (1 - 2.5) ** 2 + 0 + (3 - 1.5) ** 2
    mean = 33 / 6
    total = sum((label - mean) ** 2 for label in (1, 2, 3, 10, 10))
    assert found.skill == pytest.approx(1 - errors / total)
    assert found.cover == pytest.approx(5 / 6)


def test_numbers_by_range_come_close_to_a_straight_line_where_there_is_one() -> None:
    random = np.random.default_rng(8)
    values = random.normal(size=(3000, 1))
    labels = 3 * values[:, 0] + random.normal(size=3000)
    line = stats.linregress(values[:2000, 0], labels[:2000])
    error = labels[2000:] - (line.intercept + line.slope * values[2000:, 0])
    explained = 1 - (error**2).sum() / ((labels[2000:] - labels[:2000].mean()) ** 2).sum()
    found = by_range_number(values[:2000, 0], labels[:2000], values[2000:, 0], labels[2000:])
    assert found.skill == pytest.approx(explained, abs=0.05)


def test_nothing_is_known_without_rows() -> None:
    none, codes, numbers = text([]), np.empty(0, np.int64), np.empty(0)
    for found in (
        by_value(codes, codes),
        by_value_number(codes, numbers),
        by_range(numbers, codes, numbers, codes),
        by_range_number(numbers, numbers, numbers, numbers),
        by_word(none, codes, none, codes),
        by_name(none, codes, []),
    ):
        assert (found.skill, found.at_least, found.rows) == (None, 0.0, 0)
