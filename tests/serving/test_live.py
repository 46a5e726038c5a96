from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from everloop.clock import SystemClock
from everloop.features import FeatureView, materialise
from everloop.ids import new_prediction_id
from everloop.serving.live import (
    Arrival,
    LiveEndpoint,
    LiveFeature,
    LiveHistory,
    LiveRelease,
    LiveTable,
    Loader,
)
from everloop.storage import FileBlobs
from tests.features.views import START, listing, table, view_of, volume
from tests.serving.home import go_live
from tests.serving.records import route


def arrival(number: int, after_s: float, *, key: str | None = None, **inputs: Any) -> Arrival:
    row = {"title": f"title {number}", "merchant_id": 7, "price": 1.0, **inputs}
    return Arrival(new_prediction_id(1), "category", row, key, START + timedelta(seconds=after_s))


def seen(history: LiveHistory) -> int:
    return history.rows.past(7, START + timedelta(days=1)).num_rows


@pytest.fixture
def filled(tmp_path: Path) -> Callable[[FeatureView], LiveHistory]:
    """A history that starts with two rows from a file, at 0 and 10 s."""

    def make(view: FeatureView) -> LiveHistory:
        materialise(view, table([listing(1, 7, 0), listing(2, 7, 10)]), tmp_path / "rows.arrow")
        history = LiveHistory(view)
        history.load(tmp_path / "rows.arrow")
        return history

    return make


def test_a_row_with_a_key_counts_once_whether_from_file_log_or_request(
    filled: Callable[..., LiveHistory],
) -> None:
    history = filled(view_of(volume))
    for given in (arrival(2, 10, key="2"), arrival(3, 20, key="3"), arrival(3, 21, key="3")):
        history.observe(given)
    assert seen(history) == 3


def test_a_row_without_a_key_counts_from_the_log_if_it_is_later_than_the_file(
    filled: Callable[..., LiveHistory],
) -> None:
    history = filled(view_of(volume, key=None))
    history.observe(arrival(2, 10))
    history.observe(arrival(3, 11))
    assert seen(history) == 3


def test_a_row_that_is_logged_while_it_is_loaded_counts_once(filled: Callable[..., LiveHistory]) -> None:
    history, twice = filled(view_of(volume, key=None)), arrival(3, 20)
    history.observe(twice)
    history.observe(twice)
    history.settle()
    history.observe(arrival(4, 5))  # a late event time, but a request of its own
    assert seen(history) == 4


def test_keys_are_read_in_the_type_of_their_column(filled: Callable[..., LiveHistory]) -> None:
    history = filled(view_of(volume))
    for key in ("-3", "three", None):
        history.observe(arrival(3, 20, key=key))
    assert history.rows.past(7, START + timedelta(days=1))["listing_id"].to_pylist() == [1, 2, -3, None, None]


def test_a_row_of_other_types_is_left_out(filled: Callable[..., LiveHistory]) -> None:
    history = filled(view_of(volume))
    history.observe(arrival(3, 20, key="3", price="dear"))
    assert seen(history) == 2


def live(*histories: LiveHistory, manifest: Any = None) -> LiveTable:
    features = tuple(LiveFeature(view_of(volume), volume, history) for history in histories)
    release = LiveRelease(manifest, manifest, features, manifest, manifest, manifest)
    return LiveTable(1, {"category": LiveEndpoint(route(("a", 100)), 1, {"rel_a": release}, histories)})


def test_new_histories_catch_up_on_what_arrived_while_they_were_loaded() -> None:
    old, new = LiveHistory(view_of(volume)), LiveHistory(view_of(volume, window=timedelta(days=2)))
    during = [arrival(1, 0, key="1"), arrival(2, 5, key="2")]
    for one in during:
        old.observe(one)  # the old table answered these
    live(old, new).catch_up(live(old), during)
    assert (seen(old), seen(new)) == (2, 2)


def test_what_arrived_for_an_endpoint_that_is_gone_is_nobodys() -> None:
    LiveTable(2, {}).catch_up(LiveTable(), [arrival(1, 0)])


def test_without_routes_nothing_is_live(tmp_path: Path) -> None:
    loader = Loader(tmp_path / "serving", FileBlobs(tmp_path / "blobs"), SystemClock(), 10)
    assert loader.load(LiveTable()) == LiveTable()


def test_a_release_that_is_live_already_is_not_loaded_again(home: Path) -> None:
    loader = Loader(home / "serving", FileBlobs(home / "blobs"), SystemClock(), 10)
    first = loader.load(LiveTable())
    go_live(home, ("control", 90), ("canary", 10))
    second = loader.load(first)
    assert second.epoch == 2
    assert second.endpoints["category"].releases["rel_control"] is first.releases[0]


def test_a_row_whose_values_the_log_hides_is_none(filled: Callable[[FeatureView], LiveHistory]) -> None:
    history = filled(view_of(volume, key="title"))
    for number, hidden in enumerate(({"merchant_id": "hash:00"}, {"title": "drop:"})):
        history.observe(replace(arrival(1, 20 + number, key=str(number), **hidden), is_logged=True))
    assert seen(history) == 2
    history.observe(replace(arrival(3, 22, key="c"), is_logged=True))
    assert seen(history) == 3


def test_a_release_that_cannot_be_loaded_is_named_and_the_endpoint_goes_on_as_it_was(home: Path) -> None:
    loader = Loader(home / "serving", FileBlobs(home / "blobs"), SystemClock(), 10)
    first = loader.load(LiveTable())
    go_live(home, ("control", 90), ("canary", 10))
    (home / "serving" / "releases" / "rel_canary.json").unlink()
    second = loader.load(first)
    assert (second.epoch, list(second.unloadable)) == (1, ["rel_canary"])
    assert second.endpoints == first.endpoints
