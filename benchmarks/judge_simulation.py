"""How often the judge errs and how long it takes: 2,000 made-up rollouts a case, in the judge's own code.

python -m benchmarks.judge_simulation                 prints the tables (some minutes of one core)
python -m benchmarks.judge_simulation --only labels   prints one
python -m benchmarks.judge_simulation --write         puts them into docs/explanation/judge.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.judge_tables import in_requests, make, percent, table
from everloop.rollout import Forecast, MetricRule, RatesAt, Rules, Split, count_keys, simulate, steady
from everloop.rollout.eprocess import harm_log_e
from everloop.rollout.made_up import Numbers
from everloop.rollout.simulate import median_and_p90

N = 2_000
LOOKS = 200  # of 100 requests each
EVERY = 100
SHARE = 0.1

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def main() -> None:
    tables = {
        "harm": harm_table,
        "stages": stages_table,
        "keys": keys_table,
        "plans": plans_table,
        "worse": worse_table,
        "labels": labels_table,
    }
    make(tables, __doc__)


# --- false rollbacks and detection at one split


def harm_table() -> str:
    one, five = _never_passing(1, 1.0), _never_passing(5, 1.2)
    cases: list[tuple[str, Rules, dict[str, RatesAt]]] = [
        ("no difference, 1 % errors", one, _rates(one, steady(0.01, 0.01))),
        ("no difference, 20 % errors", one, _rates(one, steady(0.2, 0.2))),
        ("no difference, five metrics, ratio 1", _never_passing(5, 1.0), _rates(five, steady(0.01, 0.01))),
        ("1.2 times as bad, tolerated ratio 1.2", _never_passing(1, 1.2), _rates(one, steady(0.01, 0.012))),
        ("incident in both arms (1 % to 30 %, 2,000 requests)", one, _rates(one, _incident)),
        ("errors 1 % to 2 %", one, _rates(one, steady(0.01, 0.02))),
        ("errors 1 % to 3 %", one, _rates(one, steady(0.01, 0.03))),
        ("errors 1 % to 3 %, five metrics, ratio 1.2", five, _rates(five, steady(0.01, 0.03))),
        ("errors 1 % to 5 %", one, _rates(one, steady(0.01, 0.05))),
        ("errors 1 % to 5 %, five metrics, ratio 1.2", five, _rates(five, steady(0.01, 0.05))),
        ("latency 30 % longer (slow 5 % to 13 %)", one, _rates(one, _slower(1.3))),
    ]
    forecasts = [
        (name, simulate((SHARE,), rules, rates=rates, requests_at_most=LOOKS * EVERY, n_rollouts=N, seed=1))
        for name, rules, rates in cases
    ]
    rows = [(name, percent(f.rolled_back), *in_requests(f.requests_to_roll_back)) for name, f in forecasts]
    rows += [
        _late_reports("reports on 26 %, late; none worse", 0.02),
        _late_reports("same, wrong answers 2 % to 6 %", 0.06),
    ]
    rows.append(_z_test_at_each_look())
    return table(["case", "rolled back", "median requests", "90th percentile"], rows)


def _never_passing(n_metrics: int, ratio: float) -> Rules:
    """A rollout that stays in its stage, so that the test for harm is seen alone."""
    return Rules(tuple(MetricRule(f"m{i}", 1e-6, ratio) for i in range(n_metrics)), confidence=1 - 1e-12)


def _rates(rules: Rules, first: RatesAt) -> dict[str, RatesAt]:
    """The first metric as the case says, the others equal in both arms."""
    return {rule.metric: first if i == 0 else steady(0.01, 0.01) for i, rule in enumerate(rules.metrics)}


def _incident(sent: int) -> tuple[float, float]:
    return (0.3, 0.3) if 5_000 < sent <= 7_000 else (0.01, 0.01)


def _slower(factor: float) -> RatesAt:
    """Log-normal latencies; slow is above the p95 of 2,000 control requests before the rollout."""
    random = np.random.default_rng(3)
    limit = float(np.quantile(random.lognormal(3.0, 0.5, 2_000), 0.95))
    many = random.lognormal(3.0, 0.5, 1_000_000)
    return steady(float((many > limit).mean()), float((many * factor > limit).mean()))


def _late_reports(name: str, canary_rate: float) -> tuple[str, str, str, str]:
    """Wrong answers that are noticed with chance 0.26, after 3,000 requests on average."""
    random = np.random.default_rng(5)
    alarms = np.zeros(N)
    for i in range(N):
        sent_at = np.arange(LOOKS * EVERY)
        in_canary = random.random(sent_at.size) < SHARE
        is_wrong = random.random(sent_at.size) < np.where(in_canary, canary_rate, 0.02)
        is_reported = is_wrong & (random.random(sent_at.size) < 0.26)
        look = ((sent_at + random.exponential(3_000, sent_at.size)) // EVERY).astype(np.int64)
        heard = is_reported & (look < LOOKS)
        alarms[i] = _first_alarm(_by_look(look, heard & in_canary), _by_look(look, heard & ~in_canary))
    return (name, *_alarm_columns(alarms))


def _z_test_at_each_look() -> tuple[str, str, str, str]:
    """What the judge is not: a one-sided two-proportion z-test at 5 %, repeated at each look."""
    random = np.random.default_rng(9)
    canary = random.binomial(EVERY, SHARE, (N, LOOKS))
    control = EVERY - canary
    bad_canary, bad_control = (
        random.binomial(canary, 0.01).cumsum(axis=1),
        random.binomial(control, 0.01).cumsum(axis=1),
    )
    n, m = canary.cumsum(axis=1), control.cumsum(axis=1)
    pooled = (bad_canary + bad_control) / (n + m)
    error = np.sqrt(np.maximum(pooled * (1 - pooled) * (1 / n + 1 / m), 1e-12))
    z = (bad_canary / n - bad_control / m) / error
    # Ten bad requests at least, so that the normal approximation is not to blame.
    is_alarm = (z > 1.645) & (bad_canary + bad_control >= 10)
    return ("no difference, a z-test at each look instead", percent(is_alarm.any(axis=1).mean()), "", "")


def _by_look(look: Ints, chosen: Bools) -> Ints:
    return np.bincount(look[chosen], minlength=LOOKS)[:LOOKS].cumsum()[:, None]


def _first_alarm(
    canary_bad: NDArray[Any],
    control_bad: NDArray[Any],
    *,
    shares: Sequence[float] = (SHARE,),
    stages: Ints | None = None,
) -> float:
    """Requests at the first look that rolls back at alpha 0.05, one metric; 0 if none does.

    canary_bad, control_bad: (n_looks, n_parts), what is known at each look; a part is a stage, unless `stages` says more.
    """
    stage = np.arange(len(shares)) if stages is None else stages
    log_e = harm_log_e(canary_bad, control_bad, canary_share=shares, stage=stage, tolerated_ratio=1.0)
    above = np.flatnonzero(log_e >= np.log(20.0))
    return float((above[0] + 1) * EVERY) if above.size else 0.0


def _alarm_columns(alarms: Floats) -> tuple[str, str, str]:
    found = alarms[alarms > 0]
    return (percent(found.size / alarms.size), *in_requests(median_and_p90(found, alarms.size)))


# --- harm that begins with a later stage


def stages_table() -> str:
    """Tripled errors from the 25 % stage on, after a quiet 10 % stage: with and without fresh starts."""
    rows = []
    for quiet in (5_000, 20_000, 50_000):
        for name, stages in (("judged from each stage on", [0, 1]), ("only multiplied on", [0, 0])):
            alarms = _late_harm(quiet, stages)
            rows.append((f"{quiet:,} quiet requests, {name}", *_alarm_columns(alarms)))
    return table(
        ["errors 1 % to 3 % from 25 % on", "rolled back", "median requests", "90th percentile"], rows
    )


def _late_harm(quiet: int, stages: list[int]) -> Floats:
    random = np.random.default_rng(13)
    canary = random.binomial(EVERY, 0.25, (N, LOOKS))
    bad_canary = random.binomial(canary, 0.03).cumsum(axis=1)
    bad_control = random.binomial(EVERY - canary, 0.01).cumsum(axis=1)
    before_canary = np.repeat(random.binomial(quiet // 10, 0.01, (N, 1)), LOOKS, axis=1)
    before_control = np.repeat(random.binomial(quiet - quiet // 10, 0.01, (N, 1)), LOOKS, axis=1)
    log_e = harm_log_e(
        np.stack([before_canary, bad_canary], axis=-1),
        np.stack([before_control, bad_control], axis=-1),
        canary_share=[0.1, 0.25],
        stage=stages,
        tolerated_ratio=1.0,
    )
    is_alarm = log_e >= np.log(20.0)
    return np.where(is_alarm.any(axis=1), (is_alarm.argmax(axis=1) + 1.0) * EVERY, 0.0)


# --- sticky keys


def keys_table() -> str:
    rows = [
        ("no difference, count requests", *_alarm_columns(_sticky(1.0, of_requests))),
        ("no difference, count keys", *_alarm_columns(_sticky(1.0, of_keys))),
        ("no difference, count keys, 10, 25, 50 %", *_alarm_columns(_sticky(1.0, of_keys, shares=_RAMP))),
        ("3 times as bad, count keys", *_alarm_columns(_sticky(3.0, of_keys))),
        ("6 times as bad, count keys", *_alarm_columns(_sticky(6.0, of_keys))),
    ]
    return table(
        ["20,000 requests of 3,000 keys, Zipf 1.1", "rolled back", "median requests", "90th percentile"], rows
    )


# The split at each look: one for the whole rollout, or three in turn.
_ONE = (SHARE,) * LOOKS
_RAMP = (0.1,) * 80 + (0.25,) * 60 + (0.5,) * 60


def of_requests(keys: Ints, is_bad: Bools, in_canary: Bools, *, shares: tuple[float, ...]) -> float:
    look = np.arange(keys.size) // EVERY
    return _first_alarm(_by_look(look, is_bad & in_canary), _by_look(look, is_bad & ~in_canary))


def of_keys(keys: Ints, is_bad: Bools, in_canary: Bools, *, shares: tuple[float, ...]) -> float:
    look = np.arange(keys.size) // EVERY
    splits = [Split(number, share) for number, share in enumerate(shares)]
    counted = count_keys(keys, is_bad, in_canary=in_canary, stretch=look, splits=splits)
    # a column for each part of each share: keys that chance dealt anew are counted by the share that dealt them
    parts = sorted({(shares[one.split.stage], one.split.canary_share) for one in counted})
    bad = np.zeros((2, len(shares), len(parts)))
    for one in counted:
        part = parts.index((shares[one.split.stage], one.split.canary_share))
        bad[:, one.split.stage, part] += one.counts.canary_bad, one.counts.control_bad
    canary, control = bad.cumsum(axis=1)
    stages = np.unique([share for share, _ in parts], return_inverse=True)[1]
    return _first_alarm(canary, control, shares=[share for _, share in parts], stages=stages)


def _sticky(times_as_bad: float, count: Callable[..., float], *, shares: tuple[float, ...] = _ONE) -> Floats:
    """Each key has a bad rate of its own (mean 1 %, widely spread) and a place that decides its arm, for good."""
    random = np.random.default_rng(7)
    n_keys = 3_000
    popularity = 1.0 / np.arange(1, n_keys + 1) ** 1.1
    popularity /= popularity.sum()
    share_now = np.repeat(shares, EVERY)  # (n_requests,)
    alarms = np.zeros(N)
    for i in range(N):
        rate, place = random.beta(0.25, 24.75, n_keys), random.random(n_keys)
        keys = random.choice(n_keys, size=LOOKS * EVERY, p=popularity)
        in_canary = place[keys] < share_now
        rate_now = np.minimum(1.0, rate[keys] * np.where(in_canary, times_as_bad, 1.0))
        alarms[i] = count(keys, random.random(keys.size) < rate_now, in_canary, shares=shares)
    return alarms


# --- whole plans


def plans_table() -> str:
    """Healthy versions on 10, 25, 50 %: what they need to get through."""
    cases = [
        ("no errors, margin 1 point", 0.0, 0.01),
        ("0.1 % errors, margin 1 point", 0.001, 0.01),
        ("1 % errors, margin 1 point", 0.01, 0.01),
        ("1 % errors, margin 2 points", 0.01, 0.02),
        ("5 % slow, margin 2 points", 0.05, 0.02),
        ("5 % slow, margin 5 points", 0.05, 0.05),
    ]
    rows = [
        (name, *_plan_columns(_plan(steady(rate, rate), margin, known=rate))) for name, rate, margin in cases
    ]
    better = _plan(steady(0.1, 0.02), 0.01, known=0.1)
    rows.append(("10 % contradicted becomes 2 %, margin 1 point", *_plan_columns(better)))
    return table(
        ["healthy version", "reached 100 %", "rolled back", "median requests", "90th percentile"], rows
    )


def _plan_columns(forecast: Forecast) -> tuple[str, ...]:
    return (percent(forecast.passed), percent(forecast.rolled_back), *in_requests(forecast.requests_to_pass))


def worse_table() -> str:
    """Versions that are worse by the margin or more: do they get through a stage, or all?"""
    rows = []
    for name, control, canary, margin in [
        ("errors 1 % to 2 %, margin 1 point", 0.01, 0.02, 0.01),
        ("errors 1 % to 2.5 %, margin 1 point", 0.01, 0.025, 0.01),
        ("errors 1 % to 3 %, margin 1 point", 0.01, 0.03, 0.01),
        ("slow 5 % to 7 %, margin 2 points", 0.05, 0.07, 0.02),
    ]:
        lenient = 1e9  # so that nothing is rolled back and only the bound decides
        alone = _plan(steady(control, canary), margin, known=control, ratio=lenient, shares=(SHARE,))
        whole = _plan(steady(control, canary), margin, known=control)
        rows.append((name, percent(alone.passed), percent(whole.passed), percent(whole.rolled_back)))
    return table(["version", "passes the 10 % stage, bound alone", "reaches 100 %", "rolled back"], rows)


def labels_table() -> str:
    """How many truths one stage takes, of both arms together; the same share of both is audited."""
    rows = []
    for rate, margin in ((0.02, 0.02), (0.05, 0.03), (0.05, 0.05), (0.05, 0.1), (0.2, 0.05), (0.2, 0.1)):
        found = [f"{100 * rate:g} %", f"{100 * margin:g} points"]
        for share in (0.1, 0.5):
            equal = _truths(rate, rate, margin, share).requests_to_pass
            tripled = _truths(rate, min(3 * rate, 0.9), margin, share).requests_to_roll_back
            found += [_range(equal), _range(tripled)]
        rows.append(tuple(found))
    head = ["wrong before", "margin", "canary 10 %: equal passes", "three times as wrong goes back"]
    return table([*head, "canary 50 %: equal passes", "three times as wrong goes back"], rows)


def _truths(control: float, canary: float, margin: float, share: float) -> Forecast:
    return simulate(
        (share,),
        Rules((MetricRule("wrong", margin, is_mean=True),)),
        rates={},
        numbers={
            "wrong": Numbers(np.array([0.0, 1.0]), np.array([[1 - canary, canary], [1 - control, control]]))
        },
        requests_at_most=40_000,
        look_every=20,
        known_before={"wrong": (round(2_000 * control), 2_000)},
        n_rollouts=400,
        seed=19,
    )


def _range(median_and_p90: tuple[float | None, float | None]) -> str:
    return " to ".join("more" if time is None else f"{time:,.0f}" for time in median_and_p90)


def _plan(
    rates: RatesAt,
    margin: float,
    *,
    known: float,
    ratio: float = 1.0,
    shares: Iterable[float] = (0.1, 0.25, 0.5),
) -> Forecast:
    rules = Rules((MetricRule("m", margin, ratio),))
    return simulate(
        tuple(shares),
        rules,
        rates={"m": rates},
        requests_at_most=60_000,
        known_before={"m": (round(5_000 * known), 5_000)},
        n_rollouts=N,
        seed=11,
    )


if __name__ == "__main__":
    main()
