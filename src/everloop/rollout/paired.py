"""Whether a version that nobody is answered by would do harm: a pure function of pairs of answers to the same requests.

Two answers to one request differ by the versions alone, not by who asked what: chance enters once instead of twice, so
that pairs show as much as a canary that had half of all traffic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from everloop.rollout.bounded import refutes_at_most, upper_bound
from everloop.rollout.eprocess import MAX_LOG_E
from everloop.rollout.evidence import Counts
from everloop.rollout.judge import (
    Action,
    CanaryHealth,
    Decision,
    MetricRule,
    MetricVerdict,
    Rules,
    SampleRatio,
    blown_fuse,
)


@dataclass(frozen=True)
class Pairs:
    """One metric over pairs, in the order of arrival: how bad both answers to a request were, 0 to 1.

    Rows that came in one request are one pair, which is bad by the share of its rows. For `differs` the live answer is the
    measure, and never bad.
    """

    metric: str
    shadow: NDArray[np.float64]  # (n_pairs,)
    live: NDArray[np.float64]  # (n_pairs,)
    weights: NDArray[np.float64] | None = (
        None  # (n_pairs,), the inverse of the chance of being looked at; None: alike
    )

    def of(self, ratio: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Each distinct *shadow minus ratio times live* and weight, and how often there were both."""
        weights = np.ones(len(self.shadow)) if self.weights is None else self.weights
        both = np.stack([self.shadow - ratio * self.live, weights], axis=1)
        pairs, times = np.unique(both, axis=0, return_counts=True)
        return pairs[:, 0], pairs[:, 1], times.astype(np.float64)


def judge_pairs(
    evidence: Sequence[Pairs], health: CanaryHealth, rules: Rules, *, n_shed: int = 0
) -> Decision:
    """Advance, hold or roll back, on the pairs so far; may be asked as often as one likes.

    `n_shed` copies found no room and are in no pair: busy times are underrepresented by so much, which the reason says.

    Harm in a metric is shown when the mean of *shadow minus tolerated ratio times live* is shown to be above 0, and in
    `differs` when more answers differ than may; a margin is shown when the upper bound of *shadow minus live* is below it.
    Both hold at every look (`bounded`); the error budget is that of `judge`.

    Examples
    --------
    >>> bad, good = np.ones(40), np.zeros(360)
    >>> pairs = Pairs("errors", np.concatenate([bad, good]), np.zeros(400))
    >>> rules = Rules((MetricRule("errors", excess_at_most=0.01),))
    >>> judge_pairs([pairs], CanaryHealth(), rules).action
    'roll_back'
    """
    by_metric = {one.metric: one for one in evidence}
    nothing = np.zeros(0)
    verdicts = tuple(
        _verdict(rule, by_metric.get(rule.metric, Pairs(rule.metric, nothing, nothing)), rules)
        for rule in rules.metrics
    )
    n_pairs = max((len(one.shadow) for one in evidence), default=0)
    ratio = SampleRatio(n_pairs, float(n_pairs), n_pairs, e_value=1.0, e_bound=1_000.0, is_off=False)
    fuse = blown_fuse(health, failures_in_a_row=rules.fuse_failures_in_a_row)
    action, reason = _decide(verdicts, fuse)
    if n_shed:
        reason += f"; {n_shed:,} mirrored requests found no room and are not compared: most are of busy times"
    return Decision(action, reason, fuse, verdicts, ratio)


def _verdict(rule: MetricRule, pairs: Pairs, rules: Rules) -> MetricVerdict:
    n = len(pairs.shadow)
    log_e, margin = _harm(rule, pairs), rule.excess_at_most
    excess, weights, times = pairs.of(1.0)
    upper = upper_bound(excess, counts=times, weights=weights, low=-1.0, confidence=rules.confidence)
    lower = -upper_bound(-excess, counts=times, weights=weights, low=-1.0, confidence=rules.confidence)
    counts = Counts(int((pairs.shadow > 0).sum()), n, int((pairs.live > 0).sum()), n)
    says: Action = "advance" if margin is None or upper < margin else "hold"
    return MetricVerdict(
        metric=rule.metric,
        says="roll_back" if log_e >= log(rules.e_bound) else says,
        e_value=exp(min(log_e, MAX_LOG_E)),
        e_bound=rules.e_bound,
        tolerated_ratio=rule.tolerated_ratio,
        excess=float((excess * weights) @ times / (weights @ times)) if n else None,
        excess_upper=max(0.0, upper),
        excess_at_most=margin,
        counts=counts,
        stage_counts=counts,
        excess_lower=lower,
    )


def _harm(rule: MetricRule, pairs: Pairs) -> float:
    """The logarithm of the evidence that the metric is worse than tolerated."""
    tolerated = 0.0
    if rule.metric == "differs":
        if rule.excess_at_most is None:
            return 0.0
        tolerated = rule.excess_at_most
    worse, weights, times = pairs.of(rule.tolerated_ratio)
    return refutes_at_most(worse, tolerated, counts=times, weights=weights, low=-rule.tolerated_ratio)


def _decide(verdicts: Sequence[MetricVerdict], fuse: str | None) -> tuple[Action, str]:
    if fuse:
        return "roll_back", f"fuse, in the shadow: {fuse}"
    harmful = [one for one in verdicts if one.says == "roll_back"]
    if harmful:
        return "roll_back", "; ".join(map(_harm_in_words, harmful))
    if not any(one.counts.canary_total for one in verdicts):
        return "hold", "needs more evidence: no request was mirrored yet"
    waiting = [one for one in verdicts if one.says == "hold"]
    if waiting:
        return "hold", "needs more evidence: " + "; ".join(map(_bound_in_words, waiting))
    return "advance", "; ".join(map(_bound_in_words, verdicts))


def _harm_in_words(one: MetricVerdict) -> str:
    n, evidence = one.counts.canary_total, f"({one.evidence})"
    if one.metric == "differs" and one.excess_at_most is not None:
        return f"answers differ in {one.counts.canary_bad:,} of {n:,} pairs, where {100 * one.excess_at_most:g} % may {evidence}"
    return (
        f"{one.metric} in the shadow {one.counts.canary_bad:,} against {one.counts.control_bad:,} in the live version, "
        f"of {n:,} pairs {evidence}"
    )


def _bound_in_words(one: MetricVerdict) -> str:
    n, margin = one.counts.canary_total, one.excess_at_most
    if one.metric == "differs":
        told = f"answers differ in {one.counts.canary_bad:,} of {n:,} pairs"
        return (
            told
            if margin is None
            else f"{told}, at most {100 * one.excess_upper:.1f} % (margin {100 * margin:g} %)"
        )
    if margin is None:
        return f"{one.metric} shows no harm in {n:,} pairs ({one.evidence})"
    return (
        f"{one.metric} exceed the live version's by at most {100 * one.excess_upper:.2f} points "
        f"(margin {100 * margin:g}, {n:,} pairs)"
    )
