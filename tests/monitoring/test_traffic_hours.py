"""Traffic counted by the hour agrees with the log, however often it is counted and however it is added up."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from everloop import monitoring
from everloop.clock import SimulatedClock, to_micros
from everloop.monitoring import Measure, Traffic, store
from everloop.predictions import LogWriter
from everloop.storage import Tx
from everloop.workspace import Workspace
from tests.conftest import START
from tests.serving.records import record

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def log(any_ws: Workspace) -> Iterator[LogWriter]:
    """The log of a workspace whose endpoint `category` is counted."""
    any_ws.write(lambda tx: monitoring.set_watches(any_ws, tx, "category", []))
    writer = LogWriter.claim(any_ws.home / "serving")
    yield writer
    writer.close()


def put(log: LogWriter, at: datetime, n: int = 1, **given: Any) -> None:
    log.write([record(i, **{"at": to_micros(at), **given}) for i in range(n)])


def look(ws: Workspace, **by: float) -> None:
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(**by))
    monitoring.observe(ws)


def told(ws: Workspace, *, bucket: timedelta | None = HOUR, span: timedelta = DAY) -> list[Traffic]:
    return monitoring.traffic(ws, "category", start=START, end=START + span, bucket=bucket)


def test_each_version_is_counted_hour_by_hour(any_ws: Workspace, log: LogWriter) -> None:
    put(log, START, 3)
    put(log, START, 2, version=2, status="failed", output=None)
    put(log, START + HOUR, 4, replay=True)
    put(log, START + HOUR, 1, model="", version=0, status="refused", output=None)
    look(any_ws, hours=3)
    found = [
        (one.version, one.start, one.requests, one.failed, one.refused, one.replayed) for one in told(any_ws)
    ]
    assert found == [
        ("category@1", START, 3, 0, 0, 0),
        ("category@2", START, 2, 2, 0, 0),
        ("", START + HOUR, 1, 0, 1, 0),
        ("category@1", START + HOUR, 4, 0, 0, 4),
    ]


def test_shadows_and_other_endpoints_are_left_out(any_ws: Workspace, log: LogWriter) -> None:
    put(log, START, 2, shadow_of="pred_" + "0" * 32)
    put(log, START, 2, endpoint="other")
    look(any_ws, hours=1)
    assert told(any_ws) == []


def test_endpoints_that_are_counted_in_one_reading_are_counted_apart(
    any_ws: Workspace, log: LogWriter
) -> None:
    any_ws.write(lambda tx: monitoring.set_watches(any_ws, tx, "other", []))
    put(log, START, 2, endpoint="other")
    put(log, START, 3)
    look(any_ws, hours=1)
    for endpoint, expected in (("category", 3), ("other", 2)):
        (found,) = monitoring.traffic(any_ws, endpoint, start=START, end=START + DAY)
        assert found.requests == expected


def test_an_hour_that_goes_on_is_added_to(any_ws: Workspace, log: LogWriter) -> None:
    for quarter in range(4):
        put(log, START + quarter * HOUR / 4, 5)
        look(any_ws, minutes=15)
        assert [one.requests for one in told(any_ws)] == [5 * (quarter + 1)]


def test_what_is_being_answered_is_counted_by_the_next_look(any_ws: Workspace, log: LogWriter) -> None:
    look(any_ws, minutes=10)
    assert isinstance(any_ws.clock, SimulatedClock)
    put(log, START + timedelta(minutes=9, seconds=59), 5)
    look(any_ws, minutes=3)
    assert [one.requests for one in told(any_ws)] == [5]


def test_counting_rests_while_nothing_is_logged(any_ws: Workspace, log: LogWriter) -> None:
    put(log, START, 1)
    for _ in range(4):
        assert is_due(any_ws, minutes=3)
        monitoring.observe(any_ws)
    assert not is_due(any_ws, hours=5)
    put(log, any_ws.now() - timedelta(minutes=1), 1)
    assert is_due(any_ws, minutes=3)
    monitoring.observe(any_ws)
    assert sum(one.requests for one in told(any_ws)) == 2


def is_due(ws: Workspace, **by: float) -> bool:
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(**by))
    return monitoring.is_due(ws)


def test_a_long_silence_is_caught_up_with_in_one_look(any_ws: Workspace, log: LogWriter) -> None:
    for day in range(40):
        put(log, START + day * DAY, 2)
    look(any_ws, days=40)
    days = told(any_ws, span=40 * DAY)
    assert [one.requests for one in days] == [2] * 40
    assert {one.end - one.start for one in days} == {DAY}


def test_days_and_totals_are_the_sums_of_hours(any_ws: Workspace, log: LogWriter) -> None:
    for hour in range(60):
        put(log, START + hour * HOUR, hour % 5, status="failed" if hour % 7 == 0 else "ok")
    look(any_ws, hours=30)
    look(any_ws, hours=30)
    hourly = told(any_ws, span=3 * DAY)
    daily = told(any_ws, span=60 * DAY)
    (total,) = told(any_ws, span=3 * DAY, bucket=None)
    requests = sum(hour % 5 for hour in range(60))
    assert (
        sum(one.requests for one in hourly)
        == sum(one.requests for one in daily)
        == total.requests
        == requests
    )
    assert sum(one.failed for one in hourly) == sum(one.failed for one in daily) == total.failed
    assert (total.start, total.end) == (START, START + 3 * DAY)
    assert sum(one.asked for one in hourly) == total.asked == requests


def test_percentiles_are_right_to_their_stated_error_and_add_up(any_ws: Workspace, log: LogWriter) -> None:
    chance = np.random.default_rng(5)
    latencies_us = chance.lognormal(7.5, 0.8, size=2_000)
    log.write(
        [
            record(i, at=to_micros(START + (i % 2) * HOUR), latency_us=int(one))
            for i, one in enumerate(latencies_us)
        ]
    )
    look(any_ws, hours=2)
    (total,) = told(any_ws, bucket=None)
    assert total.p50_ms == pytest.approx(np.percentile(latencies_us, 50) / 1_000, rel=0.045)
    assert total.p99_ms == pytest.approx(np.percentile(latencies_us, 99) / 1_000, rel=0.06)


def test_two_processes_that_look_at_once_count_once(any_ws: Workspace, log: LogWriter) -> None:
    put(log, START, 5)
    assert isinstance(any_ws.clock, SimulatedClock)
    any_ws.clock.advance(timedelta(hours=1))
    with ThreadPoolExecutor(4) as processes:
        list(processes.map(lambda _: monitoring.observe(any_ws), range(8)))
    assert [one.requests for one in told(any_ws)] == [5]


def test_traffic_is_not_among_the_measures_unless_it_is_named(any_ws: Workspace, log: LogWriter) -> None:
    put(log, START, 5)
    look(any_ws, hours=1)
    assert monitoring.measures(any_ws, "category") == []
    assert len(monitoring.measures(any_ws, "category", names=("traffic",))) == 1


def test_measures_are_found_by_family(any_ws: Workspace) -> None:
    def keep(tx: Tx) -> None:
        names = ("drift:title", "drift:answer", "accuracy")
        store.put_measures(
            tx, [Measure("kind", name, "", START, START + HOUR, 0.5, None, None, 3) for name in names]
        )

    any_ws.write(keep)
    found = monitoring.measures(any_ws, "kind", names=("drift:",))
    assert {one.name for one in found} == {"drift:title", "drift:answer"}


def test_the_next_look_is_that_of_a_declared_watch(ws: Workspace) -> None:
    ws.write(lambda tx: monitoring.set_watches(ws, tx, "a", []))
    assert monitoring.next_look_at(ws) is None
    ws.write(lambda tx: monitoring.set_watches(ws, tx, "b", [monitoring.drift(every_h=6)]))
    assert monitoring.next_look_at(ws) == START + timedelta(hours=6)
