from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.errors import Invalid
from everloop.features import OnlineHistory, materialise, training_values
from tests.features.views import fingerprint, last_title, listing, mean_price, table, view_of, volume

DAY = 86_400.0


def test_counts_only_earlier_rows_of_the_same_entity() -> None:
    rows = table([listing(1, 7, 0), listing(2, 8, 10), listing(3, 7, 20), listing(4, 7, 30)])
    assert training_values(view_of(volume), volume, rows).to_pylist() == [0, 0, 1, 2]


def test_answers_in_the_order_of_the_rows_given() -> None:
    rows = table([listing(4, 7, 30), listing(1, 7, 0), listing(3, 7, 20)])
    assert training_values(view_of(volume), volume, rows).to_pylist() == [2, 0, 1]


def test_rows_of_the_same_instant_do_not_see_each_other() -> None:
    rows = table([listing(1, 7, 5), listing(2, 7, 5)])
    assert training_values(view_of(volume), volume, rows).to_pylist() == [0, 0]


def test_the_window_includes_its_start_and_nothing_before() -> None:
    rows = table([listing(1, 7, 0), listing(2, 7, 7 * DAY), listing(3, 7, 7 * DAY + 1e-6)])
    assert training_values(view_of(volume), volume, rows).to_pylist() == [0, 1, 1]


def test_a_row_without_an_entity_has_no_past() -> None:
    rows = table([listing(1, None, 0), listing(2, None, 5), listing(3, 7, 6)])
    assert training_values(view_of(volume), volume, rows).to_pylist() == [0, 0, 0]


def test_looks_for_the_past_in_the_history_given() -> None:
    history = table([listing(1, 7, 0), listing(2, 7, 1), listing(3, 9, 2)])
    rows = table([listing(10, 7, 50), listing(11, 5, 50)]).select(["merchant_id", "received_at"])
    assert training_values(view_of(volume), volume, rows, history=history).to_pylist() == [2, 0]


def test_the_function_sees_the_views_columns_oldest_first_and_no_others() -> None:
    rows = table([listing(2, 7, 20), listing(1, 7, 10), listing(3, 7, 30)])
    seen = str(training_values(view_of(fingerprint), fingerprint, rows)[2])
    assert "product_name" not in seen
    assert seen.index("title 1") < seen.index("title 2")


def test_values_have_the_type_that_the_function_declares() -> None:
    rows = table([listing(1, 7, 0, price=2.0), listing(2, 7, 5, price=4.0), listing(3, 7, 9)])
    assert training_values(view_of(mean_price), mean_price, rows).to_pylist() == [None, 2.0, 3.0]
    assert training_values(view_of(last_title), last_title, rows).type == pa.string()


def test_times_without_a_zone_count_as_utc() -> None:
    rows = table([listing(1, 7, 0), listing(2, 7, 5)])
    naive = rows.set_column(4, "received_at", rows["received_at"].cast(pa.timestamp("ms")))
    assert training_values(view_of(volume), volume, naive).to_pylist() == [0, 1]


def test_a_missing_column_and_a_missing_time_are_named() -> None:
    rows = table([listing(1, 7, 0), {**listing(2, 7, 5), "received_at": None}])
    with pytest.raises(Invalid, match="no column 'title'"):
        training_values(view_of(volume), volume, rows.drop_columns(["title"]))
    with pytest.raises(Invalid, match="1 rows have no 'received_at'"):
        training_values(view_of(volume), volume, rows)


def test_a_column_of_another_type_is_named() -> None:
    rows = table([listing(1, 7, 0)])
    texts = rows.set_column(1, "merchant_id", pa.chunked_array([["seven"]]))
    with pytest.raises(Invalid, match=r"'merchant_id'.*do not fit integer"):
        training_values(view_of(volume), volume, texts)


def test_no_rows_give_no_values() -> None:
    assert training_values(view_of(volume), volume, table([])).to_pylist() == []


@given(st.lists(st.tuples(st.integers(0, 3) | st.none(), st.integers(0, 30)), max_size=40))
def test_agrees_with_the_definition_word_by_word(events: list[tuple[int | None, int]]) -> None:
    view = view_of(volume, window=timedelta(seconds=10))
    rows = table([listing(number, merchant, at) for number, (merchant, at) in enumerate(events)])
    expected = [
        sum(other == merchant and at - 10 <= when < at for other, when in events)
        if merchant is not None
        else 0
        for merchant, at in events
    ]
    assert training_values(view, volume, rows).to_pylist() == expected


def test_counts_merchants_of_the_real_listings_as_a_plain_loop_does(shared_data: Path) -> None:
    rows = pq.read_table(shared_data / "marketplace" / "month_1.parquet").slice(0, 800)
    rows = rows.append_column("price", pa.nulls(rows.num_rows, pa.float64()))
    counted = training_values(view_of(volume), volume, rows).to_pylist()
    plain = rows.select(["merchant_id", "received_at"]).to_pylist()
    week = timedelta(days=7)
    assert counted == [
        sum(
            other["merchant_id"] == row["merchant_id"]
            and row["received_at"] - week <= other["received_at"] < row["received_at"]
            for other in plain
        )
        for row in plain
    ]


def test_materialises_two_windows_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    view = view_of(volume)
    rows = table([listing(1, 7, 0), listing(2, 7, 10 * DAY), listing(3, 8, 20 * DAY)])
    assert materialise(view, rows, tmp_path / "online" / "volume.arrow") == 2
    assert [path.name for path in (tmp_path / "online").iterdir()] == ["volume.arrow"]
    history = OnlineHistory(view)
    assert history.load(tmp_path / "online" / "volume.arrow") == 2


def test_a_failed_materialisation_leaves_the_old_file(tmp_path: Path) -> None:
    view, path = view_of(volume), tmp_path / "volume.arrow"
    materialise(view, table([listing(1, 7, 0)]), path)
    with pytest.raises(Invalid, match="no column"):
        materialise(view, table([]).drop_columns(["price"]), path)
    assert OnlineHistory(view).load(path) == 1
