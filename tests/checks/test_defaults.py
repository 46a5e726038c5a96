"""What runs without being asked for, and that each of it blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from everloop.checks import CheckInput, CheckResult, Live, gate, run_checks
from tests.checks.tables import labels, predictions, shop, with_column

SHOP = shop(1_600)
TRUTH = [str(one) for one in SHOP.test["label"].to_pylist()]


def wrong(share: float, seed: int = 0) -> list[str]:
    """The right answers but for a share of them."""
    is_wrong = np.random.default_rng(seed).random(len(TRUTH)) < share
    return ["neither" if bad else truth for bad, truth in zip(is_wrong, TRUTH, strict=True)]


def against(ours: list[str], theirs: list[str]) -> CheckInput:
    live = Live("shop@1", predictions(SHOP, theirs))
    return replace(SHOP, predictions=predictions(SHOP, ours), live=live)


def failed(given: CheckInput) -> set[str]:
    return {one.name for one in run_checks(given) if one.verdict == "failed"}


def _without_label(given: CheckInput) -> CheckInput:
    return replace(given, test=given.test.drop_columns(["label"]))


def _copied(given: CheckInput) -> CheckInput:
    return with_column(given, "copy", labels(given))


def _repeated(given: CheckInput) -> CheckInput:
    return replace(given, train=pa.concat_tables([given.train, given.train]))


def _misspelt(given: CheckInput) -> CheckInput:
    texts = [
        f"{one}x and so on and on for a long while"
        for one in given.train["text"].to_pylist()[: given.test.num_rows]
    ]
    same = [f"{one} and so on and on for a long while" for one in given.train["text"].to_pylist()]
    test = given.test.set_column(1, "text", pa.array(texts)).set_column(
        4, "label", given.train["label"].slice(0, given.test.num_rows)
    )
    return replace(given, test=test, train=given.train.set_column(1, "text", pa.array(same)))


def _one_class(given: CheckInput) -> CheckInput:
    return replace(given, classes=("drink", "other", "never labelled"))


@pytest.mark.parametrize(
    ("name", "spoilt"),
    [
        ("schema", _without_label),
        ("leakage", _copied),
        ("duplicates", _repeated),
        ("near_duplicates", _misspelt),
        ("classes", _one_class),
    ],
)
def test_each_default_blocks_what_it_is_for(name: str, spoilt: Callable[[CheckInput], CheckInput]) -> None:
    assert failed(SHOP) == set()
    assert name in failed(spoilt(SHOP))


def test_a_version_that_is_clearly_worse_than_the_live_one_is_blocked() -> None:
    assert failed(against(wrong(0.2), TRUTH)) == {"macro_f1:against_live"}


def test_an_equal_version_is_seldom_blocked() -> None:
    pairs = [(wrong(0.1, seed), wrong(0.1, seed + 100)) for seed in range(20)]
    assert sum(bool(failed(against(*pair))) for pair in pairs) <= 1


def test_a_gate_of_ones_own_takes_its_place() -> None:
    results = run_checks(against(wrong(0.2), TRUTH), [gate("accuracy", below_live_by_at_most=0.5)])
    assert [one.name for one in results if one.name.endswith("against_live")] == ["accuracy:against_live"]


def _named(given: CheckInput) -> CheckResult | None:
    return next((one for one in run_checks(given) if one.name == "macro_f1:against_live"), None)


def test_what_cannot_be_compared_is_skipped() -> None:
    few = replace(against(TRUTH, TRUTH), live=Live("shop@1", predictions(SHOP, TRUTH).slice(0, 20)))
    unknown = replace(against(TRUTH, TRUTH), live=Live("shop@1"))
    found = [_named(one) for one in (few, unknown)]
    assert [one.verdict for one in found if one is not None] == ["skipped", "skipped"]
    assert _named(replace(SHOP, predictions=predictions(SHOP, TRUTH))) is None
