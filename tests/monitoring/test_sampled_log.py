"""What is measured where the log keeps a share of the predictions, hides inputs, or could not be written."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from everloop import events, governance, monitoring, rollout
from everloop.clock import wall
from everloop.loop.asked import asked_lately
from everloop.monitoring.seen import read_window
from everloop.predictions import LogWriter, PredictionRecord, uniform
from everloop.rollout.start import past
from everloop.serving import Worker
from everloop.serving.files import write_worker
from everloop.workspace import Workspace
from tests.conftest import START
from tests.loop.living import Shop
from tests.monitoring.test_observe import look, measured, watch
from tests.serving.records import record


def sampled(n: int, *, ok: float, failed: float, share_failed: float) -> list[PredictionRecord]:
    """Those that a log with these chances has of `n` requests."""
    chance = np.random.default_rng(3)
    made = []
    for _ in range(n):
        fails = chance.random() < share_failed
        kept = failed if fails else ok
        status, output = ("failed", None) if fails else ("ok", "Tea")
        one = record(status=status, output=output, probability=kept)
        if uniform(one.id) < kept:
            made.append(one)
    return made


def logged(shop: Shop, n: int, *, ok: float, failed: float, share_failed: float) -> int:
    found: list[dict[str, Any]] = [
        {"id": one.id, "status": one.status, "output": one.output, "probability": one.probability}
        for one in sampled(n, ok=ok, failed=failed, share_failed=share_failed)
    ]
    for each in found:
        shop.ask(1, **each)
    return len(found)


def test_an_error_rate_is_that_of_the_traffic_though_failures_are_kept_more_often(shop: Shop) -> None:
    watch(shop, monitoring.latency(p99_ms=100, errors_at_most=0.3, every_h=1, window_h=1))
    logged(shop, 4_000, ok=0.2, failed=1.0, share_failed=0.1)
    assert look(shop, hours=1) == []  # among the records every third has failed
    (rate,), (throughput,) = measured(shop, "error_rate"), measured(shop, "throughput_per_s")
    assert rate.low is not None
    assert rate.high is not None
    assert rate.value is not None
    assert rate.low < rate.value < rate.high
    assert rate.value == pytest.approx(0.1, abs=0.05)  # five times what chance moves it
    assert throughput.value == pytest.approx(4_000 / 3_600, rel=0.1)
    assert 600 < rate.n < 1_000


def test_a_window_says_of_how_many_it_is_a_sample(shop: Shop) -> None:
    logged(shop, 300, ok=0.25, failed=1.0, share_failed=0.0)
    window = read_window(shop.ws, "kind", start=START, end=shop.later(hours=1))
    assert (window.chance, window.sampled) == (0.25, " (a sample of 25 %)")


def test_traffic_counts_each_record_for_those_that_it_stands_for(ws: Workspace) -> None:
    ws.write(lambda tx: monitoring.set_watches(ws, tx, "category", []))
    writer = LogWriter.claim(ws.home / "serving")
    at = int(START.timestamp() * 1_000_000)
    for chance, times in ((0.3, 3), (1.0, 1)):
        writer.write([record(at=at, probability=chance) for _ in range(times)])
    from tests.monitoring.test_traffic_hours import look as count  # noqa: PLC0415  (its fixture shares a name with ours)

    count(ws, hours=2)
    (one,) = monitoring.traffic(ws, "category", start=START, end=ws.now(), bucket=None)
    assert one.requests == 11
    writer.close()


def test_what_was_usual_before_a_rollout_is_that_of_the_traffic(shop: Shop) -> None:
    count = logged(shop, 2_000, ok=0.25, failed=1.0, share_failed=0.2)
    seen = past(shop.ws, rollout.endpoint(shop.ws, "kind"))
    assert seen.failed.size < count
    assert seen.failed.mean() == pytest.approx(0.2, abs=0.06)


def test_impact_estimates_how_many_were_answered(shop: Shop) -> None:
    logged(shop, 2_000, ok=0.25, failed=1.0, share_failed=0.0)
    (count,) = governance.impact(shop.ws, "kind@1").predictions.values()
    assert count == pytest.approx(2_000, rel=0.15)


def test_hidden_inputs_are_not_compared_and_the_others_are(shop: Shop) -> None:
    watch(shop, monitoring.drift(every_h=1, window_h=1, least_rows=50))
    for number in range(300):
        shop.ask(1, inputs={"title": "blue stone", "seller": f"hash:{number:032x}"})
    (answers, *found) = look(shop, hours=1)[::-1]
    about = [name for one in [answers, *found] for name in one.detail["about"]]
    assert "seller" not in about
    assert "title" in str(about)
    report = next(one.detail["report"] for one in [answers, *found])
    assert report["left_out"]["seller"] == "its values are not in the prediction log"
    traffic = asked_lately(shop.ws, "kind")
    assert traffic is not None
    assert traffic.rows.column_names == ["title"]


def test_what_was_answered_without_a_log_is_found_and_told_again_as_it_grows(shop: Shop) -> None:
    def say(unlogged: int, error: str | None = None) -> None:
        worker = Worker(shop.log.writer, 1, 1, wall(), wall(), "localhost", 1)
        changed = msgspec.structs.replace(worker, unlogged={"kind": unlogged}, log_error=error)
        write_worker(shop.folder, changed)

    assert not monitoring.has_unlogged(shop.ws)
    say(3, "the disk is full. Free space there.")
    assert monitoring.has_unlogged(shop.ws)
    (found,) = monitoring.tell_unlogged(shop.ws)
    assert "3 predictions of kind were answered and not logged" in found.message
    assert "Free space there" in found.message
    (told,) = events.newest(shop.ws, kind="monitoring.unlogged")
    assert told.level == "attention"
    say(9)
    assert not monitoring.has_unlogged(shop.ws), "told within the hour"
    shop.later(hours=1)
    assert "9 predictions" in monitoring.tell_unlogged(shop.ws)[0].message
    assert "3 predictions" in governance.why(shop.ws, found.id).answer
    shop.later(hours=1)
    assert not monitoring.has_unlogged(shop.ws), "nothing new"
