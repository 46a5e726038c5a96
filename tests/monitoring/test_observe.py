"""Watches on a live endpoint: which windows are looked at, what is measured, what is found and told."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

import pytest

from everloop import events, feedback, monitoring
from everloop.errors import NotFound
from everloop.monitoring import Finding, Measure, Watch, store
from tests.loop.living import Shop

KPI = "SELECT avg(inputs.seller) AS value, count(*) AS n FROM predictions WHERE inputs.title LIKE 'red%'"


def watch(shop: Shop, *watches: Watch) -> None:
    """Watch this on the endpoint and nothing else, beginning now."""
    shop.ws.write(lambda tx: monitoring.set_watches(shop.ws, tx, "kind", []))
    shop.ws.write(lambda tx: monitoring.set_watches(shop.ws, tx, "kind", watches))


def measured(shop: Shop, name: str) -> list[Measure]:
    return monitoring.measures(shop.ws, "kind", names=[name])


def look(shop: Shop, **by: float) -> list[Finding]:
    """Let time pass and look at what closed since."""
    shop.later(**by)
    return monitoring.observe(shop.ws)


def test_a_window_is_looked_at_when_it_has_closed_and_once(any_shop: Shop) -> None:
    shop = any_shop
    watch(shop, monitoring.latency(p99_ms=100, every_h=1, window_h=1))
    shop.ask(10)
    assert not monitoring.is_due(shop.ws)
    look(shop, hours=1)
    assert not monitoring.is_due(shop.ws)
    look(shop, minutes=30)
    assert [one.n for one in measured(shop, "error_rate")] == [10]


def test_windows_missed_in_a_pause_are_caught_up_with(shop: Shop) -> None:
    watch(shop, monitoring.latency(p99_ms=100, every_h=1, window_h=1))
    for count in (3, 4, 5):
        shop.ask(count)
        shop.later(hours=1)
    monitoring.observe(shop.ws)
    assert [one.n for one in measured(shop, "error_rate")] == [3, 4, 5]


def test_windows_are_of_domain_time_and_end_before_their_end(shop: Shop) -> None:
    watch(shop, monitoring.latency(p99_ms=100, every_h=1, window_h=1))
    begins, ends = shop.ws.now(), shop.later(hours=1)
    shop.ask(2, at=begins)
    shop.ask(5, at=ends)
    look(shop, hours=1)
    assert [one.n for one in measured(shop, "error_rate")] == [2, 5]


def test_replays_and_shadows_are_kept_out(shop: Shop) -> None:
    watch(shop, monitoring.latency(p99_ms=100, every_h=1, window_h=1))
    shop.ask(4)
    shop.ask(50, replay=True)
    shop.ask(50, shadow_of="pred_1")
    look(shop, hours=1)
    assert [one.n for one in measured(shop, "error_rate")] == [4]


def test_many_looks_at_once_measure_once(any_shop: Shop) -> None:
    shop = any_shop
    watch(shop, monitoring.latency(p99_ms=0.1, every_h=1, window_h=1))
    shop.ask(200)
    shop.later(hours=1)
    found: list[Finding] = []
    threads = [threading.Thread(target=lambda: found.extend(monitoring.observe(shop.ws))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.kind for one in found] == ["latency"]
    assert len(measured(shop, "latency_p99_ms")) == 1


def test_a_look_that_others_have_overtaken_moves_the_watch_nowhere(any_shop: Shop) -> None:
    shop = any_shop
    watch(shop, monitoring.latency(p99_ms=50, every_h=1, window_h=1))
    read_at = shop.ws.now()
    look(shop, hours=2)
    assert not shop.ws.write(
        lambda tx: store.move_watch(tx, "kind", "latency", before=read_at, after=read_at + timedelta(hours=1))
    )
    assert not monitoring.is_due(shop.ws), "it would be, had the watch gone back an hour"


def test_slow_answers_and_failures_are_found_with_their_numbers(shop: Shop) -> None:
    watch(shop, monitoring.latency(p99_ms=50, errors_at_most=0.05, every_h=1, window_h=1))
    shop.ask(150, latency_us=80_000)
    shop.ask(50, fails={"kind@1": 1.0})
    found = {one.kind: one for one in look(shop, hours=1)}
    assert set(found) == {"latency", "errors"}
    assert "80 ms, the limit is 50 ms" in found["latency"].message
    assert "50 of 200" in found["errors"].message
    assert found["errors"].versions == ("kind@1",)


def test_what_was_found_in_an_overlapping_window_is_not_found_again(shop: Shop) -> None:
    watch(shop, monitoring.latency(p99_ms=50, every_h=1, window_h=3))
    shop.ask(150, latency_us=80_000)
    assert len(look(shop, hours=1)) == 1
    assert look(shop, hours=1) == []
    shop.later(hours=4)
    monitoring.observe(shop.ws)
    shop.ask(150, latency_us=80_000)
    assert len(look(shop, hours=1)) == 1


def test_a_finding_is_an_event_that_asks_for_attention(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    watch(shop, monitoring.latency(p99_ms=50, every_h=1, window_h=1))
    shop.ask(150, latency_us=80_000)
    (found,) = look(shop, hours=1)
    (told,) = events.newest(shop.ws, kind="monitoring.latency")
    assert (told.level, told.payload, told.message) == ("attention", {"finding": found.id}, found.message)
    with caplog.at_level(logging.WARNING, logger="everloop.events"):
        events.deliver(shop.ws, limit=1_000)
    assert found.message in caplog.text
    assert monitoring.finding(shop.ws, found.id) == found


def test_inputs_that_moved_are_found_and_named(shop: Shop) -> None:
    watch(shop, monitoring.drift(least_rows=50, every_h=24, window_h=24))
    shop.ask(300, inputs={"title": "entirely unheard syllables", "seller": 99})
    found = {one.kind: one for one in look(shop, hours=24)}
    assert "input_drift" in found
    assert found["input_drift"].versions == ("kind@1",)
    assert set(found["input_drift"].detail["about"]) <= {"title", "seller"}
    assert "title" in found["input_drift"].message


def test_too_few_predictions_are_not_judged(shop: Shop) -> None:
    watch(shop, monitoring.drift(least_rows=50, every_h=24, window_h=24))
    shop.ask(49, inputs={"title": "entirely unheard syllables", "seller": 99})
    assert look(shop, hours=24) == []
    assert measured(shop, "drift:seller") == []


def test_accuracy_comes_from_the_audit_sample_with_an_interval(shop: Shop) -> None:
    watch(shop, monitoring.accuracy(audit=1.0, every_h=24, window_h=24))
    asked = [shop.ask(1, key=str(number))[0] for number in range(40)]
    feedback.correct(shop.ws, endpoint="kind", value="Lamps", reporter="moderator", prediction_id=asked[0].id)
    look(shop, hours=24)
    assert measured(shop, "accuracy") == [], "a correction estimates nothing"
    for number, item in enumerate(
        one for one in feedback.review_queue(shop.ws, limit=100) if one.reason == "audit"
    ):
        value = "Tea" if number < 36 else "Lamps"
        feedback.answer_review(shop.ws, item.id, value=value, reviewer="alice")
    look(shop, hours=24)
    whole = next(one for one in measured(shop, "accuracy") if not one.variant)
    assert (whole.value, whole.n) == (0.9, 40)
    assert whole.low is not None
    assert whole.high is not None
    assert whole.low < 0.9 < whole.high


def test_accuracy_that_is_surely_too_low_is_found(shop: Shop) -> None:
    watch(shop, monitoring.accuracy(audit=1.0, at_least=0.8, every_h=24, window_h=72))
    for number in range(40):
        shop.ask(1, key=str(number))
    look(shop, hours=24)
    for item in feedback.review_queue(shop.ws, limit=100):
        feedback.answer_review(shop.ws, item.id, value="Lamps", reviewer="alice")
    (found,) = look(shop, hours=24)
    assert found.kind == "accuracy"
    assert "Accuracy fell below 80 %" in found.message


def test_a_kpi_sees_inputs_in_their_types(shop: Shop) -> None:
    watch(shop, monitoring.kpi(KPI, name="sellers", at_most=3, every_h=24, window_h=24))
    shop.ask(3, inputs={"title": "red pot", "seller": 4})
    shop.ask(1, inputs={"title": "blue pot", "seller": 400})
    (found,) = look(shop, hours=24)
    assert [(one.value, one.n) for one in measured(shop, "kpi:sellers")] == [(4.0, 3)]
    assert (found.kind, found.message) == ("kpi", "sellers is 4 (n = 3); at most 3 is wanted")


def test_a_kpi_joins_corrections(shop: Shop) -> None:
    sql = """
        SELECT count(*) FILTER (contradicts) AS value
        FROM corrections JOIN predictions ON prediction_id = predictions.id WHERE inputs.seller = 2
    """
    watch(shop, monitoring.kpi(sql, name="wrong", every_h=24, window_h=24))
    (asked,) = shop.ask(1, inputs={"title": "red pot", "seller": 2})
    feedback.correct(shop.ws, endpoint="kind", value="Lamps", reporter="moderator", prediction_id=asked.id)
    look(shop, hours=24)
    assert [one.value for one in measured(shop, "kpi:wrong")] == [1.0]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT 1 AS number", "returned 1 rows with number"),
        ("SELECT 1 AS value FROM range(3)", "returned 3 rows"),
        ("SELECT value", "cannot be computed"),
        ("SELECT count(*) AS value FROM read_csv('/etc/passwd')", "cannot be computed"),
    ],
)
def test_a_kpi_that_gives_no_number_or_leaves_its_views_is_told_once_a_window(
    shop: Shop, sql: str, told: str
) -> None:
    watch(shop, monitoring.kpi(sql, name="odd", every_h=24, window_h=24))
    shop.ask(3)
    look(shop, hours=24)
    assert not monitoring.is_due(shop.ws)
    (event,) = events.newest(shop.ws, kind="monitoring.failed")
    assert event.level == "failed"
    assert told in event.message


def test_a_watch_that_fails_does_not_keep_the_others_from_looking(shop: Shop) -> None:
    watch(
        shop,
        monitoring.kpi("SELECT nonsense", name="odd", every_h=1, window_h=1),
        monitoring.latency(p99_ms=50, every_h=1, window_h=1),
    )
    shop.ask(5)
    shop.later(hours=1)
    monitoring.observe(shop.ws)
    assert [one.n for one in measured(shop, "error_rate")] == [5]


def test_a_watch_that_is_declared_no_more_is_forgotten(shop: Shop) -> None:
    watch(shop, monitoring.latency(p99_ms=50))
    assert [one.kind for one in monitoring.watches(shop.ws, "kind")] == ["latency", "traffic"]


def test_an_unknown_finding_is_told(shop: Shop) -> None:
    with pytest.raises(NotFound, match="everloop monitors findings"):
        monitoring.finding(shop.ws, "find_none")
