"""A part of the traffic that stays on the version before after a rollout has finished."""

from __future__ import annotations

import pytest

from everloop import ledger, rollout
from everloop.errors import Conflict, Invalid
from everloop.rollout import Rollout
from tests.loop.living import Shop
from tests.rollout.test_rollouts import acts, started, weights
from tests.rollout.test_watch import standby

HELD = {"kind@2": 90, "kind@1": 10}


def held_back(shop: Shop, **given: object) -> Rollout:
    """A rollout of kind@2 that has finished and left a tenth of the traffic to kind@1 for two days."""
    made = started(shop, **{"watch_h": 24.0, "holdback": 10.0, "holdback_h": 48.0, **given})
    shop.ask(400)
    rollout.tick(shop.ws)
    shop.acknowledge()
    assert weights(shop) == HELD
    shop.later(minutes=1)
    return rollout.rollout_of(shop.ws, made.id)


def test_a_part_stays_on_the_version_before_until_its_time_is_over(any_shop: Shop) -> None:
    shop = any_shop
    made = held_back(shop)
    assert {one.assigned for one in shop.ask(200)} == {"weights", "holdback"}
    shop.later(hours=47)
    assert rollout.tick(shop.ws) == []
    shop.later(hours=1)
    (event,) = rollout.tick(shop.ws)
    assert (event.act, weights(shop), standby(shop)) == ("holdback_ended", {"kind@2": 100}, [])
    assert acts(shop, made) == ["started", "finished", "holdback_ended"]
    assert not rollout.is_running(shop.ws)
    ended = rollout.split_of(shop.ws, "kind")
    assert (ended.state, ended.rollout) == ("ended", made.id)
    assert ledger.verify(shop.ws).is_intact


def test_what_is_held_back_is_compared_like_a_split(shop: Shop) -> None:
    held_back(shop)
    shop.ask(600, fails={"kind@1": 0.6})
    results = rollout.split_results(shop.ws, rollout.split_of(shop.ws, "kind"))
    before, new = results.arms
    assert (before.version, new.version, before.n + new.n) == ("kind@1", "kind@2", 600)
    assert {one.measure: one.says for one in new.measures}["errors"] == "better"


def test_the_watch_goes_on_when_the_holdback_ends_first(shop: Shop) -> None:
    made = held_back(shop, holdback_h=2.0)
    shop.later(hours=2)
    assert [one.act for one in rollout.tick(shop.ws)] == ["holdback_ended"]
    assert (weights(shop), standby(shop)) == ({"kind@2": 100}, ["kind@1"])
    shop.later(hours=22)
    assert [one.act for one in rollout.tick(shop.ws)] == ["watched"]
    assert (weights(shop), standby(shop)) == ({"kind@2": 100}, [])
    assert acts(shop, made)[-2:] == ["holdback_ended", "watched"]


def test_harm_that_shows_against_what_is_held_back_takes_the_version_back(any_shop: Shop) -> None:
    shop = any_shop
    made = held_back(shop)
    shop.later(hours=30)
    shop.ask(600, fails={"kind@2": 0.3})
    (event,) = rollout.tick(shop.ws)
    assert (event.act, weights(shop)) == ("rolled_back", {"kind@1": 100})
    assert "while watched at 90 %" in event.reason
    assert rollout.split_of(shop.ws, "kind").state == "ended"
    assert rollout.rollout_of(shop.ws, made.id).state == "rolled_back"


def test_trouble_of_both_takes_nothing_back(shop: Shop) -> None:
    held_back(shop)
    shop.ask(400, fails={"kind@1": 0.5, "kind@2": 0.5})
    assert rollout.tick(shop.ws) == []


def test_a_key_that_met_the_new_version_is_not_held_back_from_it(shop: Shop) -> None:
    made = started(shop, key=True, holdback=10.0, holdback_h=48.0)
    keys = [str(number) for number in range(200)]
    met = {key for key in keys if shop.ask(1, key=key)[0].version == 2}
    rollout.promote_now(shop.ws, made.id, reason="a test")
    after = {key: shop.ask(1, key=key)[0].version for key in keys}
    assert {after[key] for key in met} == {2}
    assert 0 < sum(version == 1 for version in after.values()) < len(keys) - len(met)


def test_a_person_ends_it_for_either_version(shop: Shop) -> None:
    held_back(shop)
    ended = rollout.end_split(shop.ws.acting_as("alice"), "kind", reason="seen enough")
    assert (ended.state, ended.outcome) == ("ended", "alice decided: seen enough")
    assert (weights(shop), standby(shop)) == ({"kind@2": 100}, ["kind@1"])
    with pytest.raises(Conflict, match="has ended"):
        rollout.end_split(shop.ws, "kind", reason="again")


def test_to_keep_the_version_before_is_to_roll_back(shop: Shop) -> None:
    made = held_back(shop)
    with pytest.raises(Invalid, match="kind@1, kind@2"):
        rollout.end_split(shop.ws, "kind", keep="kind@7", reason="no")
    rollout.end_split(shop.ws, "kind", keep="kind@1", reason="it sold more")
    assert weights(shop) == {"kind@1": 100}
    assert rollout.rollout_of(shop.ws, made.id).state == "rolled_back"


def test_the_next_rollout_ends_it_and_a_split_waits(shop: Shop) -> None:
    held_back(shop)
    with pytest.raises(Conflict, match="end-split kind"):
        rollout.split_traffic(shop.ws, "kind", {"kind@2": 50, "kind@1": 50}, sticky=False, reason="no")
    rollout.start(shop.ws, "kind", "kind@1", reason="the old one again")
    assert rollout.split_of(shop.ws, "kind").outcome == "the rollout of kind@1 began"
    assert weights(shop) == {"kind@2": 50, "kind@1": 50}


@pytest.mark.parametrize(
    ("steps", "given", "told"),
    [
        ((50, 100), {"holdback": 5}, "State both"),
        ((50, 100), {"holdback": 60, "holdback_h": 1}, "below 50"),
        ((100,), {"holdback": 5, "holdback_h": 1}, "a step before 100"),
    ],
)
def test_a_holdback_that_makes_no_sense_is_refused(
    steps: tuple[float, ...], given: dict[str, float], told: str
) -> None:
    with pytest.raises(Invalid, match=told):
        rollout.canary(*steps, **given)  # type: ignore[arg-type]  # one kind of arguments
