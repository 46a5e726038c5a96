"""How a new version takes over: step by step, judged on what it does to live traffic.

The judge answers one question: does the canary go on, wait or go back? It is a pure function of counts, so that every
decision can be stored with its numbers, drawn, and asked again. It may be asked as often as one likes: its test keeps
its error rate at every look, and its bound is valid at every look of a stage.

Answers also: what is live where, and what was at any time. Owns the tables `endpoint`, `rollout`, `rollout_event` and `traffic_split`;
writes the route table that serving processes read. May call monitoring, feedback, registry, serving and below.
"""

from everloop.rollout.arms import ArmMeasure, ArmResult, SplitResults, split_results
from everloop.rollout.endpoints import (
    create_endpoint,
    define_endpoint,
    endpoint,
    endpoints,
    is_behind,
    live,
    live_of_model,
    publish,
    require_not_live,
)
from everloop.rollout.evidence import (
    Counts,
    MetricEvidence,
    Split,
    Stretch,
    count_keys,
    count_requests,
    first_of_each_request,
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
from everloop.rollout.prospects import Prospect, prospects
from everloop.rollout.records import (
    Canary,
    Endpoint,
    LiveVariant,
    LiveVersion,
    Plan,
    Rollout,
    RolloutEvent,
    Stage,
    State,
    TrafficSplit,
    all_at_once,
    blue_green,
    canary,
    shadow,
)
from everloop.rollout.requests import evidence_of
from everloop.rollout.simulate import Forecast, RatesAt, simulate, steady
from everloop.rollout.split import end_split, plan_split, split_of, split_traffic
from everloop.rollout.start import (
    check_start,
    event_of,
    history,
    plan,
    rollout_of,
    rollouts,
    start,
    was_rolled_back,
    was_tried,
)
from everloop.rollout.tick import is_running, pause, promote_now, resume, roll_back, tick

__all__ = [
    "Action",
    "ArmMeasure",
    "ArmResult",
    "Canary",
    "CanaryHealth",
    "Counts",
    "Decision",
    "Endpoint",
    "Forecast",
    "LiveVariant",
    "LiveVersion",
    "MetricEvidence",
    "MetricRule",
    "MetricVerdict",
    "Plan",
    "Prospect",
    "RatesAt",
    "Rollout",
    "RolloutEvent",
    "Rules",
    "SampleRatio",
    "Split",
    "SplitResults",
    "Stage",
    "State",
    "Stretch",
    "TrafficSplit",
    "all_at_once",
    "blown_fuse",
    "blue_green",
    "canary",
    "check_start",
    "count_keys",
    "count_requests",
    "create_endpoint",
    "define_endpoint",
    "end_split",
    "endpoint",
    "endpoints",
    "event_of",
    "evidence_of",
    "excess_upper_bound",
    "first_of_each_request",
    "history",
    "is_behind",
    "is_running",
    "is_slow",
    "judge",
    "live",
    "live_of_model",
    "pause",
    "plan",
    "plan_split",
    "promote_now",
    "prospects",
    "publish",
    "recent_failures",
    "require_not_live",
    "resume",
    "roll_back",
    "rollout_of",
    "rollouts",
    "shadow",
    "simulate",
    "slow_above_ms",
    "split_of",
    "split_results",
    "split_traffic",
    "start",
    "steady",
    "tick",
    "was_rolled_back",
    "was_tried",
]
