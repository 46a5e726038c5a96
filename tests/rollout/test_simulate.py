"""The judge's error rates, on 400 made-up rollouts a case; benchmarks/judge_simulation.py has more, and 2,000 each."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from everloop.errors import Invalid
from everloop.rollout import (
    Forecast,
    MetricRule,
    Rules,
    Split,
    Stretch,
    count_keys,
    count_requests,
    simulate,
    steady,
)
from everloop.rollout.eprocess import harm_log_e
from everloop.rollout.simulate import LateReports

Rates = NDArray[np.float64]  # by look
EVERY, LOOKS = 100, 200

# 400 rollouts of which truly 5 % go wrong show more than 7.4 % once in a hundred times.
BOUND = 0.074


def alarms_at(
    control: float | Rates, canary: float | Rates, *, n_metrics: int = 1, ratio: float = 1.0
) -> NDArray[np.float64]:
    """Requests at which 400 rollouts at 10 % are rolled back, infinity if not; further metrics are 1 % in both arms."""
    random = np.random.default_rng(4)
    in_canary = random.binomial(EVERY, 0.1, (400, LOOKS))
    log_e = np.stack(
        [
            harm_log_e(
                random.binomial(in_canary, canary if metric == 0 else 0.01).cumsum(axis=1)[..., None],
                random.binomial(EVERY - in_canary, control if metric == 0 else 0.01).cumsum(axis=1)[
                    ..., None
                ],
                canary_share=[0.1],
                stage=[0],
                tolerated_ratio=ratio,
            )
            for metric in range(n_metrics)
        ]
    )
    is_alarm = (log_e >= np.log(n_metrics / 0.05)).any(axis=0)  # (n_rollouts, n_looks)
    return np.where(is_alarm.any(axis=1), (is_alarm.argmax(axis=1) + 1.0) * EVERY, np.inf)


# Both arms fail three requests in ten between the 5,000th and the 7,000th.
INCIDENT = np.where((np.arange(LOOKS) >= 50) & (np.arange(LOOKS) < 70), 0.3, 0.01)


@pytest.mark.parametrize(
    ("control", "canary", "n_metrics", "ratio"),
    [
        (0.01, 0.01, 1, 1.0),
        (0.2, 0.2, 1, 1.0),
        (INCIDENT, INCIDENT, 1, 1.0),
        (0.05, 0.06, 1, 1.2),
        (0.01, 0.01, 5, 1.0),
    ],
)
def test_equal_versions_are_seldom_rolled_back(
    control: float | Rates, canary: float | Rates, n_metrics: int, ratio: float
) -> None:
    assert np.isfinite(alarms_at(control, canary, n_metrics=n_metrics, ratio=ratio)).mean() <= BOUND


@pytest.mark.parametrize(("n_metrics", "ratio", "at_most"), [(1, 1.0, 3_500), (5, 1.2, 7_000)])
def test_three_times_the_errors_are_found(n_metrics: int, ratio: float, at_most: int) -> None:
    assert np.median(alarms_at(0.01, 0.03, n_metrics=n_metrics, ratio=ratio)) <= at_most


def test_a_plan_rolls_back_where_the_test_alone_does() -> None:
    staying = Rules((MetricRule("errors", 1e-6),), confidence=1 - 1e-12)
    forecast = simulate(
        (0.1,), staying, rates={"errors": steady(0.01, 0.05)}, requests_at_most=5_000, n_rollouts=200, seed=2
    )
    assert forecast.passed == 0.0
    median, _ = forecast.requests_to_roll_back
    assert median == pytest.approx(float(np.median(alarms_at(0.01, 0.05))), abs=300)


def test_a_version_at_the_margin_seldom_passes_a_stage() -> None:
    lenient = Rules((MetricRule("errors", 0.01, tolerated_ratio=1e9),))
    forecast = simulate(
        (0.1,),
        lenient,
        rates={"errors": steady(0.01, 0.02)},
        requests_at_most=20_000,
        look_every=200,
        known_before={"errors": (50, 5_000)},
        n_rollouts=400,
        seed=6,
    )
    assert forecast.passed <= BOUND


def test_a_clean_version_passes_three_stages_within_6_000_requests() -> None:
    forecast = simulate(
        (0.1, 0.25, 0.5),
        Rules((MetricRule("errors", 0.01),)),
        rates={"errors": steady(0.0, 0.0)},
        requests_at_most=6_000,
        known_before={"errors": (0, 5_000)},
        n_rollouts=200,
    )
    assert forecast.passed == 1.0


def test_reports_that_come_late_are_waited_for_and_turn_good_requests_bad() -> None:
    def forecast(canary: float, after: float) -> Forecast:
        return simulate(
            (0.5,),
            Rules((MetricRule("contradicted", 0.05),)),
            rates={"contradicted": steady(0.02, canary)},
            reported_after={"contradicted": after},
            requests_at_most=6_000,
            n_rollouts=200,
        )

    soon, late = forecast(0.2, 0.0), forecast(0.2, 500.0)
    assert (soon.rolled_back, late.rolled_back) == (1.0, 1.0)
    waited = (late.requests_to_roll_back[0] or 0.0) - (soon.requests_to_roll_back[0] or 0.0)
    assert waited == pytest.approx(500 * np.log(10), abs=150)
    reports = LateReports(counts := np.zeros((1, 1, 4)), after=50.0)
    row = np.array([0])
    reports.draw(row, row, np.array([[1_000, 1_000]]), np.array([[200, 0]]))
    seen = []
    for _ in range(8):
        reports.arrive(np.random.default_rng(1), 100)
        seen.append(counts[0, 0].tolist())
    assert seen[1] == [0, 0, 0, 0]
    assert 150 < seen[2][0] < 200
    assert seen[-1] == [200, 800, 0, 1_000]


def test_a_deadline_takes_back_what_is_not_decided_and_is_told_apart() -> None:
    forecast = simulate(
        (0.1, 0.5),
        Rules((MetricRule("errors", 0.01),)),
        rates={"errors": steady(0.01, 0.01)},
        requests_at_most=2_000,
        ends_after=1_000,
        n_rollouts=200,
    )
    assert (forecast.on_hold, forecast.rolled_back + forecast.passed) == (0.0, 1.0)
    assert 0.9 < forecast.by_deadline <= forecast.rolled_back


def sticky_alarms(
    *, by_key: bool = True, times_as_bad: float = 1.0, frail: float | None = None, rollouts: int = 200
) -> float:
    """Share of rollouts that are rolled back; the split moves from 10 % to 25 % half-way, and who was in the canary stays.

    1,500 keys, Zipf 1.1, each with a rate of its own; or 10,000 that ask equally often, a part of which is bad each time.
    """
    random = np.random.default_rng(8)
    n_keys, n_requests, looks = (1_500, 10_000, 100) if frail is None else (10_000, 60_000, 100)
    popularity = 1.0 / np.arange(1, n_keys + 1) ** (1.1 if frail is None else 0.0)
    popularity /= popularity.sum()
    look = np.arange(n_requests) // (n_requests // looks)
    share = np.where(look < looks // 2, 0.1, 0.25)
    # each look a stretch of its own, told by its number
    splits = [Split(number, 0.1 if number < looks // 2 else 0.25) for number in range(looks)]
    alarms = 0
    for _ in range(rollouts):
        place = random.random(n_keys)
        rate = random.beta(0.25, 24.75, n_keys) if frail is None else random.random(n_keys) < frail
        keys = random.choice(n_keys, size=n_requests, p=popularity)
        in_canary = place[keys] < share
        is_bad = random.random(n_requests) < rate[keys] * np.where(in_canary, times_as_bad, 1.0)
        if by_key:
            counted = count_keys(keys, is_bad, in_canary=in_canary, stretch=look, splits=splits)
        else:
            counted = count_requests(is_bad, in_canary, stretch=look, splits=splits)
        alarms += is_alarm(counted, looks=looks)
    return alarms / rollouts


def is_alarm(counted: tuple[Stretch, ...], *, looks: int) -> bool:
    """Whether the judge takes back at any look; the counts are those of each look alone."""
    parts = sorted({(one.split.stage >= looks // 2, one.split.canary_share) for one in counted})
    bad = np.zeros((2, looks, len(parts)))
    for one in counted:
        part = parts.index((one.split.stage >= looks // 2, one.split.canary_share))
        bad[:, one.split.stage, part] += one.counts.canary_bad, one.counts.control_bad
    known = bad.cumsum(axis=1)
    log_e = harm_log_e(
        known[0],
        known[1],
        canary_share=[share for _, share in parts],
        stage=[int(is_later) for is_later, _ in parts],
        tolerated_ratio=1.0,
    )
    return bool((log_e >= np.log(20.0)).any())


def test_sticky_keys_are_judged_by_key_since_request_counts_lie() -> None:
    assert sticky_alarms(by_key=True) <= BOUND
    assert sticky_alarms(by_key=False) > BOUND


def test_a_version_that_mends_a_fault_is_not_taken_back_for_the_keys_that_it_has_left() -> None:
    """A fault hits 5 % of the keys each time they ask, the new version three times in ten: its keys are bad later."""
    assert sticky_alarms(times_as_bad=0.3, frail=0.05, rollouts=30) == 0.0


def test_a_metric_without_assumed_rates_is_refused() -> None:
    with pytest.raises(Invalid, match="no rates are assumed for"):
        simulate((0.1,), Rules((MetricRule("errors", 0.01),)), rates={}, requests_at_most=100)
