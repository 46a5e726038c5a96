"""Checks that users write: what they may return, what happens when they go wrong, and that a change is noticed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from everloop.checks import CHECKS, CheckInput, CheckResult, Gate, Limit, Plot, Point, check, gate, run_checks
from everloop.errors import Conflict, Invalid
from tests.checks.tables import shop

Load = Callable[..., ModuleType]


@pytest.fixture(autouse=True)
def _only_built_in() -> Iterator[None]:
    before = dict(CHECKS)
    yield
    CHECKS.clear()
    CHECKS.update(before)


def judged(function: Callable[..., Any], **options: Any) -> CheckResult:
    return run_checks(shop(), [gate(check(function), **options)])[-1]


def test_the_simplest_check_says_yes_or_no() -> None:
    def has_rows(given: CheckInput) -> bool:
        return given.test.num_rows == 100

    def has_many_rows(given: CheckInput) -> bool:
        return given.test.num_rows > 100

    assert judged(has_rows).message == "It holds. The check must hold. Nothing to do."
    assert judged(has_many_rows).verdict == "failed"


def test_an_assertion_that_fails_is_told_in_its_words() -> None:
    def prices(given: CheckInput) -> None:
        assert given.test.num_rows == 100
        assert given.test.num_rows > 1000, "only 100 prices"

    result = judged(prices)
    assert (result.verdict, result.found) == ("failed", "only 100 prices.")


def test_an_assertion_without_words_shows_its_line(load: Load) -> None:
    module = load("def bare(given):\n    rows = given.test.num_rows\n    assert rows > 1000\n")
    result = judged(module.bare)
    assert result.found == "It does not hold: assert rows > 1000 (own_checks.py, line 3)."


def test_assertions_that_hold_pass() -> None:
    def prices(given: CheckInput) -> None:
        assert given.test.num_rows == 100

    assert judged(prices).verdict == "passed"


def test_a_check_that_returns_nothing_and_asserts_nothing_has_failed() -> None:
    def forgot(given: CheckInput) -> None:
        given.test.num_rows > 0  # type: ignore[unused-ignore]  # noqa: B015

    result = judged(forgot)
    assert (result.verdict, result.found) == ("failed", "It returned nothing.")
    assert "Return True, False" in result.remedy


def test_a_check_that_raises_has_failed_with_the_last_line_of_its_traceback(load: Load) -> None:
    module = load("def careless(given):\n    return {}[given.label]\n")
    result = judged(module.careless)
    assert (result.verdict, result.found) == (
        "failed",
        "It raised KeyError: 'label' (own_checks.py, line 2).",
    )


@pytest.mark.parametrize("error", [ValueError("no number: jo@example.org"), AssertionError("jo@example.org")])
def test_personal_data_in_an_exception_stays_out_of_the_report(error: Exception) -> None:
    def leaky(given: CheckInput) -> bool:
        raise error

    assert "example.org" not in judged(leaky).message
    assert type(error).__name__ in judged(leaky).found


def test_a_check_that_ends_the_process_has_failed() -> None:
    def leaves(given: CheckInput) -> bool:
        sys.exit("bye")

    assert "SystemExit: bye" in judged(leaves).found


def test_a_full_result_keeps_numbers_and_rows_and_takes_rule_and_remedy_from_its_check() -> None:
    @check(question="Enough?", rule="90 rows", remedy="Get more")
    def enough(given: CheckInput, *, at_least: float = 50) -> CheckResult:
        rows: Any = given.test["_row_id"].to_numpy()  # as numpy gives them: 64 bits, more than are kept
        count: Any = np.int64(len(rows))
        return CheckResult(
            "",
            "passed" if count >= at_least else "failed",
            f"{count} rows",
            numbers={"rows": count},
            evidence=rows,
        )

    result = run_checks(shop(), [gate(enough, at_least=200)])[-1]
    assert result.message == "100 rows. 90 rows. Get more."
    assert (result.name, result.verdict, result.numbers) == ("enough", "failed", {"rows": 100})
    assert result.evidence == tuple(range(1300, 1320))


@pytest.mark.parametrize(
    "said",
    [
        CheckResult("x", "great", "So."),  # type: ignore[arg-type]  # what a user may get wrong
        CheckResult("x", "passed", "So.", evidence=("first",)),  # type: ignore[arg-type]  # as above
        CheckResult("x", "passed", "So.", details=({"model": object()},)),
        "yes",
        3,
    ],
)
def test_an_answer_that_makes_no_sense_is_a_failed_result(said: Any) -> None:
    def nonsense(given: CheckInput) -> Any:
        return said

    result = judged(nonsense)
    assert result.verdict == "failed"
    assert result.found.startswith(("It returned", "Its result cannot be kept", "It raised"))


def test_what_cannot_be_a_check_is_refused() -> None:
    def nothing() -> bool:
        return True

    def too_much(given: CheckInput, more: int) -> bool:
        return True

    async def later(given: CheckInput) -> bool:
        return True

    for one in (nothing, too_much, later, lambda given: True, print):
        with pytest.raises(Invalid, match=r"a check is"):
            check(one)  # type: ignore[arg-type]  # what a user may get wrong


@pytest.mark.parametrize("name", ["leakage", "macro_f1"])
def test_the_name_of_a_built_in_check_or_metric_is_taken(name: str) -> None:
    def own(given: CheckInput) -> bool:
        return True

    own.__name__ = name
    with pytest.raises(Conflict, match="Rename the function"):
        check(own)


CODE = """
import own_helpers

LEAST = 5

def right(rows):
    return rows > LEAST

def enough(given):
    '''Are there enough rows?'''
    return right(given.test.num_rows) and own_helpers.fine(given)
"""
HELPERS = "def fine(given):\n    return True\n"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Loads a user's module anew, with a module of helpers beside it, as a fresh process would."""
    monkeypatch.syspath_prepend(tmp_path)

    def loaded(code: str, helpers: str = HELPERS, *, folder: Path = tmp_path) -> ModuleType:
        sys.modules.pop("own_helpers", None)
        folder.mkdir(exist_ok=True)
        (folder / "own_helpers.py").write_text(helpers)
        file = folder / "own_checks.py"
        file.write_text(code)
        spec = importlib.util.spec_from_file_location("own_checks", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["own_checks"] = module
        spec.loader.exec_module(module)
        return module

    with monkeypatch.context() as within:
        within.setattr(
            sys, "dont_write_bytecode", True
        )  # so that a file changed within a second is read anew
        yield loaded
    for name in ("own_checks", "own_helpers"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("code", "helpers"),
    [
        (CODE.replace("and own", "or own"), HELPERS),
        (CODE.replace("LEAST = 5", "LEAST = 6"), HELPERS),
        (CODE.replace("rows > LEAST", "rows >= LEAST"), HELPERS),
        (CODE, HELPERS.replace("True", "False")),
    ],
    ids=["the check", "a value", "a function", "another module"],
)
def test_a_change_of_what_a_check_is_made_of_makes_it_another_gate(
    load: Load, code: str, helpers: str
) -> None:
    before = gate(check(load(CODE).enough))
    assert gate(check(load(CODE.replace("LEAST = 5", "LEAST = 5  # rows")).enough)) == before
    after = gate(check(load(code, helpers).enough))
    assert after.source != before.source
    assert Gate.from_json(after.as_json()) == after


def test_where_a_project_lies_does_not_matter(load: Load, tmp_path: Path) -> None:
    code = "from pathlib import Path\nHERE = Path(__file__).parent / 'limits.csv'\ndef enough(given):\n    return HERE, __file__\n"
    before = gate(check(load(code).enough))
    assert gate(check(load(code, folder=tmp_path / "snapshot").enough)) == before


def test_a_gate_is_not_run_by_a_check_that_is_not_the_one_it_names(load: Load) -> None:
    stored = Gate.from_json(gate(check(load(CODE).enough)).as_json())
    assert run_checks(shop(), [stored])[-1].verdict == "passed"
    check(load(CODE.replace("LEAST = 5", "LEAST = 6")).enough)
    other = run_checks(shop(), [stored])[-1]
    assert (other.name, other.verdict) == ("enough", "failed")
    assert "is another one now" in other.found
    del CHECKS["enough"]
    assert "is not defined" in run_checks(shop(), [stored])[-1].found


def test_several_gates_about_one_check_are_all_run() -> None:
    gates = [gate("slices", at_least=0.5, by=[name]) for name in ("shade", "price")]
    gates += [gate("slices", at_least=share) for share in (0.1, 0.2)]
    names = [one.name for one in run_checks(replace(shop(), classes=None), gates)]
    assert [one for one in names if one.startswith("slices")] == [
        "slices:shade",
        "slices:price",
        "slices:3",
        "slices:4",
    ]


def test_a_picture_of_ones_own_is_kept_with_its_limits() -> None:
    def pictured(given: CheckInput) -> CheckResult:
        points = (Point("red", np.float64(1 / 3)), Point("blue", 2, is_marked=True))
        return CheckResult(
            "x", "passed", "Fine", plot=Plot("bars", "shade", "share", points, (Limit(0.5, "half"),))
        )

    shown = judged(pictured).plot
    assert shown is not None
    assert [one.value for one in shown.points] == [0.333333, 2.0]
    assert shown.limits == (Limit(0.5, "half"),)


@pytest.mark.parametrize(
    ("plot", "found"),
    [
        ("a picture", "the plot is a str"),
        (Plot("pie", "a", "b", ()), "the plot's kind is 'pie'"),  # type: ignore[arg-type]  # a user's mistake
        (Plot("bars", "a", "b", (Point("x", float("nan")),)), "a point of the plot is not finite"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_a_failed_result(plot: Any, found: str) -> None:
    def pictured(given: CheckInput) -> CheckResult:
        return CheckResult("x", "passed", "Fine", plot=plot)

    result = judged(pictured)
    assert result.verdict == "failed"
    assert found in result.found
