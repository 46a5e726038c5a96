from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.errors import Invalid
from everloop.retraining.conditions import (
    Alarmed,
    Arrived,
    Both,
    Called,
    Condition,
    Contradicted,
    Drifted,
    Either,
    Evidence,
    Finished,
    Found,
    Labelled,
    Promoted,
    Registered,
    Released,
    RolledBack,
    Single,
    arrived,
    contradicted,
    from_value,
    holds,
    in_words,
    labelled,
    singles_of,
    to_value,
)
from everloop.retraining.decide import decide

NOW = datetime(2026, 10, 20, tzinfo=UTC)
BOTH = Drifted("category") & Contradicted("category", 50)


def seen(*, drift: int = 1, contradictions: int = 60) -> Evidence:
    return {
        Drifted("category"): Found(drift, tuple(f"find_{i}" for i in range(drift))),
        Contradicted("category", 50): Found(contradictions),
    }


numbers = st.integers(1, 100)
conditions: st.SearchStrategy[Condition] = st.recursive(
    st.one_of(
        st.builds(Drifted, st.just("a")),
        st.builds(Alarmed, st.just("a")),
        st.builds(Contradicted, st.just("b"), numbers),
        st.builds(Labelled, st.just("c"), numbers),
        st.builds(Arrived, st.just("d"), numbers),
        st.builds(Registered, st.just("e"), numbers),
        st.builds(Promoted, st.just("f"), st.sampled_from([None, "production"])),
        st.builds(Released, st.just("g")),
        st.builds(RolledBack, st.just("h")),
        st.builds(Finished, st.just("i"), st.sampled_from(["done", "failed", "any"])),
        st.builds(Called),
    ),
    lambda inner: st.one_of(st.builds(Both, inner, inner), st.builds(Either, inner, inner)),
    max_leaves=6,
)


@given(conditions)
def test_a_condition_comes_back_from_its_stored_form(condition: Condition) -> None:
    assert from_value(to_value(condition)) == condition


@pytest.mark.parametrize(
    ("drift", "contradictions", "expected"),
    [(1, 50, True), (0, 50, False), (1, 49, False), (0, 0, False)],
)
def test_both_needs_both(drift: int, contradictions: int, expected: bool) -> None:
    assert holds(BOTH, seen(drift=drift, contradictions=contradictions)) is expected


def test_either_needs_one() -> None:
    assert holds(Drifted("category") | Contradicted("category", 50), seen(drift=0))


def test_the_reason_tells_what_was_found_and_what_was_needed() -> None:
    assert (
        in_words(BOTH, seen())
        == "1 drift findings on category and 60 answers of category contradicted (needs 50)"
    )


def test_a_condition_names_what_it_is_made_of() -> None:
    made = Drifted("a") & (Drifted("a") | Labelled("c", 1))
    assert singles_of(made) == {Drifted("a"), Labelled("c", 1)}


@pytest.mark.parametrize(
    ("condition", "count", "expected", "told"),
    [
        (Alarmed("category"), 1, True, "1 alarms on category"),
        (Alarmed("category"), 0, False, "0 alarms on category"),
        (Labelled("kind", 200), 200, True, "200 rows newly labelled in kind (needs 200)"),
        (Labelled("kind", 200), 199, False, "199 rows newly labelled in kind (needs 200)"),
        (Arrived("listings", 10), 12, True, "12 rows new or changed in listings (needs 10)"),
        (Arrived("listings", 10), 9, False, "9 rows new or changed in listings (needs 10)"),
    ],
)
def test_a_condition_holds_from_its_number_on(
    condition: Single, count: int, expected: bool, told: str
) -> None:
    evidence = {condition: Found(count)}
    assert holds(condition, evidence) is expected
    assert in_words(condition, evidence) == told


def test_enough_evidence_starts_training() -> None:
    verdict = decide(BOTH, seen(), now=NOW, last_at=None, cooldown=timedelta(hours=24))
    assert verdict.retrain


def test_the_cool_down_holds_it_back_and_then_lets_it_go() -> None:
    verdicts = [
        decide(BOTH, seen(), now=NOW + timedelta(hours=h), last_at=NOW, cooldown=timedelta(hours=24))
        for h in (23, 24)
    ]
    assert [verdict.retrain for verdict in verdicts] == [False, True]
    assert "cooling down until 2026-10-21" in verdicts[0].reason


def test_too_little_evidence_says_so() -> None:
    verdict = decide(BOTH, seen(contradictions=3), now=NOW, last_at=None, cooldown=timedelta(0))
    assert verdict.reason.startswith("not enough: ")


def test_no_contradictions_at_all_is_no_condition() -> None:
    class Named:
        name = "category"

    for make in (contradicted, labelled, arrived):
        with pytest.raises(Invalid, match=rf"{make.__name__}\(\) was given 0; .* 1 or more"):
            make(Named(), 0)


def test_a_stored_condition_of_another_everloop_is_refused() -> None:
    with pytest.raises(Invalid, match="Apply the loop file again"):
        from_value({"eclipse": "moon"})
