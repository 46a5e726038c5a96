"""A look at latency adds up what was counted with the traffic: the same as if it had read its whole window."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from everloop import monitoring
from everloop.clock import SimulatedClock, from_micros, to_micros
from everloop.monitoring import Measure, Watch, store
from everloop.monitoring.records import to_value
from everloop.predictions import LogWriter, PredictionRecord
from everloop.storage import Tx
from everloop.workspace import Workspace
from tests.conftest import START
from tests.loop.living import Shop
from tests.serving.records import record

HOUR = timedelta(hours=1)


@pytest.fixture
def log(ws: Workspace) -> Iterator[LogWriter]:
    watch(ws, monitoring.latency(p99_ms=1, every_h=1, window_h=4))
    writer = LogWriter.claim(ws.home / "serving")
    yield writer
    writer.close()


def watch(ws: Workspace, *watches: Watch) -> None:
    ws.write(lambda tx: monitoring.set_watches(ws, tx, "category", watches))


def some(hour: int, n: int = 200, **given: Any) -> list[PredictionRecord]:
    """Requests of one hour; some fail, some are replays, shadows or of another endpoint."""
    chance = np.random.default_rng(hour)
    found = []
    for number in range(n):
        at = START + hour * HOUR + float(chance.random()) * HOUR
        more: dict[str, Any] = {"latency_us": int(chance.lognormal(8, 0.7)), "version": 1 + number % 2}
        more |= {"status": "failed", "output": None} if chance.random() < 0.1 else {}
        more |= {"replay": True} if number % 11 == 0 else {}
        more |= {"shadow_of": "pred_1"} if number % 13 == 0 else {}
        more |= {"endpoint": "other"} if number % 17 == 0 else {}
        found.append(record(number, at=to_micros(at), **more, **given))
    return found


def look(ws: Workspace, **by: float) -> None:
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(**by))
    monitoring.observe(ws)


def told(ws: Workspace, name: str, end: datetime) -> dict[str, Measure]:
    found = monitoring.measures(ws, "category", names=[name])
    return {one.variant: one for one in found if one.end == end}


def agrees(ws: Workspace, records: list[PredictionRecord], end: datetime, *, window: timedelta) -> None:
    """What was measured of the window is what its records say."""
    for version in (1, 2):
        mine = [
            one
            for one in records
            if end - window <= from_micros(one.at) < end
            and (one.version, one.endpoint, one.replay, one.shadow_of) == (version, "category", False, None)
        ]
        rate = told(ws, "error_rate", end)[f"category@{version}"]
        failed = [one.status for one in mine].count("failed")
        assert (rate.n, rate.value) == (len(mine), failed / len(mine))
        latencies_ms = [one.latency_us / 1_000 for one in mine if one.status == "ok"]
        for share in (50, 99):
            found = told(ws, f"latency_p{share}_ms", end)[f"category@{version}"].value
            exact = np.percentile(latencies_ms, share, method="inverted_cdf")
            assert found == pytest.approx(exact, rel=0.002)


def test_each_hours_window_is_what_its_records_say(ws: Workspace, log: LogWriter) -> None:
    records: list[PredictionRecord] = []
    for hour in range(7):
        new = some(hour)
        records += new
        log.write(new)
        look(ws, hours=1)
        agrees(ws, records, START + (hour + 1) * HOUR, window=4 * HOUR)


def test_what_was_counted_is_not_read_again(ws: Workspace, log: LogWriter) -> None:
    records = some(0)
    log.write(records)
    look(ws, minutes=61)
    log._next_segment()
    (first, _) = sorted((ws.home / "serving").glob("log/*/*.log"))
    first.unlink()
    records += (new := some(1))
    log.write(new)
    look(ws, minutes=59)
    agrees(ws, records, START + 2 * HOUR, window=4 * HOUR)


def test_a_watch_that_moves_its_ends_counts_nothing_twice(ws: Workspace, log: LogWriter) -> None:
    records = [one for hour in range(5) for one in some(hour)]
    log.write(records)
    look(ws, minutes=90)
    watch(ws, monitoring.latency(p99_ms=1, every_h=0.5, window_h=2))
    for _ in range(6):
        look(ws, minutes=25)
    for ends in (4, 5, 6, 7):
        agrees(ws, records, START + ends * HOUR / 2, window=2 * HOUR)


def test_a_window_that_is_no_multiple_of_its_step_is_read_whole(ws: Workspace, log: LogWriter) -> None:
    watch(ws, monitoring.latency(p99_ms=1, every_h=1, window_h=1.5))
    records: list[PredictionRecord] = []
    for hour in range(3):
        records += (new := some(hour))
        log.write(new)
        look(ws, hours=1)
        agrees(ws, records, START + (hour + 1) * HOUR, window=1.5 * HOUR)


def test_pieces_are_no_measures_and_are_forgotten_with_their_window(ws: Workspace, log: LogWriter) -> None:
    for hour in range(8):
        log.write(some(hour))
        look(ws, minutes=30)
        look(ws, minutes=30)
    assert not any(one.name.startswith("piece:") for one in monitoring.measures(ws, "category"))
    assert len(monitoring.measures(ws, "category", names=["piece:answered"])) <= 5


def drifted(shop: Shop, end: datetime) -> list[tuple[str, float | None, int, dict[str, Any] | None]]:
    found = monitoring.measures(shop.ws, "kind", names=["drift:"])
    return [(one.name, one.value, one.n, one.detail) for one in found if one.end == end]


def test_drift_of_a_window_is_the_same_in_pieces_and_whole(shop: Shop) -> None:
    pieced = monitoring.drift(least_rows=50, every_h=24, window_h=72)
    shop.ws.write(lambda tx: monitoring.set_watches(shop.ws, tx, "kind", [pieced]))
    for day in range(5):
        shop.ask(100, inputs={"title": f"word{day} pot", "seller": day})
        shop.later(hours=23)
        shop.ask(30, inputs={"title": "late pot", "seller": 90 + day})
        end = shop.later(hours=1)
        monitoring.observe(shop.ws)
    in_pieces = drifted(shop, end)
    assert {n for _, _, n, _ in in_pieces} == {390}
    kept = monitoring.measures(shop.ws, "kind", names=["piece:drifted"])
    assert end - timedelta(days=3) < min(one.end for one in kept), "those before the window are forgotten"

    def begin_anew(tx: Tx) -> None:
        store.remove_measures(tx, "kind", "piece:drifted")
        store.keep_watches(tx, "kind", [])
        store.upsert_watch(tx, "kind", "drift", to_value(pieced), looked_at=end - timedelta(days=1))

    shop.ws.write(begin_anew)
    monitoring.observe(shop.ws)
    assert drifted(shop, end) == in_pieces


def test_days_are_counted_once_for_drift(shop: Shop) -> None:
    watched = monitoring.drift(least_rows=50, every_h=24, window_h=72)
    shop.ws.write(lambda tx: monitoring.set_watches(shop.ws, tx, "kind", [watched]))
    shop.ask(100)
    shop.later(hours=24)
    monitoring.observe(shop.ws)
    shop.log._next_segment()
    for path in sorted((shop.ws.home / "serving").glob("log/*/*.log"))[:-1]:
        path.unlink()
    shop.ask(50)
    end = shop.later(hours=24)
    monitoring.observe(shop.ws)
    assert {n for _, _, n, _ in drifted(shop, end)} == {150}
