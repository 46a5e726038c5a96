"""The verdict on a rerun, as a function of what came of both."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.pipelines.verdict import Numbers, StepOutputs, Verdict, judge, number_differences, numbers_in

SAME, MOVED, LOST = (
    StepOutputs("split", "a", "a"),
    StepOutputs("fit", "a", "b"),
    StepOutputs("fit", "a", None),
)


def test_the_same_bits_everywhere_are_identical_whatever_the_numbers() -> None:
    assert judge([SAME], [Numbers("fit", {"f1": 1.0}, {"f1": 0.0})], tolerance=0.0).verdict == "identical"


CASES: list[tuple[str, Numbers, Verdict]] = [
    ("within", Numbers("fit", {"f1": 0.5}, {"f1": 0.5009}), "equal"),
    ("beyond", Numbers("fit", {"f1": 0.5}, {"f1": 0.502}), "different"),
    ("a part of a great number", Numbers("fit", {"rmse": 1_000.0}, {"rmse": 1_000.9}), "equal"),
    ("one metric is gone", Numbers("fit", {"f1": 0.5, "recall": 1.0}, {"f1": 0.5}), "different"),
    ("both are no number", Numbers("fit", {"loss": math.nan}, {"loss": math.nan}), "equal"),
    ("one is no number", Numbers("fit", {"loss": 0.5}, {"loss": math.nan}), "different"),
    ("both are infinite", Numbers("fit", {"loss": math.inf}, {"loss": math.inf}), "equal"),
    ("something else differs", Numbers("fit", {"f1": 0.5}, {"f1": 0.5}, rest_is_same=False), "different"),
    ("nothing to compare by", Numbers("fit", None, None), "different"),
    ("the result's own bits are the same", Numbers("fit", None, None, is_same=True), "equal"),
]


@pytest.mark.parametrize(("numbers", "verdict"), [one[1:] for one in CASES], ids=[one[0] for one in CASES])
def test_other_bits_are_judged_by_their_numbers(numbers: Numbers, verdict: Verdict) -> None:
    judged = judge([SAME, MOVED], [numbers], tolerance=0.001)
    assert (judged.verdict, judged.differing) == (verdict, ("fit",))


def test_no_result_to_compare_is_no_equal_one() -> None:
    assert judge([MOVED], [], tolerance=1.0).verdict == "different"


def test_a_step_that_did_not_end_is_never_equal() -> None:
    assert (
        judge([SAME, LOST], [Numbers("split", None, None, is_same=True)], tolerance=1.0).verdict
        == "different"
    )


@given(st.floats(allow_nan=True), st.floats(allow_nan=True), st.floats(0, 1))
def test_it_does_not_matter_which_run_was_first(one: float, other: float, tolerance: float) -> None:
    ways = (Numbers("fit", {"m": one}, {"m": other}), Numbers("fit", {"m": other}, {"m": one}))
    there, back = (
        [found.is_within for found in number_differences(way, tolerance=tolerance)] for way in ways
    )
    assert there == back


def test_truth_is_no_number() -> None:
    assert numbers_in({"is_done": True, "n": [1, 2.5]}) == (
        {"n.0": 1.0, "n.1": 2.5},
        {"is_done": True, "n": [0.0, 0.0]},
    )
