from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.checks import CheckInput
from everloop.checks.duplicates import duplicates
from tests.checks.tables import shop

SENTENCES = ["a red tin of tea", "a green tin of tea", "a cup of good coffee", "an old pen of steel"]


def texts(values: list[str | None], labels: list[str]) -> CheckInput:
    table = pa.table({"_row_id": range(len(values)), "text": pa.array(values, pa.string()), "label": labels})
    return CheckInput(table, table.slice(0, 0), ("text",))


def test_rows_that_do_not_repeat_pass() -> None:
    result = duplicates(shop())
    assert (result.verdict, result.numbers["redundant"]) == ("passed", 0)


def test_copies_and_contradictions_are_counted_by_hand() -> None:
    a, b, c, d = SENTENCES
    result = duplicates(
        texts([a, a.upper(), f" {b}.", b, b, c, d, None, None], ["x", "x", "x", "y", "x", "x", "x", "x", "y"])
    )
    assert result.numbers == pytest.approx(
        {"redundant": 3, "redundant_share": 3 / 9, "conflicting": 3, "conflicting_share": 3 / 9}
    )
    assert result.evidence == (2, 3, 4)
    assert result.verdict == "failed"
    assert "DropConflicts" in result.remedy


@pytest.mark.parametrize(("copies", "verdict"), [(0, "passed"), (1, "warned"), (30, "failed")])
def test_a_few_copies_warn_and_many_fail(copies: int, verdict: str) -> None:
    given = shop(140)
    train = pa.concat_tables([given.train, given.train.slice(0, copies)])
    assert duplicates(replace(given, train=train)).verdict == verdict


def test_the_gate_sets_how_many_are_too_many() -> None:
    given = shop(140)
    train = pa.concat_tables([given.train, given.train.slice(0, 5)])
    assert duplicates(replace(given, train=train), at_most=0.01).verdict == "failed"


def test_a_few_phrases_that_come_again_and_again_are_categories() -> None:
    phrases: list[str | None] = [f"{n} adults without any children" for n in ("one", "two", "three")]
    result = duplicates(texts(phrases * 40, ["x"] * 120))
    assert (result.verdict, "these are alike, not copies" in result.found) == ("passed", True)


def test_alike_rows_of_few_categories_are_reported_but_are_no_copies() -> None:
    result = duplicates(replace(shop(), inputs=("shade",)))
    assert result.verdict == "passed"
    assert (result.numbers["redundant"] or 0) > 200


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("xy")), min_size=1),
    st.randoms(use_true_random=False),
)
def test_counts_do_not_depend_on_the_order(rows: list[tuple[int, str]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis hands in a random.Random
    found = [
        duplicates(texts([SENTENCES[one] for one, _ in some], [label for _, label in some])).numbers
        for some in (rows, shuffled)
    ]
    assert found[0] == found[1]
    assert found[0]["redundant"] == len(rows) - len({one for one, _ in rows})
