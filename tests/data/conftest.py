"""A dataset to work on."""

from __future__ import annotations

import pytest

from everloop import data
from everloop.workspace import Workspace


@pytest.fixture
def shop(ws: Workspace) -> Workspace:
    """A workspace with the dataset `items`, which has the key `id` and no version yet."""
    data.define(ws, "items", key="id")
    return ws


@pytest.fixture
def any_shop(any_ws: Workspace) -> Workspace:
    """As `shop`, once on SQLite and once on PostgreSQL."""
    data.define(any_ws, "items", key="id")
    return any_ws
