"""Whether a canary goes on, waits or goes back: a pure function of what was counted.

roll back   a fuse blew, or the evidence of harm in some metric reached its bound
advance     every metric that has a margin is shown to exceed the control by less than it
hold        neither: more evidence is needed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from everloop.errors import Invalid
from everloop.rollout.eprocess import MAX_LOG_E, harm_log_e, sample_ratio_log_e
from everloop.rollout.evidence import Counts, MetricEvidence
from everloop.rollout.excess import excess_upper_bound
from everloop.rollout.means import MeanEvidence, counts_of, excess_of_means, harm_in_means

Action = Literal["advance", "hold", "roll_back"]

_CRASHES = 3  # of whole serving processes: one may be a machine's fault


@dataclass(frozen=True)
class MetricRule:
    """What is tolerated of one metric.

    `excess_at_most` is absolute (0.01: one request in a hundred more than the control); None lets the metric roll
    back but not keep a canary from advancing; where no metric has a margin, nothing can be shown, and a person decides.
    `tolerated_ratio` is relative: 1.2 never rolls back a canary that is bad at most 1.2 times as often as the control. A
    metric that `is_mean` is judged by numbers of some units (`means`), and for these `tolerated` is absolute, a part of their
    span.
    """

    metric: str
    excess_at_most: float | None
    tolerated_ratio: float = 1.0
    tolerated: float = 0.0
    is_mean: bool = False

    def __post_init__(self) -> None:
        if self.excess_at_most is not None and not 0.0 < self.excess_at_most < 1.0:
            raise Invalid(
                f"excess_at_most of {self.metric} is {self.excess_at_most}; it is an absolute rate between 0 and 1, "
                "such as 0.01 for one point. No finite traffic shows that nothing at all is exceeded: state a margin."
            )
        if self.tolerated_ratio < 1.0:
            raise Invalid(
                f"tolerated_ratio of {self.metric} is {self.tolerated_ratio}; below 1 it would roll back equal versions. "
                "Use 1 or more."
            )


@dataclass(frozen=True)
class Rules:
    """The rules of one rollout, fixed before it starts.

    `false_rollback_at_most` is the chance, over the whole rollout, all metrics and all looks together, that the test
    takes back a version that is within the tolerated ratios. `confidence` is that of the bound by which a stage is
    passed. `fuse_failures_in_a_row` is not statistics but a fuse. `further_tests` are those of the same rollout under other
    rules, which share the budget.
    """

    metrics: tuple[MetricRule, ...]
    false_rollback_at_most: float = 0.05
    confidence: float = 0.95
    fuse_failures_in_a_row: int = 20
    further_tests: int = 0

    def __post_init__(self) -> None:
        names = [rule.metric for rule in self.metrics]
        if not names or len(set(names)) < len(names):
            raise Invalid(
                f"the judge was given the metrics {names}; it needs at least one, each once. Name them apart."
            )
        for name, value in (
            ("false_rollback_at_most", self.false_rollback_at_most),
            ("confidence", self.confidence),
        ):
            if not 0.0 < value < 1.0:
                raise Invalid(
                    f"{name} is {value}; it is a probability between 0 and 1. The usual values are 0.05 and 0.95."
                )

    @property
    def e_bound(self) -> float:
        """The e-value at which one of the metrics rolls back: m / alpha, so that all together err at most alpha."""
        return (len(self.metrics) + self.further_tests) / self.false_rollback_at_most


@dataclass(frozen=True)
class CanaryHealth:
    """What a fuse looks at; it needs no statistics and no minimum of traffic.

    `not_ready` says why no serving process has loaded it, `crashes` how many of them ended by themselves since it began, more
    than in the time before. `control_successes_meanwhile` and `control_failures_meanwhile` count what the control did since the
    canary's first failure in that row: unless it answered at least half of it well, the trouble is not the canary's alone. None
    means that there is no control.
    """

    not_ready: str | None = None
    failures_in_a_row: int = 0
    control_successes_meanwhile: int | None = None
    control_failures_meanwhile: int = 0
    crashes: int = 0


@dataclass(frozen=True)
class MetricVerdict:
    """One metric at one look, with the numbers that decided.

    `counts` are those of the whole rollout, which `e_value` is about; `stage_counts` those of the running stage,
    which `excess` (None: an arm is empty) and `excess_upper` are about. Where means are judged, `means` are those of canary
    and control in the metric's own unit, `span` is what an excess of 1 is in it, and counts are units and their badness. Of
    pairs the other end of their excess is known too: `excess_lower` is passed with the same confidence.
    """

    metric: str
    says: Action
    e_value: float
    e_bound: float
    tolerated_ratio: float
    excess: float | None
    excess_upper: float
    excess_at_most: float | None
    counts: Counts
    stage_counts: Counts
    means: tuple[float | None, float | None] | None = None
    span: float = 1.0
    problem: str | None = None
    excess_lower: float | None = None

    @property
    def evidence(self) -> str:
        """That of harm against its bound, in words; to three figures, as one reads it."""
        e = f"{float(f'{self.e_value:.3g}'):,.0f}" if 100 <= self.e_value < 1e6 else f"{self.e_value:.3g}"
        return f"e = {e}, bound {self.e_bound:g}"


@dataclass(frozen=True)
class SampleRatio:
    """Whether traffic was split as asked; off at an e-value of 1,000 (a chance of 0.1 % over all looks)."""

    canary_total: int
    expected_canary_total: float
    all_total: int
    e_value: float
    e_bound: float
    is_off: bool


@dataclass(frozen=True)
class Decision:
    """What the judge says at one look, and why; `as_dict` is what is stored and drawn."""

    action: Action
    reason: str
    fuse: str | None
    metrics: tuple[MetricVerdict, ...]
    sample_ratio: SampleRatio

    def as_dict(self) -> dict[str, object]:
        """JSON values only."""
        return asdict(self) | {"metrics": [asdict(verdict) for verdict in self.metrics]}


def judge(
    evidence: Sequence[MetricEvidence],
    rules: Rules,
    *,
    health: CanaryHealth | None = None,
    means: Sequence[MeanEvidence] = (),
) -> Decision:
    """Advance, hold or roll back, on the counts so far; may be asked as often as one likes.

    A version within its tolerated ratios is rolled back by the test with probability at most
    `rules.false_rollback_at_most`, over the whole rollout. A version whose excess in some metric is at or above its
    margin throughout a stage passes that stage with probability at most 1 - `rules.confidence`. A metric of the
    rules without evidence holds.

    Raises
    ------
    Invalid
        Evidence for a metric that the rules do not name.

    Examples
    --------
    >>> from everloop.rollout.evidence import Split, Stretch
    >>> rules = Rules((MetricRule("errors", excess_at_most=0.01),))
    >>> counts = Counts(canary_bad=36, canary_total=1_160, control_bad=95, control_total=10_440)
    >>> decision = judge([MetricEvidence("errors", (Stretch(Split(0, 0.1), counts),))], rules)
    >>> decision.action
    'roll_back'
    """
    by_metric = _by_metric(evidence, rules)
    by_mean = {one.metric: one for one in means}
    verdicts = tuple(
        _verdict_of_means(rule, by_mean.get(rule.metric, MeanEvidence(rule.metric)), rules)
        if rule.is_mean
        else _verdict(rule, by_metric.get(rule.metric, MetricEvidence(rule.metric, ())), rules)
        for rule in rules.metrics
    )
    ratio = _check_sample_ratio(evidence)
    fuse = blown_fuse(health or CanaryHealth(), failures_in_a_row=rules.fuse_failures_in_a_row)
    action, reason = _decide(verdicts, ratio, fuse)
    return Decision(action, reason, fuse, verdicts, ratio)


def _by_metric(evidence: Sequence[MetricEvidence], rules: Rules) -> dict[str, MetricEvidence]:
    by_metric = {one.metric: one for one in evidence}
    known = {rule.metric for rule in rules.metrics}
    if len(by_metric) < len(evidence) or not by_metric.keys() <= known:
        raise Invalid(
            f"evidence was given for {[one.metric for one in evidence]}; the rules name {sorted(known)}, each once. "
            "The metrics are fixed before the rollout starts: leave the others out or start a rollout that names them."
        )
    return by_metric


def _verdict(rule: MetricRule, evidence: MetricEvidence, rules: Rules) -> MetricVerdict:
    counts, stage_counts = evidence.total, evidence.stage_total
    log_e = float(
        harm_log_e(
            [stretch.counts.canary_bad for stretch in evidence.stretches],
            [stretch.counts.control_bad for stretch in evidence.stretches],
            canary_share=[stretch.split.canary_share for stretch in evidence.stretches],
            stage=[stretch.split.stage for stretch in evidence.stretches],
            tolerated_ratio=rule.tolerated_ratio,
        )
    )
    upper = excess_upper_bound(evidence, confidence=rules.confidence)
    canary, control = stage_counts.canary_rate, stage_counts.control_rate
    return MetricVerdict(
        metric=rule.metric,
        says=_says(rule, log_e=log_e, upper=upper, e_bound=rules.e_bound),
        e_value=exp(min(log_e, MAX_LOG_E)),
        e_bound=rules.e_bound,
        tolerated_ratio=rule.tolerated_ratio,
        excess=None if canary is None or control is None else canary - control,
        excess_upper=upper,
        excess_at_most=rule.excess_at_most,
        counts=counts,
        stage_counts=stage_counts,
    )


def _verdict_of_means(rule: MetricRule, evidence: MeanEvidence, rules: Rules) -> MetricVerdict:
    ratio = rule.tolerated_ratio
    log_e = harm_in_means(
        evidence.stages, tolerated_ratio=ratio, tolerated=rule.tolerated, on_odds=evidence.on_odds
    )
    upper = excess_of_means(
        evidence.latest, confidence=rules.confidence, on_odds=evidence.on_odds, known=evidence.known
    )
    canary, control = evidence.latest.canary.mean, evidence.latest.control.mean
    return MetricVerdict(
        metric=rule.metric,
        says=_says(rule, log_e=log_e, upper=upper, e_bound=rules.e_bound),
        e_value=exp(min(log_e, MAX_LOG_E)),
        e_bound=rules.e_bound,
        tolerated_ratio=ratio,
        excess=None if canary is None or control is None else canary - control,
        excess_upper=upper,
        excess_at_most=rule.excess_at_most,
        counts=evidence.total,
        stage_counts=counts_of(evidence.latest),
        means=(evidence.own(canary), evidence.own(control)),
        span=abs(evidence.span),
        problem=evidence.problem,
    )


def _says(rule: MetricRule, *, log_e: float, upper: float, e_bound: float) -> Action:
    if log_e >= log(e_bound):
        return "roll_back"
    return "advance" if rule.excess_at_most is None or upper < rule.excess_at_most else "hold"


def _check_sample_ratio(evidence: Sequence[MetricEvidence]) -> SampleRatio:
    """Look at the metric that counts most requests: late reports and partial metrics leave some out."""
    bound = 1_000.0
    fullest = max(evidence, key=lambda one: one.total.canary_total + one.total.control_total, default=None)
    stretches = fullest.stretches if fullest else ()
    canary = [stretch.counts.canary_total for stretch in stretches]
    every = [stretch.counts.canary_total + stretch.counts.control_total for stretch in stretches]
    shares = [stretch.split.canary_share for stretch in stretches]
    log_e = sample_ratio_log_e(canary, every, canary_share=shares)
    return SampleRatio(
        canary_total=sum(canary),
        expected_canary_total=sum(n * share for n, share in zip(every, shares, strict=True)),
        all_total=sum(every),
        e_value=exp(min(log_e, MAX_LOG_E)),
        e_bound=bound,
        is_off=log_e >= log(bound),
    )


def blown_fuse(health: CanaryHealth, *, failures_in_a_row: int = 20) -> str | None:
    """Why the canary goes back at once, without a test; None when no fuse blew.

    A healthy canary that fails one request in five would fail twenty in a row once in 10^14 tries. In an incident that
    fails more than half of all requests the control fails, too, and nothing blows.

    Examples
    --------
    >>> blown_fuse(CanaryHealth(failures_in_a_row=20, control_successes_meanwhile=180))
    'the canary failed 20 requests in a row while the control answered'
    >>> blown_fuse(CanaryHealth(failures_in_a_row=20, control_successes_meanwhile=0)) is None
    True
    """
    if health.not_ready is not None:
        return f"the canary is not ready: no serving process can load it: {health.not_ready}"
    if health.crashes >= _CRASHES:
        return f"serving processes crashed {health.crashes} times since the canary began"
    if health.failures_in_a_row < failures_in_a_row:
        return None
    if health.control_successes_meanwhile is None:
        return f"the canary failed {health.failures_in_a_row} requests in a row"
    if health.control_successes_meanwhile < max(1, health.control_failures_meanwhile):
        return None
    return f"the canary failed {health.failures_in_a_row} requests in a row while the control answered"


def recent_failures(has_failed: ArrayLike, in_canary: ArrayLike) -> CanaryHealth:
    """The canary's failures in a row up to now, and what the control did since the first of them.

    Parameters
    ----------
    has_failed, in_canary : (n_requests,) bool, in the order of arrival

    Examples
    --------
    >>> seen = recent_failures([True, False, True, False, True], [True, True, True, False, True])
    >>> seen.failures_in_a_row, seen.control_successes_meanwhile, seen.control_failures_meanwhile
    (2, 1, 0)
    """
    failed, canary = np.asarray(has_failed, dtype=bool), np.asarray(in_canary, dtype=bool)
    good = np.flatnonzero(canary & ~failed)
    row = np.flatnonzero(canary[good[-1] + 1 :] if good.size else canary)
    first = int(row[0] + (good[-1] + 1 if good.size else 0)) if row.size else len(failed)
    control = failed[first:][~canary[first:]]
    return CanaryHealth(
        failures_in_a_row=int(row.size),
        control_successes_meanwhile=int(np.count_nonzero(~control)),
        control_failures_meanwhile=int(np.count_nonzero(control)),
    )


def _decide(verdicts: Sequence[MetricVerdict], ratio: SampleRatio, fuse: str | None) -> tuple[Action, str]:
    if fuse:
        return "roll_back", f"fuse: {fuse}"
    harmful = [verdict for verdict in verdicts if verdict.says == "roll_back"]
    if harmful:
        return "roll_back", "; ".join(_harm_in_words(verdict) for verdict in harmful)
    if ratio.is_off:
        return "hold", (
            f"the canary got {ratio.canary_total:,} of {ratio.all_total:,} requests where "
            f"{ratio.expected_canary_total:,.0f} were asked for: the split is off, so nothing can be shown"
        )
    waiting = [verdict for verdict in verdicts if verdict.says == "hold"]
    if waiting:
        return "hold", "needs more evidence: " + "; ".join(_bound_in_words(verdict) for verdict in waiting)
    told = "; ".join(_bound_in_words(verdict) for verdict in verdicts)
    if all(verdict.excess_at_most is None for verdict in verdicts):
        return "hold", f"no metric has a margin, so that a person promotes it or takes it back: {told}"
    return "advance", told


def _harm_in_words(verdict: MetricVerdict) -> str:
    counts = verdict.counts
    if verdict.means is not None:
        return (
            f"{verdict.metric} {_number(verdict.means[0])} ({counts.canary_total:,}) against {_number(verdict.means[1])} "
            f"({counts.control_total:,}) in the control ({verdict.evidence})"
        )
    return (
        f"{verdict.metric} {_rate_in_words(counts.canary_rate)} ({counts.canary_bad:,} of {counts.canary_total:,}) against "
        f"{_rate_in_words(counts.control_rate)} ({counts.control_bad:,} of {counts.control_total:,}) in the control "
        f"({verdict.evidence})"
    )


def _bound_in_words(verdict: MetricVerdict) -> str:
    if verdict.problem is not None:
        return f"{verdict.metric} cannot be told: {verdict.problem}"
    if verdict.excess_at_most is None:
        return f"{verdict.metric} shows no harm ({verdict.evidence})"
    if not (verdict.stage_counts.canary_total and verdict.stage_counts.control_total):
        return f"{verdict.metric} has no requests in one arm of this stage"
    if verdict.means is not None:
        return (
            f"{verdict.metric} worse than the control by at most {verdict.span * verdict.excess_upper:.3g} "
            f"(margin {verdict.span * verdict.excess_at_most:g}, {verdict.stage_counts.canary_total:,} of the canary's)"
        )
    return (
        f"{verdict.metric} exceed the control by at most {100 * verdict.excess_upper:.2f} points "
        f"(margin {100 * verdict.excess_at_most:g}, {verdict.stage_counts.canary_total:,} canary requests)"
    )


def _number(mean: float | None) -> str:
    return "unknown" if mean is None else f"{mean:.3g}"


def _rate_in_words(rate: float | None) -> str:
    if rate is None:
        return "unknown"
    return f"{100 * rate:.2g} %" if rate < 0.995 else f"{100 * rate:.3g} %"
