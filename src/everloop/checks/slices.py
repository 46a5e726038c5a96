"""Are there groups of rows for which the model is much worse than for the rest?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from everloop.checks.bounds import fewer_by_chance, wilson
from everloop.checks.columns import Codes, Floats, row_ids
from everloop.checks.plots import Point, plot
from everloop.checks.records import CheckInput, CheckResult, Verdict
from everloop.checks.scored import qualities, with_test_columns
from everloop.checks.segments import MIN_ROWS, Cut, cuts_of, pairs_of

_RELEVANT = 0.05  # below the other rows' quality
_FALSE_ALARMS = (
    0.005  # in which share of reports a slice may be named that is as good as the rest; as many of pairs
)

RULE = (
    "A slice of 30 rows or more is named when the model's quality on it is below that on the other rows by 0.05 or "
    "more and by more than chance explains (in 1 % of reports without a weak slice); two columns together only when both "
    "alone do not explain it."
)


@dataclass(frozen=True)
class Slice:
    """Quality on the rows of one group of a cut, and on the rest; `p` of a difference so large by chance.

    Of a pair the rest is that of the one of its two slices which explains more.
    """

    cut: Cut
    number: int
    rows: int
    quality: float
    others: float
    p: float
    low: float
    high: float

    @property
    def column(self) -> str:
        return self.cut.column

    @property
    def value(self) -> str:
        return self.cut.names[self.number]

    @property
    def is_pair(self) -> bool:
        return bool(self.cut.within)


@dataclass(frozen=True)
class _Sums:
    """Of rows: how many, and the sums of their shares of quality and of the squares."""

    rows: int
    total: float
    squares: float

    def without(self, other: _Sums) -> _Sums:
        return _Sums(self.rows - other.rows, self.total - other.total, self.squares - other.squares)

    @property
    def mean(self) -> float:
        return self.total / self.rows

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return math.sqrt(max(0.0, self.squares / self.rows - self.mean**2) / self.rows)


def slices(
    given: CheckInput, *, at_least: float | None = None, by: Sequence[str] = (), min_rows: int = MIN_ROWS
) -> CheckResult:
    """Quality by the groups of columns (see `cuts_of`): of those in `by`, or of all and of pairs of them.

    Quality is accuracy for classes; for numbers it is 1 - mean absolute error / that of answering the median.
    Fails when a slice is below `at_least`, or a weak pair is with its whole interval; without it, a weak slice is a
    warning.
    """
    quality = _quality(given)
    found, pairs = ([], []) if quality is None else _slices(given, *quality, by=by, min_rows=min_rows)
    limits = {
        False: _FALSE_ALARMS / max(1, len(found)),
        True: _FALSE_ALARMS / max(1, len(pairs)),
    }  # Bonferroni
    weak = [
        one
        for one in (*found, *pairs)
        if one.quality <= one.others - _RELEVANT and one.p <= limits[one.is_pair]
    ]
    below = [
        one
        for one in (*found, *pairs)
        if at_least is not None
        and one.quality < at_least
        and (not one.is_pair or (one in weak and one.high < at_least))
    ]
    named = sorted(below or weak, key=_order)
    shown = [*named, *(one for one in sorted(found, key=_order) if one not in named)]
    return CheckResult(
        name="slices",
        verdict=_verdict(found, weak, below),
        found=_found(found, pairs, named),
        rule=RULE + ("" if at_least is None else f" The gate asks for {at_least:g} on every slice."),
        remedy="Look at these rows' labels first, then add rows like them." if named else "Nothing to do.",
        numbers={
            "slices": len(found),
            "pairs": len(pairs),
            "weak": len(weak),
            "worst": min(one.quality for one in shown) if shown else None,
            "overall": float(quality[1].mean()) if quality is not None else None,
        },
        evidence=_evidence(named[0], quality) if named and quality is not None else (),
        details=tuple(_row(one) for one in shown[:50]),
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
                for one in shown
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
) -> tuple[list[Slice], list[Slice]]:
    """The slices of single columns, and those of pairs; of columns that the caller named no pairs."""
    left_out = {"label", "predicted", "score", given.label}
    cuts = cuts_of(table, by=by, left_out=left_out, uncut=(given.key, given.group))
    is_share = given.task == "class"
    every = _Sums(len(share), float(share.sum()), float((share**2).sum()))
    sums = {cut.column: _sums(cut.group, share, len(cut.names)) for cut in cuts}
    single = [
        _slice(cut, number, one, [every.without(one)], is_share=is_share)
        for cut in cuts
        for number, one in enumerate(sums[cut.column])
        if min_rows <= one.rows < every.rows
    ]
    return single, [] if by else list(_paired(cuts, share, sums, min_rows=min_rows, is_share=is_share))


def _paired(
    cuts: Sequence[Cut], share: Floats, sums: dict[str, list[_Sums]], *, min_rows: int, is_share: bool
) -> Iterator[Slice]:
    for pair in pairs_of(cuts):
        for number, one in enumerate(_sums(pair.group, share, len(pair.names))):
            whole = [
                sums[cut.column][part] for cut, part in zip(pair.within, pair.parts[number], strict=True)
            ]
            if one.rows >= min_rows and all(each.rows > one.rows for each in whole):
                yield _slice(pair, number, one, [each.without(one) for each in whole], is_share=is_share)


def _sums(group: Codes, share: Floats, number: int) -> list[_Sums]:
    def summed(weights: npt.NDArray[np.float64]) -> list[float]:
        found: list[float] = np.bincount(group + 1, weights, minlength=number + 1)[1:].tolist()
        return found

    rows = summed(np.ones(len(share)))
    return [_Sums(int(n), *sums) for n, *sums in zip(rows, summed(share), summed(share**2), strict=True)]


def _slice(cut: Cut, number: int, inside: _Sums, rests: Sequence[_Sums], *, is_share: bool) -> Slice:
    quality = inside.mean
    if is_share:
        low, high = wilson(inside.total, inside.rows)
    else:
        low, high = quality - 1.96 * inside.error, quality + 1.96 * inside.error
    others = min(rest.mean for rest in rests)
    p = max(_by_chance(inside, rest, is_share=is_share) for rest in rests)
    return Slice(cut, number, inside.rows, quality, others, p, low, high)


def _by_chance(inside: _Sums, rest: _Sums, *, is_share: bool) -> float:
    """The probability that `inside` is as much worse than `rest` as it is, if both are alike; 1 where that is little."""
    if inside.mean > rest.mean - _RELEVANT:
        return 1.0
    if is_share:
        good = round(inside.total)
        return fewer_by_chance(good, inside.rows, good + round(rest.total), inside.rows + rest.rows)
    return lower_tail(inside.mean - rest.mean, math.hypot(inside.error, rest.error), rows=inside.rows)


def lower_tail(difference: float, deviation: float, *, rows: int) -> float:
    """The probability of a difference as low as this or lower by chance, by Student's distribution of rows - 1.

    Of t = difference / deviation, made normal as by Wallace (1959): z = (8 f + 1) / (8 f + 3) sqrt(f ln(1 + t^2 / f)), f
    degrees of freedom; good to three digits from f = 10 on.

    >>> round(lower_tail(-0.1, 0.05, rows=30), 4)
    0.0275
    """
    if deviation == 0:
        return 1.0 if difference >= 0 else 0.0
    t, f = difference / deviation, max(1, rows - 1)
    z = (8 * f + 1) / (8 * f + 3) * math.sqrt(f * math.log1p(t * t / f))
    return 0.5 * math.erfc(math.copysign(z, -t) / math.sqrt(2))


def _order(one: Slice) -> tuple[float, str, str]:
    return (one.quality, one.column, one.value)


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


def _evidence(worst: Slice, quality: tuple[pa.Table, Floats]) -> tuple[int, ...]:
    table, share = quality
    order = np.flatnonzero(worst.cut.group == worst.number)
    return row_ids(table, order[np.argsort(share[order], kind="stable")])


def _verdict(found: list[Slice], weak: list[Slice], below: list[Slice]) -> Verdict:
    if not found:
        return "skipped"
    if below:
        return "failed"
    return "warned" if weak else "passed"


def _found(found: list[Slice], pairs: list[Slice], named: list[Slice]) -> str:
    if not found:
        return "There are no predictions, or no slice has enough rows."
    every = f"{len(found)} slices" + (f" and {len(pairs)} pairs" if pairs else "")
    if not named:
        lowest = min(found, key=_order)
        return f"None of {every} is weak; the lowest is {lowest.column} = {lowest.value!r} at {lowest.quality:.3f}."
    shown = "; ".join(
        f"{one.column} = {one.value!r} {one.quality:.3f} ({one.low:.3f} to {one.high:.3f}, {one.rows} rows; others {one.others:.3f})"
        for one in named[:5]
    )
    return f"{len(named)} of {every} are weak: {shown}."
