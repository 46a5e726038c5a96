"""Policies on a live endpoint: enough evidence, the cool-down, the decision and what it was made on."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from everloop import data, feedback, jobs, labels, ledger, monitoring, retraining
from everloop.labels import NewLabel
from everloop.ledger import Node
from everloop.retraining import Condition, Decision, store
from everloop.retraining.conditions import (
    Alarmed,
    Arrived,
    Contradicted,
    Drifted,
    Evidence,
    Found,
    Labelled,
)
from everloop.retraining.decide import decide
from tests.loop import shop as made_up
from tests.loop.living import Shop

NOW = datetime(2026, 9, 10, tzinfo=UTC)
ENOUGH: Evidence = {
    Drifted("kind"): Found(1, ("find_1",)),
    Contradicted("kind", 5): Found(5),
    Contradicted("kind", 6): Found(5),
}


def policy(shop: Shop, condition: Condition | None, *, cooldown_h: float = 24) -> None:
    cooldown = timedelta(hours=cooldown_h)
    shop.ws.write(
        lambda tx: retraining.set_policy(shop.ws, tx, "kind", condition=condition, cooldown=cooldown)
    )


def contradict(shop: Shop, times: int = 1, value: str = "Lamps") -> None:
    """Somebody says of so many answers that they were wrong (or, with `Tea`, right)."""
    for asked in shop.ask(times):
        feedback.correct(shop.ws, endpoint="kind", value=value, reporter="moderator", prediction_id=asked.id)
    shop.later(minutes=1)


def consider(shop: Shop) -> list[Decision]:
    return retraining.consider(shop.ws)


@pytest.mark.parametrize(
    ("since_last_h", "retrain", "told"),
    [
        (None, True, "1 drift findings on kind and 5 answers of kind contradicted (needs 5)"),
        (24, True, "1 drift findings"),
        (23, False, "cooling down until 2026-09-10T01:00:00"),
    ],
)
def test_the_cool_down_runs_from_the_last_decision(
    since_last_h: int | None, retrain: bool, told: str
) -> None:
    last_at = None if since_last_h is None else NOW - timedelta(hours=since_last_h)
    verdict = decide(
        Drifted("kind") & Contradicted("kind", 5),
        ENOUGH,
        now=NOW,
        last_at=last_at,
        cooldown=timedelta(hours=24),
    )
    assert verdict.retrain == retrain
    assert told in verdict.reason


def test_too_little_evidence_says_what_is_there() -> None:
    verdict = decide(
        Drifted("kind") & Contradicted("kind", 6), ENOUGH, now=NOW, last_at=None, cooldown=timedelta()
    )
    assert not verdict.retrain
    assert (
        verdict.reason == "not enough: 1 drift findings on kind and 5 answers of kind contradicted (needs 6)"
    )


def test_enough_contradictions_put_one_job_with_the_numbers(any_shop: Shop) -> None:
    shop = any_shop
    policy(shop, Contradicted("kind", 3))
    contradict(shop, 2)
    assert not retraining.wants_training(shop.ws)
    assert consider(shop) == []
    contradict(shop, 1)
    assert retraining.wants_training(shop.ws)
    (made,) = consider(shop)
    assert made.evidence == {"contradicted kind": {"count": 3, "findings": []}}
    assert retraining.decisions(shop.ws)[0].reason == "3 answers of kind contradicted (needs 3)"
    put = jobs.job(shop.ws, made.job)
    assert (put.kind, put.reason) == (retraining.TRAIN, made.reason)
    assert put.payload == {"model": "kind", "decision": made.id}


def test_confirmations_are_no_reason(shop: Shop) -> None:
    policy(shop, Contradicted("kind", 1))
    contradict(shop, 5, value="Tea")
    assert consider(shop) == []


def test_evidence_is_used_once(shop: Shop) -> None:
    policy(shop, Contradicted("kind", 2), cooldown_h=0)
    contradict(shop, 2)
    assert len(consider(shop)) == 1
    shop.later(hours=1)
    assert consider(shop) == []
    contradict(shop, 2)
    assert len(consider(shop)) == 1


def test_nothing_is_decided_while_it_cools_down(shop: Shop) -> None:
    policy(shop, Contradicted("kind", 1), cooldown_h=24)
    contradict(shop)
    assert len(consider(shop)) == 1
    shop.later(hours=2)
    contradict(shop)
    assert consider(shop) == []
    shop.later(hours=22)
    assert len(consider(shop)) == 1, "what came during the cool-down counts after it"


def test_drift_alone_is_enough_where_the_policy_says_so(shop: Shop) -> None:
    policy(shop, Drifted("kind"))
    drift = monitoring.drift(least_rows=50, every_h=24, window_h=24)
    shop.ws.write(lambda tx: monitoring.set_watches(shop.ws, tx, "kind", []))
    shop.ws.write(lambda tx: monitoring.set_watches(shop.ws, tx, "kind", [drift]))
    shop.ask(300, inputs={"title": "entirely unheard syllables", "seller": 99})
    shop.later(hours=24)
    found = monitoring.observe(shop.ws)
    (made,) = consider(shop)
    assert set(made.evidence["drifted kind"]["findings"]) == {one.id for one in found}
    reasons = ledger.upstream(shop.ws, Node("job", made.job))
    assert {one.id for one in found} <= {edge.source.id for edge in reasons}


def test_fresh_labels_start_a_training_and_count_once(any_shop: Shop) -> None:
    shop = any_shop
    policy(shop, Labelled("kind", 3), cooldown_h=0)
    assert consider(shop) == [], "labels from before the policy are no reason"
    shop.later(minutes=1)
    for key in (1, 2, 2):
        labels.record(shop.ws, "kind", [NewLabel(key, "Lamps", "ann")])
    assert consider(shop) == [], "a row that is labelled twice is one row"
    labels.record(shop.ws, "kind", [NewLabel(3, "Lamps", "ann")])
    shop.later(minutes=1)
    (made,) = consider(shop)
    assert made.reason == "3 rows newly labelled in kind (needs 3)"
    assert consider(shop) == []


def test_rows_that_are_new_or_changed_start_a_training(any_shop: Shop) -> None:
    shop = any_shop
    policy(shop, Arrived("goods", 12))
    shop.later(minutes=1)
    goods = made_up.goods(shop.ws, 10, first=500).drop_columns(["kind"])
    data.ingest(shop.ws, "goods", goods)
    assert consider(shop) == []
    known = data.read(shop.ws, "goods", row_ids=[0, 1]).drop_columns(["_row_id"])
    data.ingest(shop.ws, "goods", known.set_column(1, "title", pa.array(["new", "newer"])))
    (made,) = consider(shop)
    assert made.evidence == {"arrived goods": {"count": 12, "findings": []}}


def test_an_alarm_starts_a_training(shop: Shop) -> None:
    policy(shop, Alarmed("kind"))
    watch = monitoring.kpi("SELECT 9 AS value", name="returns", at_most=1.0, every_h=24, window_h=24)
    shop.ws.write(lambda tx: monitoring.set_watches(shop.ws, tx, "kind", [watch]))
    shop.ask(3)
    shop.later(hours=24)
    (found,) = monitoring.observe(shop.ws)
    (made,) = consider(shop)
    assert made.evidence == {"alarmed kind": {"count": 1, "findings": [found.id]}}


def test_evidence_of_an_older_decision_is_still_read(shop: Shop) -> None:
    old = {"kind": {"drift_findings": ["find_1"], "contradictions": 7}}
    values = {"id": "ret_1", "model": "kind", "at": NOW, "reason": "old", "evidence": old, "job": "job_1"}
    shop.ws.write(lambda tx: store.insert_decision(tx, values))
    assert retraining.decision(shop.ws, "ret_1").evidence == {
        "drifted kind": {"count": 1, "findings": ["find_1"]},
        "contradicted kind": {"count": 7, "findings": []},
    }


def test_a_policy_by_schedule_alone_never_decides(shop: Shop) -> None:
    policy(shop, None)
    contradict(shop, 5)
    assert not retraining.wants_training(shop.ws)
    assert consider(shop) == []


def test_changing_a_policy_does_not_forget_what_was_said_before(shop: Shop) -> None:
    policy(shop, Contradicted("kind", 9))
    contradict(shop, 3)
    policy(shop, Contradicted("kind", 3))
    assert len(consider(shop)) == 1


def test_many_that_consider_at_once_decide_once(any_shop: Shop) -> None:
    shop = any_shop
    policy(shop, Contradicted("kind", 1))
    contradict(shop)
    made: list[Decision] = []
    together = threading.Barrier(6)

    def act() -> None:
        together.wait()
        made.extend(consider(shop))

    threads = [threading.Thread(target=act) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(retraining.decisions(shop.ws)) == 1
    assert len(jobs.jobs_of(shop.ws, kind=retraining.TRAIN)) == 1
