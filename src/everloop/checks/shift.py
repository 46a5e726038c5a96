"""Have the rows changed since the last snapshot, and do they look like what the live endpoint is asked?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from everloop.checks.columns import NULL, Codes, Column, Floats, Values, codes, floats, kind_of, plain
from everloop.checks.plots import Point, plot
from everloop.checks.records import CheckInput, CheckResult, Numbers, Verdict

RELEVANT = 0.05  # distance from which on a shift may matter
_FALSE_ALARMS = 0.01  # in which share of reports without any shift a column may be named
_CATEGORIES = 1000

RULE = (
    "A column has shifted when its distribution lies 0.05 or more from the last snapshot's and further than chance "
    "explains (in 1 % of reports without a shift). A shift is a reason to look; it blocks only where a gate says "
    "how much is too much."
)
MIN_REQUESTS = 100
TRAFFIC_RULE = (
    "An input has shifted when its distribution in the training rows lies 0.05 or more from that in what the model's endpoint "
    "was asked in the last week, and further than chance explains (in 1 % of reports without a shift). It blocks only where a "
    "gate says how much is too much; fewer than {min_rows} requests are not enough to tell, a warning."
)


@dataclass(frozen=True)
class Shift:
    """How far a column lies from what it is compared with: `distance` 0 to 1, `chance` the most that chance explains."""

    column: str
    distance: float
    chance: float | None

    @property
    def is_real(self) -> bool:
        return self.distance >= RELEVANT and (self.chance is None or self.distance > self.chance)


def drift(given: CheckInput, *, at_most: float | None = None) -> CheckResult:
    """Distances of the label and the inputs from the last snapshot.

    Measured already (`CheckInput.shifts`), or here: total variation for categories, the Kolmogorov-Smirnov distance
    for numbers and times; free text is left to the measure that is handed in. Fails only above `at_most`.
    """
    shifts = _in_order(_shifts(given))
    return _result(
        "drift",
        shifts,
        at_most,
        found=_found(shifts, none="There is no last snapshot, or no column that can be compared with it."),
        rule=RULE,
        remedy="Look at the columns named; if the world has moved, retraining is the answer, else mend the source.",
        of="distance from the last snapshot",
    )


def traffic_drift(
    given: CheckInput, *, at_most: float | None = None, min_rows: int = MIN_REQUESTS
) -> CheckResult:
    """Distances of the inputs of the training rows from those of the requests that the live endpoint answered.

    As `drift`. Without a live endpoint or a request it is skipped: there is nothing that it could be like; fewer than
    `min_rows` requests are a warning.
    """
    traffic = None if given.traffic is None else given.traffic()
    rule = TRAFFIC_RULE.format(min_rows=min_rows)
    number = 0 if traffic is None else traffic.rows.num_rows
    numbers = {"requests": number, "columns": 0, "shifted": 0, "largest": None}
    if traffic is None:
        found = "No endpoint answers with this model yet."
        return CheckResult("traffic_drift", "skipped", found, rule, "Nothing to do.", numbers)
    window = f"{number:,} requests to {traffic.endpoint} from {traffic.start:%Y-%m-%d %H:%M} to {traffic.end:%Y-%m-%d %H:%M}"
    if number == 0:
        return CheckResult(
            "traffic_drift",
            "skipped",
            f"There were {window}: nothing to compare with.",
            rule,
            "Nothing to do.",
            numbers,
        )
    if number < min_rows:
        return CheckResult(
            "traffic_drift",
            "warned",
            f"There were only {window}: not enough to tell.",
            rule,
            "Train again after more traffic, or lower the gate's min_rows.",
            numbers,
        )
    names = [
        name
        for name in given.inputs
        if name in given.train.column_names and name in traffic.rows.column_names
    ]
    alpha = _FALSE_ALARMS / max(1, len(names))
    shifts = _in_order(
        _shift(name, traffic.rows[name], given.train[name], alpha) for name in dict.fromkeys(names)
    )
    return _result(
        "traffic_drift",
        shifts,
        at_most,
        found=f"{_found(shifts, none='No input can be compared with the requests.')} Compared with {window}.",
        rule=rule,
        remedy="Train on newer rows, or on rows like those that the endpoint is asked; a unit or spelling that differs is mended "
        "at its source.",
        of="distance from live traffic",
        numbers={"requests": number},
    )


def _result(
    name: str,
    shifts: list[Shift],
    at_most: float | None,
    *,
    found: str,
    rule: str,
    remedy: str,
    of: str,
    numbers: Numbers | None = None,
) -> CheckResult:
    real = [one for one in shifts if one.is_real]
    too_far = [one for one in real if at_most is not None and one.distance > at_most]
    limit = "" if at_most is None else f" The gate allows {at_most:g}."
    return CheckResult(
        name=name,
        verdict=_verdict(shifts, real, too_far),
        found=found,
        rule=rule + limit,
        remedy=remedy if real else "Nothing to do.",
        numbers={
            **(numbers or {}),
            "columns": len(shifts),
            "shifted": len(real),
            "largest": real[0].distance if real else (shifts[0].distance if shifts else None),
        },
        details=tuple(
            {"column": one.column, "distance": one.distance, "chance": one.chance} for one in shifts[:50]
        ),
        plot=plot(
            "bars",
            [Point(one.column, one.distance, expected=one.chance, is_marked=one in real) for one in shifts],
            at="column",
            value=of,
            limits={"from here on a shift may matter": RELEVANT, "the gate's limit": at_most},
        ),
    )


def _in_order(shifts: Iterable[Shift | None]) -> list[Shift]:
    return sorted((one for one in shifts if one is not None), key=lambda one: (-one.distance, one.column))


def total_variation(left: Codes, right: Codes) -> float:
    """Half the sum of the differences of shares, 0 to 1; codes are of one dictionary, -1 (null) is a category.

    TV = 1/2 sum_k |p_k - q_k|; the largest difference of probability that any set of categories can show.

    >>> import numpy as np
    >>> total_variation(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    0.25
    """
    size = int(max(left.max(), right.max())) + 2
    shares = [np.bincount(side + 1, minlength=size) / len(side) for side in (left, right)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def total_variation_by_chance(left: Codes, right: Codes, *, alpha: float) -> float:
    """The total variation that two samples of one distribution exceed with probability alpha at most.

    E[TV] <= 1/2 sum_k sqrt(p_k (1 - p_k) (1/n + 1/m)) by Jensen's inequality, with p_k from both samples together;
    above its mean, TV stays within sqrt(ln(1 / alpha) (1/n + 1/m) / 2) by McDiarmid's inequality (1989), since one
    row moves it by 1/n or 1/m at most.
    """
    both = np.concatenate([left, right]) + 1
    share = np.bincount(both) / len(both)
    unit = 1 / len(left) + 1 / len(right)
    expected = float(np.sqrt(share * (1 - share) * unit).sum() / 2)
    return expected + math.sqrt(math.log(1 / alpha) * unit / 2)


def ks_distance(left: Floats, right: Floats) -> float:
    """The largest difference between the two empirical distribution functions; NaN is left out.

    D = max_x |F(x) - G(x)| (Smirnov, 1939).

    >>> import numpy as np
    >>> ks_distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0, 5.0, 6.0]))
    0.5
    """
    left, right = np.sort(left[np.isfinite(left)]), np.sort(right[np.isfinite(right)])
    points = np.concatenate([left, right])
    f = np.searchsorted(left, points, side="right") / len(left)
    g = np.searchsorted(right, points, side="right") / len(right)
    return float(np.abs(f - g).max())


def ks_by_chance(n: int, m: int, *, alpha: float) -> float:
    """The distance that two samples of one distribution exceed with probability alpha: sqrt(-ln(alpha/2)/2 (1/n+1/m)).

    The leading term of Kolmogorov's distribution, on the safe side for ties.
    """
    return math.sqrt(-math.log(alpha / 2) / 2 * (1 / n + 1 / m))


def _shifts(given: CheckInput) -> Iterable[Shift | None]:
    if given.shifts is not None:
        return [
            Shift(name, float(value), None) for name, value in given.shifts.items() if math.isfinite(value)
        ]
    reference = given.reference
    if reference is None or reference.num_rows == 0:
        return []
    names = [name for name in (given.label, *given.columns) if name in reference.column_names]
    alpha = _FALSE_ALARMS / max(1, len(names))  # Bonferroni: over all columns together
    sides = {name: _both_sides(given, name) for name in dict.fromkeys(names)}
    return [_shift(name, reference[name], now, alpha) for name, now in sides.items() if now is not None]


def _both_sides(given: CheckInput, name: str) -> Column | None:
    sides = [plain(table[name]) for table in (given.train, given.test) if name in table.column_names]
    if len({str(side.type) for side in sides}) != 1:
        return None
    return pa.chunked_array([chunk for side in sides for chunk in side.chunks], type=sides[0].type)


def _shift(name: str, before: Column, now: Column, alpha: float) -> Shift | None:
    before, now = plain(before), plain(now)
    if kind_of(before.type) == kind_of(now.type) == "number":
        before, now = before.cast(pa.float64(), safe=False), now.cast(pa.float64(), safe=False)
    if len(before) == 0 or len(now) == 0 or now.type != before.type:
        return None
    kind = kind_of(now.type)
    if kind in ("number", "time") and not _is_small(codes(now)[1]):
        left, right = floats(before), floats(now)
        known = [int(np.isfinite(side).sum()) for side in (left, right)]
        if min(known) == 0:
            return None
        return Shift(name, ks_distance(left, right), ks_by_chance(*known, alpha=alpha))
    if kind not in ("text", "boolean", "number", "time"):
        return None
    both, values = codes(pa.chunked_array([*before.chunks, *now.chunks], type=now.type))
    if len(values) > _CATEGORIES or len(values) > 0.5 * len(both) + 2 or not (both != NULL).any():
        return None
    left_codes, right_codes = both[: len(before)], both[len(before) :]
    return Shift(
        name,
        total_variation(left_codes, right_codes),
        total_variation_by_chance(left_codes, right_codes, alpha=alpha),
    )


def _is_small(values: Values) -> bool:
    return len(values) <= 20


def _verdict(shifts: list[Shift], real: list[Shift], too_far: list[Shift]) -> Verdict:
    if not shifts:
        return "skipped"
    if too_far:
        return "failed"
    return "warned" if real else "passed"


def _found(shifts: list[Shift], *, none: str) -> str:
    if not shifts:
        return none
    real = [one for one in shifts if one.is_real]
    if not real:
        return f"None of {len(shifts)} columns has shifted; the furthest is {shifts[0].column!r} at {shifts[0].distance:.3f}."
    named = ", ".join(f"{one.column!r} by {one.distance:.3f}" for one in real[:5])
    return f"{len(real)} of {len(shifts)} columns have shifted: {named}."
