"""The Parquet files of the simulated marketplace: the real marketplace's layout, and three columns or files more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_INTEGER, _TEXT, _IMAGE = pa.int64(), pa.large_string(), pa.large_binary()
# Times are UTC; like the real files these carry no zone.
_TYPES: dict[str, pa.DataType] = {
    "listing_id": _INTEGER, "title": _TEXT, "description": _TEXT, "image": _IMAGE, "merchant_id": _INTEGER,
    "received_at": pa.timestamp("ms"), "product_id": _INTEGER, "product_name": _TEXT, "category_id": _INTEGER,
    "category": _TEXT, "family": _TEXT, "department": _TEXT, "week": _INTEGER, "origin": _TEXT, "flaw": _TEXT,
    "corrected_at": pa.timestamp("us"), "reporter": _TEXT, "id": _INTEGER, "name": _TEXT, "parent": _INTEGER,
    "level": _TEXT,
}  # fmt: skip

_CONTENT = ("listing_id", "title", "description", "image", "merchant_id")
_LISTING = (*_CONTENT, "received_at")
_TRUTH = ("product_id", "product_name", "category")

COLUMNS: dict[str, tuple[str, ...]] = {
    "seed_labelled": (*_LISTING, *_TRUTH),
    "seed_labelled_truth": ("listing_id", "category", "flaw"),
    "seed_validation": (*_LISTING, *_TRUTH),
    "seed_unlabelled": _LISTING,
    "seed_unlabelled_truth": ("listing_id", *_TRUTH),
    "month_1": _LISTING,
    "month_1_truth": ("listing_id", *_TRUTH),
    "month_2": _LISTING,
    "month_2_truth": ("listing_id", *_TRUTH, "week", "origin"),
    "corrections_month_2": ("listing_id", "category", "corrected_at", "reporter"),
    "taxonomy": ("category_id", "category", "family", "department"),
    "taxonomy_tree": ("id", "name", "parent", "level"),
    "repeated_titles": (*_CONTENT, "product_id", "product_name", "category_id", "category"),
    "examples": (*_LISTING, *_TRUTH),
}
"""The files and their columns in order. Beside the real marketplace's: descriptions, images, families,
seed_labelled_truth and taxonomy_tree."""

_ORIGIN: dict[bytes | str, bytes | str] = {b"everloop.demo": b"simulated marketplace, nothing in it is real"}


def write(folder: Path, name: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Write one of COLUMNS' files; each row holds at least its columns. An older file is replaced in one step."""
    schema = pa.schema([(column, _TYPES[column]) for column in COLUMNS[name]], metadata=_ORIGIN)
    table = pa.table({column: [row[column] for row in rows] for column in COLUMNS[name]}, schema=schema)
    unfinished = folder / f".{name}.parquet.part"
    pq.write_table(table, unfinished, compression="zstd")
    unfinished.replace(folder / f"{name}.parquet")
