"""Is the model good enough, and is it no worse than the one that answers now?"""

from __future__ import annotations

import difflib
import math
from dataclasses import replace
from typing import Any

import numpy as np

from everloop.checks.bootstrap import bootstrap
from everloop.checks.classes import THIN
from everloop.checks.measured import Measured, measured
from everloop.checks.metrics import (
    CLASS_METRICS,
    LESS_IS_BETTER,
    NUMBER_METRICS,
    OF_ONE_CLASS,
    is_known,
    score,
)
from everloop.checks.plots import Plot, Point, plot
from everloop.checks.records import CheckInput, CheckResult, Gate, Live, Numbers
from everloop.checks.scored import ScoredRows, paired_rows
from everloop.errors import Invalid

MIN_ROWS = 100  # of a comparison with the live version, unless the gate says otherwise
_CLEARLY = 0.05  # confidence that is enough to pass: only what is worse at 95 % fails
_BOUNDS = {"at_least", "at_most", "below_live_by_at_most"}


def gate_name(gate: Gate) -> str:
    """What the result of a metric's gate is called, for example `macro_f1:at_least`."""
    kind = next((name for name in sorted(_BOUNDS) if getattr(gate, name) is not None), "")
    return f"{gate.about}:{kind.replace('below_live_by_at_most', 'against_live')}"


def not_below_live(given: CheckInput) -> CheckResult:
    """The gate that holds without being asked for: no version that is clearly worse than the live one.

    Of macro_f1 (of numbers r2) on the same rows, by more than 0.01 at 95 % confidence. What cannot be compared is skipped:
    nobody has asked for proof.
    """
    gate = Gate(
        "r2" if given.task == "number" else "macro_f1", below_live_by_at_most=0.01, confidence=_CLEARLY
    )
    found = metric_gate(given, gate)
    if found.verdict == "failed" and found.numbers.get("better_by") is None:
        return replace(found, verdict="skipped", remedy="Nothing to do.")
    return found


def metric_gate(given: CheckInput, gate: Gate) -> CheckResult:
    """The result of a gate on a metric, absolute or against the live version."""
    if gate.below_live_by_at_most is not None:
        return _against_live(given, gate, gate.below_live_by_at_most)
    if gate.at_least is not None:
        return _absolute(given, gate, gate.at_least, is_floor=True)
    if gate.at_most is not None:
        return _absolute(given, gate, gate.at_most, is_floor=False)
    raise Invalid(
        f"the gate on {gate.about!r} has no limit; a metric's gate says at_least, at_most or below_live_by_at_most. "
        "Give it one."
    )


def _absolute(given: CheckInput, gate: Gate, limit: float, *, is_floor: bool) -> CheckResult:
    logged = given.metrics.get(gate.about)
    own = measured(given, gate.about)
    value = own.value if own is not None else logged
    rule = _absolute_rule(gate, limit, is_floor=is_floor)
    if value is None:
        return _unknown(given, gate, rule)
    if not math.isfinite(value):
        return _no_number(gate, rule)
    decisive, problem, remedy = _decisive(own, value, gate, is_floor=is_floor)
    is_met = decisive >= limit if is_floor else decisive <= limit
    interval = own.interval if own is not None else None
    return CheckResult(
        name=gate_name(gate),
        verdict="passed" if is_met and not problem else "failed",
        found=f"{gate.about} is {value:.4f}{_shown(interval)}{_logged_otherwise(value, logged)}.{problem}",
        rule=rule,
        remedy=remedy
        or ("Nothing to do." if is_met else "Train a better model, or change the gate's limit."),
        numbers={
            "value": value,
            "limit": limit,
            "low": interval[0] if interval else None,
            "high": interval[1] if interval else None,
            "rows": own.rows if own is not None else None,
        },
        plot=_plot(gate.about, value, interval, limit, is_met=is_met and not problem, of=gate.about),
    )


def _decisive(own: Measured | None, value: float, gate: Gate, *, is_floor: bool) -> tuple[float, str, str]:
    """The number that is compared with the limit; and, where it cannot be, what stands in the way and what to do."""
    if gate.min_rows is not None and (own is None or own.rows < gate.min_rows):
        rests_on = "an unknown number of rows" if own is None else f"{own.rows} labelled rows"
        return (
            value,
            f" It rests on {rests_on}: not enough to decide.",
            "Hand in the predictions."
            if own is None
            else "Measure on more test rows, or lower the gate's min_rows.",
        )
    if gate.confidence is None:
        return value, "", ""
    if own is None or own.at is None:
        return (
            value,
            " Without predictions there is no interval, which the gate's confidence needs.",
            "Hand in the predictions, or leave confidence out.",
        )
    return own.at(1 - gate.confidence if is_floor else gate.confidence), "", ""


def _against_live(given: CheckInput, gate: Gate, margin: float) -> CheckResult:
    needed = gate.min_rows or MIN_ROWS
    certainly = "" if gate.confidence is None else f" with {gate.confidence:.0%} confidence"
    if gate.confidence == _CLEARLY:
        certainly = ", as far as 95 % confidence can tell"
    rule = (
        f"{gate.about} may be worse than the live version's by {margin:g} at most{certainly}, on the same {needed} rows "
        f"or more; classes with fewer than {THIN} of them are left out."
    )
    if given.live is None:
        return CheckResult(gate_name(gate), "skipped", "No version is live.", rule, "Nothing to do.")
    paired = paired_rows(given, given.live.predictions)
    if paired is None or not is_known(gate.about, paired.models[0]):
        return _against_logged(given, given.live, gate, margin, rule)
    numbers = {"margin": margin, "rows": paired.rows, "left_out_classes": len(paired.left_out)}
    one_class = gate.about.partition(":")[2]
    if paired.rows < needed or one_class in paired.left_out:
        found = f"Only {paired.rows} rows can be compared with {given.live.version}{_named(paired.left_out)}."
        return _failed(
            gate, found, rule, "Measure both on more test rows, or lower the gate's min_rows.", numbers
        )
    return _compared(paired, given.live, gate, margin=margin, rule=rule, numbers=numbers)


def _compared(
    paired: ScoredRows, live: Live, gate: Gate, *, margin: float, rule: str, numbers: dict[str, Any]
) -> CheckResult:
    sign = -1.0 if gate.about in LESS_IS_BETTER else 1.0
    once = paired.counts[None, :].astype(np.float64)
    ours, theirs = paired.models
    values = [float(score(gate.about, one, once)[0]) for one in (ours, theirs)]
    estimate = bootstrap(
        lambda weights: sign * (score(gate.about, ours, weights) - score(gate.about, theirs, weights)),
        rows=paired.counts,
        groups=paired.groups,
    )
    if not math.isfinite(estimate.value):
        return _no_number(gate, rule)
    interval = estimate.interval
    decisive = estimate.value if gate.confidence is None else estimate.at(1 - gate.confidence)
    is_met = decisive >= -margin
    by = "rows" if paired.groups is None else "groups"
    return CheckResult(
        name=gate_name(gate),
        verdict="passed" if is_met else "failed",
        found=f"{gate.about} is {values[0]:.4f}, that of {live.version} {values[1]:.4f}: better by "
        f"{estimate.value:+.4f}{_shown(interval)} on {paired.rows} rows, resampled by {by}{_named(paired.left_out)}.",
        rule=rule,
        remedy="Nothing to do." if is_met else f"Keep {live.version}, train again on more or better rows.",
        numbers={
            **numbers,
            "value": values[0],
            "live": values[1],
            "better_by": estimate.value,
            "low": interval[0] if interval else None,
            "high": interval[1] if interval else None,
        },
        details=tuple({"class": name, "left_out": True} for name in paired.left_out),
        plot=_plot(
            f"than {live.version}",
            estimate.value,
            interval,
            -margin,
            is_met=is_met,
            of=f"{gate.about}, better by",
            rows=paired.rows,
        ),
    )


def _against_logged(given: CheckInput, live: Live, gate: Gate, margin: float, rule: str) -> CheckResult:
    """Logged values compared, where predictions of both are missing or the metric is not ours."""
    ours, theirs = given.metrics.get(gate.about), live.metrics.get(gate.about)
    if ours is None or theirs is None or gate.confidence is not None:
        found = f"{gate.about} of {live.version} is not known on the same rows."
        return _failed(
            gate, found, rule, "Score it on the test rows, or name a metric that both have logged."
        )
    better_by = (theirs - ours) if gate.about in LESS_IS_BETTER else (ours - theirs)
    if not math.isfinite(better_by):
        return _no_number(gate, rule)
    return CheckResult(
        name=gate_name(gate),
        verdict="passed" if better_by >= -margin else "failed",
        found=f"{gate.about} was logged as {ours:.4f}, that of {live.version} as {theirs:.4f}, maybe on other rows.",
        rule=rule,
        remedy="Nothing to do."
        if better_by >= -margin
        else f"Keep {live.version}, train again on more or better rows.",
        numbers={"value": ours, "live": theirs, "better_by": better_by, "margin": margin},
        plot=_plot(
            f"than {live.version}",
            better_by,
            None,
            -margin,
            is_met=better_by >= -margin,
            of=f"{gate.about}, better by",
        ),
    )


def _plot(
    at: str,
    value: float,
    interval: tuple[float, float] | None,
    limit: float,
    *,
    is_met: bool,
    of: str,
    rows: int | None = None,
) -> Plot | None:
    low, high = interval or (None, None)
    point = Point(at, value, low, high, rows=rows, is_marked=not is_met)
    return plot("intervals", [point], at="metric", value=of, limits={"the gate's limit": limit})


def _unknown(given: CheckInput, gate: Gate, rule: str) -> CheckResult:
    known = sorted({*given.metrics, *(NUMBER_METRICS if given.task == "number" else CLASS_METRICS)})
    near = difflib.get_close_matches(gate.about, known, n=1)
    others = f"Name one of {', '.join(known)}, or {' or '.join(f'{one}:CLASS' for one in OF_ONE_CLASS)}."
    found = f"{gate.about} was not logged and cannot be computed from the predictions."
    return _failed(gate, found, rule, f"Did you mean {near[0]!r}?" if near else others)


def _no_number(gate: Gate, rule: str) -> CheckResult:
    found = f"{gate.about} is not a number: predictions are missing or infinite, or it is not defined on these rows."
    return _failed(gate, found, rule, "Look at the predictions, or gate another metric.")


def _failed(gate: Gate, found: str, rule: str, remedy: str, numbers: Numbers | None = None) -> CheckResult:
    return CheckResult(gate_name(gate), "failed", found, rule, remedy, numbers or {})


def _absolute_rule(gate: Gate, limit: float, *, is_floor: bool) -> str:
    side = "at least" if is_floor else "at most"
    certainly = "" if gate.confidence is None else f" with {gate.confidence:.0%} confidence"
    enough = "" if gate.min_rows is None else f", measured on {gate.min_rows} rows or more"
    return f"{gate.about} must be {side} {limit:g}{certainly}{enough}."


def _shown(interval: tuple[float, float] | None) -> str:
    return f" (95 %: {interval[0]:.4f} to {interval[1]:.4f})" if interval else ""


def _logged_otherwise(value: float, logged: float | None) -> str:
    """Says so when the run logged another value than the predictions give; the predictions count."""
    if logged is None or math.isclose(value, logged, abs_tol=1e-6):
        return ""
    return f" by its predictions, though {logged:.4f} was logged"


def _named(left_out: tuple[str, ...]) -> str:
    return f"; left out as too thin: {', '.join(left_out[:10])}" if left_out else ""
