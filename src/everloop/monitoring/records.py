"""Watches that a user declares, measures that they take, findings that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from everloop.errors import Invalid

FindingKind = Literal["input_drift", "prediction_drift", "accuracy", "latency", "errors", "kpi", "unlogged"]


@dataclass(frozen=True)
class DriftWatch:
    """Compares inputs and predicted classes with what the live version was trained on.

    Every `every_h` hours the last `window_h` hours are compared; fewer than `least_rows` predictions are not judged.
    What is significant counts as drift from a change of `effect_at_least` on: a share of rows, 0 to 1.
    """

    kind = "drift"
    window_h: float = 168.0
    every_h: float = 24.0
    least_rows: int = 200
    # twice what one report is judged by: rows of live traffic come in bunches from the same senders, and a watch looks
    # every day. Thirty looks at a quiet month of real listings, about 1,050 each, showed changes of up to 0.061.
    effect_at_least: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.effect_at_least < 1.0:
            raise Invalid(
                f"effect_at_least is {self.effect_at_least}; it is the share of rows that must have changed, "
                "at least 0 and below 1. State 0.1 for one row in ten."
            )


@dataclass(frozen=True)
class AccuracyWatch:
    """Estimates accuracy from a random audit sample: `audit` is the share of predictions that people look at."""

    kind = "accuracy"
    audit: float = 0.02
    at_least: float | None = None
    window_h: float = 168.0
    every_h: float = 24.0

    def __post_init__(self) -> None:
        if not 0.0 < self.audit <= 1.0:
            raise Invalid(
                f"the audit share is {self.audit}; it is a share of the predictions, above 0 and at most 1."
            )


@dataclass(frozen=True)
class LatencyWatch:
    """The 99th percentile of the time that answers took, in milliseconds; errors are watched with it."""

    kind = "latency"
    p99_ms: float = 100.0
    errors_at_most: float = 0.05
    window_h: float = 24.0
    every_h: float = 1.0


@dataclass(frozen=True)
class KpiWatch:
    """A number of the user's own: one SQL query over the views `predictions`, `corrections` and `outcomes`.

    It returns one row with `value` and, if it likes, `n`. `at_most` and `at_least` raise an alert. Inputs are parts of
    the column `inputs`, such as `inputs.price`.
    """

    kind = "kpi"
    name: str
    sql: str
    at_most: float | None = None
    at_least: float | None = None
    window_h: float = 168.0
    every_h: float = 24.0


@dataclass(frozen=True)
class TrafficWatch:
    """Counts requests, failures and latencies by the hour; every endpoint has it, nobody declares it.

    It rests while nothing is logged: `log_end` is where the log ended at its last look, `quiet_looks` how many looks
    in a row found the same end. `passed` is what no look need read again (`predictions.Passed`). `pieces` says in what else
    it counts, for a watch of latency: from a moment on, how long each piece is, and an end of one, in microseconds.
    """

    kind = "traffic"
    window_h: float = 1.0
    every_h: float = 1 / 30
    log_end: str = ""
    quiet_looks: int = 0
    passed: dict[str, int] = field(default_factory=dict)
    pieces: Sequence[int] | None = None


Watch = DriftWatch | AccuracyWatch | LatencyWatch | KpiWatch | TrafficWatch
_KINDS: dict[str, type[Watch]] = {
    one.kind: one for one in (DriftWatch, AccuracyWatch, LatencyWatch, KpiWatch, TrafficWatch)
}


def name_of(watch: Watch) -> str:
    """What tells a watch from the others of its endpoint."""
    return f"kpi:{watch.name}" if isinstance(watch, KpiWatch) else watch.kind


def window_of(watch: Watch) -> timedelta:
    return timedelta(hours=watch.window_h)


def every_of(watch: Watch) -> timedelta:
    return timedelta(hours=watch.every_h)


def to_value(watch: Watch) -> dict[str, Any]:
    """A JSON value that `from_value` reads back."""
    return {"kind": watch.kind, **asdict(watch)}


def from_value(value: Mapping[str, Any]) -> Watch:
    fields = {name: one for name, one in value.items() if name != "kind"}
    return _KINDS[value["kind"]](**fields)


@dataclass(frozen=True)
class Measure:
    """A number of one window. `variant` is a model version, or empty for the endpoint as a whole.

    `low` and `high` bound a 95 % interval where the number is an estimate; `value` None: too little to say.
    """

    endpoint: str
    name: str
    variant: str
    start: datetime
    end: datetime
    value: float | None
    low: float | None
    high: float | None
    n: int
    detail: dict[str, Any] | None = None


@dataclass(frozen=True)
class Finding:
    """Something that needs attention, found in a window, with the numbers that show it."""

    id: str
    endpoint: str
    kind: FindingKind
    at: datetime
    start: datetime
    end: datetime
    message: str
    detail: dict[str, Any]
    versions: tuple[str, ...]
