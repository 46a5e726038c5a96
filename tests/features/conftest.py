from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def snapshot(tmp_path: Path) -> Iterator[Path]:
    """A code folder to be loaded from, with a feature that imports a sibling module."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "sibling_of_loop.py").write_text("FACTOR = 2\n")
    (folder / "loop_under_test.py").write_text(
        "from __future__ import annotations\n"
        "from sibling_of_loop import FACTOR\n\n\n"
        "def volume(past) -> int:\n"
        "    return FACTOR * past.num_rows\n"
    )
    yield folder
    assert "loop_under_test" not in sys.modules
