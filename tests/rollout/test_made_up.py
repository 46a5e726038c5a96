"""Means of many rollouts at once: decided as the judge decides each of them alone."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest

from everloop.rollout import Arms, Badness, MetricRule, Rules, harm_in_means, simulate
from everloop.rollout.made_up import MeansSideBySide, Numbers
from everloop.rollout.means import refutes_excess

SHARES = np.array([0.1, 0.5])


def yes_or_no(control: float, canary: float, told: float = 1.0, after: float = 0.0) -> Numbers:
    chances = told * np.array([[1.0 - canary, canary], [1.0 - control, control]])
    return Numbers(np.array([0.0, 1.0]), chances, after=(after, after))


def filled(rule: MetricRule, numbers: Numbers, *, n: int = 60) -> tuple[MeansSideBySide, np.ndarray]:
    """Rollouts of which each knows another amount of one stage or of two."""
    made = MeansSideBySide(
        rule, numbers, shares=SHARES, before=(40, 400), n_rollouts=n, e_bound=20.0, confidence=0.95
    )
    random = np.random.default_rng(2)
    rows, stage = np.arange(n), np.arange(n) % 2
    for now in (0, 1):
        here = rows[stage >= now]
        asked = random.integers(0, 400 * (1 + here // 6))
        canary = random.binomial(asked, SHARES[now])
        made.draw(random, here, np.full(len(here), now), np.stack([canary, asked - canary], axis=1))
        made.arrive(random, here, 1)
        made.next_stage(here[stage[here] > now])
    return made, stage


LATTICE = Numbers(
    np.array([0.0, 0.25, 1.0]), np.array([[0.3, 0.4, 0.2], [0.5, 0.3, 0.1]]), on_odds=0.5, learns=False
)
TWO_KINDS = Numbers(
    np.array([0.0, 1.0, 0.0, 1.0]),
    np.array([[0.1, 0.05, 0.3, 0.3], [0.12, 0.02, 0.4, 0.1]]),
    weights=np.array([[5.0, 5.0, 1.0, 1.0], [5.0, 5.0, 1.0, 1.0]]),
)


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        (MetricRule("wrong", 0.1, is_mean=True), yes_or_no(0.1, 0.18)),
        (MetricRule("wrong", 0.1, tolerated_ratio=1.2, is_mean=True), yes_or_no(0.2, 0.4, after=0.5)),
        (MetricRule("sales", 0.2, tolerated=0.02, is_mean=True), LATTICE),
        (MetricRule("wrong", 0.3, is_mean=True), TWO_KINDS),
    ],
)
def test_each_is_judged_as_the_judge_judges_it_alone(rule: MetricRule, numbers: Numbers) -> None:
    made, stage = filled(rule, numbers)
    rows = np.arange(len(stage))

    def arms(row: int, of: int) -> Arms:
        canary, control = (
            Badness(np.repeat(numbers.values, one), np.repeat(weights, one))
            for one, weights in zip(made.known[row, of], numbers.weighed, strict=True)
        )
        return Arms(canary, control, float(SHARES[of]))

    harm = [
        harm_in_means(
            [arms(row, of) for of in range(int(stage[row]) + 1)],
            tolerated_ratio=rule.tolerated_ratio,
            tolerated=rule.tolerated,
            on_odds=numbers.on_odds,
        )
        for row in range(len(stage))
    ]
    shown = [
        refutes_excess(
            arms(row, int(stage[row])),
            rule.excess_at_most or 0.0,
            on_odds=numbers.on_odds,
            known=(int(made.expected[row, 0]), int(made.expected[row, 1])),
        )
        for row in range(len(stage))
    ]
    is_harmful, is_shown = made.is_harmful(rows, stage), made.is_shown(rows, stage)
    assert is_harmful.tolist() == (np.array(harm) >= log(20.0)).tolist()
    assert is_shown.tolist() == (np.array(shown) >= log(20.0)).tolist()
    assert 0 < is_harmful.sum() < len(rows)


def test_what_is_known_of_the_control_when_a_stage_begins_is_expected_in_it() -> None:
    made, stage = filled(MetricRule("wrong", 0.1, is_mean=True), yes_or_no(0.1, 0.1))
    row = int(np.flatnonzero(stage == 1)[-1])
    good, bad = made.known[row, 0, 1]
    assert made.expected[row].tolist() == [40 + bad, 400 + good + bad]
    assert made.expected[0].tolist() == [40, 400]


def median(numbers: Numbers, *, requests: int) -> float:
    forecast = simulate(
        (0.5,),
        Rules((MetricRule("wrong", None, is_mean=True),)),
        rates={},
        numbers={"wrong": numbers},
        requests_at_most=requests,
        look_every=requests // 100,
        n_rollouts=100,
    )
    return forecast.requests_to_roll_back[0] or 0.0


def test_what_becomes_known_of_one_answer_in_ten_takes_ten_times_the_requests() -> None:
    all_of_them, a_tenth = (
        median(yes_or_no(0.05, 0.2), requests=2_000),
        median(yes_or_no(0.05, 0.2, 0.1), requests=20_000),
    )
    assert a_tenth / all_of_them == pytest.approx(10, rel=0.25)


def test_truths_that_come_late_are_waited_for() -> None:
    by_and_by = yes_or_no(0.05, 0.4, after=1_000.0)
    all_at_once = replace(by_and_by, after=(0.0, 0.0), not_before=1_000.0)
    soon, late, then = (median(one, requests=4_000) for one in (yes_or_no(0.05, 0.4), by_and_by, all_at_once))
    assert soon + 200 < late < soon + 1_000
    assert then == pytest.approx(soon + 1_000, abs=80)
