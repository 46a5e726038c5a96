from __future__ import annotations

import base64
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from everloop.data.arrow import ARROW_TYPES
from everloop.data.conversion import converted
from everloop.data.records import Column, ColumnType
from everloop.errors import Invalid

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)


def text(*values: str | None) -> Any:
    return pa.array(values, pa.large_string())


def read(values: Any, kind: ColumnType) -> list[Any]:
    found = converted(values, Column("price", kind))
    assert found.type == ARROW_TYPES[kind]
    listed: list[Any] = found.to_pylist()
    return listed


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        ("integer", " 12 ", 12),
        ("integer", "+7", 7),
        ("integer", "007", 7),
        ("integer", "3.0", 3),
        ("integer", "-9223372036854775808", -(2**63)),
        ("number", "1.5", 1.5),
        ("number", ".5", 0.5),
        ("number", "-2e3", -2000.0),
        ("boolean", "True", True),
        ("boolean", "no", False),
        ("boolean", "1", True),
        ("time", "2026-09-01T12:00:00Z", NOON),
        ("time", "2026-09-01 12:00", NOON),
        ("time", "2026-09-01T14:00:00+02:00", NOON),
        ("time", "2026-09-01T07:00:00-0500", NOON),
        ("time", "2026-09-01", datetime(2026, 9, 1, tzinfo=UTC)),
        ("binary", base64.b64encode(b"\0x").decode(), b"\0x"),
        ("string", " NA ", " NA "),
        ("string", "", ""),
    ],
)
def test_text_is_read_as_the_type(kind: ColumnType, written: str, value: Any) -> None:
    assert read(text(written), kind) == [value]


@pytest.mark.parametrize("kind", ["integer", "number", "boolean", "time", "binary"])
@pytest.mark.parametrize("written", ["", "NA", "N/A", "NaN", "null", "None", "  ", None])
def test_words_for_missing_are_missing_where_they_cannot_be_text(
    kind: ColumnType, written: str | None
) -> None:
    assert read(text(written), kind) == [None]


def test_times_with_and_without_a_zone_may_mix() -> None:
    assert read(text("2026-09-01 12:00:00", None, "2026-09-01T13:00:00+01:00"), "time") == [NOON, None, NOON]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("integer", pa.array([1, 2], pa.uint8()), [1, 2]),
        ("integer", pa.array([1.0, np.nan, None]), [1, None, None]),
        ("integer", pa.array([Decimal("3.00")]), [3]),
        ("number", pa.array([1, None], pa.int32()), [1.0, None]),
        ("number", pa.array([Decimal("0.25")]), [0.25]),
        ("number", pa.array([1.5, np.nan]), [1.5, None]),
        ("time", pa.array([datetime(2026, 9, 1, 12)], pa.timestamp("ns")), [NOON]),  # noqa: DTZ001
        ("time", pa.array([NOON], pa.timestamp("ms", "Europe/Paris")), [NOON]),
        ("time", pa.array([date(2026, 9, 1)]), [datetime(2026, 9, 1, tzinfo=UTC)]),
        ("string", pa.array(["a", None]), ["a", None]),
        ("string", pa.array(["a"], pa.string_view()), ["a"]),
        ("string", pa.nulls(2), [None, None]),
        ("time", pa.nulls(1), [None]),
        ("binary", pa.array([b"ab"], pa.binary(2)), [b"ab"]),
    ],
)
def test_arrow_columns_become_the_type(kind: ColumnType, values: Any, expected: list[Any]) -> None:
    assert read(values, kind) == expected


@pytest.mark.parametrize(
    ("kind", "values", "row", "found"),
    [
        ("integer", text("1", None, "secret"), 3, "text of 6 characters where a whole number"),
        ("integer", text("1", "1.5"), 2, "whole number"),
        ("integer", text("9223372036854775808"), 1, "64 bits"),
        ("number", text("1", "1,5"), 2, "a number"),
        ("boolean", text("yes", "maybe"), 2, "true or false"),
        ("time", text("2026-09-01", "01.09.2026"), 2, "ISO 8601"),
        ("time", text("2026-09-01", None, "2026-13-01"), 3, "ISO 8601"),
        ("binary", text("ab=="[:3], "????"), 1, "bytes"),
        ("integer", pa.array([1.0, 2.5]), 2, "that does not fit where a whole number"),
        ("integer", pa.array([1, 2**63], pa.uint64()), 2, "that does not fit"),
        ("number", pa.array([1, 2**53 + 1]), 2, "that does not fit"),
        ("time", pa.array([1], pa.timestamp("ns")), 1, "to the microsecond"),
        ("image", pa.array([b"nope"]), 1, "4 bytes where an image"),
    ],
)
def test_a_wrong_value_is_told_by_row_and_kind_only(
    kind: ColumnType, values: Any, row: int, found: str
) -> None:
    with pytest.raises(Invalid, match=f"column 'price', row {row} has .*{found}") as caught:
        converted(values, Column("price", kind))
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("bad", [0, 1, 499, 998, 999])
def test_the_first_wrong_row_is_found_wherever_it_is(bad: int) -> None:
    dates = ["2026-09-01"] * 1000
    dates[bad] = dates[-1] = "2026-02-30"
    with pytest.raises(Invalid, match=f"row {bad + 1} "):
        converted(text(*dates), Column("at", "time"))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("string", pa.array([1])),
        ("boolean", pa.array([1])),
        ("integer", pa.array([True])),
        ("image", pa.array([1])),
    ],
)
def test_a_column_of_another_kind_is_refused_whole(kind: ColumnType, values: Any) -> None:
    with pytest.raises(Invalid, match=f"where the schema says {kind}"):
        converted(values, Column("price", kind))


def test_images_come_as_bytes_or_as_base64() -> None:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG")
    data = file.getvalue()
    assert read(pa.array([data, None]), "image") == [data, None]
    assert read(text(base64.b64encode(data).decode()), "image") == [data]
