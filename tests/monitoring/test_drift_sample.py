"""Of a large window a sample is counted: it tells what all rows would, and says of how many it is."""

from __future__ import annotations

from datetime import timedelta
from statistics import NormalDist

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from everloop import monitoring
from everloop.clock import to_micros
from everloop.ids import new_prediction_id
from everloop.monitoring import Measure, Reference, compare, learn_reference, store
from everloop.monitoring.look_drift import rows_enough
from everloop.monitoring.records import to_value
from everloop.storage import Tx
from tests.loop.living import Shop
from tests.monitoring.test_observe import look, measured, watch

N_ALL, N_MANY = 320_000, 800
WATCH = monitoring.drift(every_h=24, window_h=72)


def rows(n: int, shift: float, chance: np.random.Generator) -> pa.Table:
    """Numbers, few values, many values and missing ones, of which that share of rows has changed."""
    distance = 2.0 * NormalDist().inv_cdf((1.0 + shift) / 2.0)
    many = np.repeat(1.0 / N_MANY, N_MANY) * np.where(
        np.arange(N_MANY) % 2, 1.0 + 2.0 * shift, 1.0 - 2.0 * shift
    )
    few = np.array([0.4, 0.3, 0.2 - 0.5 * shift, 0.1 + 0.5 * shift])
    few += [-0.5 * shift, 0.5 * shift, 0.0, 0.0]
    return pa.table(
        {
            "number": chance.normal(distance, 1.0, n),
            "few": np.array(list("abcd"))[chance.choice(4, n, p=few)],
            "many": np.char.add("v", chance.choice(N_MANY, n, p=many).astype("U4")),
            "missing": pa.array(np.ones(n), mask=chance.random(n) < 0.1 + shift),
        }
    )


@pytest.fixture(scope="module")
def reference() -> Reference:
    return learn_reference(rows(100_000, 0.0, np.random.default_rng(1)))


@pytest.mark.parametrize("shift", [0.0, 0.04, 0.07, 0.13, 0.25])
def test_a_sample_finds_what_all_rows_would(reference: Reference, shift: float) -> None:
    chance = np.random.default_rng(int(100 * shift))
    table = rows(N_ALL, shift, chance)
    everything = {one.name: one for one in compare(reference, table, effect_at_least=0.1).series}
    for usual in (reference, reference.without(["many"], why="fewer rows are enough then")):
        enough = round(rows_enough(usual, 0.1))
        assert enough * 5 < N_ALL
        for _ in range(3):
            some = table.take(chance.choice(N_ALL, enough, replace=False))
            for one in compare(usual, some, effect_at_least=0.1).series:
                of_all = everything[one.name]
                assert (one.name, one.verdict) == (of_all.name, of_all.verdict)
                if one.column != "many":
                    assert one.effect == pytest.approx(of_all.effect, abs=0.01)
    verdicts = {
        one.verdict for one in everything.values() if one.column != "missing" or one.series == "missing"
    }
    assert verdicts == {"drifted" if shift > 0.1 else "stable"}


def test_the_smaller_the_change_that_counts_the_more_rows_are_enough(reference: Reference) -> None:
    narrow = reference.without(["many"], why="not asked")
    enough = [rows_enough(narrow, effect) for effect in (0.5, 0.1, 0.05)]
    assert enough == pytest.approx([20_000, 20_000, 80_000])
    assert rows_enough(reference, 0.1) == 50 * N_MANY
    assert rows_enough(reference, 0.0) == float("inf")


def answer(shop: Shop, n: int, **given: object) -> None:
    """Log so many requests like one."""
    (one,) = shop.ask(1)
    at = to_micros(shop.ws.now())
    for _ in range(0, n, 5_000):
        shop.log.write(
            [
                msgspec.structs.replace(one, id=new_prediction_id(shop.log.writer), at=at, **given)
                for _ in range(5_000)
            ]
        )


def numbers(shop: Shop) -> list[Measure]:
    end = shop.ws.now()
    return [one for one in monitoring.measures(shop.ws, "kind", names=["drift:"]) if one.end == end]


def count_anew(shop: Shop) -> None:
    def begin(tx: Tx) -> None:
        store.remove_measures(tx, "kind", "piece:drifted")
        store.keep_watches(tx, "kind", ["traffic"])
        store.upsert_watch(
            tx, "kind", "drift", to_value(WATCH), looked_at=shop.ws.now() - timedelta(hours=WATCH.every_h)
        )

    shop.ws.write(begin)
    monitoring.observe(shop.ws)


def test_what_was_counted_whole_is_drawn_from_as_traffic_grows(shop: Shop) -> None:
    watch(shop, WATCH)
    answer(shop, 45_000)
    look(shop, hours=24)
    assert {one.n for one in numbers(shop)} == {45_001}, "up to three times what is enough is read whole"
    answer(shop, 45_000, inputs={"title": "blue stone", "seller": 90})
    look(shop, hours=24)
    (n,) = {one.n for one in numbers(shop)}
    assert n == pytest.approx(45_000, abs=800)  # half of 90,002, five times what chance moves it
    pieces = monitoring.measures(shop.ws, "kind", names=["piece:drifted"])
    asked = [asked for piece in pieces for _, asked, *_ in (piece.detail or {}).values()]
    assert set(asked) == {0.5}, "what was counted whole is counted again, so that all adds up"
    before = numbers(shop)
    count_anew(shop)
    assert numbers(shop) == before, "the same rows are drawn again"


@pytest.mark.parametrize(("logged", "expected"), [(1.0, 0.5), (0.5, 0.25)])
def test_a_large_window_is_decided_on_a_sample_and_says_so(
    shop: Shop, logged: float, expected: float
) -> None:
    watch(shop, WATCH)
    answer(shop, 60_000, probability=logged, inputs={"title": "blue stone", "seller": 90})
    (found,) = (one for one in look(shop, hours=24) if one.kind == "input_drift")
    n = found.detail["report"]["n_current"]
    assert n == pytest.approx(30_000, abs=700)
    assert found.detail["chance"] == expected
    about = f"{float(f'{n / expected:.3g}'):,.0f}"
    assert (
        f"drifted in {n:,} predictions (a sample of {100 * expected:.0f} % of about {about})" in found.message
    )
    assert measured(shop, "drift:seller")[0].n == n


def test_days_that_the_log_kept_with_other_chances_are_thinned_to_the_smallest(shop: Shop) -> None:
    watch(shop, WATCH)
    for logged in (0.5, 1.0):
        answer(shop, 5_000, probability=logged)
        look(shop, hours=24)
    (n,) = {one.n for one in numbers(shop)}
    assert n == pytest.approx(7_500, abs=200)
