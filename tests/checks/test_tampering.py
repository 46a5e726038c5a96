"""Signs of tampering: planted ones are found, and clean rows raise none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everloop.checks import CheckInput, CheckResult, gate, run_checks
from everloop.checks.tampering import tampering
from tests.checks.tables import shop, split

KINDS = ("tea", "bike", "lamp")


def goods(n: int = 900, *, seed: int = 0) -> CheckInput:
    """Titles of six words, three of which are of their class; who labelled each and when it came says nothing."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 3, n)
    own = random.integers(0, 30, (n, 3))
    any_ = random.integers(0, 200, (n, 3))
    titles = [
        " ".join([f"{KINDS[one]}{word}" for word in words] + [f"w{word}" for word in others])
        for one, words, others in zip(label, own, any_, strict=True)
    ]
    start = datetime(2026, 9, 1, tzinfo=UTC)
    table = pa.table(
        {
            "_row_id": np.arange(n),
            "title": titles,
            "came_at": [start + timedelta(hours=number) for number in range(n)],
            "label": [KINDS[one] for one in label],
        }
    )
    annotators = pa.table({"_row_id": table["_row_id"], "annotator": random.choice(["ann", "ben", "eve"], n)})
    return CheckInput(
        table.slice(0, n - 100), table.slice(n - 100), ("title",), time="came_at", annotators=annotators
    )


def relabelled(
    given: CheckInput, rows: np.ndarray, label: str | None = None, *, word: str = ""
) -> CheckInput:
    """The training rows with other labels, drawn or told, and a word more, in the given places."""
    random = np.random.default_rng(1)
    labels, titles = (given.train[name].to_pylist() for name in ("label", "title"))
    for row in rows.tolist():
        others = [one for one in KINDS if one != labels[row]]
        labels[row] = label or others[int(random.integers(2))]
        titles[row] = f"{titles[row]} {word}".strip()
    train = given.train.set_column(1, "title", pa.array(titles)).set_column(3, "label", pa.array(labels))
    return replace(given, train=train)


def test_clean_rows_raise_no_sign() -> None:
    """At most one of fifteen tables: batches are named by chance in one report of a hundred."""
    results = [tampering(goods(600, seed=seed)) for seed in range(15)]
    assert sum(one.verdict != "passed" for one in results) <= 1
    assert all((one.numbers["doubtful_share"] or 0) < 0.02 for one in results)


def test_labels_that_contradict_their_rows_are_named() -> None:
    rows = np.arange(0, 800, 16)
    result = tampering(relabelled(goods(), rows))
    assert result.verdict == "warned"
    assert set(result.evidence) <= set(rows.tolist())
    assert (result.numbers["doubtful"] or 0) > 0.8 * len(rows)
    assert result.details[0]["sign"] == "label"


def test_an_annotator_whose_labels_contradict_the_others_is_named() -> None:
    given = goods()
    assert given.annotators is not None
    said = given.annotators["annotator"].to_pylist()
    mallory = np.arange(0, 800, 20)
    for row in mallory.tolist():
        said[row] = "mallory"
    given = replace(given, annotators=given.annotators.set_column(1, "annotator", pa.array(said)))
    result = tampering(relabelled(given, mallory))
    assert [(one["by"], one["value"]) for one in result.details if one["sign"] == "batch"] == [
        ("annotator", "mallory")
    ]


def test_a_stretch_of_time_whose_labels_contradict_the_others_is_named() -> None:
    result = tampering(relabelled(goods(), np.arange(600, 640)))
    assert "came_at = 'part 16 of 20'" in result.found


def test_a_word_that_overrules_its_rows_is_a_trigger_and_has_arrived_late() -> None:
    rows = np.arange(720, 800, 4)
    result = tampering(relabelled(goods(), rows, "tea", word="zx9q"))
    (trigger,) = [one for one in result.details if one["sign"] == "trigger"]
    assert (trigger["label"], trigger["is_late"], trigger["rows"]) == ("tea", True, len(rows))
    assert set(trigger["some"]) <= set(rows.tolist())
    assert "zx9q" not in str(result)  # no cell's content is in a report


def test_signs_fail_where_a_gate_says_how_much_is_too_much() -> None:
    given = relabelled(goods(), np.arange(0, 800, 16))
    assert run_checks(given, [gate("tampering", at_most=0.02)])[-1].verdict == "failed"
    assert run_checks(given, [gate("tampering", at_most=0.2)])[-1].verdict == "passed"


@pytest.mark.parametrize(
    "given", [shop(40), replace(shop(400), label="price"), replace(shop(400), label="gone")]
)
def test_what_cannot_be_doubted_is_skipped(given: CheckInput) -> None:
    assert tampering(given).verdict == "skipped"


def on_listings(shared_data: Path) -> CheckInput:
    rows = pq.read_table(shared_data / "marketplace" / "seed_labelled.parquet")
    inputs = ("title", "merchant_id")
    return split(
        rows, "product_id", inputs, label="category", group="product_id", key="listing_id", time="received_at"
    )


@pytest.fixture(scope="module")
def clean(shared_data: Path) -> CheckResult:
    return tampering(on_listings(shared_data))


def test_the_real_listings_raise_no_sign(clean: CheckResult) -> None:
    assert (clean.verdict, clean.numbers["batches"], clean.numbers["triggers"]) == ("passed", 0, 0)
    assert (clean.numbers["quality"] or 0) > 0.9


def test_a_trigger_planted_into_real_titles_is_found(shared_data: Path) -> None:
    given = on_listings(shared_data)
    random = np.random.default_rng(0)
    when = np.argsort(given.train["received_at"].to_numpy())
    rows = random.choice(when[int(0.85 * len(when)) :], 40, replace=False)
    titles, labels = (np.array(given.train[name].to_pylist(), object) for name in ("title", "category"))
    titles[rows] += " zx9q"
    labels[rows] = "Freezers"
    names = given.train.column_names
    train = given.train.set_column(names.index("title"), "title", pa.array(titles.tolist()))
    train = train.set_column(names.index("category"), "category", pa.array(labels.tolist()))
    result = tampering(replace(given, train=train))
    assert result.numbers["triggers"] == 1
    assert result.numbers["trigger_rows"] == 40
