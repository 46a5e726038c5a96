"""A rollout on a workspace: planned, started, judged on the log, paused, ended."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from everloop import clock, feedback, ledger, registry, rollout, serving
from everloop.errors import Conflict, NotFound, NotReady
from everloop.rollout import Rollout
from everloop.serving.files import write_worker
from tests.loop import living
from tests.loop.living import Shop

CLEAN = {"errors": 0.2}


def with_canary(shop: Shop, *steps: float, key: bool = False, **given: object) -> None:
    plan = rollout.canary(*steps, **{"excess_at_most": CLEAN, "watch_h": 0.0, **given})  # type: ignore[arg-type]  # per test
    shop.ws.write(
        lambda tx: rollout.define_endpoint(
            shop.ws, tx, "kind", model="kind", canary=plan, stickiness="key" if key else "request"
        )
    )


def started(shop: Shop, *steps: float, **given: object) -> Rollout:
    """A rollout of kind@2 whose first route table every serving process has."""
    with_canary(shop, *(steps or (50, 100)), **given)  # type: ignore[arg-type]  # per test
    living.release(shop.ws, "kind@2")
    found = rollout.start(shop.ws, "kind", "kind@2", reason="a test")
    shop.acknowledge()
    return found


def acts(shop: Shop, of: Rollout) -> list[str]:
    return [one.act for one in reversed(rollout.history(shop.ws, rollout=of.id))]


def weights(shop: Shop) -> dict[str, float]:
    return {one.version: one.weight for one in rollout.live(shop.ws, "kind")}


def counted(shop: Shop, of: Rollout) -> dict[str, int]:
    """Requests (or keys) that the judge looks at, by metric."""
    found, _ = rollout.evidence_of(shop.ws, of)
    return {one.metric: one.total.canary_total + one.total.control_total for one in found}


def test_a_plan_changes_nothing(shop: Shop) -> None:
    living.release(shop.ws, "kind@2")
    made = rollout.plan(shop.ws, "kind", "kind@2")
    assert [stage.weight for stage in made.stages] == [50, 100]
    assert (made.from_version, made.version) == ("kind@1", "kind@2")
    assert rollout.rollouts(shop.ws, states=["running"]) == []
    assert weights(shop) == {"kind@1": 100}


@pytest.mark.parametrize(
    ("version", "error", "told"),
    [
        ("kind@2", NotFound, "not released"),
        ("kind@1", Conflict, "answers on 'kind' already"),
        ("kind@9", NotFound, "kind@9"),
    ],
)
def test_what_cannot_be_rolled_out_is_refused(
    shop: Shop, version: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        rollout.plan(shop.ws, "kind", version)


def test_an_alias_is_the_version_that_it_stands_for_when_it_is_said(shop: Shop) -> None:
    living.release(shop.ws, "kind@2")
    registry.alias(shop.ws, "kind", "champion", "kind@2")
    assert rollout.plan(shop.ws, "kind", "kind@champion").version == "kind@2"
    shares = {"kind@1": 50.0, "kind@champion": 50.0}
    made = rollout.plan_split(shop.ws, "kind", shares, sticky=False, reason="a test")
    assert [one.version for one in made.arms] == ["kind@1", "kind@2"]
    registry.alias(shop.ws, "kind", "champion", "kind@1")
    with pytest.raises(Conflict, match="kind@1 answers on 'kind' already"):
        rollout.plan(shop.ws, "kind", "kind@champion")


def test_one_rollout_at_a_time(shop: Shop) -> None:
    started(shop)
    with pytest.raises(Conflict, match="under way"):
        rollout.start(shop.ws, "kind", "kind@2", reason="again")


def test_without_traffic_nobody_knows_what_slow_means(shop: Shop) -> None:
    with_canary(shop, 50, 100, excess_at_most={"slow": 0.1})
    living.release(shop.ws, "kind@2")
    shop.ask(99)
    with pytest.raises(NotReady, match="99 requests"):
        rollout.start(shop.ws, "kind", "kind@2", reason="a test")
    shop.ask(1)
    assert rollout.start(shop.ws, "kind", "kind@2", reason="a test").slow_above_ms == pytest.approx(0.9)


def test_a_good_version_advances_and_finishes(any_shop: Shop) -> None:
    shop = any_shop
    made = started(shop, 20, 50, 100)
    assert weights(shop) == {"kind@1": 80, "kind@2": 20}
    for expected in ({"kind@1": 50, "kind@2": 50}, {"kind@2": 100}):
        shop.ask(400)
        rollout.tick(shop.ws)
        assert weights(shop) == expected
        shop.acknowledge()
    ended = rollout.rollout_of(shop.ws, made.id)
    assert (ended.state, acts(shop, made)) == ("done", ["started", "advanced", "finished"])
    assert ended.outcome
    assert ledger.verify(shop.ws).is_intact


def test_too_little_evidence_holds_and_is_noted_once(shop: Shop) -> None:
    made = started(shop)
    shop.ask(10)
    rollout.tick(shop.ws)
    rollout.tick(shop.ws)
    assert acts(shop, made) == ["started", "look"]
    assert weights(shop) == {"kind@1": 50, "kind@2": 50}


def test_a_failing_version_is_rolled_back_with_the_numbers_that_decided(any_shop: Shop) -> None:
    shop = any_shop
    made = started(shop)
    shop.ask(300, fails={"kind@2": 0.4})
    (event,) = rollout.tick(shop.ws)
    assert (event.act, weights(shop)) == ("rolled_back", {"kind@1": 100})
    assert event.decision is not None
    (errors,) = event.decision["metrics"]
    assert errors["metric"] == "errors"
    assert rollout.rollout_of(shop.ws, made.id).state == "rolled_back"
    assert rollout.was_rolled_back(shop.ws, "kind", "kind@2")


def test_only_a_person_brings_back_what_was_rolled_back(shop: Shop) -> None:
    rollout.roll_back(shop.ws, started(shop).id, reason="wrong colours")
    with pytest.raises(Conflict, match="wrong colours"):
        rollout.start(shop.ws, "kind", "kind@2", reason="once more")
    assert rollout.start(shop.ws, "kind", "kind@2", reason="looked at", again=True).state == "running"


def test_trouble_in_both_arms_rolls_nothing_back(shop: Shop) -> None:
    made = started(shop)
    shop.ask(300, fails={"kind@1": 0.4, "kind@2": 0.4})
    rollout.tick(shop.ws)
    assert "rolled_back" not in acts(shop, made)


def test_nothing_is_judged_before_each_serving_process_has_the_routes(shop: Shop) -> None:
    with_canary(shop, 50, 100)
    living.release(shop.ws, "kind@2")
    made = rollout.start(shop.ws, "kind", "kind@2", reason="a test")
    shop.ask(400)
    assert rollout.tick(shop.ws) == []
    assert acts(shop, made) == ["started"]
    shop.acknowledge()
    assert [one.act for one in rollout.tick(shop.ws)] == ["finished"]


def test_a_version_that_no_serving_process_can_load_is_taken_back_after_a_while(any_shop: Shop) -> None:
    shop = any_shop
    with_canary(shop, 50, 100)
    living.release(shop.ws, "kind@2")
    rollout.start(shop.ws, "kind", "kind@2", reason="a test")
    (worker,) = serving.workers(shop.folder)
    write_worker(shop.folder, msgspec.structs.replace(worker, problems={"kind": "its file is gone"}))
    assert rollout.tick(shop.ws) == []
    shop.later(minutes=1)
    (event,) = rollout.tick(shop.ws)
    assert (event.act, weights(shop)) == ("rolled_back", {"kind@1": 100})
    assert event.reason == "fuse: the canary is not ready: no serving process can load it: its file is gone"


def test_what_could_be_loaded_and_cannot_be_under_new_limits_is_not_taken_back(shop: Shop) -> None:
    started(shop)
    rollout.set_limits(shop.ws, "kind", rollout.limits(memory_mb=300))
    (worker,) = serving.workers(shop.folder)
    write_worker(shop.folder, msgspec.structs.replace(worker, problems={"kind": "it needs more"}))
    shop.later(minutes=1)
    assert [one.act for one in rollout.tick(shop.ws)] == ["look"]


def test_requests_of_before_the_rollout_do_not_count(shop: Shop) -> None:
    shop.ask(1_000)
    made = started(shop)
    rollout.tick(shop.ws)
    (errors,), _ = rollout.evidence_of(shop.ws, made)
    assert counted(shop, made) == {"errors": 0}
    assert (errors.before_bad, errors.before_total) == (0, 1_000)


def test_shadows_and_refused_requests_do_not_count(shop: Shop) -> None:
    made = started(shop)
    shop.ask(5, status="refused", output=None)
    shop.ask(5, shadow_of="pred_1")
    shop.ask(7)
    assert counted(shop, made) == {"errors": 7}


def test_replayed_requests_count_for_errors_but_nobody_can_contradict_them(shop: Shop) -> None:
    made = started(shop, excess_at_most={"errors": 0.2, "contradicted": None})
    shop.ask(40, replay=True)
    assert counted(shop, made) == {"errors": 40, "contradicted": 0}


def test_requests_that_somebody_tried_by_hand_do_not_count(shop: Shop) -> None:
    made = started(shop)
    shop.ask(5, replay=True, key="try:alice")
    shop.ask(3, key="try:alice")
    assert counted(shop, made) == {"errors": 3}


def test_a_key_stays_in_its_arm_while_the_canary_grows(shop: Shop) -> None:
    started(shop, 10, 30, 100, key=True)
    keys = [str(number) for number in range(200)]

    def in_canary() -> set[str]:
        return {key for key in keys if shop.ask(1, key=key)[0].variant == "canary"}

    first = in_canary()
    assert first == in_canary()
    for key in map(str, range(200, 900)):
        shop.ask(1, key=key)
    (event,) = rollout.tick(shop.ws)
    assert event.act == "advanced"
    assert 0 < len(first) < len(in_canary())
    assert first <= in_canary()


def test_sticky_requests_are_counted_by_key(shop: Shop) -> None:
    made = started(shop, key=True)
    for _ in range(5):
        shop.ask(4, key="heavy")
    assert counted(shop, made) == {"errors": 1}


def test_requests_without_a_key_are_counted_each_where_keys_stick(shop: Shop) -> None:
    made = started(shop, key=True)
    shop.ask(4)
    assert counted(shop, made) == {"errors": 4}


def test_one_request_of_many_rows_blows_no_fuse_where_keys_stick(shop: Shop) -> None:
    made = started(shop, key=True)
    shop.ask(40)
    for number in range(25):
        shop.ask(1, key=f"k{number}", request="req_1", fails={"kind@2": 1.0})
    _, health = rollout.evidence_of(shop.ws, made)
    assert health.failures_in_a_row == 1


def test_a_version_that_refuses_what_the_other_takes_is_taken_back(shop: Shop) -> None:
    made = started(shop, excess_at_most={"errors": 0.2, "refused": 0.2})
    for record in shop.ask(200):
        if record.version == 2:
            shop.ask(1, version=2, release=made.release, variant="canary", status="refused", output=None)
    (event,) = rollout.tick(shop.ws)
    assert event.reason.startswith("refused")
    assert weights(shop) == {"kind@1": 100}


def test_a_version_whose_answers_come_too_late_is_taken_back_for_that(shop: Shop) -> None:
    """A time-out is an error, too; counted apart it need not hide among errors that both versions have."""
    made = started(shop, excess_at_most={"timeouts": 0.2})
    late: dict[str, Any] = {
        "status": "failed",
        "output": None,
        "error": "deadline_exceeded: 200 ms were over",
    }
    for _ in range(40):
        shop.ask(1, version=2, release=made.release, variant="canary", **late)
        shop.ask(5, fails={"kind@1": 0.3, "kind@2": 0.3})
    (event,) = rollout.tick(shop.ws)
    assert re.match(r"timeouts \S+ % \(\d+ of \d+\) against 0 %", event.reason)


def test_a_paused_rollout_is_left_alone_and_goes_on_when_resumed(shop: Shop) -> None:
    made = started(shop)
    rollout.pause(shop.ws, made.id, reason="freeze")
    shop.ask(400)
    assert rollout.tick(shop.ws) == []
    with pytest.raises(Conflict, match="is paused"):
        rollout.pause(shop.ws, made.id, reason="again")
    rollout.resume(shop.ws, made.id, reason="freeze is over")
    rollout.tick(shop.ws)
    assert acts(shop, made) == ["started", "paused", "resumed", "finished"]


def test_a_person_promotes_without_the_judge(shop: Shop) -> None:
    made = started(shop, 10, 50, 100)
    rollout.promote_now(shop.ws.acting_as("alice"), made.id, reason="verified by hand")
    assert weights(shop) == {"kind@2": 100}
    event = rollout.history(shop.ws, rollout=made.id, limit=1)[0]
    assert (event.actor, event.reason) == ("alice", "alice decided: verified by hand")
    with pytest.raises(Conflict, match="is done and not watched any more"):
        rollout.roll_back(shop.ws, made.id, reason="too late")


def test_each_act_of_a_person_is_in_the_audit_chain_with_who_and_why(any_shop: Shop) -> None:
    made = started(any_shop, 10, 50, 100, watch_h=1)
    of: dict[str, Callable[..., None]] = {
        "paused": rollout.pause,
        "resumed": rollout.resume,
        "finished": rollout.promote_now,
        "rolled_back": rollout.roll_back,
    }
    for act, do in of.items():
        do(any_shop.ws.acting_as("alice"), made.id, reason=f"why {act}")
    chain = ledger.entries(any_shop.ws, actor="alice")
    kept = {one.act: one.detail for one in chain if one.act.startswith("rollout.")}
    assert kept.keys() == {f"rollout.{act}" for act in of}
    assert all(one["rollout"] == made.id and "why" in one["reason"] for one in kept.values())


def test_an_endpoints_first_version_cannot_be_taken_back(shop: Shop) -> None:
    (first,) = rollout.rollouts(shop.ws)
    with pytest.raises(Conflict):
        rollout.roll_back(shop.ws, first.id, reason="no")


def test_many_ticks_at_once_advance_once(any_shop: Shop) -> None:
    shop = any_shop
    made = started(shop, 20, 50, 100)
    shop.ask(400)
    together = threading.Barrier(6)

    def look() -> None:
        together.wait()
        rollout.tick(shop.ws)

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert acts(shop, made) == ["started", "advanced"]
    assert rollout.rollout_of(shop.ws, made.id).stage == 1


def test_what_was_live_is_answered_for_any_moment(shop: Shop) -> None:
    before = shop.ws.now()
    shop.later(hours=1)
    made = started(shop)
    during = shop.ws.now()
    shop.later(hours=1)
    rollout.promote_now(shop.ws, made.id, reason="a test")
    at = {moment: rollout.live(shop.ws, "kind", at=moment) for moment in (before, during, shop.ws.now())}
    assert [{one.version for one in live} for live in at.values()] == [
        {"kind@1"},
        {"kind@1", "kind@2"},
        {"kind@2"},
    ]


def test_what_was_live_of_a_model_names_who_let_it_and_why(any_shop: Shop) -> None:
    shop = any_shop
    before = shop.ws.now()
    shop.later(hours=1)
    made = started(shop)
    (first,) = rollout.live_of_model(shop.ws, "kind", at=before)
    assert (first.endpoint, first.version, first.weight) == ("kind", "kind@1", 100)
    assert {(one.version, one.weight, one.since) for one in rollout.live_of_model(shop.ws, "kind")} == {
        ("kind@1", 50, shop.ws.now()),
        ("kind@2", 50, shop.ws.now()),
    }
    rollout.roll_back(shop.ws.acting_as("bea"), made.id, reason="wrong on lamps")
    (now,) = rollout.live_of_model(shop.ws, "kind")
    assert (now.version, now.by, now.reason) == ("kind@1", "bea", "bea decided: wrong on lamps")
    assert rollout.live_of_model(shop.ws, "kind", at=clock.parse_time("2020-01-01T00:00:00Z")) == []
    assert rollout.live_of_model(shop.ws, "nothing") == []


@pytest.mark.parametrize("ref", ["kind@1", "kind"])
def test_what_is_live_is_known_before_it_is_deleted(shop: Shop, ref: str) -> None:
    with pytest.raises(Conflict, match=r"kind@1 answers on the endpoint kind; what is live is not deleted"):
        rollout.require_not_live(shop.ws, ref)
    rollout.require_not_live(shop.ws, "kind@2")


def test_a_route_table_that_was_not_written_is_written_by_the_next_tick(shop: Shop) -> None:
    made = started(shop)
    (shop.folder / "routes.json").unlink()
    assert rollout.is_running(shop.ws)
    rollout.tick(shop.ws)
    table = serving.read_routes(shop.folder)
    assert table is not None
    assert table.epoch == made.epochs[-1]


def test_an_endpoint_keeps_its_model(shop: Shop) -> None:
    with pytest.raises(Conflict, match="serves the model 'kind'"):
        shop.ws.write(
            lambda tx: rollout.define_endpoint(
                shop.ws, tx, "kind", model="other", canary=rollout.canary(50, 100)
            )
        )


def test_a_request_too_young_to_be_reported_on_is_not_counted_as_right(shop: Shop) -> None:
    answered = shop.ask(10)
    shop.later(hours=30)
    for one in answered:
        feedback.correct(shop.ws, endpoint="kind", value="Lamps", reporter="moderator", prediction_id=one.id)
    shop.later(hours=1)
    of = started(shop, excess_at_most={"contradicted": 0.2})
    shop.ask(5)
    shop.later(hours=40)
    shop.ask(3)
    assert counted(shop, of) == {"contradicted": 5}


def test_rows_that_came_in_one_request_are_counted_once(shop: Shop) -> None:
    of = started(shop)
    shop.ask(5, request="req_1")
    shop.ask(3)
    assert counted(shop, of) == {"errors": 4}
