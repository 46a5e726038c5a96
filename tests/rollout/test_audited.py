"""Wrong answers are judged on the random audit sample of both versions, whoever else complains."""

from __future__ import annotations

from datetime import datetime

import pytest

from everloop import feedback, rollout
from everloop.rollout import MetricEvidence, Rollout
from everloop.serving.records import PredictionRecord
from tests.loop.living import Shop
from tests.rollout.test_rollouts import started, weights

MARGINS = {"errors": 0.2, "wrong": None}


def audit(shop: Shop, since: datetime, probability: float | dict[str, float], **wrong: int) -> None:
    """Draw a sample and review it all: every n-th answer of a variant is found wrong, none where it is not named."""
    shop.later(minutes=1)
    feedback.sample_for_audit(shop.ws, "kind", probability=probability, start=since, end=shop.ws.now())
    answers = {}
    seen = dict.fromkeys(("control", "canary"), 0)
    for item in feedback.review_queue(shop.ws, "kind", limit=1_000):
        seen[item.variant] += 1
        is_wrong = item.variant in wrong and seen[item.variant] % wrong[item.variant] == 0
        answers[item.id] = "Lamps" if is_wrong else "Tea"
    feedback.answer_reviews(shop.ws, answers, reviewer="alice")


def counted(shop: Shop, of: Rollout) -> MetricEvidence:
    (found,) = [one for one in rollout.evidence_of(shop.ws, of)[0] if one.metric == "wrong"]
    return found


def told_apart(records: list[PredictionRecord]) -> tuple[int, int]:
    in_canary = sum(one.version == 2 for one in records)
    return in_canary, len(records) - in_canary


def test_a_version_that_is_wrong_more_often_in_the_sample_is_taken_back(any_shop: Shop) -> None:
    shop = any_shop
    made = started(shop, excess_at_most=MARGINS)
    shop.ask(120)
    audit(shop, made.started_at, 1.0, canary=2)
    (event,) = rollout.tick(shop.ws)
    assert event.reason.startswith("wrong ")
    assert "against 0 % (0 of " in event.reason
    assert weights(shop) == {"kind@1": 100}


def test_answers_that_nobody_has_looked_at_yet_say_nothing(shop: Shop) -> None:
    made = started(shop, excess_at_most=MARGINS)
    shop.ask(50)
    assert counted(shop, made).total.canary_total == 0


def test_complaints_are_no_part_of_it(shop: Shop) -> None:
    made = started(shop, excess_at_most=MARGINS)
    for one in shop.ask(50):
        feedback.correct(shop.ws, endpoint="kind", value="Lamps", reporter="moderator", prediction_id=one.id)
    assert counted(shop, made).total.canary_total == 0


def test_a_sample_that_draws_the_canary_more_often_is_compared_at_those_odds(shop: Shop) -> None:
    made = started(shop, 20, 100, excess_at_most=MARGINS)
    in_canary, _ = told_apart(shop.ask(200))
    audit(shop, made.started_at, {"canary": 1.0, "control": 0.25})
    (drawn,) = counted(shop, made).stretches
    assert drawn.counts.canary_total == in_canary
    assert drawn.split.canary_share == pytest.approx(0.2 * 4 / (0.2 * 4 + 0.8))
    assert not rollout.judge([counted(shop, made)], made.canary.rules).sample_ratio.is_off


def test_the_rows_of_a_request_and_the_answers_to_a_key_that_sticks_count_once(shop: Shop) -> None:
    made = started(shop, key=True, excess_at_most=MARGINS)
    shop.ask(5, key="heavy")
    shop.ask(3, request="req_1")
    audit(shop, made.started_at, 1.0)
    total = counted(shop, made).total
    assert total.canary_total + total.control_total == 2


def test_where_keys_stick_a_sample_at_odds_is_left_out(shop: Shop) -> None:
    made = started(shop, key=True, excess_at_most=MARGINS)
    shop.ask(5, key="a")
    audit(shop, made.started_at, {"canary": 1.0, "control": 0.5})
    assert counted(shop, made).stretches[0].counts.control_total == 0
