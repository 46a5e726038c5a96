"""How a plan would go on an endpoint, told before anything goes live."""

from __future__ import annotations

import pytest

from everloop import rollout
from everloop.errors import Invalid
from everloop.rollout import Prospect
from tests.loop.living import Shop
from tests.rollout.test_kpis import audit
from tests.rollout.test_rollouts import with_canary

QUICK = {"n_rollouts": 60, "requests_at_most": 4_000}


def told(shop: Shop, **given: object) -> list[Prospect]:
    return rollout.prospects(shop.ws, "kind", **{**QUICK, **given})  # type: ignore[arg-type]  # per test


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


def test_a_deadline_that_takes_back_is_told_where_the_traffic_is_known(shop: Shop) -> None:
    plan = rollout.canary(50, 100, excess_at_most={"errors": 0.01}, deadline_h=2, at_deadline="roll_back")
    waiting, over = (
        told(shop, canary=plan, control={"errors": 0.1}, per_hour=rate)[0].forecast for rate in (None, 100)
    )
    assert waiting.by_deadline == 0.0 < 0.9 < over.by_deadline


def test_long_work_tells_how_far_it_is(shop: Shop) -> None:
    with_canary(shop, 50, 100, excess_at_most={"errors": 0.001})
    parts: list[float] = []
    told(shop, control={"errors": 0.1}, new={"errors": 0.1}, progress=parts.append)
    assert parts == sorted(parts)
    assert parts[-1] == 1.0


@pytest.mark.parametrize(
    ("plan", "given", "message"),
    [
        (rollout.blue_green(), {}, "nothing is compared"),
        (rollout.canary(50, 100), {"control": {"late": 0.1}}, "late"),
        (rollout.canary(50, 100), {"control": {"errors": 1.5}}, r"1\.5"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    shop: Shop, plan: rollout.Canary, given: dict[str, object], message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        told(shop, canary=plan, **given)
