"""Rules that place requests before chance does."""

from __future__ import annotations

from typing import Any

import pytest

from everloop import ledger, loop, rollout, serving
from everloop.errors import Conflict, Invalid, NotFound
from everloop.rollout import RoutingRule
from tests.loop import living
from tests.loop import shop as shops
from tests.loop.living import Shop
from tests.rollout.test_rollouts import acts, counted, started, weights

STAFF = rollout.rule("staff", to="candidate", header="X-Staff", values=["yes"])
YES = {"x-staff": "yes"}


def ruled(shop: Shop, rule: RoutingRule = STAFF) -> None:
    rollout.put_rule(shop.ws.acting_as("alice"), "kind", rule, reason="a test")


def versions(shop: Shop, n: int = 40, **given: Any) -> set[tuple[int, str]]:
    return {(one.version, one.assigned) for one in shop.ask(n, **given)}


def test_requests_of_a_rule_meet_the_candidate_and_are_no_evidence(any_shop: Shop) -> None:
    shop = any_shop
    made = started(shop)
    ruled(shop)
    assert versions(shop, headers=YES) == {(2, "rule:staff")}
    assert versions(shop, 60) == {(1, "weights"), (2, "weights")}
    assert counted(shop, made) == {"errors": 60}
    assert rollout.endpoint(shop.ws, "kind").rules == (STAFF,)
    assert ledger.verify(shop.ws).is_intact
    (event,) = rollout.history(shop.ws, endpoint_name="kind", limit=1)
    assert (event.act, event.actor, event.reason) == ("rules", "alice", "a test")


def test_failures_that_a_rule_brought_about_do_not_take_a_version_back(shop: Shop) -> None:
    made = started(shop)
    ruled(shop)
    shop.acknowledge()
    shop.ask(300, headers=YES, fails={"kind@2": 1.0})
    rollout.tick(shop.ws)
    assert acts(shop, made) == ["started", "look"]


def test_without_a_candidate_the_rule_does_nothing(shop: Shop) -> None:
    ruled(shop)
    assert versions(shop, headers=YES) == {(1, "weights")}
    started(shop)
    assert versions(shop, headers=YES) == {(2, "rule:staff")}


def test_a_version_that_only_a_rule_names_is_loaded_and_not_deleted(shop: Shop) -> None:
    living.release(shop.ws, "kind@2")
    ruled(shop, rollout.rule("seven", to="kind@2", input="seller", values=[7]))
    assert versions(shop, inputs={"seller": 7}) == {(2, "rule:seven")}
    assert versions(shop, inputs={"seller": 6}) == {(1, "weights")}
    assert weights(shop) == {"kind@1": 100}
    with pytest.raises(Conflict, match="drop-rule kind seven"):
        rollout.require_not_live(shop.ws, "kind@2")


def test_rules_are_asked_in_their_order_and_replaced_by_name(any_shop: Shop) -> None:
    shop = any_shop
    started(shop)
    ruled(shop)
    ruled(shop, rollout.rule("all", to="control", header="X-Staff"))
    assert versions(shop, headers=YES) == {(2, "rule:staff")}
    ruled(shop, rollout.rule("staff", to="control", header="X-Staff", values=["yes"]))
    assert versions(shop, headers=YES) == {(1, "rule:staff")}
    rollout.drop_rule(shop.ws, "kind", "staff", reason="over")
    assert versions(shop, headers=YES) == {(1, "rule:all")}
    with pytest.raises(NotFound, match="there is all"):
        rollout.drop_rule(shop.ws, "kind", "staff", reason="again")


def test_the_loop_file_declares_rules(shop: Shop) -> None:
    text = shops.LOOP.replace(
        "rollout=el.canary",
        'rules=[el.rule("staff", to="candidate", header="X-Staff", values=["yes"])],\n    rollout=el.canary',
    )
    file = shop.ws.home.parent / "shop_loop.py"
    file.write_text(text)
    found = loop.load(file)
    (change,) = (one for one in loop.apply(shop.ws, found) if one.action != "keep")
    assert (change.kind, change.fields) == ("endpoint", ("rules",))
    table = serving.read_routes(shop.folder)
    assert rollout.endpoint(shop.ws, "kind").rules == (STAFF,)
    assert table is not None
    assert table.endpoints["kind"].rules == ()  # there is no candidate yet
    assert {one.action for one in loop.apply(shop.ws, found)} == {"keep"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"to": "candidate"}, "looks at nothing"),
        ({"to": "candidate", "header": "X-A", "input": "a"}, "Make two of it"),
        ({"to": "candidate", "header": "Authorization"}, "is a secret"),
        ({"to": "candidate", "header": "X-A", "values": [1]}, "headers hold texts"),
        ({"to": "candidate", "header": "X-A", "values": "yes"}, "they are a list"),
        ({"to": "The Best", "header": "X-A"}, "a version such as category@3"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        rollout.rule("staff", **given)


@pytest.mark.parametrize(
    ("rule", "error", "told"),
    [
        (rollout.rule("a", to="kind@9", header="X-A"), NotFound, "kind@9"),
        (rollout.rule("a", to="other@1", header="X-A"), Invalid, "not a version of 'kind'"),
        (rollout.rule("a", to="candidate", input="country"), Invalid, "the model's inputs are title, seller"),
    ],
)
def test_a_rule_that_does_not_fit_the_endpoint_is_refused(
    shop: Shop, rule: RoutingRule, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        ruled(shop, rule)


def test_what_a_request_pinned_is_no_evidence(shop: Shop) -> None:
    made = started(shop)
    shop.ask(5, assigned="pinned")
    shop.ask(7)
    assert counted(shop, made) == {"errors": 7}


def test_the_segment_of_a_rollout_is_told_with_its_share(shop: Shop) -> None:
    assert rollout.segment_of(shop.ws, "kind") is None
    started(shop, only={"seller": [1, 2]})
    assert rollout.segment_of(shop.ws, "kind") == rollout.LiveSegment("seller is 1 or 2", None, "kind@1")
    shop.ask(10, inputs={"seller": 1})
    shop.ask(30, inputs={"seller": 5})
    found = rollout.segment_of(shop.ws, "kind")
    assert found is not None
    assert found.share == pytest.approx(0.25)
