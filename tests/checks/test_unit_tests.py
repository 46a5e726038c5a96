"""Tests of features as gates, which pytest runs as well; and checks that hang or crash."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as cases
from hypothesis import strategies as st

from everloop.checks import CHECKS, CheckInput, CheckResult, check, feature_test, gate, run_checks
from everloop.errors import Invalid
from tests.checks.tables import shop


@pytest.fixture(autouse=True)
def _only_built_in() -> Iterator[None]:
    before = dict(CHECKS)
    yield
    CHECKS.clear()
    CHECKS.update(before)


def judged(function: Callable[..., Any], **options: Any) -> CheckResult:
    return run_checks(shop(60), [gate(function, **options)])[-1]


def volume(past: list[int]) -> int:
    """A feature as a user writes it, wrong for three."""
    return len(past) if len(past) != 3 else 0


def test_an_example_that_holds_passes_and_stays_a_function() -> None:
    @feature_test
    def two_listings() -> None:
        """Two listings count as two."""
        assert volume([1, 2]) == 2

    assert two_listings() is None
    assert judged(two_listings).verdict == "passed"
    assert CHECKS["two_listings"].question == "Two listings count as two."


def test_an_example_that_does_not_hold_fails_in_its_words() -> None:
    @feature_test
    def three_listings() -> None:
        assert volume([1, 2, 3]) == 3, "three are three"

    assert judged(three_listings).found == "three are three."


def test_a_property_is_broken_by_a_case_that_is_told() -> None:
    @feature_test
    @cases(st.lists(st.integers(0, 9), max_size=5))
    def counts_all(past: list[int]) -> None:
        assert volume(past) == len(past)

    result = judged(counts_all)
    assert result.verdict == "failed"
    assert "past=[0, 0, 0]" in result.found
    assert judged(counts_all) == result


def test_pytest_runs_the_same_tests(tmp_path: Path) -> None:
    (tmp_path / "test_features.py").write_text(
        "import everloop as el\n"
        "from hypothesis import given, strategies as st\n\n"
        "@el.feature_test\ndef test_one():\n    assert len([1]) == 1\n\n"
        "@el.feature_test\n@given(st.lists(st.integers()))\ndef test_all(past):\n    assert len(past) >= 0\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "2 passed" in ended.stdout, ended.stdout + ended.stderr


def test_a_test_with_parameters_is_refused() -> None:
    def needs(past: list[int]) -> None: ...

    with pytest.raises(Invalid, match="asks for past"):
        feature_test(needs)


def test_a_check_that_hangs_is_killed_and_told() -> None:
    @check(timeout_s=0.5)
    def hangs(given: CheckInput) -> bool:
        while True:
            try:
                time.sleep(60)
            except BaseException:  # noqa: BLE001, S112  (as stubborn as a check can be)
                continue

    begun = time.monotonic()
    result = judged(hangs)
    assert time.monotonic() - begun < 20
    assert result.verdict == "failed"
    assert result.found == "It was still running after 0.5 s and was killed."
    assert "timeout_s" in result.remedy


def test_a_check_that_crashes_takes_nothing_with_it() -> None:
    @check
    def crashes(given: CheckInput) -> bool:
        os.kill(os.getpid(), 9)
        return True

    @check
    def leaves(given: CheckInput) -> bool:
        os._exit(3)

    assert judged(crashes).found == "Its process died of SIGKILL."
    assert judged(leaves).found == "Its process ended with code 3 before it had answered."


def test_a_check_may_use_a_model_that_ran_in_threads_before() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = shop(400)
    x = rows.train["price"].to_numpy()[:, None]
    model = HistGradientBoostingClassifier(max_iter=5).fit(x, rows.train["label"].to_pylist())
    model.predict(x)

    @check(timeout_s=60)
    def answers(given: CheckInput) -> bool:
        return len(model.predict(x)) == len(x)

    assert judged(answers).verdict == "passed"


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_limit_is_some_seconds(seconds: float) -> None:
    with pytest.raises(Invalid, match="timeout_s"):
        check(timeout_s=seconds)(lambda given: True)
