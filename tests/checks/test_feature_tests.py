from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from everloop.checks import CheckResult, FeatureTest, run_checks
from tests.checks.tables import shop, without_rows


def run(function: Any) -> CheckResult:
    return run_checks(replace(shop(), feature_tests=(FeatureTest("shade is known", function),)))[-1]


def test_a_statement_that_holds_passes_under_its_own_name() -> None:
    result = run(lambda rows: pc.is_in(rows["shade"], pa.array(["red", "green", "blue"])))
    assert (result.name, result.verdict) == ("feature_test:shade is known", "passed")


def test_rows_that_break_it_are_counted_and_shown() -> None:
    given = shop()
    result = run(lambda rows: pa.array([shade != "blue" for shade in rows["shade"].to_pylist()]))
    assert result.verdict == "failed"
    assert result.numbers["broken_train_rows"] == given.train["shade"].to_pylist().count("blue")
    shades = dict(zip(given.train["_row_id"].to_pylist(), given.train["shade"].to_pylist(), strict=True))
    assert {shades[row] for row in result.evidence} == {"blue"}


@pytest.mark.parametrize(
    ("answer", "verdict"), [(True, "passed"), (False, "failed"), (None, "failed"), ([True], "failed")]
)
def test_a_statement_about_the_whole(answer: Any, verdict: str) -> None:
    assert run(lambda rows: answer).verdict == verdict


def test_nulls_break_it() -> None:
    assert run(lambda rows: pa.array([None] * rows.num_rows, pa.bool_())).verdict == "failed"


def test_a_test_that_raises_has_failed() -> None:
    result = run(lambda rows: rows["no such column"])
    assert result.verdict == "failed"
    assert "KeyError" in result.found


def test_a_false_statement_about_no_rows_is_still_false() -> None:
    given = replace(without_rows(shop()), feature_tests=(FeatureTest("any", lambda rows: rows.num_rows > 0),))
    assert run_checks(given)[-1].verdict == "failed"
