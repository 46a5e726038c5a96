from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from everloop.checks import CheckInput, CheckResult, gate, run_checks
from everloop.checks.calibration import calibration
from everloop.errors import Invalid
from tests.checks.tables import shop


def answers(chance: Any, hit: Any, **more: Any) -> CheckInput:
    """Answers that were given with these probabilities, and were right or not."""
    ids = list(range(len(chance)))
    test = pa.table({"_row_id": ids, "label": ["yes" if one else "no" for one in hit], **more})
    told = pa.table(
        {"_row_id": ids, "label": test["label"], "predicted": ["yes"] * len(ids), "score": pa.array(chance)}
    )
    return replace(shop(8), test=test, predictions=told)


def drawn(n: int, *, promised: float = 0.0, seed: int = 0) -> CheckInput:
    """Answers whose probabilities promise so much more than is true."""
    random = np.random.default_rng(seed)
    truth = random.uniform(0.5, 0.9, n)
    return answers(truth + promised, random.random(n) < truth)


def judged(given: CheckInput, **options: Any) -> CheckResult:
    return run_checks(given, [gate("calibration", **options)])[-1]


def test_the_numbers_are_those_of_a_calculation_by_hand() -> None:
    result = judged(answers([0.6] * 20 + [0.9] * 20, [1] * 10 + [0] * 10 + [1] * 20))
    numbers = result.numbers
    assert numbers["expected_error"] == pytest.approx((0.1 + 0.1) / 2)  # 0.6 for 0.5, and 0.9 for 1
    assert numbers["brier"] == pytest.approx((10 * 0.4**2 + 10 * 0.6**2 + 20 * 0.1**2) / 40)
    assert numbers["mean_probability"] == pytest.approx(0.75)
    assert numbers["right"] == 0.75
    assert result.details == (
        {"rows": 20, "from": 0.6, "to": 0.6, "probability": 0.6, "right": 0.5},
        {"rows": 20, "from": 0.9, "to": 0.9, "probability": 0.9, "right": 1.0},
    )


def test_the_numbers_are_those_of_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss

    given = drawn(1500, promised=0.08)
    assert given.predictions is not None
    chance = given.predictions["score"].to_numpy()
    hit = np.array([one == "yes" for one in given.predictions["label"].to_pylist()])
    right, probability = calibration_curve(hit, chance, n_bins=15, strategy="quantile")
    numbers = calibration(given).numbers
    assert numbers["expected_error"] == pytest.approx(np.abs(right - probability).mean(), abs=1e-6)
    assert numbers["brier"] == pytest.approx(brier_score_loss(hit, chance))


@pytest.mark.parametrize(("promised", "verdict"), [(0.0, "passed"), (0.1, "warned")])
def test_without_a_limit_promising_too_much_is_a_warning(promised: float, verdict: str) -> None:
    assert judged(drawn(2000, promised=promised)).verdict == verdict


def test_with_a_limit_it_fails_and_names_the_surest_errors() -> None:
    result = judged(drawn(2000, promised=0.1), at_most=0.05)
    assert result.verdict == "failed"
    assert result.numbers["low"] is not None
    assert result.numbers["low"] > 0.05
    given = drawn(2000, promised=0.1).predictions
    assert given is not None
    surest = given.take(list(result.evidence))
    assert set(surest["label"].to_pylist()) == {"no"}
    assert surest["score"].to_numpy().min() > 0.9


def test_the_brier_score_may_be_what_is_limited() -> None:
    given = drawn(2000)
    assert judged(given, measure="brier", at_most=0.25).verdict == "passed"
    result = judged(given, measure="brier", at_most=0.1)
    assert (result.verdict, result.numbers["value"]) == ("failed", result.numbers["brier"])
    assert "The Brier score must be at most 0.1." in result.rule


def test_with_confidence_the_bound_decides() -> None:
    given = drawn(500, promised=0.05)
    value = calibration(given).numbers["expected_error"]
    assert value is not None
    assert judged(given, at_most=value + 0.001).verdict == "passed"
    assert judged(given, at_most=value + 0.001, confidence=0.95).verdict == "failed"


def test_right_probabilities_exceed_chance_at_the_stated_rate_at_most() -> None:
    numbers = [calibration(drawn(200, seed=seed)).numbers for seed in range(60)]
    beyond = sum((one["expected_error"] or 0) > (one["by_chance"] or 0) for one in numbers)
    assert beyond <= 4  # 0.6 are expected; more than 4 come in one of 1,000 runs


def test_an_error_that_chance_explains_is_no_warning() -> None:
    result = judged(drawn(100))
    assert (result.numbers["expected_error"] or 0) >= 0.05
    assert result.verdict == "passed"


def test_the_interval_holds_what_was_measured() -> None:
    for seed in range(8):  # drawing rows anew adds noise, which would move some of these intervals past it
        numbers = calibration(drawn(200, seed=seed)).numbers
        assert (numbers["low"] or 0) < (numbers["value"] or 0) < (numbers["high"] or 0)


def test_the_interval_covers_what_is_true() -> None:
    found = [calibration(drawn(2000, promised=0.08, seed=seed)).numbers for seed in range(40)]
    assert sum((one["low"] or 0) <= 0.08 <= (one["high"] or 0) for one in found) > 34


def test_rows_of_one_group_are_drawn_together() -> None:
    given = answers(
        [0.7] * 200, [number % 40 < 20 for number in range(200)], shop=[one // 20 for one in range(200)]
    )
    alone, together = (calibration(one).numbers for one in (given, replace(given, group="shop")))
    assert alone["value"] == pytest.approx(together["value"])
    assert (together["high"] or 0) > (alone["high"] or 0)


@pytest.mark.parametrize("score", [[None] * 40, [1.5] * 40])
def test_without_right_probabilities_it_does_not_pass(score: list[float | None]) -> None:
    result = judged(answers(pa.array(score, pa.float64()), [True] * 40))
    assert result.verdict == "failed"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"measure": "luck", "at_most": 0.1}, "has the measure 'luck'"),
        ({"measure": "brier"}, "has no limit"),
        ({"at_least": 0.1}, "no option at_least"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        gate("calibration", **options)
