"""Whole rollouts through 10, 25, 50 % and the watch after them, 2,000 made-up ones a case, in the judge's own code.

python -m benchmarks.judge_whole_rollouts                  prints the tables (some minutes of one core)
python -m benchmarks.judge_whole_rollouts --only audited   prints one
python -m benchmarks.judge_whole_rollouts --write          puts them into benchmarks/judge_whole_rollouts.txt and the page
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.judge_tables import Row, in_requests, make, percent, share, table
from everloop.rollout import (
    CanaryHealth,
    MetricEvidence,
    MetricRule,
    Rules,
    Split,
    blown_fuse,
    count_keys,
    recent_failures,
)
from everloop.rollout.bounded import _LOG_WEIGHTS, _PARTS
from everloop.rollout.eprocess import harm_log_e, log_mean_exp, sample_ratio_log_e
from everloop.rollout.excess import (
    _excess_log_e_at,
    known_of_control,
    log_weights_of_rates,
    outcomes,
)
from everloop.rollout.made_up import MeansSideBySide, Numbers
from everloop.rollout.means import ODDS_OF_KPIS, ODDS_OF_TRUTHS
from everloop.rollout.paired import Pairs, judge_pairs
from everloop.rollout.simulate import LateReports, MadeUpRollouts, median_and_p90

N = 2_000
SHARES = (0.1, 0.25, 0.5)
EVERY = 100  # requests between two looks
HERE = Path(__file__).parent

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def main() -> None:
    tables = {
        "whole": whole_table,
        "deadlines": deadlines_table,
        "audited": audited_table,
        "kpis": kpis_table,
        "sticky": sticky_table,
        "pairs": pairs_table,
        "guards": guards_table,
    }
    written = make(tables, __doc__)
    if written is not None:
        told = f"{__doc__.splitlines()[0]}\nPython 3.11, numpy {np.__version__}\n\n"
        text = told + "\n\n".join(written) + "\n"
        (HERE / "judge_whole_rollouts.txt").write_text(text, encoding="utf-8")


# --- what is drawn at each look, added to the counts of the stage in which the requests arrived


@dataclass
class Traffic:
    """The requests of one look: in which stage each running rollout is, and how many either arm got."""

    running: Ints
    stage: Ints
    arms: tuple[Ints, Ints]  # canary, control


@dataclass
class AtOnce:
    """A metric that is known with the answer. A rate is one number, one for each rollout, or changes once."""

    canary: Floats | float
    control: Floats | float
    then: tuple[int, float, float] | None = None  # from this request on: rates of canary and control

    def draw(self, of: MadeUpRollouts, metric: str, sent: int, new: Traffic) -> None:
        rates = (self.canary, self.control) if self.then is None or sent < self.then[0] else self.then[1:]
        bad = [
            of.random.binomial(n, rate[new.running] if isinstance(rate, np.ndarray) else rate)
            for n, rate in zip(new.arms, rates, strict=True)
        ]
        of.counts[metric][new.running, new.stage] += outcomes(
            bad[0], new.arms[0], control_bad=bad[1], control_total=new.arms[1]
        )


@dataclass
class Contradicted:
    """Wrong answers that people report by chance, later; requests younger than nine reports in ten do not count."""

    canary: float
    control: float
    reported: float = 0.26
    after: float = 3_000.0
    storm: tuple[int, int, float] | None = None  # from, to, how often wrong answers are reported meanwhile
    reports: LateReports | None = None

    def draw(self, of: MadeUpRollouts, metric: str, sent: int, new: Traffic) -> None:
        if self.reports is None:
            self.reports = LateReports(of.counts[metric], self.after)
        is_storm = self.storm is not None and self.storm[0] <= sent < self.storm[1]
        reported = self.storm[2] if is_storm and self.storm is not None else self.reported
        asked = np.stack(new.arms, axis=1)
        rates = np.array([self.canary, self.control]) * reported
        self.reports.draw(new.running, new.stage, asked, of.random.binomial(asked, rates))
        self.reports.arrive(of.random, EVERY)


Metric = AtOnce | Contradicted
Metrics = Mapping[str, tuple[Metric, float | None]]  # with their margins


def roll(
    metrics: Metrics,
    *,
    ratio: float = 1.0,
    requests: int = 60_000,
    watch: int = 20_000,
    known: dict[str, tuple[int, int]] | None = None,
    ends_after: int | None = None,
    seed: int = 1,
) -> MadeUpRollouts:
    """Whole rollouts: the stages, then a watch in which only what is said late about them can take one back."""
    rules = Rules(tuple(MetricRule(name, margin, ratio) for name, (_, margin) in metrics.items()))
    made = MadeUpRollouts(SHARES, rules, known or {}, n_rollouts=N, seed=seed)
    is_told_late = any(not isinstance(metric, AtOnce) for metric, _ in metrics.values())
    for sent in range(EVERY, requests + is_told_late * watch + 1, EVERY):
        running = np.flatnonzero((made.ended_at == 0) & (sent <= requests))
        stage = made.stage[running]
        canary = made.random.binomial(EVERY, made.shares[stage])
        new = Traffic(running, stage, (canary, EVERY - canary))
        for name, (metric, _) in metrics.items():
            metric.draw(made, name, sent, new)
        if running.size:
            made.judge(sent)
        if ends_after is not None and sent >= ends_after:
            made.end(sent)
        watched = np.flatnonzero((made.ended_at > sent - watch) & ~made.rolled_back)
        back = watched[made.is_harmful(watched)] if is_told_late else watched[:0]
        made.rolled_back[back] = True
        made.ended_at[back] = sent
        if not running.size and not watched.size:
            break
    return made


def row(name: str, made: MadeUpRollouts) -> Row:
    passed = (made.ended_at > 0) & ~made.rolled_back
    ended = made.ended_at[made.rolled_back], made.ended_at[passed]
    times = median_and_p90(max(ended, key=len), N)
    print(name, made.rolled_back.mean(), times, file=sys.stderr)
    return (
        name,
        share(int(made.rolled_back.sum()), N),
        percent(passed.mean()),
        percent((made.ended_at == 0).mean()),
        *in_requests(times),
    )


# --- the tables


def whole_table() -> str:
    errors = {"errors": (50, 5_000)}
    slow = {"slow": (250, 5_000)}
    both_slow = _latencies(shift=1.3, both=True)
    one_slow, few = _latencies(shift=1.3), _latencies(shift=1.3, known=100)
    same_few = _latencies(shift=1.0, known=100)
    rows = [
        row(
            "no difference, errors 1 %, margin 2 points",
            roll({"errors": (AtOnce(0.01, 0.01), 0.02)}, known=errors),
        ),
        row("no difference, five metrics, margins 2 points", roll(_five(0.01))),
        row(
            "both arms worse from the 3,000th on, 1 % to 5 %",
            roll({"errors": (AtOnce(0.01, 0.01, (3_000, 0.05, 0.05)), 0.02)}, known=errors),
        ),
        row(
            "both arms 30 % slower than before, margin 5 points",
            roll({"slow": (AtOnce(*both_slow), 0.05)}, known=slow),
        ),
        row("same latency, limit learned from 100 requests", roll({"slow": (AtOnce(*same_few), 0.05)})),
        row("contradicted in both 2 %, one in four reports, late", roll(_told(0.02, 0.02))),
        row(
            "same, reporting trebled for 5,000 requests", roll(_told(0.02, 0.02, storm=(4_000, 9_000, 0.78)))
        ),
        row("errors 1 % to 2 %", roll({"errors": (AtOnce(0.02, 0.01), 0.01)}, known=errors)),
        row("errors 1 % to 3 %", roll({"errors": (AtOnce(0.03, 0.01), 0.01)}, known=errors)),
        row("errors 1 % to 3 %, five metrics, ratio 1.2", roll(_five(0.03), ratio=1.2)),
        row("errors 1 % to 5 %", roll({"errors": (AtOnce(0.05, 0.01), 0.01)}, known=errors)),
        row("canary 30 % slower (slow 5 % to 13 %)", roll({"slow": (AtOnce(*one_slow), 0.05)}, known=slow)),
        row("same, limit learned from 100 requests", roll({"slow": (AtOnce(*few), 0.05)})),
        row("contradicted 2 % to 6 %, margin 1 point", roll(_told(0.06, 0.02))),
        row(
            "contradicted 2 % to 8 %, no margin: found in the watch",
            roll(
                {"errors": (AtOnce(0.0, 0.0), 0.01), "contradicted": (Contradicted(0.08, 0.02), None)},
                known={"errors": (0, 5_000)},
            ),
        ),
        row(
            "no difference, but 200 requests in all",
            roll({"errors": (AtOnce(0.01, 0.01), 0.02)}, requests=200),
        ),
        row(
            "errors 1 % to 5 %, but 200 requests in all",
            roll({"errors": (AtOnce(0.05, 0.01), 0.02)}, requests=200),
        ),
    ]
    head = [
        "case",
        "rolled back (95 % interval)",
        "reached 100 %",
        "on hold",
        "median requests",
        "90th percentile",
    ]
    return table(head, rows)


def deadlines_table() -> str:
    """Plans whose deadline takes back what is not decided: how much of that is a verdict, and how much the clock."""
    rows = []
    for name, canary, requests in (
        ("no difference, over after 2,000 requests", 0.01, 2_000),
        ("no difference, over after 10,000 requests", 0.01, 10_000),
        ("errors 1 % to 5 %, over after 2,000 requests", 0.05, 2_000),
    ):
        metrics: Metrics = {"errors": (AtOnce(canary, 0.01), 0.02)}
        made = roll(metrics, known={"errors": (50, 5_000)}, ends_after=requests)
        by_test = int((made.rolled_back & ~made.by_deadline).sum())
        passed = (made.ended_at > 0) & ~made.rolled_back
        rows.append((name, share(by_test, N), percent(made.by_deadline.mean()), percent(passed.mean())))
    head = ["at_deadline='roll_back', margin 2 points", "rolled back by the test (95 % interval)"]
    return table([*head, "by the deadline", "reached 100 %"], rows)


def _five(canary: float) -> Metrics:
    """Errors as given, and four more metrics that are bad once in a hundred in both arms."""
    more = {f"m{i}": (AtOnce(0.01, 0.01), 0.02) for i in range(4)}
    return {"errors": (AtOnce(canary, 0.01), 0.02), **more}


def _told(canary: float, control: float, storm: tuple[int, int, float] | None = None) -> Metrics:
    return {"contradicted": (Contradicted(canary, control, storm=storm), 0.01)}


def _latencies(*, shift: float, known: int = 2_000, both: bool = False) -> tuple[Floats, Floats]:
    """Rates of slow answers for each rollout, whose limit is the p95 of so many log-normal requests of before."""
    random = np.random.default_rng(3)
    limit = np.log(np.quantile(random.lognormal(3.0, 0.5, (N, known)), 0.95, axis=1))
    canary, control = (
        stats.norm.sf((limit - np.log(by)) / 0.5 - 3.0 / 0.5) for by in (shift, shift if both else 1.0)
    )
    return np.asarray(canary), np.asarray(control)


# --- the audit sample


@dataclass(frozen=True)
class Sample:
    """Answers that reviewers look at, by canary and control: how often wrong, how often drawn, how much later known.

    Each answer is of a kind, `parts` of all, with a rate and a chance of its own. `said` is how often an arm gives the answer
    that is asked about, where that is one class: then the versions, and not chance alone, deal what is counted.
    """

    wrong: tuple[Sequence[float], Sequence[float]]
    drawn: tuple[Sequence[float], Sequence[float]] = ((0.14,), (0.14,))
    after: tuple[float, float] = (3_000.0, 3_000.0)
    parts: Sequence[float] = (1.0,)
    said: tuple[float, float] = (1.0, 1.0)
    on_odds: float = ODDS_OF_TRUTHS
    then: tuple[int, float] | None = None  # from this request on both arms are wrong so often

    def numbers(self, *, later: bool = False) -> Numbers:
        rates = np.array([[self.then[1]], [self.then[1]]] if later and self.then else self.wrong)
        looked_at = np.array(self.said)[:, None] * np.asarray(self.parts) * np.asarray(self.drawn)
        return Numbers(
            np.tile([1.0, 0.0], len(self.parts)),
            np.stack([looked_at * rates, looked_at * (1.0 - rates)], axis=-1).reshape(2, -1),
            weights=np.repeat(1.0 / np.asarray(self.drawn), 2, axis=1),
            after=self.after,
            on_odds=self.on_odds,
        )


class MeansAlone:
    """Whole rollouts side by side, judged by one mean alone, also in the watch after the last step."""

    def __init__(
        self, rule: MetricRule, numbers: Numbers, *, before: tuple[int, int], n: int, seed: int = 29
    ) -> None:
        self.random = np.random.default_rng(seed)
        self.stage = np.zeros(n, dtype=np.int64)
        self.passed_at, self.back_at = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.means = MeansSideBySide(
            rule,
            numbers,
            shares=np.array(SHARES),
            before=before,
            n_rollouts=n,
            e_bound=20.0,
            confidence=0.95,
        )

    def roll(self, *, every: int, requests: int, watch: int, then: tuple[int, Numbers] | None = None) -> None:
        for sent in range(every, requests + watch + 1, every):
            if then is not None and sent >= then[0]:
                self.means.numbers = then[1]
            watched = (self.passed_at > 0) & (sent < self.passed_at + watch)
            going = np.flatnonzero((self.back_at == 0) & ((self.passed_at == 0) | watched))
            if not going.size:
                break
            split = going[(self.passed_at[going] == 0) & (sent <= requests)]
            canary = self.random.binomial(every, np.array(SHARES)[self.stage[split]])
            asked = np.stack([canary, every - canary], axis=1)
            self.means.draw(self.random, split, self.stage[split], asked)
            self.means.arrive(self.random, going, every)
            is_back = self.means.is_harmful(going, self.stage[going])
            self.back_at[going[is_back]] = sent
            split = split[self.back_at[split] == 0]
            ahead = split[self.means.is_shown(split, self.stage[split])]
            self.means.next_stage(ahead)
            self.stage[ahead] += 1
            through = ahead[self.stage[ahead] == len(SHARES)]
            self.stage[through] -= 1
            self.passed_at[through] = sent

    def row(self, name: str) -> Row:
        n = len(self.stage)
        is_back = self.back_at > 0
        through = (self.passed_at > 0) & ~is_back
        ended = max(self.back_at[is_back], self.passed_at[through], key=len).astype(np.float64)
        print(name, is_back.mean(), through.mean(), file=sys.stderr)
        return (
            name,
            share(int(is_back.sum()), n),
            percent(through.mean()),
            percent((~is_back & ~through).mean()),
            *in_requests(median_and_p90(ended, n)),
        )


def audited_table() -> str:
    """Wrong answers of a random sample of both arms, which reviewers reach late."""
    head = [
        "wrong answers in the audit sample, margin 5 points",
        "rolled back (95 % interval)",
        "reached 100 %",
        "on hold",
        "median requests",
        "90th percentile",
    ]

    def plain(canary: float, control: float, **given: Any) -> Sample:
        return Sample(((canary,), (control,)), **given)

    unsure: dict[str, Any] = {"parts": (0.8, 0.2), "drawn": ((0.04, 0.4), (0.04, 0.4))}
    more: dict[str, Any] = {"drawn": ((0.25,), (0.05,))}
    of_class: dict[str, Any] = {"said": (0.4, 0.2), "drawn": ((0.5,), (0.5,)), "on_odds": 0.0}
    cases = [
        ("5 % in both, 14 % of the answers audited", plain(0.05, 0.05)),
        ("5 % in both, 5 % audited", plain(0.05, 0.05, drawn=((0.05,), (0.05,)))),
        ("5 % in both, 25 % of the canary's audited, 5 % of the control's", plain(0.05, 0.05, **more)),
        ("5 % in both, unsure answers audited ten times as often", Sample(((0.0125, 0.2),) * 2, **unsure)),
        ("5 % in both, the canary's reviewed ten times sooner", plain(0.05, 0.05, after=(300.0, 3_000.0))),
        ("5 % in both, 15 % from the 5,000th on", plain(0.05, 0.05, then=(5_000, 0.15))),
        ("a class, 10 % in both, said twice as often by the canary", plain(0.1, 0.1, **of_class)),
        ("5 % to 10 %, 14 % audited", plain(0.1, 0.05)),
        ("5 % to 15 %, 14 % audited", plain(0.15, 0.05)),
        ("5 % to 15 %, 5 % audited", plain(0.15, 0.05, drawn=((0.05,), (0.05,)))),
        ("5 % to 15 %, 25 % of the canary's audited, 5 % of the control's", plain(0.15, 0.05, **more)),
        ("5 % to 15 %, unsure ones ten times as often", Sample(((0.0375, 0.6), (0.0125, 0.2)), **unsure)),
        ("a class, 10 % to 30 %, said twice as often by the canary", plain(0.3, 0.1, **of_class)),
    ]
    return table(head, [_audited(*case) for case in cases])


def _audited(name: str, sample: Sample, *, n: int = N) -> Row:
    """A look every 500 requests; a review comes 3,000 requests later in the mean, most within 10,000."""
    rate = float(np.asarray(sample.wrong[1]) @ np.asarray(sample.parts))
    rule = MetricRule("wrong", 0.05, is_mean=True)
    made = MeansAlone(rule, sample.numbers(), before=(round(2_000 * rate), 2_000), n=n)
    then = None if sample.then is None else (sample.then[0], sample.numbers(later=True))
    made.roll(every=500, requests=60_000, watch=20_000, then=then)
    return made.row(name)


# --- KPIs


def kpis_table() -> str:
    """A KPI whose values become known 3,000 requests later, judged alone with a margin of a twentieth of its span."""
    head = [
        "a KPI, known 3,000 requests later, margin 5 % of its span",
        "rolled back (95 % interval)",
        "reached 100 %",
        "on hold",
        "median requests",
        "90th percentile",
    ]
    ends, bought = np.array([0.0, 1.0]), np.array([0.1, 0.9])  # all or nothing: one in ten buys
    basket = np.random.default_rng(3).beta(
        6.0, 2.0, 100_000
    )  # a mean of three quarters of the way to the worst
    places = np.linspace(0.0, 1.0, 9)
    spread = np.histogram(basket, bins=np.append(places - 1 / 16, 1 + 1 / 16))[0] / basket.size
    cases = [
        ("one in ten buys, in both", ends, bought, bought, 1.0),
        ("one in ten buys, three in a hundred of the new", ends, np.array([0.03, 0.97]), bought, 1.0),
        ("baskets of these, alike in both", places, spread, spread, 0.1),
        (
            "baskets of these, two in five of the new version's empty",
            places,
            _emptied(spread, 0.4),
            spread,
            0.1,
        ),
    ]
    return table(head, [_kpi(*case) for case in cases])


def _emptied(chances: Floats, part: float) -> Floats:
    emptied = (1.0 - part) * chances
    emptied[-1] += part
    return emptied


def _kpi(name: str, values: Floats, canary: Floats, control: Floats, told: float, *, n: int = N) -> Row:
    numbers = Numbers(
        values, told * np.array([canary, control]), not_before=3_000, on_odds=ODDS_OF_KPIS, learns=False
    )
    made = MeansAlone(MetricRule("kpi", 0.05, is_mean=True), numbers, before=(0, 0), n=n)
    made.roll(every=500, requests=60_000, watch=20_000)
    return made.row(name)


# --- sticky keys


def sticky_table() -> str:
    head = [
        "20,000 requests of 3,000 keys, Zipf 1.1, margin 5 points",
        "rolled back (95 % interval)",
        "reached 100 %",
        "on hold",
        "median requests",
        "90th percentile",
    ]
    cases = [("no difference", 1.0), ("six times as bad", 6.0), ("three tenths as bad", 0.3)]
    return table(head, [_sticky(name, times) for name, times in cases])


def _sticky(name: str, times: float, *, every: int = 2_000, requests: int = 20_000, n: int = N) -> Row:
    """Whole rollouts with a look every 2,000 requests; keys keep their arm while the share grows."""
    random = np.random.default_rng(17)
    n_keys = 3_000
    popularity = 1.0 / np.arange(1, n_keys + 1) ** 1.1
    popularity /= popularity.sum()
    rules = Rules((MetricRule("errors", 0.05),))
    back: list[float] = []
    through: list[float] = []
    for _ in range(n):
        rate, place = random.beta(0.25, 24.75, n_keys), random.random(n_keys)
        keys = random.choice(n_keys, size=requests, p=popularity)
        chance = random.random(requests)
        stage_of = np.zeros(requests, dtype=np.int64)
        stage = 0
        for sent in range(every, requests + 1, every):
            stage_of[sent - every : sent] = stage
            upto = stage_of[:sent]
            in_canary = place[keys[:sent]] < np.array(SHARES)[upto]
            is_bad = chance[:sent] < np.minimum(1.0, rate[keys[:sent]] * np.where(in_canary, times, 1.0))
            splits = [Split(one, SHARES[one]) for one in range(stage + 1)]
            counted = count_keys(keys[:sent], is_bad, in_canary=in_canary, stretch=upto, splits=splits)
            action = _decided(MetricEvidence("errors", counted), rules)
            stage += action == "advance"
            if action == "roll_back" or stage == len(SHARES):
                (back if action == "roll_back" else through).append(float(sent))
                break
    times_ = median_and_p90(np.array(max(back, through, key=len)), n)
    return (
        name,
        share(len(back), n),
        percent(len(through) / n),
        percent(1 - (len(back) + len(through)) / n),
        *in_requests(times_),
    )


def _decided(evidence: MetricEvidence, rules: Rules) -> str:
    """What `judge` says of one metric, at its margin alone: the bound itself takes a hundred margins to find."""
    parts, (rule,) = evidence.stretches, rules.metrics
    log_e = harm_log_e(
        [one.counts.canary_bad for one in parts],
        [one.counts.control_bad for one in parts],
        canary_share=[one.split.canary_share for one in parts],
        stage=[one.split.stage for one in parts],
        tolerated_ratio=rule.tolerated_ratio,
    )
    if log_e >= np.log(rules.e_bound):
        return "roll_back"
    now = [one for one in evidence.latest_stage if 0 < one.split.canary_share < 1]
    weights = log_weights_of_rates(*known_of_control(evidence))
    shown = _excess_log_e_at(now, np.array([rule.excess_at_most or 1.0]), log_weights=weights)
    return "advance" if shown[0] >= -np.log(1 - rules.confidence) else "hold"


# --- pairs


def pairs_table() -> str:
    """A shadow: bad in both with chance `both`, in one alone with the rest of its rate."""
    cases = [
        ("no difference, errors 1 % each, apart", 0.01, 0.01, 0.0),
        ("no difference, errors 3 % each, mostly the same requests", 0.03, 0.03, 0.025),
        ("errors 1 % to 2 %", 0.02, 0.01, 0.01),
        ("errors 1 % to 3 %", 0.03, 0.01, 0.01),
        ("errors 1 % to 5 %", 0.05, 0.01, 0.01),
        ("no errors at all", 0.0, 0.0, 0.0),
    ]
    head = [
        "pairs of a shadow, margin 1 point",
        "rolled back (95 % interval)",
        "margin shown",
        "on hold",
        "median pairs",
        "90th percentile",
    ]
    return table(head, [_pairs(*case) for case in cases])


def _pairs(name: str, shadow: float, live: float, both: float, *, pairs: int = 20_000) -> Row:
    random = np.random.default_rng(23)
    chances = [live - both, 1.0 - shadow - live + 2 * both, shadow - both]  # of -1, 0 and 1
    counts = random.multinomial(EVERY, chances, (N, pairs // EVERY)).cumsum(axis=1).astype(np.float64)
    harm = _bets(np.array([-1.0, 0.0, 1.0]), counts)
    margin = _bets(np.array([1.0, 0.0, -1.0]), counts, mean=-0.01)
    rules = Rules((MetricRule("errors", 0.01),))
    is_back, is_shown = harm >= np.log(rules.e_bound), margin >= np.log(20.0)
    _agrees_with_the_judge(counts, is_back, is_shown, rules)
    at_back, at_shown = (np.where(one.any(axis=1), one.argmax(axis=1), pairs) for one in (is_back, is_shown))
    back, through = at_back <= at_shown, at_shown < at_back
    back &= at_back < pairs
    ended = [(at[one] + 1.0) * EVERY for at, one in ((at_back, back), (at_shown, through))]
    times = median_and_p90(max(ended, key=len), N)
    return (
        name,
        share(int(back.sum()), N),
        percent(through.mean()),
        percent((~back & ~through).mean()),
        *in_requests(times),
    )


def _bets(values: Floats, counts: Floats, *, mean: float = 0.0) -> Floats:
    """`bounded.refutes_at_most` for many counts at once, values from -1 to 1."""
    paid = (1.0 + values) / (1.0 + mean)
    return log_mean_exp(counts @ np.log1p(_PARTS[:, None] * (paid - 1.0)).T, _LOG_WEIGHTS)


def _agrees_with_the_judge(
    counts: Floats, is_back: NDArray[np.bool_], is_shown: NDArray[np.bool_], rules: Rules
) -> None:
    random = np.random.default_rng(1)
    for rollout, look in zip(random.integers(0, N, 20), random.integers(0, counts.shape[1], 20), strict=True):
        less, same, more = counts[rollout, look].astype(int).tolist()
        shadow = np.repeat([0.0, 0.0, 1.0], [less, same, more])
        live = np.repeat([1.0, 0.0, 0.0], [less, same, more])
        action = judge_pairs([Pairs("errors", shadow, live)], CanaryHealth(), rules).action
        seen = "roll_back" if is_back[rollout, look] else "advance" if is_shown[rollout, look] else "hold"
        assert action == seen, (action, seen)


# --- the check of the split, and the fuse


def guards_table() -> str:
    random = np.random.default_rng(29)
    rows = []
    for name, real in (
        ("split 10 % as asked", 0.1),
        ("11 % instead of 10 %", 0.11),
        ("12 % instead of 10 %", 0.12),
        ("20 % instead of 10 %", 0.2),
    ):
        totals = np.arange(1, 201) * EVERY
        canary = random.binomial(EVERY, real, (N, 200)).cumsum(axis=1)
        is_off = np.array(
            [
                [
                    sample_ratio_log_e([int(x)], [int(n)], canary_share=[0.1]) >= np.log(1_000)
                    for x, n in zip(one[9::10], totals[9::10], strict=True)
                ]
                for one in canary
            ]
        )
        at = (is_off.argmax(axis=1)[is_off.any(axis=1)] + 1.0) * 10 * EVERY
        rows.append(
            (f"the check of the split: {name}", share(at.size, N), *in_requests(median_and_p90(at, N)))
        )
    for name, rate, canary_rate in (
        ("both arms fail 30 %", 0.3, 0.3),
        ("both arms fail 80 %", 0.8, 0.8),
        ("the canary fails 95 %, the control 1 %", 0.01, 0.95),
    ):
        blown = np.array([_fuse(random, rate, canary_rate) for _ in range(N)])
        found = blown[blown > 0]
        rows.append(
            (
                f"the fuse, 2,000 requests at 10 %: {name}",
                share(found.size, N),
                *in_requests(median_and_p90(found, N)),
            )
        )
    return table(
        [
            "20,000 requests, unless said otherwise",
            "off, or blown (95 % interval)",
            "median requests",
            "90th percentile",
        ],
        rows,
    )


def _fuse(random: np.random.Generator, rate: float, canary_rate: float) -> float:
    """The request at which it blows; it can only after twenty failures in a row, so that only there is it asked."""
    canary = random.random(2_000) < 0.1
    failed = random.random(2_000) < np.where(canary, canary_rate, rate)
    run = 0
    for at in np.flatnonzero(canary):
        run = run + 1 if failed[at] else 0
        if run >= 20 and blown_fuse(recent_failures(failed[: at + 1], canary[: at + 1])) is not None:
            return float(at + 1)
    return 0.0


if __name__ == "__main__":
    main()
