from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from everloop import feedback, labels
from everloop.errors import NotFound
from tests.feedback.conftest import World, arrive, define


def test_a_correction_waits_for_its_row_and_keeps_its_time(any_world: World) -> None:
    made = any_world.predict(99)
    said_at = any_world.later(hours=1)
    any_world.correct("Fridges", prediction_id=made)
    (waiting,) = feedback.waiting(any_world.ws, "kind")
    assert (waiting.key, waiting.value, waiting.at, waiting.prediction_id) == ("99", "Fridges", said_at, made)
    assert (feedback.absorb(any_world.ws, "kind"), any_world.said()) == (0, [])
    absorbed_at = any_world.later(hours=1)
    arrive(any_world.ws, 99)
    assert feedback.absorb(any_world.ws, "kind") == 1
    (event,) = any_world.said()
    assert (event.key, event.value, event.annotator, event.source) == (
        "99",
        "Fridges",
        "moderator",
        "correction",
    )
    assert (event.at, event.recorded_at) == (said_at, absorbed_at)
    assert feedback.waiting(any_world.ws, "kind") == []


def test_a_snapshot_of_before_the_absorption_does_not_know_it(world: World) -> None:
    world.correct("Fridges", prediction_id=world.predict(99))
    before = world.later(hours=1)
    arrive(world.ws, 99)
    world.later(hours=1)
    feedback.absorb(world.ws, "kind")
    assert labels.snapshot(world.ws, "kind", at=before).count == 1
    assert labels.snapshot(world.ws, "kind").count == 2


def test_only_the_rows_that_arrived_are_absorbed(world: World) -> None:
    for key in (97, 98, 99):
        world.correct("Fridges", prediction_id=world.predict(key))
    arrive(world.ws, 98)
    assert feedback.absorb(world.ws, "kind") == 1
    assert feedback.absorb(world.ws, "kind") == 0
    assert [one.key for one in feedback.waiting(world.ws, "kind")] == ["97", "99"]


def test_absorbed_by_many_at_a_time_it_is_one_label(any_world: World) -> None:
    for key in range(50, 80):
        any_world.correct("Fridges", prediction_id=any_world.predict(key))
    arrive(any_world.ws, *range(50, 80))
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: feedback.absorb(any_world.ws, "kind"), range(4)))
    assert sum(counts) == len(any_world.said()) == 30


def test_a_label_that_was_taken_out_goes_on_waiting(world: World) -> None:
    for key, value in ((98, "Fridges"), (99, "TVs")):
        world.correct(value, prediction_id=world.predict(key))
    define(world.ws, ["TVs"])
    arrive(world.ws, 98, 99)
    assert feedback.absorb(world.ws, "kind") == 1
    assert [one.value for one in feedback.waiting(world.ws, "kind")] == ["Fridges"]
    define(world.ws)
    assert feedback.absorb(world.ws, "kind") == 1


def test_a_review_waits_for_its_row_too(world: World) -> None:
    world.correct("Fridges", by="seller", prediction_id=world.predict(99))
    (item,) = feedback.review_queue(world.ws)
    feedback.answer_review(world.ws, item.id, value="Freezers", reviewer="rev")
    arrive(world.ws, 99)
    assert feedback.absorb(world.ws, "kind") == 1
    assert [(one.source, one.annotator, one.value) for one in world.said()] == [("review", "rev", "Freezers")]


def test_an_unknown_label_set_absorbs_nothing(world: World) -> None:
    with pytest.raises(NotFound, match="no label set 'other'"):
        feedback.absorb(world.ws, "other")
