"""Have the rows changed since the last snapshot?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from everloop.checks.columns import NULL, Codes, Column, Floats, Values, codes, floats, kind_of, plain
from everloop.checks.plots import Point, plot
from everloop.checks.records import CheckInput, CheckResult, Verdict

RELEVANT = 0.05  # distance from which on a shift may matter
_FALSE_ALARMS = 0.01  # in which share of reports without any shift a column may be named
_CATEGORIES = 1000

RULE = (
    "A column has shifted when its distribution lies 0.05 or more from the last snapshot's and further than chance "
    "explains (in 1 % of reports without a shift). A shift is a reason to look; it blocks only where a gate says "
    "how much is too much."
)


@dataclass(frozen=True)
class Shift:
    """How far a column lies from the last snapshot: `distance` 0 to 1, `chance` the most that chance explains."""

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
    shifts = sorted(_shifts(given), key=lambda one: (-one.distance, one.column))
    real = [one for one in shifts if one.is_real]
    too_far = [one for one in real if at_most is not None and one.distance > at_most]
    limit = "" if at_most is None else f" The gate allows {at_most:g}."
    return CheckResult(
        name="drift",
        verdict=_verdict(shifts, real, too_far),
        found=_found(shifts, real),
        rule=RULE + limit,
        remedy="Look at the columns named; if the world has moved, retraining is the answer, else mend the source."
        if real
        else "Nothing to do.",
        numbers={
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
            value="distance from the last snapshot",
            limits={"from here on a shift may matter": RELEVANT, "the gate's limit": at_most},
        ),
    )


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


def _shifts(given: CheckInput) -> list[Shift]:
    if given.shifts is not None:
        return [
            Shift(name, float(value), None) for name, value in given.shifts.items() if math.isfinite(value)
        ]
    if given.reference is None or given.reference.num_rows == 0:
        return []
    names = [name for name in (given.label, *given.columns) if name in given.reference.column_names]
    alpha = _FALSE_ALARMS / max(1, len(names))  # Bonferroni: over all columns together
    found = [_shift(given, given.reference, name, alpha) for name in dict.fromkeys(names)]
    return [one for one in found if one is not None]


def _shift(given: CheckInput, reference: pa.Table, name: str, alpha: float) -> Shift | None:
    sides = [plain(table[name]) for table in (given.train, given.test) if name in table.column_names]
    now = pa.chunked_array([chunk for side in sides for chunk in side.chunks]) if _one_type(sides) else None
    before = plain(reference[name])
    if now is None or len(now) == 0 or now.type != before.type:
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


def _one_type(sides: list[Column]) -> bool:
    return len({str(side.type) for side in sides}) == 1


def _is_small(values: Values) -> bool:
    return len(values) <= 20


def _verdict(shifts: list[Shift], real: list[Shift], too_far: list[Shift]) -> Verdict:
    if not shifts:
        return "skipped"
    if too_far:
        return "failed"
    return "warned" if real else "passed"


def _found(shifts: list[Shift], real: list[Shift]) -> str:
    if not shifts:
        return "There is no last snapshot, or no column that can be compared with it."
    if not real:
        return f"None of {len(shifts)} columns has shifted; the furthest is {shifts[0].column!r} at {shifts[0].distance:.3f}."
    named = ", ".join(f"{one.column!r} by {one.distance:.3f}" for one in real[:5])
    return f"{len(real)} of {len(shifts)} columns have shifted: {named}."
