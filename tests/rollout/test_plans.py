"""The named plans beside a canary: all at once, blue/green; and what becomes of a rollout that nothing decides."""

from __future__ import annotations

import pytest

from everloop import events, rollout, serving
from everloop.errors import Conflict, Invalid
from everloop.rollout import Canary, Rollout
from tests.loop import living
from tests.loop.living import Shop
from tests.rollout.test_rollouts import acts, started, weights


def begun(shop: Shop, plan: Canary) -> Rollout:
    shop.ws.write(
        lambda tx: rollout.define_endpoint(
            shop.ws, tx, "kind", model="kind", canary=plan, stickiness="request"
        )
    )
    living.release(shop.ws, "kind@2")
    return rollout.start(shop.ws, "kind", "kind@2", reason="a test")


def standby(shop: Shop) -> list[str]:
    return [one.version for one in rollout.endpoint(shop.ws, "kind").standby]


def test_all_at_once_switches_at_the_start_and_is_watched(any_shop: Shop) -> None:
    shop = any_shop
    made = begun(shop, rollout.all_at_once(watch_h=2))
    assert (made.state, weights(shop), standby(shop)) == ("done", {"kind@2": 100}, ["kind@1"])
    assert acts(shop, made) == ["finished"]
    shop.ask(20, fails={"kind@2": 1.0})
    (event,) = rollout.tick(shop.ws)
    assert (event.act, weights(shop)) == ("rolled_back", {"kind@1": 100})


def test_blue_green_switches_only_when_each_serving_process_has_loaded_it(any_shop: Shop) -> None:
    shop = any_shop
    made = begun(shop, rollout.blue_green(watch_h=2))
    assert (weights(shop), standby(shop)) == ({"kind@1": 100}, ["kind@2"])
    assert {one.version for one in shop.ask(20)} == {1}
    assert rollout.tick(shop.ws) == []
    shop.acknowledge()
    assert [one.act for one in rollout.tick(shop.ws)] == ["finished"]
    assert (weights(shop), standby(shop)) == ({"kind@2": 100}, ["kind@1"])
    assert rollout.rollout_of(shop.ws, made.id).outcome == "every serving process has loaded and warmed it"
    shop.later(hours=2)
    assert [one.act for one in rollout.tick(shop.ws)] == ["watched"]


def test_what_is_being_loaded_is_not_deleted(shop: Shop) -> None:
    begun(shop, rollout.blue_green())
    with pytest.raises(Conflict, match="kind@2 is kept warm"):
        rollout.require_not_live(shop.ws, "kind@2")


def test_the_plan_of_blue_green_tells_both_stages_and_the_deadline(shop: Shop) -> None:
    rollout.roll_back(shop.ws, begun(shop, rollout.blue_green(watch_h=0, deadline_h=1)).id, reason="a test")
    made = rollout.plan(shop.ws, "kind", "kind@2", again=True)
    assert [(one.weight, one.leaves) for one in made.stages] == [
        (0, "when every serving process has loaded and warmed it"),
        (100, "the rollout is done"),
    ]
    assert made.deadline == "not decided after 1 h: there is an alert, and it waits on"


def test_a_deadline_alerts_once_and_little_traffic_decides_nothing(any_shop: Shop) -> None:
    shop = any_shop
    made = started(shop, deadline_h=48.0)
    shop.ask(10)
    rollout.tick(shop.ws)
    shop.later(hours=48)
    for _ in range(3):
        rollout.tick(shop.ws)
    assert acts(shop, made) == ["started", "look", "overdue"]
    assert weights(shop) == {"kind@1": 50, "kind@2": 50}
    (alert,) = events.newest(shop.ws, kind="rollout.overdue")
    assert alert.level == "attention"
    assert alert.message.startswith(
        "The rollout of kind@2 on kind waits: not decided after 48 h: needs more evidence"
    )


def test_a_deadline_takes_back_where_the_plan_says_so(shop: Shop) -> None:
    started(shop, deadline_h=48.0, at_deadline="roll_back")
    shop.ask(10)
    shop.later(hours=47)
    rollout.tick(shop.ws)
    assert weights(shop) == {"kind@1": 50, "kind@2": 50}
    shop.later(hours=1)
    (event,) = rollout.tick(shop.ws)
    assert (event.act, weights(shop)) == ("rolled_back", {"kind@1": 100})


def test_the_deadline_also_holds_for_what_no_serving_process_loads(shop: Shop) -> None:
    begun(shop, rollout.blue_green(deadline_h=1, at_deadline="roll_back"))
    shop.later(hours=1)
    (event,) = rollout.tick(shop.ws)
    assert (
        event.reason == "not decided after 1 h: not every serving process has loaded what this stage asks for"
    )
    assert (weights(shop), standby(shop)) == ({"kind@1": 100}, [])


@pytest.mark.parametrize("given", [{"deadline_h": 0}, {"at_deadline": "give up"}, {"watch_h": -1}])
def test_a_plan_that_makes_no_sense_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(Invalid, match=next(iter(given))):
        rollout.canary(50, 100, **given)  # type: ignore[arg-type]  # wrong on purpose


def test_serving_is_told_of_both_versions(shop: Shop) -> None:
    begun(shop, rollout.blue_green())
    table = serving.read_routes(shop.folder)
    assert table is not None
    route = table.endpoints["kind"]
    assert [one.name for one in (*route.variants, *route.shadow)] == ["control", "canary"]
