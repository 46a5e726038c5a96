"""Numbers that no request tells by itself: a KPI of the user's, and the truths of the audit sample."""

from __future__ import annotations

from typing import Any

import pytest

from everloop import feedback, loop, rollout, serving
from everloop.errors import Invalid
from everloop.predictions import PredictionRecord
from everloop.rollout import MetricVerdict, Rollout
from tests.loop import shop as shops
from tests.loop.living import Shop
from tests.rollout.test_rollouts import CLEAN, acts, started, weights, with_canary
from tests.rollout.test_split import measured, shared

SALES = "SELECT id AS prediction_id, inputs.seller * 10 AS value FROM predictions WHERE status = 'ok'"


def kpi(sql: str = SALES, **given: Any) -> rollout.ArmKpi:
    return rollout.kpi_of_arms(sql, **{"name": "sales", "low": 0, "high": 100, **given})


def sell(shop: Shop, n: int, *, to_new: int, to_old: int) -> None:
    """Log requests as chance deals them; the KPI of each is told by its seller."""
    table = serving.read_routes(shop.folder)
    assert table is not None
    for number in range(n):
        variant = serving.choose(table.endpoints["kind"], key=None, request=f"req_{number}")
        version = serving.read_manifest(shop.folder, variant.release).version
        seller = to_new if version == 2 else to_old
        shop.ask(1, release=variant.release, version=version, variant=variant.name, inputs={"seller": seller})


def audit(shop: Shop, asked: list[PredictionRecord], *, wrong: dict[int, float], chance: float = 0.5) -> None:
    """Tell the truth about answers, which all say Tea."""
    for one in asked:
        truth = "Lamps" if shop.chance.random() < wrong.get(one.version, 0.0) else "Tea"
        feedback.record_outcome(
            shop.ws,
            endpoint="kind",
            prediction_id=one.id,
            value=truth,
            source="audit",
            inclusion_probability=chance,
        )


def verdict(shop: Shop, of: Rollout, metric: str) -> MetricVerdict:
    evidence, health = rollout.evidence_of(shop.ws, of)
    made = rollout.judge(evidence, of.canary.rules, health=health, means=rollout.means_of(shop.ws, of))
    return next(one for one in made.metrics if one.metric == metric)


def test_a_version_whose_kpi_is_worse_is_rolled_back(any_shop: Shop) -> None:
    shop = any_shop
    made = started(shop, kpis=[kpi()])
    assert rollout.rollout_of(shop.ws, made.id).canary.kpis == (kpi(),)
    sell(shop, 120, to_new=2, to_old=6)
    (event,) = rollout.tick(shop.ws)
    assert (event.act, weights(shop)) == ("rolled_back", {"kind@1": 100})
    assert "sales 20 (" in event.reason
    assert "against 60 (" in event.reason


def test_a_kpi_is_worse_only_in_its_bad_direction_and_beyond_what_is_tolerated(shop: Shop) -> None:
    low = kpi(name="cost", better="lower", worse_at_most=10.0)
    made = started(shop, kpis=[kpi(worse_at_most=50.0), low, kpi(name="lax", tolerated=45.0)])
    sell(shop, 200, to_new=2, to_old=6)
    assert verdict(shop, made, "sales").says == "roll_back"
    assert verdict(shop, made, "cost").says == "advance"
    assert verdict(shop, made, "lax").says == "advance"


def test_a_kpi_goes_on_when_its_bound_is_under_the_margin_and_waits_until_then(shop: Shop) -> None:
    made = started(shop, kpis=[kpi(worse_at_most=10.0)])
    sell(shop, 40, to_new=5, to_old=5)
    rollout.tick(shop.ws)
    found = verdict(shop, made, "sales")
    assert (found.says, found.means, found.span) == ("hold", (50.0, 50.0), 100.0)
    assert acts(shop, made) == ["started", "look"]
    sell(shop, 360, to_new=5, to_old=5)
    (event,) = rollout.tick(shop.ws)
    assert event.act == "finished"
    assert "sales worse than the control by at most" in event.reason


def test_every_metric_shares_the_one_error_budget() -> None:
    plan = rollout.canary(10, 100, excess_at_most={"errors": 0.01, "wrong": 0.05}, kpis=[kpi()])
    assert plan.rules.e_bound == pytest.approx(3 / 0.05)
    shadowed = rollout.canary(
        10, 100, shadow=20, excess_at_most={"errors": 0.01, "wrong": 0.05}, kpis=[kpi()]
    )
    assert shadowed.rules.e_bound == shadowed.paired_rules.e_bound == pytest.approx(6 / 0.05)
    assert rollout.Canary.from_value(plan.to_value()) == plan


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT nonsense", "cannot be computed"),
        ("SELECT 1 AS value", "returned the columns value"),
        ("SELECT key, 1 AS value FROM predictions", "where keys stick"),
        ("SELECT id AS prediction_id, 'much' AS value FROM predictions", "no number"),
        ("SELECT * FROM read_csv('/etc/passwd')", "cannot be computed"),
    ],
)
def test_a_query_that_cannot_be_asked_holds_and_says_why(shop: Shop, sql: str, told: str) -> None:
    made = started(shop, kpis=[kpi(sql, worse_at_most=10.0)])
    shop.ask(400)
    (event,) = rollout.tick(shop.ws)
    assert event.act == "look"
    assert told in event.reason
    assert verdict(shop, made, "sales").says == "hold"


def test_values_beyond_the_ends_count_as_the_ends_and_unknown_ones_not_at_all(shop: Shop) -> None:
    sql = "SELECT id AS prediction_id, CASE WHEN inputs.seller < 3 THEN NULL ELSE 1e6 END AS value FROM predictions"
    made = started(shop, kpis=[kpi(sql)])
    known = sum(int(one.inputs["seller"]) >= 3 for one in shop.ask(60))
    (found,) = rollout.means_of(shop.ws, made)
    assert found.total.canary_total + found.total.control_total == known
    assert verdict(shop, made, "sales").means == (100.0, 100.0)


def test_a_kpi_may_be_told_by_what_was_reported(shop: Shop) -> None:
    sql = """SELECT id AS prediction_id, coalesce(sum(reported.value), 0) AS value FROM predictions
             LEFT JOIN reported ON prediction_id = id AND reported.name = 'revenue' GROUP BY id"""
    started(shop, kpis=[kpi(sql)])
    for one in shop.ask(120):
        if one.version == 1:
            feedback.report_value(shop.ws, endpoint="kind", name="revenue", value=40, prediction_id=one.id)
    (event,) = rollout.tick(shop.ws)
    assert event.act == "rolled_back"
    assert "sales 0 (" in event.reason


def test_where_keys_stick_a_key_has_one_value(shop: Shop) -> None:
    sql = "SELECT key, count(*) AS value FROM predictions GROUP BY key"
    made = started(shop, key=True, kpis=[kpi(sql)])
    for key in map(str, range(20)):
        shop.ask(3, key=key)
    (found,) = rollout.means_of(shop.ws, made)
    assert found.total.canary_total + found.total.control_total == 20
    assert verdict(shop, made, "sales").means == pytest.approx((3.0, 3.0))


def test_a_version_that_is_wrong_more_often_in_the_audit_sample_is_rolled_back(any_shop: Shop) -> None:
    shop = any_shop
    started(shop, excess_at_most={**CLEAN, "wrong": 0.1})
    audit(shop, shop.ask(160), wrong={2: 0.6, 1: 0.05})
    (event,) = rollout.tick(shop.ws)
    assert event.act == "rolled_back"
    assert "wrong 0." in event.reason


def test_without_truths_an_accuracy_margin_holds(shop: Shop) -> None:
    made = started(shop, excess_at_most={**CLEAN, "wrong": 0.1})
    shop.ask(400)
    rollout.tick(shop.ws)
    assert acts(shop, made) == ["started", "look"]


def test_who_complained_does_not_move_accuracy(shop: Shop) -> None:
    made = started(shop, excess_at_most={"wrong": None})
    for one in shop.ask(60):
        if one.version == 2:
            feedback.correct(shop.ws, endpoint="kind", value="Lamps", reporter="x", prediction_id=one.id)
    (found,) = rollout.means_of(shop.ws, made)
    assert found.total.canary_total + found.total.control_total == 0


def test_what_becomes_known_while_a_stage_runs_is_no_guess_about_it(shop: Shop) -> None:
    """What to expect is fixed when a stage begins; a truth that comes later, about a request of before, may not move it."""
    made = started(shop, 50, 75, 100, excess_at_most={**CLEAN, "wrong": None})
    asked = [one for one in shop.ask(400) if one.version == 1]
    audit(shop, asked[:30], wrong={1: 1.0})
    shop.later(minutes=5)
    rollout.tick(shop.ws)
    shop.acknowledge()
    shop.ask(10)
    audit(shop, asked[30:90], wrong={})
    (found,) = rollout.means_of(shop.ws, rollout.rollout_of(shop.ws, made.id))
    assert (found.known, found.latest.share) == ((30, 30), 0.75)


def test_precision_of_a_class_looks_at_the_answers_that_say_so(shop: Shop) -> None:
    made = started(shop, excess_at_most={"wrong:Tea": 0.3, "wrong:Lamps": None})
    asked = shop.ask(200)
    audit(shop, asked, wrong={2: 0.8})
    assert verdict(shop, made, "wrong:Tea").says == "roll_back"
    assert verdict(shop, made, "wrong:Lamps").counts.canary_total == 0


def test_answers_that_were_looked_at_more_often_stand_for_fewer(shop: Shop) -> None:
    made = started(shop, excess_at_most={"wrong": None})
    asked = [one for one in shop.ask(200) if one.version == 2]
    audit(shop, asked[:40], wrong={2: 1.0}, chance=1.0)
    audit(shop, asked[40:60], wrong={}, chance=0.1)
    (found,) = rollout.means_of(shop.ws, made)
    assert found.latest.canary.mean == pytest.approx(40 / (40 + 20 * 10))


def test_a_mirrored_version_is_judged_by_the_truths_of_the_same_requests(shop: Shop) -> None:
    started(shop, shadow=100.0, excess_at_most={**CLEAN, "wrong": 0.2})
    asked = shop.ask(120)
    table = rollout.endpoint(shop.ws, "kind")
    (warm,) = table.standby
    for one in asked:
        shop.ask(1, shadow_of=one.id, release=warm.release, version=2, variant="shadow", output="Lamps")
    audit(shop, asked, wrong={}, chance=0.5)
    (event,) = rollout.tick(shop.ws)
    assert event.act == "rolled_back"
    assert "wrong in the shadow" in event.reason


def test_the_arms_of_a_split_have_the_endpoints_kpis(any_shop: Shop) -> None:
    shop = any_shop
    with_canary(shop, 50, 100, kpis=[kpi(), kpi("SELECT 1", name="broken")])
    made = shared(shop)
    sell(shop, 120, to_new=6, to_old=2)
    found = measured(shop, made)["sales"]
    assert (found.says, found.is_share) == ("better", False)
    assert found.bounds.mean == pytest.approx(60.0)
    assert found.bounds.lower < 60 < found.bounds.upper < 100
    (problem,) = rollout.split_results(shop.ws, made).problems
    assert "broken" in problem


def test_the_arms_of_a_split_are_compared_by_each_answers_own_chance(shop: Shop) -> None:
    made = shared(shop)
    asked = [one for one in shop.ask(200) if one.version == 2]
    audit(shop, asked[:40], wrong={2: 1.0}, chance=1.0)
    audit(shop, asked[40:60], wrong={}, chance=0.1)
    assert measured(shop, made)["correct"].bounds.mean == pytest.approx(200 / 240)


def test_a_kpi_may_be_a_file_beside_the_loop_file(shop: Shop) -> None:
    plan = 'rollout=el.canary(50, 100, kpis=[el.kpi_of_arms("sales.sql", name="sales", low=0, high=1)],'
    file = shop.ws.home.parent / "shop_loop.py"
    file.write_text(shops.LOOP.replace("rollout=el.canary(50, 100,", plan))
    with pytest.raises(Invalid, match=r"sales.sql, which is not beside"):
        loop.apply(shop.ws, loop.load(file))
    (file.parent / "sales.sql").write_text(SALES)
    loop.apply(shop.ws, loop.load(file))
    (found,) = rollout.endpoint(shop.ws, "kind").canary.kpis
    assert found.sql == SALES


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "errors"}, "cannot name a KPI"),
        ({"low": 1, "high": 1}, "low is below high"),
        ({"better": "big"}, "'higher' or 'lower'"),
        ({"worse_at_most": 100}, "below high - low = 100"),
        ({"tolerated": -1}, "tolerates -1"),
    ],
)
def test_a_kpi_that_makes_no_sense_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        kpi(**given)


def test_a_plan_without_a_step_compares_no_kpi() -> None:
    with pytest.raises(Invalid, match="steps below 100"):
        rollout.canary(100, kpis=[kpi()])
