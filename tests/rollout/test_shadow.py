"""A new version is mirrored: its answers are compared with those that people got, and nobody gets them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from everloop import feedback, loop, rollout, serving
from everloop.errors import Conflict, Invalid
from everloop.ids import new_prediction_id
from everloop.predictions import PredictionRecord
from everloop.rollout import CanaryHealth, MetricRule, Rollout, Rules
from everloop.rollout.bounded import _LOG_WEIGHTS, _PARTS
from everloop.rollout.mirrored import pairs_of
from everloop.rollout.paired import Pairs, judge_pairs
from tests.loop.living import Shop
from tests.rollout.test_plans import begun, standby
from tests.rollout.test_rollouts import acts, weights

CLEAN = {"errors": 0.05}
FAILED = {"status": "failed", "output": None, "error": "model_failed: ValueError: unknown"}


def mirrored(
    shop: Shop, of: Rollout, n: int, *, key: str | None = None, request: str | None = None, **differently: Any
) -> list[PredictionRecord]:
    """Ask `n` requests, each with a copy that the shadow answers as the live version does, or differently."""
    asked = shop.ask(n, key=key, request=request)
    for record in asked:
        copy = {"id": new_prediction_id(shop.log.writer), "shadow_of": record.id, "request": request}
        of_shadow = {"version": 2, "release": of.release, "variant": "shadow"}
        shop.ask(1, key=key, **{**copy, **of_shadow, **differently})
    return asked


def shadowed(shop: Shop, **given: Any) -> Rollout:
    plan = {"shadow": 100, "excess_at_most": CLEAN, "watch_h": 0, **given}
    made = begun(shop, rollout.canary(50, 100, **plan))
    shop.acknowledge()
    return made


def test_the_copies_go_to_a_version_that_answers_nobody(shop: Shop) -> None:
    shadowed(shop)
    assert (weights(shop), standby(shop)) == ({"kind@1": 100}, ["kind@2"])
    table = serving.read_routes(shop.folder)
    assert table is not None
    assert [(one.name, one.weight) for one in table.endpoints["kind"].shadow] == [("shadow", 100.0)]


def test_requests_of_which_no_copy_is_there_yet_are_waited_for(shop: Shop) -> None:
    shadowed(shop)
    shop.ask(1)
    (held,) = rollout.tick(shop.ws)
    assert held.act == "look"


def test_equal_answers_lead_to_the_first_step(any_shop: Shop) -> None:
    shop = any_shop
    made = shadowed(shop, differs_at_most=0.1)
    mirrored(shop, made, 30)
    (held,) = rollout.tick(shop.ws)
    assert held.act == "look"
    assert held.reason.startswith("needs more evidence: errors exceed the live version's by at most")
    mirrored(shop, made, 100)
    (event,) = rollout.tick(shop.ws)
    assert (event.act, weights(shop)) == ("advanced", {"kind@1": 50, "kind@2": 50})
    shop.acknowledge()
    shop.ask(400)
    rollout.tick(shop.ws)
    assert acts(shop, made) == ["started", "look", "advanced", "finished"]


def test_a_shadow_that_fails_is_taken_back_before_anybody_meets_it(any_shop: Shop) -> None:
    shop = any_shop
    made = shadowed(shop)
    for _ in range(15):
        mirrored(shop, made, 3)
        mirrored(shop, made, 1, **FAILED)
    (event,) = rollout.tick(shop.ws)
    assert (event.act, weights(shop), standby(shop)) == ("rolled_back", {"kind@1": 100}, [])
    assert event.reason.startswith("errors in the shadow 15 against 0 in the live version, of 60 pairs")


def test_a_shadow_that_refuses_what_is_answered_is_taken_back(shop: Shop) -> None:
    made = shadowed(shop, excess_at_most={**CLEAN, "refused": 0.05})
    mirrored(shop, made, 60)
    mirrored(shop, made, 20, status="refused", output=None, error="does not fit: price")
    pairs = {one.metric: one for one in pairs_of(shop.ws, made)[0]}
    assert (pairs["refused"].shadow.sum(), pairs["refused"].live.sum()) == (20, 0)
    assert len(pairs["errors"].shadow) == 60
    (event,) = rollout.tick(shop.ws)
    assert event.reason.startswith("refused in the shadow 20 against 0 in the live version, of 80 pairs")


def test_reports_about_the_answers_that_people_got_tell_of_the_copies_too(shop: Shop) -> None:
    """What confirms the live answer contradicts a copy that says otherwise; without a report nothing is said of either."""
    made = shadowed(shop, excess_at_most={**CLEAN, "contradicted": 0.05})
    both_wrong = mirrored(shop, made, 60)[:2]
    only_the_copy = mirrored(shop, made, 20, output="Lamps")
    for asked, truth in ((both_wrong, "Lamps"), (only_the_copy, "Tea")):
        for one in asked:
            feedback.correct(shop.ws, endpoint="kind", value=truth, reporter="x", prediction_id=one.id)
    pairs = {one.metric: one for one in pairs_of(shop.ws, made)[0]}
    assert (pairs["contradicted"].shadow.sum(), pairs["contradicted"].live.sum()) == (22, 2)
    (event,) = rollout.tick(shop.ws)
    assert event.reason.startswith("contradicted in the shadow 22 against 2 in the live version, of 80 pairs")


def test_reports_never_show_that_a_copy_does_no_harm() -> None:
    """Whoever got a right answer seldom says so: the margin of contradicted waits for the steps."""
    plan = rollout.canary(50, 100, shadow=10, excess_at_most={"errors": 0.01, "contradicted": 0.01})
    assert {one.metric: one.excess_at_most for one in plan.paired_rules.metrics}["contradicted"] is None
    assert {one.metric: one.excess_at_most for one in plan.rules.metrics}["contradicted"] == 0.01


def test_a_plan_tells_what_a_version_that_answers_nobody_cannot_show(shop: Shop) -> None:
    sales = rollout.kpi_of_arms("SELECT 1 AS value, id AS prediction_id", name="sales", low=0, high=1)
    made = shadowed(shop, excess_at_most={**CLEAN, "wrong:Tea": 0.1}, kpis=[sales])
    assert made.stages[0].leaves.endswith("; wrong:Tea, sales: not before the steps")


@pytest.mark.parametrize("margins", [{"wrong:Tea": None}, {"errors": 0.01, "contradicted": 0.02}])
def test_a_shadow_alone_is_not_asked_for_what_it_cannot_show(margins: dict[str, float | None]) -> None:
    with pytest.raises(Invalid, match="answers nobody"):
        rollout.shadow(10, excess_at_most=margins)


def test_answers_that_differ_too_often_take_it_back_where_that_is_asked(shop: Shop) -> None:
    made = shadowed(shop, differs_at_most=0.1)
    mirrored(shop, made, 60)
    mirrored(shop, made, 40, output="Lamps")
    (event,) = rollout.tick(shop.ws)
    assert event.reason.startswith("answers differ in 40 of 100 pairs, where 10 % may")


def test_twenty_failures_in_a_row_blow_the_fuse_while_people_are_answered(shop: Shop) -> None:
    made = shadowed(shop, excess_at_most={"errors": None})
    mirrored(shop, made, 20, **FAILED)
    (event,) = rollout.tick(shop.ws)
    assert (
        event.reason
        == "fuse, in the shadow: the canary failed 20 requests in a row while the control answered"
    )


def test_copies_that_found_no_room_and_rows_of_one_request_are_not_evidence_each(shop: Shop) -> None:
    made = shadowed(shop)
    mirrored(shop, made, 5, **{**FAILED, "error": "overloaded: 64 wait"})
    mirrored(shop, made, 4, request="req_1")
    mirrored(shop, made, 2)
    errors, *_ = pairs_of(shop.ws, made)[0]
    assert len(errors.shadow) == 3
    (event,) = rollout.tick(shop.ws)
    assert event.reason.endswith(
        "; 5 mirrored requests found no room and are not compared: most are of busy times"
    )


def test_a_key_that_sticks_counts_once(shop: Shop) -> None:
    made = shadowed(shop)
    shop.ws.write(
        lambda tx: rollout.define_endpoint(
            shop.ws, tx, "kind", model="kind", canary=rollout.canary(50, 100), stickiness="key"
        )
    )
    mirrored(shop, made, 5, key="heavy")
    mirrored(shop, made, 1, key="light")
    errors, *_ = pairs_of(shop.ws, made)[0]
    assert len(errors.shadow) == 2


def test_a_shadow_alone_ends_without_traffic_and_is_not_begun_again_by_itself(shop: Shop) -> None:
    made = begun(shop, rollout.shadow(100, excess_at_most=CLEAN))
    shop.acknowledge()
    mirrored(shop, made, 120)
    rollout.tick(shop.ws)
    ended = rollout.rollout_of(shop.ws, made.id)
    assert (ended.state, weights(shop), standby(shop)) == ("done", {"kind@1": 100}, [])
    assert loop.deliver(shop.ws) == []
    assert rollout.start(shop.ws, "kind", "kind@2", reason="a person wants it").state == "running"


def test_a_shadow_alone_is_not_promoted(shop: Shop) -> None:
    made = begun(shop, rollout.shadow(10, excess_at_most=CLEAN))
    with pytest.raises(Conflict, match="gives it no traffic"):
        rollout.promote_now(shop.ws, made.id, reason="verified by hand")


def test_the_plan_tells_what_is_mirrored(shop: Shop) -> None:
    made = shadowed(shop, differs_at_most=0.2)
    assert [(one.weight, one.mirrored) for one in made.stages] == [(0, 100), (50, 0), (100, 0)]
    assert made.stages[0].leaves.endswith("less than 5 points, fewer than 20 % of the answers differ")


@pytest.mark.parametrize(
    "given", [{"shadow": 101}, {"differs_at_most": 0.1}, {"shadow": 10, "differs_at_most": 1.5}]
)
def test_a_shadow_that_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="shadow"):
        rollout.canary(50, 100, **given)


def test_steps_and_shadow_share_one_budget() -> None:
    both = rollout.canary(50, 100, shadow=10, excess_at_most={"errors": 0.01, "slow": 0.02})
    assert both.rules.e_bound == both.paired_rules.e_bound == pytest.approx(5 / 0.05)
    assert rollout.canary(50, 100).rules.e_bound == pytest.approx(2 / 0.05)


def test_the_evidence_of_three_pairs_by_hand() -> None:
    """Two pairs in which only the shadow failed pay 1 + f each, one in which only the live version did 1 - f."""
    rules = Rules((MetricRule("errors", excess_at_most=0.1),))
    pairs = Pairs("errors", np.array([1.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    (verdict,) = judge_pairs([pairs], CanaryHealth(), rules).metrics
    assert verdict.e_value == pytest.approx(np.exp(_LOG_WEIGHTS) @ ((1 + _PARTS) ** 2 * (1 - _PARTS)))
    assert verdict.excess == pytest.approx(1 / 3)


def test_equal_versions_are_rarely_taken_back_however_often_one_looks() -> None:
    """100 rollouts of 1,000 pairs at 3 % errors each, looked at every 200: at most 5 % are promised."""
    rng, rules = np.random.default_rng(5), Rules((MetricRule("errors", excess_at_most=0.01),))
    failed = (rng.random((2, 100, 1_000)) < 0.03).astype(np.float64)
    taken_back = 0
    for shadow, live in zip(failed[0], failed[1], strict=True):
        looks = (
            judge_pairs([Pairs("errors", shadow[:n], live[:n])], CanaryHealth(), rules).action
            for n in range(200, 1_001, 200)
        )
        taken_back += "roll_back" in looks
    assert taken_back <= 5
