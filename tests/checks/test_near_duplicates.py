"""Near copies across the split: found by MinHash, decided by exact similarity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given as cases
from hypothesis import strategies as st

from everloop.checks import CheckInput, gate, run_checks
from everloop.checks.columns import Column, normalised
from everloop.checks.minhash import nearest
from everloop.checks.near_duplicates import near_duplicates
from tests.checks.tables import predictions, shop

SHOP = shop(400)


def pieces(text: str) -> set[str]:
    return {text[at : at + 5] for at in range(max(1, len(text) - 4))}


def similarity(left: str, right: str) -> float:
    own, theirs = pieces(left), pieces(right)
    return len(own & theirs) / len(own | theirs)


def titles(count: int, seed: int = 0) -> list[str]:
    """Made-up titles of eight words."""
    random = np.random.default_rng(seed)
    words = ["".join(random.choice(list("abcdefghij"), 6)) for _ in range(3_000)]
    return [" ".join(random.choice(words, 8)) for _ in range(count)]


def misspelt(text: str, at: int) -> str:
    return f"{text[:at]}x{text[at:]}"


def texts(values: list[str]) -> Column:
    return pa.chunked_array([pa.array(values, pa.large_string())])


def retold(given: CheckInput, values: list[str], *, label: str | None = None) -> CheckInput:
    """The same rows with other texts in the first test rows, and another label there."""
    own = [*values, *given.test["text"].to_pylist()[len(values) :]]
    test = given.test.set_column(1, "text", pa.array(own))
    if label is not None:
        labels = [label] * len(values) + given.test["label"].to_pylist()[len(values) :]
        test = test.set_column(4, "label", pa.array(labels))
    return replace(given, test=test)


def test_found_is_nearly_every_near_copy_and_nothing_else() -> None:
    train, random = titles(3_000), np.random.default_rng(1)
    once = [misspelt(train[number], int(random.integers(5, 50))) for number in range(700)]
    twice = [
        misspelt(misspelt(train[number], 12), 40) for number in range(700, 1_000)
    ]  # too little in common
    test = [*once, *twice, *titles(1_000, 7)]
    found = nearest(texts(test), texts(train), at_least=0.8)
    truth = {number for number in range(1_000) if similarity(test[number], train[number]) >= 0.8}
    named = set(np.flatnonzero(found.place >= 0).tolist())
    assert named <= truth
    assert len(named) >= 0.99 * len(truth) > 600
    assert all(found.place[number] == number for number in named)


@cases(
    st.lists(st.text("abcd é", max_size=30), min_size=1, max_size=8),
    st.lists(st.text("abcd é", max_size=30), max_size=8),
)
def test_the_similarity_that_is_named_is_that_of_a_count_by_hand(mine: list[str], theirs: list[str]) -> None:
    found = nearest(texts(mine), texts(theirs), at_least=0.5)
    for number, place in enumerate(found.place):
        if place >= 0 and mine[number].isascii() and theirs[place].isascii():
            assert found.similarity[number] == pytest.approx(similarity(mine[number], theirs[place]))
        assert place >= 0 or mine[number] not in theirs or not mine[number]


def test_texts_as_short_as_a_word_are_near_only_when_equal() -> None:
    found = nearest(texts(["tea", "te", "t"]), texts(["tea", "teas"]), at_least=0.8)
    assert found.place.tolist() == [0, -1, -1]


def test_a_template_of_which_there_are_thousands_is_told_in_time() -> None:
    told = "was sent today by our carrier to your address and will arrive within two days"
    train = [f"your order {number:06} {told}" for number in range(20_000)]
    test = [f"your order {number:06} {told}" for number in range(900_000, 902_000)]
    assert (nearest(texts(test), texts(train), at_least=0.8).place >= 0).mean() > 0.95


def test_honest_rows_pass() -> None:
    result = near_duplicates(SHOP)
    assert (result.verdict, result.remedy) == ("passed", "Nothing to do.")


def repeated() -> CheckInput:
    """Of 100 test rows the first 30 are training rows with a typo and the same label."""
    own = titles(400)
    train = SHOP.train.set_column(1, "text", pa.array(own[:300]))
    given = replace(SHOP, train=train, test=SHOP.test.set_column(1, "text", pa.array(own[300:])))
    given = retold(given, [misspelt(one, 20) for one in own[:30]])
    alike = [*given.train["label"].to_pylist()[:30], *given.test["label"].to_pylist()[30:]]
    return replace(given, test=given.test.set_column(4, "label", pa.array(alike)))


def test_rows_repeated_with_a_typo_fail_and_are_shown_with_what_they_repeat() -> None:
    given = repeated()
    result = near_duplicates(given)
    assert result.verdict == "failed"
    assert set(result.evidence) <= set(given.test["_row_id"].to_pylist()[:30])
    ids = given.train["_row_id"].to_pylist()
    assert {row["train_row"] - row["row"] for row in result.details} == {
        ids[0] - given.test["_row_id"][0].as_py()
    }
    assert near_duplicates(given, at_most=0.4).verdict == "warned"


def test_they_fail_when_the_model_is_better_on_them_and_warn_when_it_is_not() -> None:
    given = repeated()
    right = given.test["label"].to_pylist()
    flattered = [*right[:30], *("nothing" for _ in right[30:])]
    assert near_duplicates(replace(given, predictions=predictions(given, flattered))).verdict == "failed"
    assert near_duplicates(replace(given, predictions=predictions(given, right))).verdict == "warned"


def test_a_contradiction_or_two_among_few_rows_are_a_warning() -> None:
    given = repeated()
    labels = ["another", *given.test["label"].to_pylist()[1:]]
    given = replace(given, test=given.test.set_column(4, "label", pa.array(labels)))
    result = near_duplicates(given, at_most=0.5)
    assert (result.numbers["contradicting"], result.verdict) == (1, "warned")


def test_a_near_copy_with_another_label_is_shown_first_and_few_of_them_fail() -> None:
    own = SHOP.train["text"].to_pylist()[:6]
    given = retold(SHOP, [f"{one} " + "so much more text that both have here" for one in own], label="third")
    train = given.train.set_column(
        1,
        "text",
        pa.array(
            [f"{one} so much more text that both have her" for one in own]
            + given.train["text"].to_pylist()[6:]
        ),
    )
    result = near_duplicates(replace(given, train=train))
    assert result.numbers["contradicting"] == 6
    assert result.verdict == "failed"  # 6 of 100 test rows
    assert set(result.evidence[:6]) == set(given.test["_row_id"].to_pylist()[:6])


def test_what_the_near_copies_add_to_the_quality_is_told() -> None:
    given = retold(SHOP, [misspelt(one, 8) for one in titles(30)])
    given = replace(given, train=given.train.set_column(1, "text", pa.array(titles(300))))
    right = given.test["label"].to_pylist()
    answers = [*right[:30], *("other" for _ in right[30:])]
    numbers = near_duplicates(replace(given, predictions=predictions(given, answers))).numbers
    assert numbers["quality_near"] == 1.0
    assert numbers["quality_others"] == pytest.approx(np.mean([one == "other" for one in right[30:]]))


def test_exact_copies_are_left_to_leakage() -> None:
    given = replace(SHOP, test=SHOP.train.slice(0, 100))
    assert near_duplicates(given).numbers["near"] == 0


def test_case_spaces_and_punctuation_make_no_other_text() -> None:
    assert normalised(texts(["Tea,  GREEN!"])).to_pylist() == ["tea green"]


def test_it_runs_without_being_asked_and_a_gate_sets_its_limit() -> None:
    assert "near_duplicates" in [one.name for one in run_checks(SHOP)]
    result = run_checks(SHOP, [gate("near_duplicates", at_most=0.5)])
    assert [one.rule for one in result if one.name == "near_duplicates" and "50%" in one.rule]


def test_without_free_text_there_is_nothing_to_compare() -> None:
    assert near_duplicates(replace(SHOP, inputs=("price", "shade"))).verdict == "skipped"


def test_long_texts_are_compared_by_their_beginning_and_in_portions() -> None:
    words = titles(2_400)
    long = [" ".join(words[start : start + 60]) for start in range(0, 2_400, 60)]  # 3,300 letters each
    given = replace(
        SHOP,
        train=SHOP.train.set_column(1, "text", pa.array((long * 8)[:300])),
        test=SHOP.test.set_column(1, "text", pa.array([misspelt(one, 500) for one in (long * 3)[:100]])),
    )
    result = near_duplicates(given)
    assert result.numbers["near"] == 100
    assert (result.numbers["most_similar"] or 0) > 0.99
