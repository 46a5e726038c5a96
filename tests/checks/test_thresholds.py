from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from everloop.checks import CheckInput, CheckResult, Gate, Live, gate
from everloop.checks.thresholds import metric_gate
from tests.checks.tables import predictions, shop

FLOOR = gate("accuracy", at_least=0.9)
RELATIVE = gate("accuracy", below_live_by_at_most=0.01)


def wrong_on(given: CheckInput, rows: range) -> list[str]:
    """Answers for the test rows, wrong at these positions."""
    truth = given.test["label"].to_pylist()
    flip = {"drink": "other", "other": "drink"}
    return [flip[str(one)] if place in rows else str(one) for place, one in enumerate(truth)]


def candidate(wrong: range, *, live: range | None = None, n: int = 2000) -> CheckInput:
    """A candidate that is wrong on some test rows, and a live version that is wrong on others; n / 4 test rows."""
    given = shop(n)
    answers = predictions(given, wrong_on(given, wrong))
    if live is None:
        return replace(given, predictions=answers)
    theirs = predictions(given, wrong_on(given, live)).drop_columns(["label"])
    return replace(given, predictions=answers, live=Live("shop@1", theirs))


def judged(given: CheckInput, condition: Gate) -> CheckResult:
    return metric_gate(given, condition)


@pytest.mark.parametrize(("wrong", "verdict"), [(50, "passed"), (51, "failed")])
def test_the_measured_number_decides_an_absolute_gate(wrong: int, verdict: str) -> None:
    result = judged(candidate(range(wrong)), FLOOR)
    assert result.verdict == verdict
    assert result.numbers["value"] == 1 - wrong / 500
    assert result.name == "accuracy:at_least"


def test_with_confidence_the_bound_decides() -> None:
    sure = gate("accuracy", at_least=0.9, confidence=0.95)
    result = judged(candidate(range(45)), sure)
    assert (result.verdict, result.numbers["value"]) == ("failed", 0.91)
    assert judged(candidate(range(25)), sure).verdict == "passed"


def test_the_bound_is_that_of_an_exact_binomial_interval_on_plain_rows() -> None:
    result = judged(candidate(range(50)), FLOOR)
    exact = stats.binomtest(450, 500).proportion_ci(method="exact")
    assert (result.numbers["low"], result.numbers["high"]) == pytest.approx((exact.low, exact.high), abs=0.01)


def test_too_few_rows_fail_an_absolute_gate_that_asks_for_more() -> None:
    given = candidate(range(2), n=800)
    assert judged(given, gate("accuracy", at_least=0.9, min_rows=200)).verdict == "passed"
    result = judged(given, gate("accuracy", at_least=0.9, min_rows=201))
    assert result.verdict == "failed"
    assert "It rests on 200 labelled rows: not enough to decide." in result.found
    assert "min_rows" in result.remedy


def test_rows_of_other_classes_are_no_evidence_for_one() -> None:
    given = candidate(range(0), n=800)
    drinks = given.test["label"].to_pylist().count("drink")
    asked = [gate("recall:drink", at_least=0.9, min_rows=rows) for rows in (drinks, drinks + 1)]
    assert [judged(given, one).verdict for one in asked] == ["passed", "failed"]


def test_a_logged_metric_says_nothing_of_its_rows() -> None:
    given = replace(candidate(range(5)), metrics={"auc": 0.95})
    assert judged(given, gate("auc", at_least=0.9, min_rows=1)).verdict == "failed"


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "recall:drink", "f1:other"])
def test_eight_of_eight_right_shows_little(metric: str) -> None:
    given = candidate(range(0), n=32)
    assert judged(given, gate(metric, at_least=0.9)).verdict == "passed"
    assert judged(given, gate(metric, at_least=0.9, confidence=0.95)).verdict == "failed"


@pytest.mark.parametrize("metric", ["recall:drink", "precision:drink", "f1:drink"])
def test_the_bounds_of_one_class_are_exact(metric: str) -> None:
    given = candidate(range(40), n=800)
    truth, answers = (np.array(given.predictions[one].to_pylist()) for one in ("label", "predicted"))  # type: ignore[index]
    right = int(((truth == "drink") & (answers == "drink")).sum())
    rests_on = {"recall": truth == "drink", "precision": answers == "drink"}.get(
        metric.partition(":")[0], (truth == "drink") | (answers == "drink")
    )
    exact = stats.binomtest(right, int(rests_on.sum())).proportion_ci(method="exact")
    expected = [2 * one / (1 + one) if "f1" in metric else one for one in (exact.low, exact.high)]
    result = judged(given, gate(metric, at_least=0.5))
    assert [result.numbers["low"], result.numbers["high"]] == pytest.approx(expected)
    assert result.numbers["rows"] == rests_on.sum()


def test_the_exact_bounds_of_an_average_hold_for_all_its_classes() -> None:
    given = candidate(range(0), n=400)
    number = given.test["label"].to_pylist().count("drink"), given.test["label"].to_pylist().count("other")
    shares = [
        (0.025 / 2) ** (1 / one) for one in number
    ]  # none wrong of so many, Bonferroni over two classes
    result = judged(given, gate("macro_f1", at_least=0.5))
    assert result.numbers["low"] == pytest.approx(np.mean([2 * one / (1 + one) for one in shares]))
    assert result.numbers["high"] == 1.0


def test_faultless_rows_of_few_groups_count_as_few_rows() -> None:
    given = candidate(range(0), n=400)
    groups = pa.array([place // 50 for place in range(100)])
    grouped = replace(given, group="thing", test=given.test.append_column("thing", groups))
    assert judged(grouped, FLOOR).numbers["low"] == pytest.approx(0.025 ** (1 / 2))


def test_predictions_count_not_what_was_logged() -> None:
    result = judged(replace(candidate(range(100)), metrics={"accuracy": 0.99}), FLOOR)
    assert result.verdict == "failed"
    assert "though 0.9900 was logged" in result.found


def test_a_metric_that_was_only_logged_is_taken_but_shows_no_confidence() -> None:
    given = replace(candidate(range(5)), metrics={"auc": 0.95})
    assert judged(given, gate("auc", at_least=0.9)).verdict == "passed"
    assert judged(given, gate("auc", at_least=0.9, confidence=0.9)).verdict == "failed"


def test_an_upper_limit() -> None:
    given = replace(candidate(range(5)), metrics={"log_loss": 0.4})
    assert judged(given, gate("log_loss", at_most=0.5)).verdict == "passed"
    assert judged(given, gate("log_loss", at_most=0.3)).verdict == "failed"


def test_an_unknown_metric_fails_and_the_near_name_is_told() -> None:
    result = judged(candidate(range(5)), gate("acuracy", at_least=0.9))
    assert result.verdict == "failed"
    assert "Did you mean 'accuracy'?" in result.remedy


def test_a_metric_that_is_no_number_fails() -> None:
    given = replace(shop(), metrics={"loss": math.nan})
    assert judged(given, gate("loss", at_most=1.0)).verdict == "failed"


def test_missing_predictions_of_numbers_do_not_pass() -> None:
    given = shop()
    truth = np.arange(100.0)
    answers = pa.table({"_row_id": given.test["_row_id"], "label": truth, "predicted": [None, *truth[1:]]})
    test = given.test.set_column(4, "label", pa.array(truth))
    given = replace(given, train=test, test=test, predictions=answers, metrics={"r2": 1.0})
    assert judged(given, gate("r2", at_least=0.5)).verdict == "failed"


def test_missing_predictions_of_classes_are_wrong_ones() -> None:
    given = shop()
    answers = predictions(given, [None] * 60 + given.test["label"].to_pylist()[60:])
    assert judged(replace(given, predictions=answers), FLOOR).numbers["value"] == 0.4


def test_without_a_live_version_there_is_nothing_to_compare() -> None:
    assert judged(candidate(range(5)), RELATIVE).verdict == "skipped"


@pytest.mark.parametrize(("wrong", "verdict"), [(35, "passed"), (30, "passed"), (36, "failed")])
def test_a_candidate_may_be_worse_by_the_margin(wrong: int, verdict: str) -> None:
    result = judged(candidate(range(wrong), live=range(30)), RELATIVE)  # 5 of 500 rows are the margin
    assert result.verdict == verdict
    assert result.numbers["better_by"] == pytest.approx((30 - wrong) / 500)


def test_pairing_makes_the_interval_narrow() -> None:
    same = judged(candidate(range(31), live=range(30)), RELATIVE)
    other = judged(candidate(range(31), live=range(100, 130)), RELATIVE)
    widths = [(one.numbers["high"] or 0) - (one.numbers["low"] or 0) for one in (same, other)]
    assert widths[0] < widths[1] / 3


def test_the_paired_interval_is_that_of_the_differences() -> None:
    result = judged(candidate(range(40), live=range(20, 50)), RELATIVE)
    differences = np.array([0] * 450 + [-1] * 20 + [0] * 20 + [1] * 10)
    error = 1.96 * differences.std() / math.sqrt(500)
    assert result.numbers["low"] == pytest.approx(differences.mean() - error, abs=0.003)


def test_with_confidence_a_tie_needs_rows() -> None:
    sure = gate("accuracy", below_live_by_at_most=0.01, confidence=0.95)
    assert judged(candidate(range(30), live=range(30)), sure).verdict == "passed"  # the same answers
    assert judged(candidate(range(30), live=range(100, 130)), sure).verdict == "failed"


def test_a_worse_candidate_is_caught_and_an_equal_one_seldom_blocked() -> None:
    random = np.random.default_rng(9)
    blocked = {0.0: 0, 0.05: 0}
    for worse in blocked:
        for _ in range(40):
            given = shop(2000)
            luck, own = random.random(500), random.random(500)
            truth = np.array(given.test["label"].to_pylist())
            flipped = np.where(truth == "drink", "other", "drink")
            live = np.where(luck < 0.1, flipped, truth)
            ours = np.where((luck < 0.1) ^ (own < worse), flipped, truth)
            theirs = predictions(given, live.tolist()).drop_columns(["label"])
            pair = replace(given, predictions=predictions(given, ours.tolist()), live=Live("shop@1", theirs))
            blocked[worse] += judged(pair, RELATIVE).verdict == "failed"
    assert blocked[0.0] == 0
    assert blocked[0.05] >= 38


def test_too_few_common_rows_fail_unless_the_gate_asks_for_fewer() -> None:
    given = candidate(range(2), live=range(2), n=200)
    result = judged(given, RELATIVE)
    assert result.verdict == "failed"
    assert "Only 50 rows" in result.found
    assert judged(given, gate("accuracy", below_live_by_at_most=0.01, min_rows=50)).verdict == "passed"


def test_thin_classes_are_left_out_and_named() -> None:
    given = candidate(range(10), live=range(10))
    label = ["rare"] * 9 + given.test["label"].to_pylist()[9:]
    test = given.test.set_column(4, "label", pa.array(label))
    answers = predictions(replace(given, test=test), ["other"] * 9 + label[9:])
    live = Live("shop@1", predictions(replace(given, test=test), label).drop_columns(["label"]))
    result = judged(
        replace(given, test=test, predictions=answers, live=live),
        gate("macro_f1", below_live_by_at_most=0.01),
    )
    assert result.verdict == "passed"  # the live version knows the rare class, but nine rows do not decide
    assert (result.numbers["rows"], result.numbers["left_out_classes"]) == (491, 1)
    assert "left out as too thin: rare" in result.found


def test_a_gate_on_a_thin_class_alone_cannot_be_decided() -> None:
    given = candidate(range(0), live=range(0))
    label = pa.array(["rare"] * 9 + given.test["label"].to_pylist()[9:])
    test = given.test.set_column(4, "label", label)
    answers = predictions(replace(given, test=test), label.to_pylist())
    given = replace(given, test=test, predictions=answers, live=Live("shop@1", answers))
    assert judged(given, gate("recall:rare", below_live_by_at_most=0.5)).verdict == "failed"


def test_rows_of_one_group_are_not_independent_evidence() -> None:
    given = candidate(range(40), live=range(20))
    groups = pa.array([place // 10 for place in range(500)])
    grouped = replace(given, group="thing", test=given.test.append_column("thing", groups))
    by_row, by_group = judged(given, RELATIVE), judged(grouped, RELATIVE)
    widths = [(one.numbers["high"] or 0) - (one.numbers["low"] or 0) for one in (by_row, by_group)]
    assert widths[1] > 2 * widths[0]
    assert "resampled by groups" in by_group.found


def test_the_error_of_numbers_may_be_larger_by_the_margin() -> None:
    given = shop(800)
    truth = np.random.default_rng(0).normal(size=200)
    test = given.test.set_column(4, "label", pa.array(truth))
    ids = given.test["_row_id"]
    live = Live("shop@1", pa.table({"_row_id": ids, "predicted": truth + 0.5}))
    for error, verdict in ((0.55, "passed"), (0.7, "failed"), (0.1, "passed")):
        answers = pa.table({"_row_id": ids, "label": truth, "predicted": truth + error})
        rows = replace(given, train=test, test=test, predictions=answers, live=live)
        assert judged(rows, gate("mae", below_live_by_at_most=0.1)).verdict == verdict


def test_logged_values_are_compared_when_nothing_better_is_there() -> None:
    given = replace(shop(), metrics={"auc": 0.9}, live=Live("shop@1", None, {"auc": 0.95}))
    assert judged(given, gate("auc", below_live_by_at_most=0.1)).verdict == "passed"
    assert judged(given, gate("auc", below_live_by_at_most=0.01)).verdict == "failed"
    assert judged(given, gate("auc", below_live_by_at_most=0.1, confidence=0.9)).verdict == "failed"


def test_the_same_rows_give_the_same_result() -> None:
    given = candidate(range(40), live=range(20))
    assert judged(given, RELATIVE) == judged(given, RELATIVE)
