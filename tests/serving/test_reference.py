"""The reference page names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from everloop.serving.app import BODY_LIMIT_BYTES, MOST_INSTANCES, QUEUE_LIMIT, ROUTES
from everloop.serving.log import SCHEMA

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "reference" / "predictions.md").read_text()
SOURCE = "".join(
    (REPOSITORY / "src" / "everloop" / "serving" / f"{name}.py").read_text()
    for name in ("app", "answer", "http")
)
CODES = set(re.findall(r'(?:Refusal\(\s*\d+,\s*|_failed\(asked, )"(\w+)"', SOURCE)) | {"storage_failed"}


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_each_route_is_described(route: tuple[str, str, str]) -> None:
    assert f"| {route[0]} | `{route[1]}` |" in PAGE


def test_each_error_code_is_described_and_no_other() -> None:
    assert set(re.findall(r"^\| \d{3} \| `(\w+)` \|", PAGE, flags=re.MULTILINE)) == CODES


@pytest.mark.parametrize("column", SCHEMA.names)
def test_each_column_of_the_log_is_described(column: str) -> None:
    assert f"`{column}`" in PAGE


def test_limits_are_those_of_the_code() -> None:
    assert f"over {BODY_LIMIT_BYTES // 2**20} MiB" in PAGE
    assert f"{QUEUE_LIMIT:,} requests wait" in PAGE
    assert f"Up to {MOST_INSTANCES:,} instances" in PAGE
