from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everloop.errors import Invalid
from everloop.features import (
    FeatureValue,
    FeatureView,
    OnlineHistory,
    materialise,
    online_value,
    training_values,
)
from tests.features.views import START, fingerprint, listing, table, view_of, volume

DAY = 86_400.0


def observed(view: FeatureView, rows: list[dict[str, Any]]) -> OnlineHistory:
    history = OnlineHistory(view)
    for row in rows:
        history.observe(row, row["received_at"])
    return history


def after(seconds: float) -> Any:
    return START + timedelta(seconds=seconds)


def test_a_value_says_from_which_time_it_is() -> None:
    history = observed(view_of(volume), [listing(1, 7, 0), listing(2, 7, 5), listing(3, 8, 6)])
    assert online_value(view_of(volume), volume, history, entity=7, at=after(9)) == FeatureValue(2, after(5))


@pytest.mark.parametrize("entity", [99, None])
def test_an_unknown_entity_has_an_empty_past(entity: int | None) -> None:
    history = observed(view_of(volume), [listing(1, 7, 0)])
    assert online_value(view_of(volume), volume, history, entity=entity, at=after(9)) == FeatureValue(0, None)


def test_a_row_that_arrives_twice_counts_once() -> None:
    history = observed(view_of(volume), [listing(1, 7, 0), listing(1, 7, 3)])
    assert history.past(7, after(9)).num_rows == 1


def test_without_a_key_each_arrival_counts() -> None:
    history = observed(view_of(volume, key=None), [listing(1, 7, 0), listing(1, 7, 3)])
    assert history.past(7, after(9)).num_rows == 2


def test_rows_older_than_two_windows_are_dropped() -> None:
    history = observed(view_of(volume), [listing(number, number % 3, number * DAY) for number in range(100)])
    assert len(history) == 15
    assert history._keys == set(range(85, 100))


def test_a_row_older_than_two_windows_is_not_taken_in() -> None:
    history = observed(view_of(volume), [listing(1, 7, 30 * DAY)])
    assert not history.observe(listing(2, 7, 0), after(0))
    assert len(history) == 1


def test_a_late_row_takes_its_place_by_event_time() -> None:
    history = observed(view_of(volume), [listing(1, 7, 0), listing(3, 7, 20)])
    assert history.past(7, after(30)).num_rows == 2
    history.observe(listing(2, 7, 10), after(10))
    assert history.past(7, after(30))["listing_id"].to_pylist() == [1, 2, 3]


def test_many_rows_stay_in_few_chunks() -> None:
    history = OnlineHistory(view_of(volume))
    for number in range(200):
        history.observe(listing(number, 7, number), after(number))
        assert history.past(7, after(number + 1)).num_rows == number + 1
    assert history.past(7, after(999))["title"].num_chunks <= 17


EVENTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(0, 15)), max_size=30)


@given(EVENTS)
@settings(max_examples=60)
def test_online_equals_offline_for_rows_in_order_of_arrival(events: list[tuple[int, int, int]]) -> None:
    """Each row is asked about when it arrives, up to a window late, and observed after."""
    view = view_of(fingerprint, window=timedelta(seconds=20))
    rows = [
        listing(number, merchant, at)
        for number, (merchant, at, _) in enumerate(sorted(events, key=lambda e: e[1]))
    ]
    history, online = OnlineHistory(view), []
    for row in rows:
        value = online_value(view, fingerprint, history, entity=row["merchant_id"], at=row["received_at"])
        online.append(value.value)
        history.observe(row, row["received_at"])
    assert online == training_values(view, fingerprint, table(rows)).to_pylist()


@given(EVENTS, st.integers(0, 20))
@settings(max_examples=60)
def test_online_equals_offline_for_late_questions_and_late_rows(
    events: list[tuple[int, int, int]], late_s: int
) -> None:
    view = view_of(volume, window=timedelta(seconds=20))
    rows = [listing(number, merchant, at) for number, (merchant, at, _) in enumerate(events)]
    newest = max((at for _, at, _ in events), default=0)
    history = observed(view, sorted(rows, key=lambda row: (row["received_at"].second % 7, row["listing_id"])))
    asked = table([listing(1000 + merchant, merchant, newest - late_s) for merchant in range(3)])
    expected = training_values(view, volume, asked, history=table(rows)).to_pylist()
    at = after(newest - late_s)
    online = [online_value(view, volume, history, entity=merchant, at=at).value for merchant in range(3)]
    assert online == expected


def test_loading_a_file_and_then_the_same_rows_again_counts_once(tmp_path: Path) -> None:
    view, rows = view_of(volume), [listing(1, 7, 0), listing(2, 7, 5)]
    materialise(view, table(rows), tmp_path / "volume.arrow")
    history = OnlineHistory(view)
    assert history.load(tmp_path / "volume.arrow") == 2
    assert not history.observe(rows[1], rows[1]["received_at"])
    assert history.newest_at == after(5)
    assert history.past(7, after(9)).to_pylist() == [
        {name: value for name, value in row.items() if name != "product_name"} for row in rows
    ]


def test_a_torn_file_and_a_file_of_another_view_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "volume.arrow"
    materialise(view_of(volume), table([listing(1, 7, 0)]), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(Invalid, match="not a whole Arrow file"):
        OnlineHistory(view_of(volume)).load(path)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, pa.schema({"other": pa.int64()})):
        pass
    with pytest.raises(Invalid, match=r"holds columns \['other'\]"):
        OnlineHistory(view_of(volume)).load(path)
