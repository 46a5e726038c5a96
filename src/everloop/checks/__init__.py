"""Is a model version good enough, and why not: checks, gates, reports and waivers.

Answers: what speaks against this candidate, on which numbers, and may it pass anyway. A check is a function from a
`CheckInput` (Arrow tables and plain values) to a `CheckResult` with found, rule, remedy, numbers and row ids to look
at. A `Gate` is a condition on a model version: a check that must not fail, or a limit for a metric. `run_checks` only
computes; `evaluate` keeps a `GateReport` bound to the version and to the digests of what it saw; `waive` lets a failed
check pass until a time, audited. The registry asks `standing` before it promotes or releases.
A user's code runs in a forked process (`isolation`), and a model is timed in one of its own (`stopwatch`).
Owns the tables `gate_report`, `check_result` and `waiver`. May call tracking (the machine), serving (signature, predictor)
and below; it knows no pipeline and no registry: what it looks at is handed to it.
"""

from everloop.checks.against import MetricChange, Moved, SliceChange, metric_changes, slice_changes
from everloop.checks.catalog import BUILT_IN, CHECKS, gate, is_metric
from everloop.checks.declaring import check, direction, feature_test, invariance
from everloop.checks.evaluate import (
    checked_digest,
    evaluate,
    newest_standing_in,
    report,
    reports_of,
    standing,
    waive,
    waivers_of,
)
from everloop.checks.giveaways import Giveaway, giveaways
from everloop.checks.golden_file import GoldenRow, answered, golden, read_golden, write_golden
from everloop.checks.metrics import CLASS_METRICS, LESS_IS_BETTER, NUMBER_METRICS, OF_ONE_CLASS
from everloop.checks.plots import Limit, Plot, Point
from everloop.checks.records import (
    Check,
    CheckInput,
    CheckResult,
    Evidence,
    FeatureTest,
    Gate,
    GateReport,
    Live,
    Loadable,
    Standing,
    Traffic,
    Verdict,
    Waiver,
)
from everloop.checks.run import run_checks

__all__ = [
    "BUILT_IN",
    "CHECKS",
    "CLASS_METRICS",
    "LESS_IS_BETTER",
    "NUMBER_METRICS",
    "OF_ONE_CLASS",
    "Check",
    "CheckInput",
    "CheckResult",
    "Evidence",
    "FeatureTest",
    "Gate",
    "GateReport",
    "Giveaway",
    "GoldenRow",
    "Limit",
    "Live",
    "Loadable",
    "MetricChange",
    "Moved",
    "Plot",
    "Point",
    "SliceChange",
    "Standing",
    "Traffic",
    "Verdict",
    "Waiver",
    "answered",
    "check",
    "checked_digest",
    "direction",
    "evaluate",
    "feature_test",
    "gate",
    "giveaways",
    "golden",
    "invariance",
    "is_metric",
    "metric_changes",
    "newest_standing_in",
    "read_golden",
    "report",
    "reports_of",
    "run_checks",
    "slice_changes",
    "standing",
    "waive",
    "waivers_of",
    "write_golden",
]
