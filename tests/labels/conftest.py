"""Small datasets to label."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest

from everloop import data, labels
from everloop.clock import SimulatedClock
from everloop.labels import LabelSchema
from everloop.workspace import Workspace

CLASSES = ("TVs", "Fridges", "Freezers", "Fridge Freezers")


def goods(ws: Workspace, rows: int = 20) -> None:
    """A dataset `goods` with the keys 1 to `rows`."""
    keys = list(range(1, rows + 1))
    data.define(ws, "goods", key="sku", inputs=["title"])
    data.ingest(ws, "goods", pa.table({"sku": keys, "title": [f"thing {key}" for key in keys]}))


def pass_time(ws: Workspace, **by: float) -> None:
    """Move the simulation's clock on, for example by `hours=2`."""
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(**by))


@pytest.fixture
def kind(ws: Workspace) -> LabelSchema:
    """A label set `kind` of four classes over twenty goods."""
    goods(ws)
    return labels.define(ws, "kind", dataset="goods", classes=CLASSES)


@pytest.fixture
def any_kind(any_ws: Workspace) -> LabelSchema:
    """As `kind`, on both databases."""
    goods(any_ws)
    return labels.define(any_ws, "kind", dataset="goods", classes=CLASSES)
