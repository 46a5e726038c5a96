"""The model measured in a process of its own, on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline

from everloop.checks import CheckInput, CheckResult, Live, Loadable, gate, run_checks
from everloop.checks.footprint import NUMBERS, Measured, _compared, _interval, _is_unclear, footprint
from everloop.errors import Invalid
from everloop.storage import FileBlobs
from tests.serving.home import CLASSES, TITLES, object_array, title_model, write_release


def forest(trees: int) -> object:
    labels = [CLASSES["fridge" in title] for title in TITLES]
    columns = ColumnTransformer([("title", CountVectorizer(), 0)])
    model = make_pipeline(columns, RandomForestClassifier(trees, random_state=0))
    return model.fit(object_array([[title] for title in TITLES]), labels)


def given(home: Path, model: object, live: object | None = None) -> CheckInput:
    rows = pa.table({"_row_id": np.arange(60), "title": TITLES * 10, "label": [CLASSES[0], CLASSES[1]] * 30})
    loadable = Loadable(write_release(home, "rel_1", model), FileBlobs(home / "blobs"))
    known = None
    if live is not None:
        known = Live(
            "category@1", loadable=Loadable(write_release(home, "rel_2", live), FileBlobs(home / "blobs"))
        )
    return CheckInput(rows, rows, ("title",), loadable=loadable, live=known)


def judged(rows: CheckInput, **options: object) -> CheckResult:
    return run_checks(rows, [gate("footprint", **options)])[-1]  # type: ignore[arg-type]


def test_the_numbers_of_a_small_model_are_those_of_a_small_model(tmp_path: Path) -> None:
    result = judged(given(tmp_path, title_model()), measure="row_p50_ms", at_most=1_000)
    numbers = {name: value for name, value in result.numbers.items() if value is not None}
    assert result.verdict == "passed"
    assert 0 < numbers["row_p50_ms"] <= numbers["row_p95_ms"] <= numbers["row_p99_ms"]
    assert numbers["row_p50_ms"] < numbers["batch_p50_ms"] < 64 * numbers["row_p50_ms"]
    assert numbers["low"] <= numbers["value"] == numbers["row_p50_ms"] <= numbers["high"]
    size = sum(one.stat().st_size for one in (tmp_path / "blobs").rglob("*") if one.is_file())
    assert numbers["size_mb"] == pytest.approx(size / 2**20)
    assert numbers["memory_mb"] < 100
    assert set(result.numbers) == set(NUMBERS)
    assert result.details[-1]["cores"]  # the machine
    assert result.plot is not None


@pytest.mark.long
def test_a_slow_model_is_above_an_absolute_limit_and_above_the_live_one(tmp_path: Path) -> None:
    rows = given(tmp_path, forest(60), live=title_model())
    results = run_checks(
        rows,
        [
            gate("footprint", measure="row_p50_ms", at_most=0.2),
            gate("footprint", measure="row_p50_ms", below_live_by_at_most=0.5),
        ],
    )[-2:]
    assert [one.verdict for one in results] == ["failed"] * 2
    assert (results[1].numbers["value"] or 0) > 1  # more than twice the live version's
    assert "of the live version's" in results[1].found


@pytest.mark.long
def test_the_same_model_is_not_clearly_slower_than_itself(tmp_path: Path) -> None:
    rows = given(tmp_path, title_model(), live=title_model())
    assert judged(rows, measure="row_p50_ms", below_live_by_at_most=1.0).verdict != "failed"


def test_an_interval_that_holds_the_limit_is_unclear() -> None:
    def measured(*values: float) -> list[Measured]:
        return [Measured({"row_p50_ms": list(values)})]

    rounds = measured(1, 2, 3, 4, 5, 6)
    assert _compared(rounds, "row_p50_ms") == (3.5, 1, 6)
    assert _is_unclear(rounds, "row_p50_ms", 5.0)
    assert not _is_unclear(rounds, "row_p50_ms", 6.0)
    assert not _is_unclear(rounds, "row_p50_ms", 0.9)


def test_the_interval_of_a_median_covers_it_as_often_as_it_says() -> None:
    random, held = np.random.default_rng(0), 0
    for _ in range(2_000):
        low, high = _interval(random.exponential(size=18).tolist())
        held += low <= np.log(2) <= high
    assert held / 2_000 >= 0.95


def test_a_model_that_cannot_be_loaded_has_failed_and_says_why(tmp_path: Path) -> None:
    rows = given(tmp_path, title_model())
    for blob in (tmp_path / "blobs").rglob("*"):
        if blob.is_file():
            blob.write_bytes(b"damaged")
    result = footprint(rows)
    assert result.verdict == "failed"
    assert "changed or damaged" in result.found


def test_without_a_live_version_nothing_is_compared(tmp_path: Path) -> None:
    rows = given(tmp_path, title_model())
    assert judged(rows, measure="size_mb", below_live_by_at_most=0.1).verdict == "skipped"
    assert footprint(replace(rows, loadable=None)).verdict == "failed"


@pytest.mark.parametrize(
    "options", [{"measure": "luck", "at_most": 1}, {"measure": "size_mb"}, {"at_most": 1}], ids=str
)
def test_a_gate_that_makes_no_sense_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(Invalid, match="footprint"):
        gate("footprint", **options)  # type: ignore[arg-type]
