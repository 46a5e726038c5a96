"""What a live model does, seen from its prediction log: drift, accuracy, latency, throughput, the user's own numbers.

Answers: does what is asked still look like what the model was trained on, how right are the answers, how long do they
take, and since when. Owns the tables `watch`, `measure`, `finding` and `drift_reference`. A watch looks at windows of
domain time that have closed; what it measures is kept, what needs attention becomes a finding and an event. Statistics
are pure functions over counts. Accuracy is estimated from random audit samples, never from who complained. This room
starts nothing: it writes findings, and rooms above act on them. May call feedback and below.
"""

from everloop.monitoring.comparison import DriftReport, SeriesDrift, ShareChange, compare, share_changes
from everloop.monitoring.estimates import (
    Estimate,
    estimate_accuracy,
    estimate_by,
    estimate_macro_f1,
    wilson_interval,
)
from everloop.monitoring.look_accuracy import estimate
from everloop.monitoring.look_kpi import KPI_COLUMNS, query_predictions
from everloop.monitoring.observe import is_due, observe
from everloop.monitoring.records import (
    AccuracyWatch,
    DriftWatch,
    Finding,
    FindingKind,
    KpiWatch,
    LatencyWatch,
    Measure,
    TrafficWatch,
    Watch,
    from_value,
    name_of,
    to_value,
)
from everloop.monitoring.reference import Bins, Profile, Reference, learn_bins, learn_reference, profile_of
from everloop.monitoring.traffic_hours import Traffic, traffic
from everloop.monitoring.unlogged import has_unlogged, tell_unlogged
from everloop.monitoring.watch import (
    accuracy,
    drift,
    finding,
    findings,
    kpi,
    latency,
    measures,
    next_look_at,
    set_watches,
    watches,
)

__all__ = [
    "KPI_COLUMNS",
    "AccuracyWatch",
    "Bins",
    "DriftReport",
    "DriftWatch",
    "Estimate",
    "Finding",
    "FindingKind",
    "KpiWatch",
    "LatencyWatch",
    "Measure",
    "Profile",
    "Reference",
    "SeriesDrift",
    "ShareChange",
    "Traffic",
    "TrafficWatch",
    "Watch",
    "accuracy",
    "compare",
    "drift",
    "estimate",
    "estimate_accuracy",
    "estimate_by",
    "estimate_macro_f1",
    "finding",
    "findings",
    "from_value",
    "has_unlogged",
    "is_due",
    "kpi",
    "latency",
    "learn_bins",
    "learn_reference",
    "measures",
    "name_of",
    "next_look_at",
    "observe",
    "profile_of",
    "query_predictions",
    "set_watches",
    "share_changes",
    "tell_unlogged",
    "to_value",
    "traffic",
    "watches",
    "wilson_interval",
]
