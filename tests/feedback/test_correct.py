from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from everloop import feedback, labels
from everloop.errors import Invalid, NotFound
from everloop.labels import LabelClass
from tests.conftest import START
from tests.feedback.conftest import World, define
from tests.labels.conftest import CLASSES


def test_a_correction_knows_what_it_is_about(any_world: World) -> None:
    made = any_world.predict(3, "TVs", variant="canary", version=2)
    at = any_world.later(hours=1)
    found = any_world.correct("Fridges", prediction_id=made)
    assert (found.prediction_id, found.key, found.answer, found.value) == (made, "3", "TVs", "Fridges")
    assert found.contradicts
    assert (found.variant, found.release, found.model, found.version) == ("canary", "rel_1", "kind", 2)
    assert (found.predicted_at, found.at, found.recorded_at) == (START, at, at)
    assert (found.label_set, found.fate) == ("kind", "accept")
    assert feedback.corrections_of(any_world.ws, made) == [found]


def test_a_correction_that_confirms_does_not_contradict(world: World) -> None:
    assert not world.correct("TVs", prediction_id=world.predict(answer="TVs")).contradicts


def test_a_believed_reporters_correction_is_a_label_at_once(any_world: World) -> None:
    made = any_world.predict(3)
    said_at = any_world.later(hours=1)
    any_world.later(hours=5)
    any_world.correct("Fridges", prediction_id=made, at=said_at)
    (event,) = any_world.said()
    assert (event.key, event.value, event.annotator, event.source) == (
        "3",
        "Fridges",
        "moderator",
        "correction",
    )
    assert (event.at, event.recorded_at, event.prediction_id) == (said_at, START + timedelta(hours=6), made)
    assert labels.events_of_prediction(any_world.ws, made) == [event]


@pytest.mark.parametrize("reporter", ["seller", "a stranger"])
def test_another_reporters_correction_is_reviewed_first(world: World, reporter: str) -> None:
    made = world.predict(3)
    found = world.correct("Fridges", by=reporter, prediction_id=made)
    (item,) = feedback.review_queue(world.ws)
    assert (item.reason, item.origin, item.prediction_id, item.suggested) == (
        "correction",
        found.id,
        made,
        "Fridges",
    )
    assert item.inclusion_probability is None
    assert world.said() == []


def test_a_key_and_a_time_name_the_newest_answer_until_then(world: World) -> None:
    first, at_first = world.predict(3, "TVs"), world.ws.now()
    between = world.later(hours=1)
    world.later(hours=1)
    second, at_second = world.predict(3, "Fridges"), world.ws.now()
    world.predict(4, "Freezers")
    world.later(hours=1)
    for at, expected in ((at_first, first), (between, first), (at_second, second), (None, second)):
        assert world.correct("Freezers", by=f"by {at}", key=3, at=at).prediction_id == expected


def test_a_key_is_not_looked_for_beyond_ninety_days(world: World) -> None:
    world.predict(3)
    world.later(days=90)
    world.correct(key=3)
    world.later(microseconds=1)
    with pytest.raises(NotFound, match="nothing for the key '3' in the 90 days"):
        world.correct("Fridges", key=3)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"replay": True}, "is a replay"),
        ({"shadow_of": "pred_x"}, "is a shadow of pred_x"),
        ({"status": "failed", "output": None}, "was failed: there is no answer"),
        ({"status": "refused", "output": None, "release": ""}, "was refused"),
        ({"endpoint": "other"}, "answered by endpoint 'other'"),
    ],
)
def test_only_live_answers_take_corrections(world: World, given: dict[str, Any], told: str) -> None:
    made = world.predict(3, **{"answer": given.pop("output", "TVs"), **given})
    with pytest.raises(Invalid, match=told):
        world.correct(prediction_id=made)
    with pytest.raises(NotFound, match="answered nothing for the key '3'"):
        world.correct(key=3)


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"at": START - timedelta(seconds=1)}, Invalid, "after the correction"),
        ({"at": START + timedelta(days=1)}, Invalid, "in the future"),
        ({"value": "Fridgs"}, Invalid, "Did you mean 'Fridges'"),
        ({"by": ""}, Invalid, "cannot name who"),
        ({"key": 3}, Invalid, "by prediction_id or by key, one of them"),
        ({"prediction_id": None}, Invalid, "by prediction_id or by key, one of them"),
        ({"prediction_id": "pred_" + "0" * 32}, NotFound, "the prediction log has no pred_"),
        ({"prediction_id": "run_" + "0" * 32}, Invalid, "not a prediction's id"),
        ({"prediction_id": "nonsense"}, Invalid, "not a prediction's id"),
    ],
    ids=["before", "future", "label", "reporter", "both", "neither", "unknown", "run", "nonsense"],
)
def test_an_impossible_correction_is_not_kept(
    world: World, given: dict[str, Any], error: type[Exception], told: str
) -> None:
    made = world.predict(3)
    with pytest.raises(error, match=told):
        world.correct(**{"prediction_id": made, **given})
    assert feedback.corrections(world.ws, "kind") == []


def test_an_answer_is_not_corrected_by_key_before_it_was_given(world: World) -> None:
    before = world.ws.now()
    world.later(hours=1)
    world.predict(3)
    with pytest.raises(NotFound, match="answered nothing for the key '3'"):
        world.correct(key=3, at=before)


def test_saying_it_again_changes_nothing(any_world: World) -> None:
    made = any_world.predict(3)
    at = any_world.later(hours=1)
    first = any_world.correct("Fridges", prediction_id=made, at=at)
    any_world.later(hours=1)
    assert any_world.correct("Fridges", prediction_id=made) == first
    assert any_world.correct("Fridges", prediction_id=made, at=at) == first
    assert feedback.corrections(any_world.ws, "kind") == [first]
    assert len(any_world.said()) == 1


def test_two_things_said_in_one_moment_are_each_kept_once(world: World) -> None:
    made, at = world.predict(3), world.later(hours=1)
    said = [world.correct(value, prediction_id=made, at=at) for value in ("Fridges", "Freezers")]
    assert [world.correct(one.value, prediction_id=made, at=at) for one in said] == said


def test_said_by_many_at_a_time_it_is_kept_once(any_world: World) -> None:
    made = any_world.predict(3)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: any_world.correct("Fridges", prediction_id=made), range(8)))
    assert len({one.id for one in found}) == len(feedback.corrections(any_world.ws, "kind")) == 1
    assert len(any_world.said()) == 1


def test_who_changes_his_mind_and_back_is_heard_each_time(world: World) -> None:
    made = world.predict(3)
    for value in ("Fridges", "Freezers", "Fridges"):
        world.later(hours=1)
        world.correct(value, prediction_id=made)
    assert [one.value for one in world.said()] == ["Fridges", "Freezers", "Fridges"]
    first = feedback.corrections_of(world.ws, made)[0]
    assert world.correct("Fridges", prediction_id=made, at=first.at) == first, (
        "an old message that arrives again"
    )


def test_what_two_reporters_say_is_two_corrections(world: World) -> None:
    made = world.predict(3)
    assert world.correct(prediction_id=made).id != world.correct(by="seller", prediction_id=made).id


def test_without_a_label_set_or_a_key_it_is_kept_alone(world: World) -> None:
    world.release("rel_foreign", label_snapshot=None)
    foreign = world.correct("anything", prediction_id=world.predict(release="rel_foreign"))
    nameless = world.correct("Fridges", prediction_id=world.predict(None))
    assert [(one.fate, one.contradicts) for one in (foreign, nameless)] == [("keep", True), ("keep", True)]
    assert [*world.said(), *feedback.review_queue(world.ws), *feedback.waiting(world.ws, "kind")] == []


def test_numbers_contradict_when_they_differ(world: World) -> None:
    world.release("rel_number", label_snapshot=None)
    made = world.predict(answer=0.1 + 0.2, release="rel_number")
    assert not world.correct(0.3, prediction_id=made).contradicts
    assert world.correct(0.31, prediction_id=made).contradicts
    with pytest.raises(Invalid, match="answers with numbers"):
        world.correct("much", prediction_id=made)


def test_an_answer_under_an_older_name_is_no_contradiction(world: World) -> None:
    classes = [LabelClass(name, "Televisions" if name == "TVs" else name) for name in CLASSES]
    define(world.ws, classes)
    assert not world.correct("Televisions", prediction_id=world.predict(answer="TVs")).contradicts
    with pytest.raises(Invalid, match="has no label 'TVs'"):
        world.correct("TVs", by="seller", prediction_id=world.predict())


def test_corrections_are_listed_by_when_they_were_said(world: World) -> None:
    made = [world.predict(key) for key in (1, 2, 3)]
    times = [world.later(hours=1) for _ in made]
    found = [world.correct(prediction_id=one, at=at) for one, at in zip(made, times, strict=True)]
    assert feedback.corrections(world.ws, "kind") == found[::-1]
    assert feedback.corrections(world.ws, "kind", limit=1) == found[2:]
    assert feedback.corrections(world.ws, "kind", start=times[1], end=times[2]) == [found[1]]
    assert feedback.corrections(world.ws, "other") == []


def test_a_correction_is_never_an_outcome(world: World) -> None:
    world.correct("Fridges", prediction_id=world.predict())
    end = world.later(days=1)
    assert feedback.outcomes(world.ws, "kind", start=START, end=end).num_rows == 0
