"""How a plan would go on an endpoint, told before anything goes live."""

from __future__ import annotations

from typing import Any

import pytest

from everloop import feedback, rollout
from everloop.errors import Invalid
from everloop.rollout import Assumed, Prospect
from tests.loop.living import Shop
from tests.rollout.test_kpis import audit, kpi
from tests.rollout.test_rollouts import with_canary


def told(
    shop: Shop, canary: rollout.Canary | None = None, n_rollouts: int = 60, **given: Any
) -> list[Prospect]:
    return rollout.prospects(
        shop.ws,
        "kind",
        canary=canary,
        assumed=Assumed(**given),
        requests_at_most=4_000,
        n_rollouts=n_rollouts,
        looks=50,
    )


def test_rates_and_traffic_are_those_of_the_endpoint(any_shop: Shop) -> None:
    shop = any_shop
    with_canary(shop, 50, 100, excess_at_most={"errors": 0.05})
    shop.ask(90)
    shop.ask(10, fails={"kind@1": 1.0})
    shop.later(hours=2)
    equal, twice, thrice = told(shop)
    assert equal.rates == {"errors": (0.1, 0.1)}
    assert (twice.rates["errors"][1], thrice.rates["errors"][1]) == pytest.approx((0.2, 0.3))
    assert equal.forecast.rolled_back < 0.1 < 0.9 < thrice.forecast.rolled_back
    median, _ = thrice.forecast.requests_to_roll_back
    assert median is not None
    assert thrice.hours_to_roll_back[0] == pytest.approx(median / 50)


def test_rates_that_are_given_stand_for_those_that_nobody_knows(shop: Shop) -> None:
    with_canary(shop, 50, 100, excess_at_most={"errors": 0.05})
    with pytest.raises(Invalid, match=r"--control errors=0\.01"):
        told(shop)
    equal, worse = told(shop, control={"errors": 0.0}, new={"errors": 0.2}, per_hour=100)
    assert (equal.forecast.passed, worse.name) == (1.0, "as given")
    assert worse.forecast.rolled_back == 1.0
    assert equal.hours_to_pass[0] == pytest.approx((equal.forecast.requests_to_pass[0] or 0) / 100)


def test_wrong_answers_are_told_by_the_part_that_was_audited(shop: Shop) -> None:
    with_canary(shop, 50, 100, excess_at_most={"wrong": 0.1})
    with pytest.raises(Invalid, match="--audited"):
        told(shop, control={"wrong": 0.05})
    audit(shop, shop.ask(200)[:40], wrong={1: 1.0})
    shop.later(hours=1)
    equal, worse = told(shop, new={"wrong": 1.0}, control={"wrong": 0.05})
    assert equal.told == {"wrong": 0.2}
    assert worse.forecast.rolled_back == 1.0
    few, many = (told(shop, control={"wrong": 0.05}, audited=part)[0] for part in (0.005, 1.0))
    assert few.forecast.passed < 0.2 < 0.9 < many.forecast.passed


def test_the_time_that_reviewers_take_is_that_of_before_or_what_is_said(shop: Shop) -> None:
    with_canary(shop, 50, 100, excess_at_most={"wrong": 0.3})
    asked = shop.ask(50)
    shop.later(hours=8)
    audit(shop, asked, wrong={1: 0.1})
    assumed: list[dict[str, Any]] = [
        {},
        {"reviewed_after_h": 0.0},
        {"reviewed_after_h": 16.0},
        {"reviewed_share": 0.25},
    ]
    (before, *_), (soon, *_), (late, *_), (few, *_) = (told(shop, per_hour=100, **given) for given in assumed)
    assert before.after_h == {"wrong": pytest.approx(8)}
    passes = [one.hours_to_pass[0] or 0.0 for one in (soon, before, late)]
    assert passes[0] + 1 < passes[1] < passes[2]
    assert few.told == {"wrong": 0.25}


def test_the_time_until_people_report_is_that_of_before_or_what_is_said(shop: Shop) -> None:
    with_canary(shop, 50, 100, excess_at_most={"contradicted": 0.3})
    asked = shop.ask(50)
    shop.later(hours=4)
    for one in asked[:5]:
        feedback.correct(shop.ws, endpoint="kind", prediction_id=one.id, value="Lamps", reporter="moderator")
    before, soon = (told(shop, per_hour=100, reported_after_h=one)[0] for one in (None, 0.0))
    assert before.after_h == {"contradicted": pytest.approx(4)}
    assert soon.after_h == {}
    assert before.rates == {"contradicted": (0.1, 0.1)}
    assert (before.hours_to_pass[0] or 0) > 9 > (soon.hours_to_pass[0] or 0)


def test_a_deadline_takes_back_what_reviewers_did_not_reach_in_time(shop: Shop) -> None:
    plan = rollout.canary(50, 100, excess_at_most={"wrong": 0.1}, deadline_h=20, at_deadline="roll_back")
    given: dict[str, Any] = {"control": {"wrong": 0.05}, "audited": 0.5, "per_hour": 100}
    soon, late = (told(shop, canary=plan, reviewed_after_h=one, **given)[0].forecast for one in (0.5, 200.0))
    assert soon.by_deadline < 0.3 < 0.7 < late.by_deadline


def test_answers_of_one_class_are_told_by_how_often_either_version_says_it(shop: Shop) -> None:
    with_canary(shop, 50, 100, excess_at_most={"wrong:Tea": 0.2})
    audit(shop, shop.ask(100), wrong={1: 0.0})
    shop.later(hours=0.5)
    equal, _, thrice = told(shop, n_rollouts=20)
    assert equal.rates == {"wrong:Tea": (0.0, 0.0)}
    assert (equal.told, equal.forecast.passed, thrice.name) == ({}, 1.0, "wrong:Tea 2 % for 0 %")
    seldom = told(shop, n_rollouts=20, said={"Tea": 0.1}, new_said={"Tea": 0.01})[0]
    assert seldom.told == {"wrong:Tea": pytest.approx(0.1)}
    assert seldom.forecast.passed < 0.1
    worse = told(shop, n_rollouts=20, new={"wrong:Tea": 0.6})[1].forecast
    assert worse.rolled_back == 1.0


def test_kpis_are_drawn_from_the_values_of_before(shop: Shop) -> None:
    sales = kpi(
        "SELECT id AS prediction_id, CASE WHEN inputs.seller < 5 THEN NULL ELSE inputs.seller * 10 END AS value FROM predictions",
        worse_at_most=10.0,
    )
    with_canary(shop, 50, 100, excess_at_most={}, kpis=[sales])
    for seller in (2, 4, 6, 9):
        shop.ask(25, inputs={"seller": seller})
    equal, worse = told(shop)
    assert equal.rates == {"sales": pytest.approx((75.0, 75.0))}
    assert equal.told == {"sales": 0.5}
    assert worse.name == "sales 55 for 75"
    assert equal.forecast.rolled_back < 0.05 < 0.9 < worse.forecast.rolled_back
    better = told(shop, new={"sales": 95.0})[1].forecast
    assert (better.passed, better.rolled_back) == (1.0, 0.0)


def test_kpis_are_drawn_by_a_mean_and_a_spread_where_nobody_knows_values(shop: Shop) -> None:
    with_canary(shop, 50, 100, excess_at_most={}, kpis=[kpi(worse_at_most=10.0)])
    with pytest.raises(Invalid, match="--control sales=50"):
        told(shop)
    either_end, narrow = (told(shop, control={"sales": 40}, spread=one)[0] for one in ({}, {"sales": 10}))
    times = [one.forecast.requests_to_pass[0] or 4_000 for one in (narrow, either_end)]
    assert times[0] * 2 < times[1]
    late = told(
        shop,
        control={"sales": 40},
        spread={"sales": 10},
        known_share={"sales": 0.3},
        known_after_h={"sales": 5},
        per_hour=100,
    )[0]
    assert (late.told, late.after_h) == ({"sales": 0.3}, {"sales": 5})
    assert (late.forecast.requests_to_pass[0] or 4_000) > times[0] + 300


def test_a_plan_of_all_kinds_of_metrics_is_told_for_a_worse_version_in_each(shop: Shop) -> None:
    margins = {"errors": 0.05, "timeouts": 0.05, "refused": 0.05, "wrong": 0.2, "wrong:Tea": 0.2}
    with_canary(shop, 50, 100, excess_at_most=margins, kpis=[kpi(worse_at_most=20.0)])
    audit(shop, shop.ask(100, inputs={"seller": 5}), wrong={1: 0.2})
    shop.later(hours=0.5)
    names = [one.name.split()[0] for one in told(shop, n_rollouts=5)]
    assert names == ["no", "errors", "errors", "refused", "timeouts", "wrong", "wrong:Tea", "sales"]


def test_a_deadline_that_takes_back_is_told_where_the_traffic_is_known(shop: Shop) -> None:
    plan = rollout.canary(50, 100, excess_at_most={"errors": 0.01}, deadline_h=2, at_deadline="roll_back")
    waiting, over = (
        told(shop, canary=plan, control={"errors": 0.1}, per_hour=rate)[0].forecast for rate in (None, 100)
    )
    assert waiting.by_deadline == 0.0 < 0.9 < over.by_deadline


def test_long_work_tells_how_far_it_is(shop: Shop) -> None:
    with_canary(shop, 50, 100, excess_at_most={"errors": 0.001})
    parts: list[float] = []
    given = Assumed(control={"errors": 0.1}, new={"errors": 0.1})
    rollout.prospects(
        shop.ws, "kind", assumed=given, requests_at_most=400, n_rollouts=20, progress=parts.append
    )
    assert parts == sorted(parts)
    assert parts[-1] == 1.0


@pytest.mark.parametrize(
    ("plan", "given", "message"),
    [
        (rollout.blue_green(), {}, "nothing is compared"),
        (rollout.canary(50, 100), {"control": {"late": 0.1}}, "late"),
        (rollout.canary(50, 100), {"control": {"errors": 1.5}}, r"1\.5"),
        (rollout.canary(50, 100), {"new": {"sales": 5}}, "the metrics that the plan judges are errors, slow"),
        (rollout.canary(50, 100), {"spread": {"sales": 5}}, "the KPIs that the plan judges are none"),
        (rollout.canary(50, 100, kpis=[kpi()]), {"new": {"sales": 101}}, "lie between 0 and 100"),
        (
            rollout.canary(50, 100, excess_at_most={}, kpis=[kpi()]),
            {"control": {"sales": 1}, "spread": {"sales": 20}},
            r"below 9\.95",
        ),
        (rollout.canary(50, 100, kpis=[kpi()]), {"known_share": {"sales": 2}}, "above 0 and at most 1"),
        (rollout.canary(50, 100, kpis=[kpi()]), {"known_after_h": {"sales": -1}}, "0 for at once"),
        (
            rollout.canary(50, 100, excess_at_most={"wrong:Tea": 0.1}),
            {"said": {"Pots": 0.1}},
            "classes .* Tea",
        ),
        (
            rollout.canary(50, 100, excess_at_most={"wrong:Tea": 0.1}),
            {"control": {"wrong:Tea": 0.1}, "audited": 0.1},
            "--said Tea=",
        ),
        (
            rollout.canary(50, 100, excess_at_most={"wrong": 0.1}),
            {"control": {"wrong": 0.1}, "audited": 0.1, "reviewed_after_h": 6},
            "--per-hour",
        ),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    shop: Shop, plan: rollout.Canary, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        told(shop, canary=plan, **given)
