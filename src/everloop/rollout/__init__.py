"""How a new version takes over: step by step, judged on what it does to live traffic.

The judge answers one question: does the canary go on, wait or go back? It is a pure function of counts, so that every
decision can be stored with its numbers, drawn, and asked again. It may be asked as often as one likes: its test keeps
its error rate at every look, and its bound is valid at every look of a stage.

Owns no table; calls nothing but `errors`.
"""

from everloop.rollout.evidence import (
    Counts,
    MetricEvidence,
    Split,
    Stretch,
    count_keys,
    count_requests,
    is_slow,
    slow_above_ms,
)
from everloop.rollout.excess import excess_upper_bound
from everloop.rollout.judge import (
    Action,
    CanaryHealth,
    Decision,
    MetricRule,
    MetricVerdict,
    Rules,
    SampleRatio,
    blown_fuse,
    judge,
    recent_failures,
)
from everloop.rollout.simulate import Forecast, RatesAt, simulate, steady

__all__ = [
    "Action",
    "CanaryHealth",
    "Counts",
    "Decision",
    "Forecast",
    "MetricEvidence",
    "MetricRule",
    "MetricVerdict",
    "RatesAt",
    "Rules",
    "SampleRatio",
    "Split",
    "Stretch",
    "blown_fuse",
    "count_keys",
    "count_requests",
    "excess_upper_bound",
    "is_slow",
    "judge",
    "recent_failures",
    "simulate",
    "slow_above_ms",
    "steady",
]
