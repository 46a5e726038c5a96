"""A simulated marketplace, made once for all tests: the small size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everloop.demo import generate

Table = Callable[[str], pa.Table]


@pytest.fixture(scope="session")
def marketplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a marketplace of the fast size and seed 7."""
    folder = tmp_path_factory.mktemp("demo") / "marketplace"
    generate(folder, fast=True)
    return folder


@pytest.fixture(scope="session")
def table(marketplace: Path) -> Table:
    """Reads one of the marketplace's files by name."""
    return lambda name: pq.read_table(marketplace / f"{name}.parquet")
