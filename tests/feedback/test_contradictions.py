from __future__ import annotations

from datetime import datetime

from everloop import feedback
from everloop.feedback import Contradictions, VariantCount
from tests.conftest import START
from tests.feedback.conftest import World


def counted(world: World, *, start: datetime = START, end: datetime | None = None) -> Contradictions:
    return feedback.contradictions(world.ws, "kind", start=start, end=end or world.later(seconds=1))


def test_nothing_said_is_no_contradiction(any_world: World) -> None:
    found = counted(any_world)
    assert (found.corrected, found.contradicted, found.by_variant, found.by_class) == (0, 0, (), {})


def test_contradictions_are_counted_by_variant_and_by_class(any_world: World) -> None:
    said = [("control", 1, "TVs", "TVs"), ("control", 1, "TVs", "Fridges"), ("canary", 2, "TVs", "Fridges")]
    for variant, version, answer, value in [*said, ("canary", 2, "Freezers", "Fridges")]:
        made = any_world.predict(answer=answer, variant=variant, version=version)
        any_world.correct(value, prediction_id=made)
    found = counted(any_world)
    assert (found.corrected, found.contradicted) == (4, 3)
    assert found.by_variant == (
        VariantCount("canary", "rel_1", "kind", 2, corrected=2, contradicted=2),
        VariantCount("control", "rel_1", "kind", 1, corrected=2, contradicted=1),
    )
    assert found.by_class == {("TVs", "Fridges"): 2, ("Freezers", "Fridges"): 1}
    assert next(iter(found.by_class)) == ("TVs", "Fridges"), "the most frequent first"


def test_a_prediction_that_many_contradict_counts_once(world: World) -> None:
    made = world.predict(answer="TVs")
    for by in ("moderator", "seller", "buyer"):
        world.correct("Fridges", by=by, prediction_id=made)
    world.correct("TVs", by="fan", prediction_id=made)
    found = counted(world)
    assert (found.corrected, found.contradicted) == (1, 1)


def test_what_a_reviewer_refuted_does_not_count_from_then_on(world: World) -> None:
    for key in (1, 2):
        world.correct("Fridges", by="seller", prediction_id=world.predict(key, "TVs"))
    before = world.later(hours=1)
    refuted, confirmed = feedback.review_queue(world.ws)
    feedback.answer_review(world.ws, refuted.id, value="TVs", reviewer="rev")
    feedback.answer_review(world.ws, confirmed.id, value="Fridges", reviewer="rev")
    assert counted(world, end=before).contradicted == 2, "as known then"
    assert counted(world).contradicted == 1


def test_the_window_is_of_when_it_was_said(world: World) -> None:
    made = world.predict(answer="TVs")
    said_at = world.later(hours=1)
    world.later(hours=1)
    world.correct("Fridges", prediction_id=made, at=said_at)
    after = world.later(hours=1)
    assert counted(world, end=said_at).contradicted == 0
    assert counted(world, start=said_at, end=after).contradicted == 1


def test_another_endpoint_has_its_own(world: World) -> None:
    world.correct("Fridges", prediction_id=world.predict(answer="TVs"))
    found = feedback.contradictions(world.ws, "other", start=START, end=world.later(hours=1))
    assert found.corrected == 0
