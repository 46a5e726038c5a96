from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from everloop.checks import BUILT_IN, CHECKS, Check, CheckInput, CheckResult, Gate, check, gate, run_checks
from everloop.errors import Conflict, Invalid
from tests.checks.tables import shop, with_column
from tests.conftest import REPOSITORY


@pytest.fixture
def few_rows() -> Iterator[Check]:
    @check(question="Are there few rows?", rule="At most so many rows.", remedy="Drop some.")
    def few_rows(given: CheckInput, *, at_most: float = 1000) -> CheckResult:
        verdict = "passed" if given.train.num_rows <= at_most else "failed"
        return CheckResult("", verdict, "So many rows.", "At most so many.", "Drop some.")  # type: ignore[arg-type]

    yield few_rows
    del CHECKS["few_rows"]


def test_every_built_in_check_says_what_a_reader_needs() -> None:
    for one in BUILT_IN:
        assert one.question.endswith("?")
        assert one.rule.endswith(".")
        assert one.remedy.endswith(".")
        assert one.numbers


def test_a_users_check_runs_when_a_gate_names_it(few_rows: Check) -> None:
    assert all(one.name != "few_rows" for one in run_checks(shop()))
    assert run_checks(shop(), [gate(few_rows)])[-1].verdict == "passed"
    failed = run_checks(shop(), [gate("few_rows", at_most=10)])[-1]
    assert (failed.name, failed.verdict) == ("few_rows", "failed")


def test_a_check_may_be_defined_again_but_not_over_a_built_in_one(few_rows: Check) -> None:
    def leakage(given: CheckInput) -> CheckResult:
        raise NotImplementedError

    assert check(few_rows.function).name == "few_rows"
    with pytest.raises(Conflict, match="Rename the function"):
        check(leakage)


def test_a_gate_about_a_default_check_sets_its_options() -> None:
    results = [
        one for one in run_checks(shop(), [gate("leakage", trusted=["text"])]) if one.name == "leakage"
    ]
    assert len(results) == 1


@pytest.mark.parametrize(
    ("about", "options", "problem"),
    [
        ("leakage", {"at_least": 0.5}, "has no option at_least; it takes trusted"),
        ("classes", {"trusted": ["x"]}, "it takes no options"),
        ("macro_f1", {}, "has 0 limits"),
        ("leakge", {}, "Did you mean the check 'leakage'?"),
        ("macro_f1", {"at_least": 0.5, "at_most": 0.9}, "has 2 limits"),
        ("macro_f1", {"at_least": 0.5, "confidence": 1.0}, "confidence 1.0"),
        ("macro_f1", {"at_least": 0.5, "trusted": ["x"]}, "no option trusted"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(about: str, options: dict[str, float], problem: str) -> None:
    with pytest.raises(Invalid, match=problem.replace("?", r"\?")):
        gate(about, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "one",
    [
        gate("macro_f1", at_least=0.0),
        gate("leakage", trusted=["a", "b"]),
        gate("slices", by=["x"], min_rows=5),
    ],
)
def test_a_gate_survives_being_stored(one: Gate) -> None:
    assert Gate.from_json(one.as_json()) == one


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(Invalid, match="not finite"):
        CheckResult("x", "passed", "a", "b", "c", {"value": float("nan")})


@pytest.mark.parametrize("one", BUILT_IN, ids=lambda one: one.name)
def test_the_reference_says_of_each_check_what_the_code_says(one: Check) -> None:
    page = (REPOSITORY / "docs/reference/checks.md").read_text()
    section = page.partition(f"\n## {one.name}\n")[2].partition("\n## ")[0]
    for told in (one.question, one.rule, one.remedy):
        assert told in section
    for name, meaning in one.numbers.items():
        assert f"| `{name}` | {meaning} |" in section
    for option in one.options:
        assert f"| `{option}` |" in section


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Callable[[str], list[Gate]]]:
    """The gates of the example in a section of the reference page."""
    page, known = (REPOSITORY / "docs/reference/checks.md").read_text(), dict(CHECKS)

    def gates_of(section: str) -> list[Gate]:
        file = tmp_path / "example.py"
        file.write_text(
            page.partition(f"\n## {section}\n")[2].partition("```python\n")[2].partition("```")[0]
        )
        found: list[Gate] = runpy.run_path(str(file))["gates"]
        return found

    yield gates_of
    CHECKS.clear()
    CHECKS.update(known)


def test_the_example_of_an_own_check_runs(example: Callable[[str], list[Gate]]) -> None:
    rows = with_column(shop(), "merchant_id", range(400), as_input=False)
    result = run_checks(rows, example("Your own checks"))[-1]
    assert (result.name, result.verdict, result.numbers) == ("merchants", "passed", {"merchants": 300})


def test_the_example_of_a_feature_test_runs(example: Callable[[str], list[Gate]]) -> None:
    assert run_checks(shop(), example("Feature tests"))[-1].verdict == "passed"


def test_the_examples_of_behaviour_run(example: Callable[[str], list[Gate]]) -> None:
    rows = with_column(with_column(shop(), "merchant_id", range(400)), "title", ["a cold thing"] * 400)

    def chances(table: pa.Table) -> dict[str, list[float]]:
        return {"Fridges": [0.9 if "fridge" in str(one) else 0.2 for one in table["title"].to_pylist()]}

    given = replace(rows, answer=lambda table: ["Freezers"] * table.num_rows, chances=chances)
    results = run_checks(given, example("Behaviour tests"))[-2:]
    assert [(one.name, one.verdict) for one in results] == [
        ("another_merchant", "passed"),
        ("called_a_fridge", "passed"),
    ]
