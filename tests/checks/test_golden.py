"""Golden predictions: kept with the answers they must get, in a file that people review."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from everloop.checks import (
    CHECKS,
    CheckInput,
    CheckResult,
    Gate,
    GoldenRow,
    golden,
    read_golden,
    run_checks,
    write_golden,
)
from everloop.errors import Invalid
from tests.checks.tables import shop


@pytest.fixture(autouse=True)
def _only_built_in() -> Iterator[None]:
    before = dict(CHECKS)
    yield
    CHECKS.clear()
    CHECKS.update(before)


def by_words(rows: pa.Table) -> list[str]:
    return ["drink" if "tea" in str(one).split() else "other" for one in rows["text"].to_pylist()]


def surely(chance: float) -> Any:
    return lambda rows: {
        name: [chance if answer == name else 1 - chance for answer in by_words(rows)]
        for name in ("drink", "other")
    }


SHOP = replace(shop(200), answer=by_words, chances=surely(0.9))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = SHOP.test.slice(0, 20).to_pylist()
    kept = [
        GoldenRow({name: one[name] for name in SHOP.columns}, answer, 0.9, one["_row_id"])
        for one, answer in zip(rows, by_words(SHOP.test), strict=False)
    ]
    path = tmp_path / "shop.golden.json"
    write_golden(path, kept, made_by="shop@1")
    return path


def judged(gate: Gate, given: CheckInput = SHOP) -> CheckResult:
    return run_checks(given, [gate])[-1]


def with_answers(path: Path, *expected: str) -> None:
    rows = list(read_golden(path))
    changed = [replace(one, expected=answer) for one, answer in zip(rows, expected, strict=False)]
    write_golden(path, [*changed, *rows[len(changed) :]], made_by="a person")


def test_rows_that_are_answered_as_kept_pass(file: Path) -> None:
    result = judged(golden(file))
    assert (result.name, result.verdict, result.numbers["value"]) == ("golden:shop", "passed", 1.0)


def test_another_answer_fails_and_shows_the_row(file: Path) -> None:
    rows = read_golden(file)
    with_answers(file, "third")
    result = judged(golden(file))
    assert result.verdict == "failed"
    assert result.evidence == (rows[0].row,)
    assert result.details[0]["expected"] == "third"
    assert result.details[0]["answered"] == rows[0].expected
    assert "--accept" in result.remedy
    assert judged(golden(file, at_least=0.9)).verdict == "passed"


def test_another_probability_fails_beyond_the_tolerance_only(file: Path) -> None:
    unsure = replace(SHOP, chances=surely(0.8))
    assert judged(golden(file), unsure).verdict == "passed"
    assert judged(golden(file, at_most=0.2), unsure).verdict == "passed"
    result = judged(golden(file, at_most=0.05), unsure)
    assert (result.verdict, result.numbers["shifted"]) == ("failed", 20)
    assert result.numbers["largest_shift"] == pytest.approx(0.1)


def test_other_golden_answers_are_another_gate(file: Path) -> None:
    before = golden(file)
    with_answers(file, "third")
    after = golden(file)
    assert before.source != after.source
    assert "is another one now" in judged(before).found


def test_numbers_are_kept_to_a_tolerance(tmp_path: Path) -> None:
    sides = [side.set_column(4, "label", side["price"]) for side in (SHOP.train, SHOP.test)]
    given = replace(SHOP, train=sides[0], test=sides[1], answer=lambda rows: [2.0] * rows.num_rows)
    values = {name: SHOP.test[name][0].as_py() for name in SHOP.columns}
    path = tmp_path / "price.golden.json"
    write_golden(path, [GoldenRow(values, 2.01)], made_by="shop@1")
    assert judged(golden(path), given).verdict == "failed"
    assert judged(golden(path, at_most=0.02), given).verdict == "passed"


def test_a_golden_file_keeps_bytes_and_times_and_one_row_a_line(tmp_path: Path) -> None:
    rows = [
        GoldenRow(
            {"a": b"\0\xff", "t": datetime(2026, 9, 1, tzinfo=UTC), "n": None, "x": "ü"}, "drink", 0.5, 7
        )
    ] * 3
    path = tmp_path / "all.golden.json"
    write_golden(path, rows, made_by="shop@1")
    assert read_golden(path) == tuple(rows)
    assert len(path.read_text().splitlines()) == 5


@pytest.mark.parametrize(
    "content", [None, "", "[]", '{"rows": []}', '{"rows": [1]}', '{"rows": [{"values": 1, "expected": 2}]}']
)
def test_a_file_that_holds_none_is_refused_with_what_to_do(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "x.golden.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(Invalid, match="golden"):
        golden(path)


def test_a_model_that_takes_more_than_the_rows_have_fails(file: Path) -> None:
    result = judged(golden(file), replace(SHOP, inputs=("text", "weight")))
    assert (result.verdict, "weight" in result.found) == ("failed", True)
    assert "not at hand" in judged(golden(file), replace(SHOP, answer=None)).found


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="does not end with"):
        write_golden(tmp_path / "x.json", [GoldenRow({}, "a")], made_by="shop@1")


def test_the_result_can_be_stored(file: Path) -> None:
    with_answers(file, "third")
    json.dumps([judged(golden(file)).details], allow_nan=False)
