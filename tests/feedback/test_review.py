from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from everloop import feedback
from everloop.errors import Conflict, Invalid, NotFound
from everloop.feedback import ReviewItem
from tests.conftest import START
from tests.feedback.conftest import World


def audited(world: World, key: int | None = 3, answer: str = "TVs", **given: Any) -> ReviewItem:
    """An item of an audit of one prediction."""
    world.predict(key, answer, **given)
    start, end = world.ws.now(), world.later(microseconds=1)
    feedback.sample_for_audit(world.ws, "kind", probability=0.9999, start=start, end=end)
    return feedback.review_queue(world.ws, limit=1000)[-1]


def answer(
    world: World, item: ReviewItem, value: Any = "Fridges", *, by: str = "rev", **more: Any
) -> ReviewItem:
    return feedback.answer_review(world.ws, item.id, value=value, reviewer=by, **more)


def outcomes(world: World) -> list[dict[str, Any]]:
    return feedback.outcomes(world.ws, "kind", start=START, end=world.later(seconds=1)).to_pylist()


def test_an_audits_answer_is_an_outcome_and_a_label(any_world: World) -> None:
    item = audited(any_world)
    at = any_world.later(hours=1)
    done = answer(any_world, item)
    assert (done.state, done.value, done.reviewer, done.answered_at) == ("answered", "Fridges", "rev", at)
    assert feedback.review_item(any_world.ws, item.id) == done
    (outcome,) = outcomes(any_world)
    assert (outcome["prediction_id"], outcome["value"], outcome["answer"]) == (
        item.prediction_id,
        "Fridges",
        "TVs",
    )
    assert (outcome["source"], outcome["inclusion_probability"], outcome["is_correct"]) == (
        "audit",
        0.9999,
        False,
    )
    (event,) = any_world.said()
    assert (event.source, event.annotator, event.value, event.at) == ("review", "rev", "Fridges", at)


def test_a_corrections_answer_is_a_label_and_no_outcome(any_world: World) -> None:
    any_world.correct("Fridges", by="seller", prediction_id=any_world.predict(3))
    (item,) = feedback.review_queue(any_world.ws)
    answer(any_world, item, "Freezers")
    assert [one.value for one in any_world.said()] == ["Freezers"]
    assert outcomes(any_world) == []


def test_what_is_answered_leaves_the_queue(world: World) -> None:
    items = [audited(world, key) for key in (1, 2, 3)]
    answer(world, items[1])
    assert feedback.review_queue(world.ws) == [items[0], items[2]]
    assert feedback.review_queue(world.ws, "kind", limit=1) == items[:1]
    assert feedback.review_queue(world.ws, after=items[0].id) == items[2:]
    assert feedback.review_queue(world.ws, "other") == []


def test_the_same_answer_again_changes_nothing(any_world: World) -> None:
    item = audited(any_world)
    first = answer(any_world, item)
    any_world.later(hours=1)
    assert answer(any_world, item, by="another") == first
    assert len(any_world.said()) == len(outcomes(any_world)) == 1


def test_another_answer_is_a_conflict(world: World) -> None:
    item = audited(world)
    answer(world, item)
    with pytest.raises(Conflict, match="was answered with 'Fridges' by rev, not 'TVs'"):
        answer(world, item, "TVs")


def test_of_many_answers_at_a_time_one_counts(any_world: World) -> None:
    item = audited(any_world)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda i: answer(any_world, item, by=f"rev{i}"), range(4)))
    assert len({one.reviewer for one in done}) == 1
    assert len(any_world.said()) == len(outcomes(any_world)) == 1


def test_several_answers_are_kept_together(any_world: World) -> None:
    items = [audited(any_world, key) for key in (1, 2, 3)]
    answers = {items[0].id: "Fridges", items[2].id: "TVs"}
    done = feedback.answer_reviews(any_world.ws, answers, reviewer="rev")
    assert [(one.id, one.value) for one in done] == [(items[0].id, "Fridges"), (items[2].id, "TVs")]
    assert feedback.review_queue(any_world.ws) == [items[1]]
    assert {one["prediction_id"]: one["value"] for one in outcomes(any_world)} == {
        items[0].prediction_id: "Fridges",
        items[2].prediction_id: "TVs",
    }
    assert feedback.answer_reviews(any_world.ws, answers, reviewer="another") == done
    assert len(outcomes(any_world)) == 2


@pytest.mark.parametrize(
    ("refused", "error"), [("Fridgs", Invalid), ("TVs", Conflict)], ids=["no label", "answered before"]
)
def test_of_several_answers_none_is_kept_when_one_is_refused(
    any_world: World, refused: str, error: type[Exception]
) -> None:
    first, second = (audited(any_world, key) for key in (1, 2))
    if error is Conflict:
        answer(any_world, second, "Fridges")
    known = len(outcomes(any_world)), len(any_world.said())
    with pytest.raises(error):
        feedback.answer_reviews(any_world.ws, {first.id: "TVs", second.id: refused}, reviewer="rev")
    assert feedback.review_item(any_world.ws, first.id) == first
    assert (len(outcomes(any_world)), len(any_world.said())) == known


def test_an_item_without_a_label_set_or_key_gives_an_outcome_alone(world: World) -> None:
    world.release("rel_foreign", label_snapshot=None)
    answer(world, audited(world, release="rel_foreign"), "whatever")
    answer(world, audited(world, None))
    assert len(outcomes(world)) == 2
    assert world.said() == []


@pytest.mark.parametrize(
    ("value", "by", "told"), [("Fridgs", "rev", "Did you mean 'Fridges'"), ("TVs", "", "cannot name who")]
)
def test_a_wrong_answer_leaves_the_item_open(world: World, value: str, by: str, told: str) -> None:
    item = audited(world)
    with pytest.raises(Invalid, match=told):
        answer(world, item, value, by=by)
    assert feedback.review_queue(world.ws) == [item]
    assert outcomes(world) == []


def test_an_unknown_item_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match="no review item 'rev_1'"):
        feedback.answer_review(world.ws, "rev_1", value="TVs", reviewer="rev")


def test_open_reviews_are_counted_by_endpoint(world: World) -> None:
    assert feedback.open_reviews(world.ws) == {}
    for key in range(1, 4):
        world.correct("Fridges", by="seller", prediction_id=world.predict(key))
    assert feedback.open_reviews(world.ws) == {"kind": 3}
    assert feedback.open_reviews(world.ws, most=2) == {"kind": 2}
