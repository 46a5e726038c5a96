from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from everloop import events, feedback
from everloop.errors import Conflict, Invalid
from everloop.feedback import AuditSample
from everloop.ids import new_prediction_id
from everloop.predictions import uniform
from everloop.serving import Route, Variant, choose
from tests.conftest import START
from tests.feedback.conftest import World


def draw(
    world: World,
    probability: float | Mapping[str, float] = 0.3,
    *,
    start: datetime = START,
    end: datetime | None = None,
) -> AuditSample:
    end = end or world.later(microseconds=1)
    return feedback.sample_for_audit(world.ws, "kind", probability=probability, start=start, end=end)


def test_a_sample_is_drawn_by_chance_and_goes_to_the_queue(any_world: World) -> None:
    made = [any_world.predict(key) for key in range(1, 61)]
    sample = draw(any_world)
    queue = feedback.review_queue(any_world.ws)
    chosen = {one for one in made if uniform(one) < 0.3}
    assert {one.prediction_id for one in queue} == chosen
    assert (sample.considered, sample.chosen, sample.created) == (
        {"control": 60},
        {"control": len(chosen)},
        len(chosen),
    )
    assert {(one.reason, one.inclusion_probability, one.label_set, one.suggested) for one in queue} == {
        ("audit", 0.3, "kind", None)
    }
    assert feedback.audits(any_world.ws, "kind") == [sample]


def test_the_same_sample_again_adds_what_is_new(any_world: World) -> None:
    for key in range(1, 31):
        any_world.predict(key)
    end = any_world.later(hours=1)
    first = draw(any_world, 1.0, end=end)
    assert draw(any_world, 1.0, end=end).created == 0
    any_world.predict(31, at=START)
    assert (first.created, draw(any_world, 1.0, end=end).created) == (30, 1)
    assert len(feedback.review_queue(any_world.ws)) == 31
    assert len(events.newest(any_world.ws, kind="feedback.audit")) == 2, (
        "a sample without anything new is not told"
    )


@pytest.mark.parametrize(
    "given",
    [
        {"replay": True},
        {"shadow_of": "pred_x"},
        {"status": "failed", "answer": None},
        {"status": "refused", "answer": None, "release": ""},
        {"endpoint": "other"},
    ],
    ids=["replay", "shadow", "failed", "refused", "elsewhere"],
)
def test_only_live_answers_are_drawn(world: World, given: dict[str, object]) -> None:
    world.predict(1, **given)  # type: ignore[arg-type]  # a table of cases
    kept = world.predict(2)
    assert draw(world, 1.0).considered == {"control": 1}
    assert [one.prediction_id for one in feedback.review_queue(world.ws)] == [kept]


def test_each_variant_has_its_own_chance(world: World) -> None:
    for key in range(1, 201):
        world.predict(key, variant=("control", "canary", "other")[key % 3])
    sample = draw(world, {"control": 0.1, "canary": 1.0})
    assert sample.considered == {"control": 66, "canary": 67}
    assert sample.chosen["canary"] == 67
    assert sample.chosen.get("control", 0) < 30
    chances = {(one.variant, one.inclusion_probability) for one in feedback.review_queue(world.ws, limit=500)}
    assert chances <= {("control", 0.1), ("canary", 1.0)}


def test_one_time_has_one_design(any_world: World) -> None:
    noon = any_world.later(hours=12)
    draw(any_world, 0.1)
    evening = any_world.later(hours=6)
    with pytest.raises(Conflict, match="sampled with the probabilities"):
        draw(any_world, 0.2, start=noon, end=evening)
    end = feedback.audits(any_world.ws, "kind")[0].end_at
    assert draw(any_world, 0.2, start=end, end=evening).probability == {"*": 0.2}


@pytest.mark.parametrize("probability", [0, -0.1, 1.01, float("nan"), {"control": 0}])
def test_a_chance_that_is_none_is_refused(world: World, probability: float) -> None:
    with pytest.raises(Invalid, match="above 0 and at most 1"):
        draw(world, probability)


@pytest.mark.parametrize(("start_h", "end_h"), [(0, 1), (-1, -1), (-1, -2)])
def test_a_time_that_is_none_is_refused(world: World, start_h: float, end_h: float) -> None:
    with pytest.raises(Invalid, match="the end comes after the start"):
        draw(world, start=START + timedelta(hours=start_h), end=START + timedelta(hours=end_h))


def test_the_draw_is_uniform_and_not_that_of_the_route() -> None:
    route = Route("kind", "salt", (Variant("control", "rel_1", 50), Variant("canary", "rel_2", 50)))
    ids = [new_prediction_id(1) for _ in range(20_000)]
    drawn = np.array([uniform(one) for one in ids])
    is_canary = np.array([choose(route, key=None, request=one).name == "canary" for one in ids])
    # both tests pass by chance in all but one of ten thousand runs
    assert stats.kstest(drawn, "uniform").pvalue > 1e-4
    assert stats.ks_2samp(drawn[is_canary], drawn[~is_canary]).pvalue > 1e-4


def test_weighing_by_the_inverse_chance_undoes_the_design() -> None:
    rng = np.random.default_rng(5)
    ids = [new_prediction_id(1) for _ in range(40_000)]
    is_canary = rng.random(len(ids)) < 0.1
    is_correct = rng.random(len(ids)) < np.where(is_canary, 0.6, 0.95)
    chance = np.where(is_canary, 0.5, 0.05)
    drawn = np.array([uniform(one) for one in ids]) < chance
    weights = 1 / chance[drawn]
    estimate = float(np.sum(weights * is_correct[drawn]) / np.sum(weights))
    assert estimate == pytest.approx(float(np.mean(is_correct)), abs=0.03)
    assert abs(float(np.mean(is_correct[drawn])) - float(np.mean(is_correct))) > 0.1, (
        "the plain average misleads"
    )


def test_from_a_sampled_log_the_smaller_of_both_chances_holds(world: World) -> None:
    made = [world.predict(key) for key in range(1, 200)]
    kept = [one for one in made if uniform(one) < 0.2]
    for one in kept:
        world.predict(1, id=one, probability=0.2, endpoint="other")
    drawn = feedback.sample_for_audit(
        world.ws, "other", probability=0.5, start=START, end=world.later(hours=1)
    )
    assert drawn.created == len(kept)
    assert {one.inclusion_probability for one in feedback.review_queue(world.ws)} == {0.2}


def test_an_outcome_of_a_sampled_log_is_weighed_by_its_chance_to_be_there(world: World) -> None:
    one = world.predict(1, probability=0.25)
    found = feedback.record_outcome(
        world.ws, endpoint="kind", prediction_id=one, value="TVs", source="returns", inclusion_probability=0.5
    )
    assert found.inclusion_probability == 0.125
