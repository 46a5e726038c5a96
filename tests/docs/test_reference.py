"""The pages that are made from the code are up to date."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
from pathlib import Path

import pytest

from docs.generate import DOCS, PAGES, error_classes
from everloop.settings import Settings

SOURCE = DOCS.parent / "src"
WITH_EXAMPLES = [path for path in sorted(SOURCE.rglob("*.py")) if ">>> " in path.read_text()]


def _module(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("page", PAGES)
def test_a_generated_page_is_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text() == PAGES[page](), "run: make docs"


@pytest.mark.parametrize("setting", [one.name for one in dataclasses.fields(Settings)])
def test_every_setting_is_documented(setting: str) -> None:
    assert f"`{setting}`" in (DOCS / "reference/settings.md").read_text()


@pytest.mark.parametrize("code", [one.code for one in error_classes()])
def test_every_error_code_is_documented_once(code: str) -> None:
    assert (DOCS / "reference/errors.md").read_text().count(f"| `{code}` |") == 1


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=_module)
def test_examples_in_docstrings_give_what_they_show(path: Path) -> None:
    assert doctest.testmod(importlib.import_module(_module(path))).failed == 0
