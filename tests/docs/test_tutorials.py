"""Whoever follows a tutorial sees what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.page_runner import run_page

pytestmark = pytest.mark.slow
TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorial"


@pytest.mark.parametrize("name", ["texts"])
def test_a_tutorial_does_what_it_says(name: str, tmp_path: Path) -> None:
    run_page(TUTORIALS / f"{name}.md", tmp_path)
