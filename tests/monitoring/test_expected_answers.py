"""What a model would answer on its training rows: its habits are no drift."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from everloop.monitoring.look_drift import expected_answers

KINDS = st.sampled_from(["tea", "lamps", "bikes"])


def test_a_habit_shown_on_held_out_rows_is_expected() -> None:
    held_out = pa.table({"label": ["lamps"] * 4 + ["tea"], "predicted": ["lamps"] * 3 + ["tea"] * 2})
    assert Counter(expected_answers(["lamps"] * 8 + ["tea"] * 2, held_out)) == {"lamps": 6, "tea": 4}


def test_the_class_mix_of_the_held_out_rows_does_not_matter() -> None:
    few = pa.table({"label": ["lamps", "lamps", "tea"], "predicted": ["lamps", "tea", "tea"]})
    many = pa.concat_tables([few, pa.table({"label": ["tea"] * 97, "predicted": ["tea"] * 97})])
    assert Counter(expected_answers(["lamps"] * 10, few)) == Counter(expected_answers(["lamps"] * 10, many))


def test_without_held_out_answers_the_labels_are_expected() -> None:
    assert Counter(expected_answers(["tea", "lamps", "tea"], None)) == {"tea": 2, "lamps": 1}


@given(st.lists(KINDS), st.lists(st.tuples(KINDS, KINDS)))
def test_each_row_gets_one_answer(labels: list[str], pairs: list[tuple[str, str]]) -> None:
    held_out = pa.table({"label": [one for one, _ in pairs], "predicted": [one for _, one in pairs]})
    assert len(expected_answers(labels, held_out)) == len(labels)
