"""Pictures of checks' results: what they show, and that a check nobody knows of still shows its numbers."""

from __future__ import annotations

from typing import Any

import pytest

from everloop.checks import CheckResult
from everloop.web.pictures import nice_scale, picture_of


def result(name: str, *details: dict[str, Any], **numbers: float | None) -> CheckResult:
    return CheckResult(name, "failed", "found", "rule", "remedy", numbers, details=details)


def test_a_metric_stands_with_its_interval_against_its_limit() -> None:
    found = picture_of(result("macro_f1:at_least", value=0.71, limit=0.8, low=0.66, high=0.75, rows=200))
    assert found is not None
    (spot,) = found.spots
    assert (spot.value, spot.low, spot.high, spot.is_marked) == (0.71, 0.66, 0.75, True)
    assert found.limits == ((0.8, "the gate's limit"),)
    assert 0 < found.place(0.71) < found.place(0.8) <= 1000


def test_a_metric_against_the_live_version_is_how_much_better_it_is() -> None:
    numbers = {"value": 0.71, "live": 0.7, "better_by": 0.01, "margin": 0.02, "low": -0.01, "high": 0.03}
    found = picture_of(result("macro_f1:below_live", **numbers))
    assert found is not None
    assert [limit for limit, _ in found.limits] == [0.0, -0.02]
    assert found.place(-0.02) < found.place(0.0) < found.place(found.spots[0].value)


@pytest.mark.parametrize(
    ("name", "details", "kind"),
    [
        (
            "slices",
            {
                "column": "seller",
                "value": "3",
                "rows": 40,
                "quality": 0.5,
                "low": 0.3,
                "high": 0.7,
                "others": 0.9,
            },
            "intervals",
        ),
        ("calibration", {"rows": 20, "from": 0.1, "to": 0.3, "probability": 0.2, "right": 0.4}, "curve"),
        (
            "fairness",
            {
                "by": "sex",
                "favourable": "yes",
                "group": "f",
                "rows": 90,
                "selected": 0.2,
                "true_positive_rate": None,
            },
            "bars",
        ),
        ("robustness", {"by": "typos", "lost": 0.04, "low": 0.01, "high": 0.07}, "intervals"),
        ("drift", {"column": "title", "distance": 0.2, "chance": 0.05}, "bars"),
        ("classes", {"class": "Tea", "train_rows": 90, "test_rows": 4}, "bars"),
        (
            "leakage",
            {"column": "sku", "skill": 1.0, "skill_at_least": 0.9, "rows": 60, "level": "certain"},
            "bars",
        ),
    ],
)
def test_a_built_in_check_is_drawn_from_what_it_kept(name: str, details: dict[str, Any], kind: str) -> None:
    found = picture_of(result(name, details))
    assert found is not None
    assert (found.kind, bool(found.spots)) == (kind, True)


def test_a_report_whose_table_has_another_shape_is_shown_without_a_picture() -> None:
    assert picture_of(result("slices", {"column": "seller"}, overall=0.9)) is None
    assert picture_of(result("leakage", {"column": "seller", "skill": 0.2})) is None


def test_a_check_that_nobody_knows_of_has_no_picture_and_one_with_a_limit_has() -> None:
    assert picture_of(result("golden", wrong=3)) is None
    assert picture_of(result("latency:p95", value=12.0, limit=10.0)) is not None


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.82, 0.97), (-3, 4), (5, 5), (0, 0), (1e-6, 3e-6), (0, 8e9)]
)
def test_a_scale_holds_what_it_is_made_for_with_few_round_steps(low: float, high: float) -> None:
    first, last, step = nice_scale(low, high)
    assert first <= low <= high <= last
    assert 1 <= round((last - first) / step) <= 6
