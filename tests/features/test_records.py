from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from everloop.errors import Invalid
from everloop.features import evaluate
from tests.features.views import last_title, mean_price, table, view_of, volume


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window_s": 0.0}, "longer than 0 s"),
        ({"entity": "seller"}, "'seller' as its entity"),
        ({"key": "sku"}, "'sku' as its key"),
        ({"time": "price"}, "type 'time'"),
    ],
)
def test_a_view_that_cannot_work_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        dataclasses.replace(view_of(volume), **change)


@pytest.mark.parametrize(
    ("function", "returned", "value"),
    [
        (volume, np.int64(3), 3),
        (volume, pa.scalar(4), 4),
        (volume, None, None),
        (mean_price, 2, 2.0),
        (mean_price, np.float32(0.5), 0.5),
        (last_title, "x", "x"),
    ],
)
def test_values_become_plain_python(function: Any, returned: Any, value: Any) -> None:
    result = evaluate(view_of(function), lambda past: returned, table([]))
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("function", "returned"),
    [(volume, 2.5), (volume, True), (volume, "3"), (mean_price, True), (last_title, 3)],
)
def test_a_value_of_another_type_is_refused(function: Any, returned: Any) -> None:
    with pytest.raises(Invalid, match="is declared to return"):
        evaluate(view_of(function), lambda past: returned, table([]))


def test_a_function_that_raises_is_named_with_its_error() -> None:
    with pytest.raises(Invalid, match=r"volume.* raised ZeroDivisionError: .*on 0 past rows") as raised:
        evaluate(view_of(volume, window=timedelta(1)), lambda past: 1 / past.num_rows, table([]))
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_views_that_look_at_the_same_rows_share_their_history() -> None:
    view = view_of(volume)
    other_function = dataclasses.replace(view, source_digest="0" * 64, dtype="number", function="other")
    assert other_function.history_id == view.history_id
    for change in ({"window_s": 60.0}, {"key": None}, {"columns": {**view.columns, "colour": "string"}}):
        assert dataclasses.replace(view, **change).history_id != view.history_id
