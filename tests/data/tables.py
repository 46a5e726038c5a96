"""Rows for the tests, and what a version holds in a form that is easy to compare."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from everloop import data
from everloop.workspace import Workspace


def items(*rows: tuple[Any, ...], names: tuple[str, ...] = ("id", "title", "price")) -> pa.Table:
    """A table of rows given as tuples: id, title, price."""
    return pa.table({name: pa.array([row[at] for row in rows]) for at, name in enumerate(names)})


def known(ws: Workspace, ref: str = "items", *columns: str) -> dict[int, tuple[Any, ...]]:
    """What a version holds: by row id, the values of the columns."""
    rows = data.read(ws, ref, columns=columns or None).to_pylist()
    return {row.pop("_row_id"): tuple(row.values()) for row in rows}
