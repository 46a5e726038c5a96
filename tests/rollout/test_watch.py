"""A new version that answers everything is watched: the one before stays warm, and is gone back to if harm shows."""

from __future__ import annotations

import pytest

from everloop import events, feedback, predictions, rollout, serving
from everloop.errors import Conflict
from everloop.rollout import Rollout
from tests.loop.living import Shop
from tests.rollout.test_rollouts import acts, started, weights


def standby(shop: Shop) -> list[str]:
    return [one.version for one in rollout.endpoint(shop.ws, "kind").standby]


def watched(shop: Shop, **given: object) -> Rollout:
    """A rollout of kind@2 that has finished, and is watched for 24 hours."""
    made = started(shop, **{"watch_h": 24.0, **given})
    shop.ask(400)
    rollout.tick(shop.ws)
    shop.acknowledge()
    shop.later(minutes=1)
    found = rollout.rollout_of(shop.ws, made.id)
    assert (found.state, weights(shop), standby(shop)) == ("done", {"kind@2": 100}, ["kind@1"])
    return found


def test_the_version_before_is_loaded_by_serving_and_answers_nothing(shop: Shop) -> None:
    watched(shop)
    table = serving.read_routes(shop.folder)
    assert table is not None
    route = table.endpoints["kind"]
    assert [(one.name, one.weight) for one in route.shadow] == [("previous", 0.0)]
    assert {one.variant for one in shop.ask(50)} == {"control"}


def test_a_watch_without_harm_ends_and_lets_the_version_before_go(any_shop: Shop) -> None:
    shop = any_shop
    made = watched(shop)
    shop.later(hours=23)
    shop.ask(50)
    assert rollout.tick(shop.ws) == []
    shop.later(hours=1)
    assert [one.act for one in rollout.tick(shop.ws)] == ["watched"]
    assert (weights(shop), standby(shop)) == ({"kind@2": 100}, [])
    assert acts(shop, made) == ["started", "finished", "watched"]
    assert not rollout.is_running(shop.ws)


def test_a_watch_is_looked_at_every_fifteen_seconds(shop: Shop) -> None:
    watched(shop)
    assert rollout.is_running(shop.ws)
    rollout.tick(shop.ws)
    assert not rollout.is_running(shop.ws)
    shop.later(seconds=15)
    assert rollout.is_running(shop.ws)


def test_failures_in_a_row_go_back_to_the_version_before(any_shop: Shop) -> None:
    shop = any_shop
    made = watched(shop)
    shop.ask(30)
    shop.ask(19, fails={"kind@2": 1.0})
    assert rollout.tick(shop.ws) == []
    shop.later(minutes=1)
    shop.ask(1, fails={"kind@2": 1.0})
    (event,) = rollout.tick(shop.ws)
    assert (event.act, weights(shop), standby(shop)) == ("rolled_back", {"kind@1": 100}, [])
    assert event.reason == "while watched at 100 %: fuse: the canary failed 20 requests in a row"
    assert rollout.rollout_of(shop.ws, made.id).state == "rolled_back"
    assert rollout.was_rolled_back(shop.ws, "kind", "kind@2")
    told = events.newest(shop.ws, kind="rollout.rolled_back", limit=1)
    assert [one.level for one in told] == ["failed"]


def test_one_request_of_many_rows_is_one_failure(shop: Shop) -> None:
    watched(shop)
    shop.ask(25, fails={"kind@2": 1.0}, request="req_1")
    assert rollout.tick(shop.ws) == []


def test_reports_that_come_late_take_back_what_was_judged_too_early(shop: Shop) -> None:
    made = watched(shop, excess_at_most={"errors": 0.2, "contradicted": None})
    answered = predictions.read(
        shop.folder, endpoint="kind", start=made.started_at, columns=["id", "variant"]
    )
    shop.later(hours=3)
    for one in answered.to_pylist()[:60]:
        if one["variant"] == "canary":
            feedback.correct(
                shop.ws, endpoint="kind", value="Lamps", reporter="moderator", prediction_id=one["id"]
            )
    (event,) = rollout.tick(shop.ws)
    assert (event.act, weights(shop)) == ("rolled_back", {"kind@1": 100})
    assert event.reason.startswith("while watched at 100 %: contradicted")


def test_trouble_in_requests_after_the_switch_is_not_compared_with_the_past(shop: Shop) -> None:
    made = watched(shop)
    before, _ = rollout.evidence_of(shop.ws, made)
    shop.ask(100, fails={"kind@2": 0.3})
    after, _ = rollout.evidence_of(shop.ws, made)
    assert before == after


def test_a_person_goes_back_while_it_is_watched_and_not_later(shop: Shop) -> None:
    made = watched(shop)
    rollout.roll_back(shop.ws.acting_as("alice"), made.id, reason="wrong prices")
    assert weights(shop) == {"kind@1": 100}
    with pytest.raises(Conflict, match="not watched any more"):
        rollout.roll_back(shop.ws, made.id, reason="once more")


def test_a_new_rollout_ends_the_watch(shop: Shop) -> None:
    made = watched(shop)
    rollout.start(shop.ws, "kind", "kind@1", reason="the old one again")
    assert rollout.rollout_of(shop.ws, made.id).watch_until is None
    with pytest.raises(Conflict, match="not watched any more"):
        rollout.roll_back(shop.ws, made.id, reason="too late")
    shop.later(hours=30)
    assert rollout.tick(shop.ws) == []
    assert weights(shop) == {"kind@2": 50, "kind@1": 50}


def test_what_is_kept_warm_does_not_count_as_live_and_is_not_deleted(shop: Shop) -> None:
    watched(shop)
    assert [one.version for one in rollout.live_of_model(shop.ws, "kind")] == ["kind@2"]
    assert [one.version for one in rollout.live(shop.ws, "kind", at=shop.ws.now())] == ["kind@2"]
    with pytest.raises(Conflict, match="kind@1 is kept warm"):
        rollout.require_not_live(shop.ws, "kind@1")
