from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from everloop.labels.records import Rule, Source, Value
from everloop.labels.resolve import Resolved, Statement, Translate, resolve

START = datetime(2026, 9, 1, tzinfo=UTC)
AS_IT_IS: Translate = {1: None}


def said(
    value: Value,
    *,
    by: str = "ann",
    hour: int = 0,
    recorded: int | None = None,
    source: Source = "human",
    row: int = 1,
    schema: int = 1,
) -> Statement:
    at = START + timedelta(hours=hour)
    recorded_at = at if recorded is None else START + timedelta(hours=recorded)
    return Statement(f"le_{hour}{by}", schema, row, f"k{row}", value, by, source, at, recorded_at, None)


def label(*statements: Statement, rule: Rule = "latest", translate: Translate = AS_IT_IS) -> Value | None:
    (resolved,) = resolve(statements, rule=rule, translate=translate)
    return resolved.label


@pytest.mark.parametrize("rule", ["latest", "majority", "reviewer_wins"])
def test_one_statement_decides(rule: Rule) -> None:
    one = said("TVs")
    assert list(resolve([one], rule=rule, translate=AS_IT_IS)) == [Resolved(1, "k1", "TVs", (one,))]


def test_the_newest_is_the_last_said_not_the_last_recorded() -> None:
    late = said("old", hour=1, recorded=9)
    assert label(said("new", by="bob", hour=5), late) == "new"


def test_said_at_the_same_time_the_later_recorded_wins() -> None:
    assert label(said("b", hour=1, recorded=3), said("a", by="bob", hour=1, recorded=2)) == "b"


def test_the_majority_wins_and_each_annotator_has_one_vote() -> None:
    votes = [
        said("a", hour=1),
        said("b", by="bob", hour=2),
        said("b", by="bob", hour=3),
        said("a", by="cy", hour=0),
    ]
    assert label(*votes, rule="majority") == "a"


def test_who_changes_his_mind_moves_his_vote() -> None:
    votes = [said("a", hour=1), said("b", by="bob", hour=2), said("b", hour=3)]
    assert label(*votes, rule="majority") == "b"


def test_of_values_with_equally_many_votes_the_last_said_wins() -> None:
    assert label(said("a", hour=2), said("b", by="bob", hour=1), rule="majority") == "a"
    assert label(said("a", hour=2), said("b", by="bob", hour=3), rule="majority") == "b"


def test_who_says_it_again_says_it_last() -> None:
    votes = [said("a", hour=0), said("b", by="bob", hour=1), said("a", hour=2)]
    assert label(*votes, rule="majority") == "a"


def test_the_majority_is_decided_by_those_who_agree() -> None:
    votes = [said("a", hour=1), said("b", by="bob", hour=2), said("a", by="cy", hour=3)]
    (resolved,) = resolve(votes, rule="majority", translate=AS_IT_IS)
    assert [one.annotator for one in resolved.decided_by] == ["ann", "cy"]


def test_a_reviewer_overrules_what_is_said_later() -> None:
    review = said("right", by="rev", hour=1, source="review")
    later = said("wrong", by="seller", hour=5, source="correction")
    assert label(review, later, rule="reviewer_wins") == "right"
    assert label(review, later, rule="latest") == "wrong"


def test_without_a_reviewer_the_newest_counts() -> None:
    assert label(said("a"), said("b", by="bob", hour=1), rule="reviewer_wins") == "b"


@pytest.mark.parametrize("rule", ["latest", "majority", "reviewer_wins"])
def test_what_a_model_says_decides_nothing(rule: Rule) -> None:
    model = said("guess", by="category@1", hour=9, source="model")
    assert label(said("a"), model, rule=rule) == "a"
    assert list(resolve([model], rule=rule, translate=AS_IT_IS)) == []


def test_a_renamed_class_is_called_by_its_name_of_today() -> None:
    translate: Translate = {1: {"Telly": "TVs"}, 2: None}
    assert label(said("Telly"), translate=translate) == "TVs"
    assert (
        label(said("Telly"), said("TVs", by="bob", schema=2), rule="majority", translate=translate) == "TVs"
    )


def test_what_names_a_lost_class_does_not_count() -> None:
    translate: Translate = {1: {"a": "a"}, 2: None}
    assert label(said("a"), said("gone", by="bob", hour=1), translate=translate) == "a"
    assert label(said("gone"), translate=translate) is None


def test_rows_stay_apart_and_in_order() -> None:
    rows = resolve(
        [said("a", row=1), said("b", row=2), said("c", row=2, hour=1)], rule="latest", translate=AS_IT_IS
    )
    assert [(one.row_id, one.key, one.label) for one in rows] == [(1, "k1", "a"), (2, "k2", "c")]
