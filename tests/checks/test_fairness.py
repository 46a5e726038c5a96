"""Fairness between groups: by hand, on real people, and what must not change the verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given as examples
from hypothesis import strategies as st
from scipy import stats

from everloop.checks import CheckInput, CheckResult, gate, run_checks
from everloop.checks.fairness import fairness
from everloop.checks.proxies import cramers_v, proxies
from everloop.errors import Invalid

Counts = Mapping[str, tuple[int, int, int, int]]

# Per group: labelled yes and answered yes, yes and no, no and yes, no and no.
BY_HAND: Counts = {"a": (15, 5, 5, 15), "b": (5, 15, 5, 15)}


def people(counts: Counts, *, score: float = 0.9, **more: Any) -> CheckInput:
    """Test rows whose `group` is not an input, answered so often as `counts` says."""
    rows = [
        (group, label, answer)
        for group, numbers in counts.items()
        for number, (label, answer) in zip(
            numbers, [("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no")], strict=True
        )
        for _ in range(number)
    ]
    groups, labels, answers = (list(one) for one in zip(*rows, strict=True))
    ids = list(range(len(rows)))
    test = pa.table({"_row_id": ids, "group": groups, "label": labels, **more})
    told = pa.table({"_row_id": ids, "label": labels, "predicted": answers, "score": [score] * len(rows)})
    return CheckInput(test.slice(0, 0), test, (), predictions=told)


def judged(given: CheckInput, **options: Any) -> CheckResult:
    return run_checks(given, [gate("fairness", by=["group"], **options)])[-1]


def test_each_measure_is_that_of_a_calculation_by_hand() -> None:
    result = fairness(people(BY_HAND), by=["group"], min_rows=20)
    numbers = result.numbers
    assert numbers["parity_difference"] == pytest.approx(20 / 40 - 10 / 40)
    assert numbers["parity_ratio"] == pytest.approx(10 / 20)
    assert numbers["opportunity_difference"] == pytest.approx(15 / 20 - 5 / 20)
    assert numbers["odds_difference"] == pytest.approx(15 / 20 - 5 / 20)
    # group a: 0.5 promised, 0.5 true; group b: (10 x 0.9 + 30 x 0.1) / 40 = 0.3 promised, 0.5 true
    assert numbers["calibration_difference"] == pytest.approx(0.2)
    assert [one["calibration_gap"] for one in result.details if "group" in one] == [0.0, -0.2]
    assert (numbers["rows"], numbers["groups"], numbers["small_groups"]) == (80, 2, 0)


def test_equalised_odds_are_the_worse_of_both_rates() -> None:
    result = judged(
        people({"a": (15, 5, 12, 8), "b": (13, 7, 2, 18)}), measure="equalised_odds", at_most=0.4, min_rows=20
    )
    assert result.verdict == "failed"
    assert result.numbers["value"] == pytest.approx(0.5)
    assert "Rows labelled otherwise are answered 'yes' at a rate of 0.100 for group = 'b'" in result.found


@pytest.mark.parametrize(("chosen", "verdict"), [(40, "passed"), (39, "failed")])
def test_without_a_limit_the_four_fifths_rule_decides(chosen: int, verdict: str) -> None:
    result = judged(people({"a": (50, 0, 0, 50), "b": (chosen, 0, 0, 100 - chosen)}))
    assert (result.verdict, result.numbers["limit"]) == (verdict, 0.8)
    assert result.numbers["value"] == pytest.approx(chosen / 50)


def test_the_interval_is_that_of_two_shares() -> None:
    result = judged(people({"a": (500, 0, 0, 500), "b": (300, 0, 0, 700)}), at_most=0.1)
    half = 1.96 * float(np.sqrt(0.5 * 0.5 / 1000 + 0.3 * 0.7 / 1000))
    assert (result.numbers["low"], result.numbers["high"]) == pytest.approx(
        (0.2 - half, 0.2 + half), abs=0.01
    )


def test_with_confidence_the_bound_decides() -> None:
    given = people({"a": (25, 0, 0, 25), "b": (24, 0, 0, 26)})
    assert judged(given, at_most=0.1).verdict == "passed"
    assert judged(given, at_most=0.1, confidence=0.95).verdict == "failed"


def test_a_small_group_is_named_and_not_judged() -> None:
    result = judged(people({**BY_HAND, "c": (0, 0, 0, 29)}), at_least=0.4)
    assert result.verdict == "passed"
    assert "too small to judge: group = 'c' (29)" in result.found
    assert result.numbers["small_groups"] == 1
    assert judged(people({**BY_HAND, "c": (0, 0, 0, 30)}), at_least=0.4).verdict == "failed"


def test_a_group_that_seldom_deserves_the_answer_is_not_judged_by_opportunity() -> None:
    result = judged(
        people({**BY_HAND, "c": (0, 3, 0, 60)}), measure="equal_opportunity", at_most=0.6, min_rows=20
    )
    assert result.verdict == "passed"
    assert result.numbers["value"] == pytest.approx(0.5)


def test_one_group_alone_cannot_be_judged_and_does_not_pass() -> None:
    result = judged(people({"a": (15, 5, 5, 15)}))
    assert result.verdict == "failed"
    assert "Fewer than two groups" in result.found


def test_a_column_that_cannot_be_judged_does_not_pass_beside_one_that_can() -> None:
    given = people({"a": (20, 0, 0, 20), "b": (20, 0, 0, 20)}, other=["x"] * 80)
    result = run_checks(given, [gate("fairness", by=["group", "other"])])[-1]
    assert result.verdict == "failed"
    assert "Fewer than two groups of other" in result.found


def test_missing_values_are_a_group() -> None:
    given = people(BY_HAND)
    group = pa.array([None if one == "b" else one for one in given.test["group"].to_pylist()])
    result = judged(replace(given, test=given.test.set_column(1, "group", group)))
    assert "group = 'missing' (40 rows)" in result.found


def test_what_is_fair_by_each_column_may_be_unfair_where_they_meet() -> None:
    crossed = ["x"] * 30 + ["y"] * 30 + ["y"] * 30 + ["x"] * 30
    given = people(
        {"a": (25, 0, 0, 5), "a ": (5, 0, 0, 25), "b": (25, 0, 0, 5), "b ": (5, 0, 0, 25)}, other=crossed
    )
    group = pa.array([str(one).strip() for one in given.test["group"].to_pylist()])
    given = replace(given, test=given.test.set_column(1, "group", group))
    assert judged(given).verdict == "passed"
    result = run_checks(given, [gate("fairness", by=["group", "other"])])[-1]
    assert result.verdict == "failed"
    assert "group & other = 'a & y' (30 rows)" in result.found
    assert result.numbers["groups"] == 8


def test_numbers_of_which_there_are_many_become_four_groups() -> None:
    given = people({"a": (40, 0, 0, 40), "b": (40, 0, 0, 40)}, age=list(range(160)))
    result = fairness(given, by=["age"])
    assert [one["group"] for one in result.details if "group" in one] == [
        "0 to 39",
        "40 to 79",
        "80 to 119",
        "120 to 159",
    ]


def test_of_more_than_two_classes_each_is_looked_at_unless_one_is_favourable() -> None:
    given = people({"a": (20, 0, 0, 20), "b": (20, 0, 0, 20)})
    answers = ["yes"] * 20 + ["no"] * 20 + ["yes"] * 20 + ["later"] * 20
    assert given.predictions is not None
    told = given.predictions.set_column(2, "predicted", pa.array(answers))
    given = replace(given, predictions=told)
    assert judged(given, positive="yes").verdict == "passed"
    assert judged(given).numbers["parity_ratio"] == 0.0
    assert judged(given, positive="never").found.startswith("No row is labelled or answered 'never'")


def test_the_rows_shown_deserved_the_answer_and_did_not_get_it() -> None:
    given = people(BY_HAND)
    result = judged(given)
    assert result.evidence[:15] == tuple(range(45, 60))  # of group b, labelled yes, answered no
    assert len(result.evidence) == 20


def test_rows_of_one_cluster_are_drawn_together() -> None:
    given = people(BY_HAND, household=[number // 4 for number in range(80)])
    alone, together = (judged(one) for one in (given, replace(given, group="household")))
    assert alone.numbers["value"] == together.numbers["value"]
    assert (together.numbers["high"] or 0) > (alone.numbers["high"] or 0)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "names no protected column"),
        ({"by": ["sex"], "measure": "luck", "at_most": 0.1}, "has the measure 'luck'"),
        ({"by": ["sex"], "measure": "equal_opportunity"}, "has no limit for equal_opportunity"),
        ({"by": ["sex"], "measure": "calibration", "at_least": 0.8}, "no ratio"),
        ({"by": ["sex"], "confidence": 2.0}, "confidence 2.0"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        gate("fairness", **options)


@pytest.mark.parametrize("without", ["column", "predictions", "test rows"])
def test_what_cannot_be_judged_does_not_pass(without: str) -> None:
    given = people(BY_HAND)
    lacking = {
        "column": replace(given, test=given.test.drop_columns(["group"])),
        "predictions": replace(given, predictions=None),
        "test rows": replace(given, test=given.test.slice(0, 0)),
    }
    assert judged(lacking[without]).verdict == "failed"


@examples(
    st.permutations(range(80)), st.sampled_from(["parity_ratio", "odds_difference", "calibration_difference"])
)
def test_neither_order_nor_names_matter(order: list[int], number: str) -> None:
    given = people(BY_HAND)
    assert given.predictions is not None
    names = pa.array([{"a": "z", "b": "y"}[str(one)] for one in given.test["group"].to_pylist()])
    other = replace(
        given, predictions=given.predictions.take(order), test=given.test.set_column(1, "group", names)
    )
    assert fairness(other, by=["group"]).numbers[number] == pytest.approx(
        fairness(given, by=["group"]).numbers[number]
    )


def test_cramers_v_is_that_of_scipy_where_there_is_no_bias_to_take_off() -> None:
    random = np.random.default_rng(1)
    left = random.integers(0, 4, 50_000)
    right = np.where(random.random(50_000) < 0.5, left, random.integers(0, 4, 50_000))
    table = np.zeros((4, 4), int)
    np.add.at(table, (left, right), 1)
    assert cramers_v(left, right) == pytest.approx(stats.contingency.association(table, "cramer"), abs=1e-3)


def test_columns_that_have_nothing_to_do_with_each_other_are_no_proxies() -> None:
    random = np.random.default_rng(2)
    table = pa.table(
        {
            "sex": random.choice(["f", "m"], 400),
            "number": random.normal(size=400),
            "many": [f"v{number}" for number in random.integers(0, 150, 400)],
            "own": [f"n{number}" for number in range(400)],
        }
    )
    assert proxies(table, "sex", table.column_names) == []


@pytest.fixture(scope="module")
def census(shared_data: Path) -> CheckInput:
    sides = [pq.read_table(shared_data / "adult" / f"{side}.parquet") for side in ("train", "test")]
    train, test = (
        side.append_column("_row_id", pa.array(range(first, first + side.num_rows)))
        for side, first in zip(sides, (0, 100_000), strict=True)
    )
    others = ("person_id", "final_weight", "income_over_50k", "_row_id")
    names = tuple(name for name in train.column_names if name not in others)
    return CheckInput(train, test, names, label="income_over_50k")


def scored(given: CheckInput) -> CheckInput:
    """The census answered by a logistic regression on the inputs."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    kinds = [given.train.schema.field(name).type for name in given.inputs]
    numbers = [place for place, kind in enumerate(kinds) if pa.types.is_integer(kind)]
    words = [place for place in range(len(kinds)) if place not in numbers]
    x, x_test = (
        np.column_stack(
            [
                np.array(["?" if one is None else one for one in side[name].to_pylist()], object)
                for name in given.inputs
            ]
        )
        for side in (given.train, given.test)
    )
    model = make_pipeline(
        make_column_transformer((StandardScaler(), numbers), (OneHotEncoder(handle_unknown="ignore"), words)),
        LogisticRegression(max_iter=300),
    ).fit(x, np.array(given.train[given.label].to_pylist()))
    chance = model.predict_proba(x_test)
    told = pa.table(
        {
            "_row_id": given.test["_row_id"],
            "label": [str(one) for one in given.test[given.label].to_pylist()],
            "predicted": [str(bool(one)) for one in chance.argmax(axis=1)],
            "score": chance.max(axis=1),
        }
    )
    return replace(given, predictions=told)


def test_a_model_of_income_fails_at_a_parity_of_three_tenths_for_sex(census: CheckInput) -> None:
    result = run_checks(scored(census), [gate("fairness", by=["sex"])])[-1]
    assert result.verdict == "failed"
    assert result.numbers["value"] == pytest.approx(0.30, abs=0.02)
    assert "for sex = 'Female'" in result.found


def test_without_sex_among_the_inputs_it_still_fails_and_its_proxies_are_named(census: CheckInput) -> None:
    without = replace(census, inputs=tuple(name for name in census.inputs if name != "sex"))
    result = run_checks(scored(without), [gate("fairness", by=["sex", "race"])])[-1]
    assert result.verdict == "failed"
    assert {one["proxy"] for one in result.details if one.get("of") == "sex"} == {
        "relationship",
        "marital_status",
        "occupation",
    }
    assert "Proxies among the inputs: relationship for sex (0.65)" in result.found
    assert "sex & race = 'Female & Other' (13)" in result.found


FAIRLEARN = json.loads((Path(__file__).parent / "fairlearn.json").read_text())["cases"]


@pytest.mark.parametrize(
    "case", FAIRLEARN, ids=lambda case: "-".join(str(sum(one)) for one in case["counts"].values())
)
def test_the_measures_are_those_of_fairlearn(case: dict[str, Any]) -> None:
    """`tools/fairlearn_numbers.py` writes the numbers again, in an environment with fairlearn."""
    result = fairness(people(case["counts"]), by=["group"], positive="yes", min_rows=1)
    measured = {one["measure"]: one for one in result.details if "measure" in one}
    for measure, says in case["says"].items():
        ours = {kind: measured[measure][kind] for kind in says}
        assert ours == pytest.approx(says, abs=5e-5), measure
