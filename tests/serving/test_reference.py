"""The reference page names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from everloop.predictions.tables import SCHEMA
from everloop.serving.answer import _MESSAGES
from everloop.serving.app import QUEUE_LIMIT
from everloop.serving.form import MOST_INSTANCES
from everloop.serving.http import BODY_LIMIT_BYTES
from everloop.serving.open_inference import OUTPUTS
from everloop.serving.paths import ROUTES
from everloop.serving.tensors import DATATYPES

REPOSITORY = Path(__file__).resolve().parents[2]
REFERENCE = REPOSITORY / "docs" / "reference"
PAGE = (REFERENCE / "predictions.md").read_text()
PROTOCOLS = (REFERENCE / "serving-protocols.md").read_text()
SOURCE = "".join(
    (REPOSITORY / "src" / "everloop" / "serving" / f"{name}.py").read_text()
    for name in (
        "app",
        "answer",
        "http",
        "form",
        "own_json",
        "kserve_v1",
        "mlflow_scoring",
        "open_inference",
        "tensors",
    )
)
CODES = set(re.findall(r'(?:Refusal\(\s*\d+,\s*|_failed\(asked, )"(\w+)"', SOURCE)) | {
    "storage_failed",
    "too_large",
    *_MESSAGES,
}


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_each_route_is_described(route: tuple[str, str, str]) -> None:
    assert f"| {route[0]} | `{route[1]}` |" in PAGE + PROTOCOLS


def test_each_error_code_is_described_and_no_other() -> None:
    assert set(re.findall(r"^\| \d{3} \| `(\w+)` \|", PAGE, flags=re.MULTILINE)) == CODES


@pytest.mark.parametrize("column", SCHEMA.names)
def test_each_column_of_the_log_is_described(column: str) -> None:
    assert f"`{column}`" in PAGE


def test_limits_are_those_of_the_code() -> None:
    assert f"over {BODY_LIMIT_BYTES // 2**20} MiB" in PAGE
    assert f"{QUEUE_LIMIT:,} requests wait" in PAGE
    assert f"Up to {MOST_INSTANCES:,} instances" in PAGE


def test_what_other_protocols_give_is_described() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| [A-Z0-9]+", PROTOCOLS, flags=re.MULTILINE)) == set(OUTPUTS)
    assert all(f"`{datatype}`" in PROTOCOLS for datatype in DATATYPES)
