"""A rollout that only a segment of the requests meets before its last step."""

from __future__ import annotations

import pytest

from everloop import rollout
from everloop.errors import Invalid
from everloop.rollout import Rollout
from tests.loop.living import Shop
from tests.rollout.test_plans import begun
from tests.rollout.test_rollouts import CLEAN, counted, weights

INSIDE, OUTSIDE = {"seller": 1}, {"seller": 5}


def limited(shop: Shop) -> Rollout:
    made = begun(shop, rollout.canary(50, 100, excess_at_most=CLEAN, watch_h=0, only={"seller": [1, 2]}))
    shop.acknowledge()
    return made


def asked(shop: Shop, n: int, inputs: dict[str, int]) -> set[str]:
    return {one.variant for one in shop.ask(n, inputs={"title": "red leaf", **inputs})}


def test_requests_outside_the_segment_never_meet_the_new_version_and_do_not_count(any_shop: Shop) -> None:
    shop = any_shop
    made = limited(shop)
    assert asked(shop, 60, INSIDE) == {"control", "canary"}
    assert asked(shop, 60, OUTSIDE) == {"rest"}
    assert counted(shop, made) == {"errors": 60}


def test_the_last_step_is_for_everybody(shop: Shop) -> None:
    limited(shop)
    asked(shop, 400, INSIDE)
    rollout.tick(shop.ws)
    assert weights(shop) == {"kind@2": 100}
    assert asked(shop, 20, OUTSIDE) == {"control"}


def test_the_plan_names_the_segment(shop: Shop) -> None:
    rollout.roll_back(shop.ws, limited(shop).id, reason="a test")
    assert rollout.plan(shop.ws, "kind", "kind@2", again=True).segment == "seller is 1 or 2"


def test_a_segment_by_what_is_no_input_is_refused(shop: Shop) -> None:
    with pytest.raises(Invalid, match="the model's inputs are"):
        begun(shop, rollout.canary(50, 100, excess_at_most=CLEAN, only={"country": ["NO"]}))


def test_a_segment_without_values_is_refused() -> None:
    with pytest.raises(Invalid, match="only"):
        rollout.canary(50, 100, only={"country": "NO"})
