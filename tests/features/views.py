"""Feature functions and views that the tests share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from everloop.features import FeatureView, describe

START = datetime(2026, 9, 1, tzinfo=UTC)
COLUMNS: dict[str, pa.DataType] = {
    "title": pa.large_string(),
    "merchant_id": pa.int32(),
    "price": pa.float32(),
    "listing_id": pa.int64(),
    "received_at": pa.timestamp("us", tz="UTC"),
    "product_name": pa.string(),
}


def volume(past: pa.Table) -> int:
    return past.num_rows


def mean_price(past: pa.Table) -> float | None:
    return pc.mean(past["price"]).as_py()  # type: ignore[no-any-return]  # pyarrow-stubs call it Any


def last_title(past: pa.Table) -> str:
    return str(past["title"][past.num_rows - 1].as_py()) if past.num_rows else ""


def fingerprint(past: pa.Table) -> str:
    """All that a function could see, so that two pasts are equal only when everything in them is."""
    return f"{past.schema.names} {past.schema.types} {past.to_pylist()}"


def view_of(
    function: Any, *, window: timedelta = timedelta(days=7), key: str | None = "listing_id"
) -> FeatureView:
    return describe(
        function,
        dataset="listings",
        entity="merchant_id",
        time="received_at",
        window=window,
        key=key,
        columns={
            "title": "string",
            "merchant_id": "integer",
            "price": "number",
            "listing_id": "integer",
            "received_at": "time",
        },
    )


def listing(number: int, merchant: int | None, after_s: float, *, price: float = 1.0) -> dict[str, Any]:
    return {
        "title": f"title {number}",
        "merchant_id": merchant,
        "price": price,
        "listing_id": number,
        "received_at": START + timedelta(seconds=after_s),
    }


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema(COLUMNS))
