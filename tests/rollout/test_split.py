"""Traffic shared between versions: who is dealt what, what the arms did, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest

from everloop import feedback, ledger, rollout, serving
from everloop.errors import Conflict, Invalid, NotFound
from everloop.rollout import ArmMeasure, TrafficSplit
from tests.loop import living
from tests.loop.living import Shop
from tests.rollout.test_rollouts import started, weights

HALF = {"kind@1": 50.0, "kind@2": 50.0}


def shared(shop: Shop, *, sticky: bool = False, shares: dict[str, float] | None = None) -> TrafficSplit:
    living.release(shop.ws, "kind@2")
    made = rollout.split_traffic(shop.ws, "kind", shares or HALF, sticky=sticky, reason="which is better")
    shop.acknowledge()
    return made


def measured(shop: Shop, made: TrafficSplit) -> dict[str, ArmMeasure]:
    """What the second arm did, by measure."""
    _, second = rollout.split_results(shop.ws, made).arms
    return {one.measure: one for one in second.measures}


def test_traffic_is_shared_as_asked_until_a_person_ends_it(any_shop: Shop) -> None:
    shop = any_shop
    shared(shop, shares={"kind@1": 80, "kind@2": 20})
    assert weights(shop) == {"kind@1": 80, "kind@2": 20}
    assert 20 < sum(one.version == 2 for one in shop.ask(200)) < 60
    ended = rollout.end_split(shop.ws.acting_as("alice"), "kind", keep="kind@2", reason="it is better")
    assert (ended.state, ended.outcome) == ("ended", "kind@2 is kept: it is better")
    assert weights(shop) == {"kind@2": 100}
    assert [one.act for one in rollout.history(shop.ws, endpoint_name="kind", limit=2)] == [
        "split_ended",
        "split",
    ]
    assert ledger.verify(shop.ws).is_intact
    with pytest.raises(Conflict, match="has ended"):
        rollout.end_split(shop.ws, "kind", reason="once more")


def test_a_key_stays_with_its_version_where_keys_stick(shop: Shop) -> None:
    made = shared(shop, sticky=True)
    table = serving.read_routes(shop.folder)
    assert table is not None
    assert table.endpoints["kind"].stickiness == "key"
    dealt = {key: {one.variant for one in shop.ask(4, key=key)} for key in map(str, range(30))}
    assert {len(arms) for arms in dealt.values()} == {1}
    assert {arm for arms in dealt.values() for arm in arms} == {"control", "b"}
    results = rollout.split_results(shop.ws, made)
    assert (results.unit, sum(one.n for one in results.arms)) == ("key", 30)
    rollout.end_split(shop.ws, "kind", reason="over")
    table = serving.read_routes(shop.folder)
    assert table is not None
    assert table.endpoints["kind"].stickiness == "request"


def test_arms_that_do_the_same_are_not_told_apart(shop: Shop) -> None:
    made = shared(shop)
    shop.ask(300)
    errors = measured(shop, made)["errors"]
    assert (errors.bounds.mean, errors.says) == (0.0, "not told apart")
    assert errors.difference is not None
    assert errors.difference[0] < 0 < errors.difference[1]


def test_an_arm_that_fails_more_often_is_worse(any_shop: Shop) -> None:
    shop = any_shop
    made = shared(shop)
    shop.ask(300, fails={"kind@2": 0.5})
    assert measured(shop, made)["errors"].says == "worse"
    control, _ = rollout.split_results(shop.ws, made).arms
    assert {one.says for one in control.measures} == {"control"}


def test_an_arm_that_is_right_more_often_is_better(shop: Shop) -> None:
    made = shared(shop)
    for one in shop.ask(160):
        truth = "Tea" if one.version == 2 else "Lamps"
        feedback.record_outcome(
            shop.ws,
            endpoint="kind",
            prediction_id=one.id,
            value=truth,
            source="audit",
            inclusion_probability=0.5,
        )
    found = measured(shop, made)["correct"]
    assert (found.bounds.mean, found.says) == (1.0, "better")


def test_traffic_that_was_not_split_as_asked_is_told(shop: Shop) -> None:
    made = shared(shop)
    shop.ask(100)
    assert not rollout.split_results(shop.ws, made).is_off
    shop.ask(100, release=made.arms[1].release)
    assert rollout.split_results(shop.ws, made).is_off


def test_a_split_and_a_rollout_wait_for_each_other(shop: Shop) -> None:
    shared(shop)
    with pytest.raises(Conflict, match="End it first: everloop rollouts end-split kind"):
        rollout.start(shop.ws, "kind", "kind@2", reason="a test")
    with pytest.raises(Conflict, match="is split since"):
        rollout.split_traffic(shop.ws, "kind", HALF, sticky=False, reason="again")
    rollout.end_split(shop.ws, "kind", reason="over")
    made = started(shop)
    with pytest.raises(Conflict, match="under way"):
        rollout.split_traffic(shop.ws, "kind", HALF, sticky=False, reason="again")
    assert made.state == "running"


def test_a_plan_of_a_split_changes_nothing(shop: Shop) -> None:
    living.release(shop.ws, "kind@2")
    made = rollout.plan_split(shop.ws, "kind", HALF, sticky=True, reason="a test")
    assert [(one.name, one.version) for one in made.arms] == [("control", "kind@1"), ("b", "kind@2")]
    assert weights(shop) == {"kind@1": 100}
    with pytest.raises(NotFound, match="no split"):
        rollout.split_of(shop.ws, "kind")


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ({"kind@1": 100}, "two versions or more"),
        ({"kind@1": 50, "kind@2": 60}, "add up to 100"),
        ({"kind@2": 50, "kind@3": 50}, "kind@1 answers on 'kind' now"),
        ({"kind@1": 50, "other@1": 50}, "not a version of 'kind'"),
    ],
)
def test_shares_that_make_no_split_are_refused(shop: Shop, shares: dict[str, Any], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        rollout.split_traffic(shop.ws, "kind", shares, sticky=False, reason="a test")


def test_the_key_of_an_endpoint_is_in_force_by_the_next_epoch(shop: Shop) -> None:
    before, plan = serving.read_routes(shop.folder), rollout.endpoint(shop.ws, "kind").canary
    shop.ws.write(
        lambda tx: rollout.define_endpoint(
            shop.ws, tx, "kind", model="kind", canary=plan, stickiness="key", key="seller"
        )
    )
    after = serving.read_routes(shop.folder)
    assert before is not None
    assert after is not None
    assert (after.epoch, after.endpoints["kind"].key) == (before.epoch + 1, "seller")
