"""Are there groups of rows for which the model is much worse than for the rest?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from everloop.checks.bounds import wilson
from everloop.checks.columns import Floats, codes, row_ids
from everloop.checks.plots import Point, plot
from everloop.checks.records import CheckInput, CheckResult, Verdict
from everloop.checks.scored import qualities, with_test_columns

MIN_ROWS = 30
_VALUES = 20  # distinct values, up to which a column is sliced without being named
_RELEVANT = 0.05  # below the other rows' quality
_FALSE_ALARMS = 0.01  # in which share of reports a slice may be named that is as good as the rest

RULE = (
    "A slice of 30 rows or more is named when the model's quality on it is below that on the other rows by 0.05 or "
    "more and by more than chance explains (in 1 % of reports without a weak slice)."
)


@dataclass(frozen=True)
class Slice:
    """Quality on the rows where `column` is `value`, and on the rest; `p` of a difference so large by chance."""

    column: str
    value: str
    rows: int
    quality: float
    others: float
    p: float
    low: float
    high: float


def slices(
    given: CheckInput, *, at_least: float | None = None, by: Sequence[str] = (), min_rows: int = MIN_ROWS
) -> CheckResult:
    """Quality by the values of columns: those in `by`, or all with 2 to 20 values.

    Quality is accuracy for classes; for numbers it is 1 - mean absolute error / that of answering the median.
    Fails when a slice is below `at_least`; without it, a weak slice is a warning.
    """
    quality = _quality(given)
    found = [] if quality is None else list(_slices(given, *quality, by=by, min_rows=min_rows))
    found.sort(key=lambda one: (one.quality, one.column, one.value))
    limit = _FALSE_ALARMS / max(1, len(found))  # Bonferroni: over all slices together
    weak = [one for one in found if one.quality <= one.others - _RELEVANT and one.p <= limit]
    below = [one for one in found if at_least is not None and one.quality < at_least]
    named = below or weak
    return CheckResult(
        name="slices",
        verdict=_verdict(found, weak, below),
        found=_found(found, named),
        rule=RULE + ("" if at_least is None else f" The gate asks for {at_least:g} on every slice."),
        remedy="Look at these rows' labels first, then add rows like them." if named else "Nothing to do.",
        numbers={
            "slices": len(found),
            "weak": len(weak),
            "worst": found[0].quality if found else None,
            "overall": float(quality[1].mean()) if quality is not None else None,
        },
        evidence=_evidence(given, named[0], quality) if named and quality is not None else (),
        details=tuple(_row(one) for one in found[:50]),
        plot=plot(
            "intervals",
            [
                Point(
                    f"{one.column} = {one.value}",
                    one.quality,
                    one.low,
                    one.high,
                    expected=one.others,
                    rows=one.rows,
                    is_marked=one in named,
                )
                for one in found
            ],
            at="slice",
            value="quality",
            limits={
                "quality on all rows": None if quality is None else float(quality[1].mean()),
                "the gate's limit": at_least,
            },
        ),
    )


def _quality(given: CheckInput) -> tuple[pa.Table, Floats] | None:
    """The predicted rows with all their columns, and each one's share of quality, (n_rows,) float64."""
    table = given.predictions
    if table is None or not {"label", "predicted"} <= set(table.column_names) or table.num_rows == 0:
        return None
    known, share = qualities(table, given.task)
    table = with_test_columns(table, given.test).filter(pa.array(known))
    share = share[known]
    return (table, share) if len(share) and np.isfinite(share).all() else None


def _slices(
    given: CheckInput, table: pa.Table, share: Floats, *, by: Sequence[str], min_rows: int
) -> Iterator[Slice]:
    names = by or [
        name for name in table.column_names if name not in ("label", "predicted", "score", given.label)
    ]
    for name in names:
        if name not in table.column_names or name.startswith("_"):
            continue
        found, values = codes(table[name])
        if not by and not 2 <= len(values) <= _VALUES:
            continue
        for number, value in enumerate(values.to_pylist()):
            inside = found == number
            if min_rows <= int(inside.sum()) < len(share):
                yield _slice(name, str(value), share[inside], share[~inside], is_share=given.task == "class")


def _slice(name: str, value: str, inside: Floats, outside: Floats, *, is_share: bool) -> Slice:
    quality, others = float(inside.mean()), float(outside.mean())
    if is_share:
        low, high = wilson(int(inside.sum()), len(inside))
        pooled = float(np.concatenate([inside, outside]).mean())
        deviation = math.sqrt(pooled * (1 - pooled) * (1 / len(inside) + 1 / len(outside)))
    else:
        own = float(inside.std()) / math.sqrt(len(inside))
        low, high = quality - 1.96 * own, quality + 1.96 * own
        deviation = math.hypot(own, float(outside.std()) / math.sqrt(len(outside)))
    return Slice(
        name, value, len(inside), quality, others, lower_tail(quality - others, deviation), low, high
    )


def lower_tail(difference: float, deviation: float) -> float:
    """The probability of a difference as low as this or lower by chance, by the normal distribution.

    The z-test of two proportions with their pooled share (Fleiss, Levin and Paik, 2003, section 3.2), one-sided.

    >>> round(lower_tail(-0.1, 0.05), 4)
    0.0228
    """
    if deviation == 0:
        return 1.0 if difference >= 0 else 0.0
    return 0.5 * math.erfc(-difference / deviation / math.sqrt(2))


def _row(one: Slice) -> dict[str, Any]:
    return {
        "column": one.column,
        "value": one.value,
        "rows": one.rows,
        "quality": round(one.quality, 4),
        "low": round(one.low, 4),
        "high": round(one.high, 4),
        "others": round(one.others, 4),
    }


def _evidence(given: CheckInput, worst: Slice, quality: tuple[pa.Table, Floats]) -> tuple[int, ...]:
    table, share = quality
    found, values = codes(table[worst.column])
    number = next(place for place, value in enumerate(values.to_pylist()) if str(value) == worst.value)
    order = np.flatnonzero(found == number)
    order = order[np.argsort(share[order], kind="stable")]
    return row_ids(table, order)


def _verdict(found: list[Slice], weak: list[Slice], below: list[Slice]) -> Verdict:
    if not found:
        return "skipped"
    if below:
        return "failed"
    return "warned" if weak else "passed"


def _found(found: list[Slice], named: list[Slice]) -> str:
    if not found:
        return "There are no predictions, or no slice has enough rows."
    worst = found[0]
    if not named:
        return f"None of {len(found)} slices is weak; the lowest is {worst.column} = {worst.value!r} at {worst.quality:.3f}."
    shown = "; ".join(
        f"{one.column} = {one.value!r} {one.quality:.3f} ({one.low:.3f} to {one.high:.3f}, {one.rows} rows; others {one.others:.3f})"
        for one in named[:5]
    )
    return f"{len(named)} of {len(found)} slices are weak: {shown}."
