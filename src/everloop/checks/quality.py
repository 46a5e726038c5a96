"""Do the columns hold what they are meant to hold: nulls, constants, far outliers, placeholders, values never learnt?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from everloop.checks.bounds import share_at_least
from everloop.checks.columns import (
    NULL,
    Codes,
    Column,
    Floats,
    codes,
    compute,
    content_columns,
    floats,
    kind_of,
    plain,
    row_ids,
)
from everloop.checks.plots import Point, plot
from everloop.checks.records import CheckInput, CheckResult, Gate, Verdict

MEASURES = ("nulls", "constants", "outliers", "placeholders", "unseen")
PLACEHOLDERS = (
    *("", "n/a", "#n/a", "n.a.", "<na>", "null", "(null)", "<null>", "#null!", "nan", "undefined"),
    *(
        "?",
        "??",
        "???",
        "????",
        "-",
        "--",
        "---",
        ".",
        "...",
        "tbd",
        "todo",
        "lorem ipsum",
        "not available",
        "no data",
    ),
)
_NULLS = 0.9  # of a side's rows, from which on a column is named
_SIDES_APART = 0.2  # between the shares of nulls in the training and in the test rows
_PLACEHOLDERS = 0.01
_UNSEEN = 0.01  # beyond what the training rows let expect
_ENOUGH = 50  # filled rows to tell what is far, or that a column never changes
_GAP = 1.6  # between what is far and the others, on a scale that grows like a logarithm: a factor of five
_CATEGORY = 0.1  # distinct values a training row, up to which a column holds categories

RULE = (
    "A column must not be empty in 90 % of a side's rows or by 0.2 more on one side, have one value in all rows, hold "
    "numbers far beyond all others, placeholders such as N/A in 1 % of the rows, or categories in the test rows that "
    "training never saw (1 % beyond what is to be expected). Such a column is a warning; it blocks only where a gate says how "
    "many rows are too many."
)
REMEDY = (
    "Mend the source or the step that reads it: make placeholders and impossible numbers null, drop what never changes, and "
    "split so that training sees each category. What is meant so is named in gate('quality', trusted=[...])."
)
NUMBERS = {
    "value": "what the gate compares with its limit: the largest share of rows by its measure, or by any",
    "limit": "of the gate; none without one",
    "columns": "inputs and features looked at",
    "problems": "columns named, once for each thing wrong with them",
    "nulls": "largest share of a side's rows in which a column is empty",
    "constants": "columns with one value in all rows",
    "outliers": "largest share of rows with a number far beyond the others of its column",
    "placeholders": "largest share of rows with a placeholder for nothing",
    "unseen": "largest share of test rows with a category that no training row has",
}


@dataclass(frozen=True)
class _Finding:
    """What is wrong with a column: the share of rows by one measure, and whether that is worth a warning."""

    column: str
    measure: str
    share: float
    says: str
    is_wrong: bool
    rows: tuple[int, ...] = ()


def quality(
    given: CheckInput,
    *,
    measure: str | None = None,
    at_most: float | None = None,
    trusted: Sequence[str] = (),
) -> CheckResult:
    """Shares of rows that are empty, far outliers, placeholders or unseen categories, by column; and constant columns.

    Warns; fails only when the share by `measure` (without it by any) is above `at_most` in a column that is not `trusted`.
    """
    names = [name for name in dict.fromkeys(given.columns) if name not in trusted]
    found = [one for name in names for one in _findings(given, name) if measure in (None, one.measure)]
    wrong = [one for one in found if one.is_wrong]
    above = [one for one in found if at_most is not None and one.share > at_most]
    named = sorted(above or wrong, key=lambda one: (-one.share, one.column, one.measure))
    verdict: Verdict = "failed" if above else "warned" if wrong else "passed" if found else "skipped"
    largest = {of: max((one.share for one in found if one.measure == of), default=None) for of in MEASURES}
    return CheckResult(
        name="quality",
        verdict=verdict,
        found=_told(names, found, named),
        rule=RULE if at_most is None else _rule(measure, at_most),
        remedy=REMEDY if named else "Nothing to do.",
        numbers={
            **largest,
            "constants": sum(one.measure == "constants" and one.share == 1 for one in found),
            "value": max((one.share for one in found), default=None),
            "limit": at_most,
            "columns": len({one.column for one in found}),
            "problems": len(named),
        },
        evidence=tuple(dict.fromkeys(row for one in named for row in one.rows))[:20],
        details=tuple(
            {"column": one.column, "measure": one.measure, "share": round(one.share, 4), "found": one.says}
            for one in (*named, *(each for each in found if each.share > 0 and each not in named))
        )[:50],
        plot=plot(
            "bars",
            [
                Point(one.column, one.share, series=one.measure, is_marked=one in named)
                for one in sorted(found, key=lambda one: (one not in named, -one.share))
                if one.share > 0 or one.measure == "nulls"
            ],
            at="column",
            value="share of rows",
            limits={"the gate's limit": at_most},
        ),
    )


def refused(gate: Gate) -> str:
    """Why a gate about quality makes no sense; empty when it does."""
    if gate.measure is not None and gate.measure not in MEASURES:
        return f"has the measure {gate.measure!r}; it is one of {', '.join(MEASURES)}. Name one of these."
    return ""


def _findings(given: CheckInput, name: str) -> Iterator[_Finding]:
    sides = {
        side: plain(table[name])
        for side, table in (("training", given.train), ("test", given.test))
        if name in table.column_names and table.num_rows
    }
    if not sides:
        return
    yield _nulls(name, sides)
    if constant := _constant(name, sides):
        yield constant
    kind = kind_of(next(iter(sides.values())).type)
    if kind == "number" and name not in (given.key, given.group):
        yield from _outliers(given, name, sides)
    if kind == "text":
        yield from _placeholders(given, name, sides)
    if len(sides) == 2 and sides["training"].type == sides["test"].type:
        yield from _unseen(given, name, sides["training"], sides["test"])


def _nulls(name: str, sides: dict[str, Column]) -> _Finding:
    shares = {side: column.null_count / len(column) for side, column in sides.items()}
    worst = max(shares, key=lambda side: shares[side])
    is_enough = min(len(column) for column in sides.values()) >= _ENOUGH
    is_apart = is_enough and max(shares.values()) - min(shares.values()) >= _SIDES_APART
    told = " and ".join(f"{share:.1%} of the {side} rows" for side, share in shares.items())
    return _Finding(name, "nulls", shares[worst], f"is empty in {told}", shares[worst] >= _NULLS or is_apart)


def _constant(name: str, sides: dict[str, Column]) -> _Finding | None:
    column = (
        pa.chunked_array([chunk for side in sides.values() for chunk in side.chunks])
        if _alike(sides)
        else None
    )
    if (
        column is None
        or len(column) < _ENOUGH
        or column.null_count
        or kind_of(column.type) in ("binary", "other")
    ):
        return None
    is_one = len(codes(column)[1]) == 1
    return _Finding(name, "constants", float(is_one), "has one value in all rows", is_one)


def _outliers(given: CheckInput, name: str, sides: dict[str, Column]) -> Iterator[_Finding]:
    values = {side: floats(column) for side, column in sides.items()}
    limits = _far(np.concatenate(list(values.values())))
    if limits is None:
        return
    is_far = {side: (own < limits[0]) | (own > limits[1]) for side, own in values.items()}
    number, rows = sum(int(one.sum()) for one in is_far.values()), sum(map(len, is_far.values()))
    sides_told = [f"below {limits[0]:.3g}"] * any((own < limits[0]).any() for own in values.values())
    sides_told += [f"above {limits[1]:.3g}"] * any((own > limits[1]).any() for own in values.values())
    says = f"has {number} numbers far from all others, {' and '.join(sides_told)}"
    yield _Finding(name, "outliers", number / rows, says, number > 0, _rows(given, is_far))


def _far(values: Floats) -> tuple[float, float] | None:
    """Numbers outside these are far from the others; None when there are too few to tell, or no middle.

    On y = asinh((x - median) / median distance from it), which is linear near the median and a logarithm far away, so that
    long tails are no outliers: beyond the middle 90 % of y by its width, and after a gap of 1.6, a factor of five. Of a
    column that is mostly one value (no capital gain) the others are looked at.
    """
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    middle = float(np.median(values))
    apart = values - middle
    if np.median(np.abs(apart)) == 0:
        apart = apart[apart != 0]
    unit = float(np.median(np.abs(apart))) if len(apart) >= _ENOUGH else 0.0
    if unit == 0 or not np.isfinite(unit):
        return None
    y = np.arcsinh(apart / unit)
    low, high = np.quantile(y, [0.05, 0.95]).tolist()
    below, above = (_after_a_gap(one, edge, high - low) for one, edge in ((-y, -low), (y, high)))
    return min(middle, middle - unit * math.sinh(below)), max(middle, middle + unit * math.sinh(above))


def _after_a_gap(y: Floats, edge: float, width: float) -> float:
    """Where what is far begins, upwards: in the first gap that ends beyond the edge by the width; nowhere without one."""
    tail = np.sort(np.append(y[y > edge], edge))
    gaps = np.flatnonzero((np.diff(tail) >= _GAP) & (tail[1:] > edge + width))
    return float(tail[gaps[0]] + _GAP / 2) if len(gaps) else math.inf


def _placeholders(given: CheckInput, name: str, sides: dict[str, Column]) -> Iterator[_Finding]:
    known = pa.array(PLACEHOLDERS, pa.large_string())
    is_one = {
        side: compute.is_in(
            compute.utf8_lower(compute.utf8_trim_whitespace(column)), value_set=known
        ).to_numpy()
        for side, column in sides.items()
        if kind_of(column.type) == "text"
    }
    number, rows = sum(int(one.sum()) for one in is_one.values()), sum(map(len, is_one.values()))
    says = f"holds a placeholder for nothing, such as N/A, in {number} of {rows} rows"
    yield _Finding(
        name, "placeholders", number / rows, says, number >= _PLACEHOLDERS * rows, _rows(given, is_one)
    )


def _unseen(given: CheckInput, name: str, train: Column, test: Column) -> Iterator[_Finding]:
    """Categories of test rows that training lacks, beyond Good and Turing's estimate of how many there are to be.

    The probability of an unseen value is about the share of values seen once. Rows of one group count once; a column whose
    values belong to one group each is left out, since a split by group keeps them apart on purpose.
    """
    if name in (given.key, given.group) or kind_of(train.type) not in ("text", "boolean", "number"):
        return
    found, values = codes(pa.chunked_array([*train.chunks, *test.chunks], type=train.type))
    learnt, asked = found[: len(train)], found[len(train) :]
    is_number = kind_of(train.type) == "number"
    distinct = len(np.unique(learnt[learnt != NULL]))
    if (
        distinct == 0
        or distinct > (20 if is_number else max(20, _CATEGORY * len(train)))
        or (asked != NULL).sum() == 0
    ):
        return
    if pa.types.is_floating(train.type) or content_columns(given.train, [name]):
        return
    once = _once_a_group(given, learnt)
    if once is None:
        return
    seen = np.bincount(once, minlength=len(values))
    is_new = (asked != NULL) & (seen[np.maximum(asked, 0)] == 0)
    share = float(is_new.mean())
    expected = float((seen == 1).sum() + 1) / max(1, len(once))
    is_more = share_at_least(int(is_new.sum()), len(is_new), confidence=0.999) > 2 * expected + _UNSEEN
    says = f"has {int(is_new.sum())} of {len(is_new)} test rows with a category that no training row has"
    yield _Finding(name, "unseen", share, says, is_more, row_ids(given.test, np.flatnonzero(is_new)))


def _once_a_group(given: CheckInput, learnt: Codes) -> Codes | None:
    """The values of the training rows, each once a group; None when each value belongs to one group."""
    is_known: npt.NDArray[np.bool_] = learnt != NULL
    if given.group is None or given.group not in given.train.column_names:
        return learnt[is_known]
    groups = codes(given.train[given.group])[0]
    is_known &= groups != NULL
    pairs: Any = np.unique(np.stack([learnt[is_known], groups[is_known]]), axis=1)
    each: Codes = pairs[0]
    return None if len(each) == len(np.unique(each)) else each


def _rows(given: CheckInput, marked: dict[str, npt.NDArray[np.bool_]]) -> tuple[int, ...]:
    tables = {"training": given.train, "test": given.test}
    return tuple(row for side, one in marked.items() for row in row_ids(tables[side], np.flatnonzero(one)))


def _alike(sides: dict[str, Column]) -> bool:
    return len({str(column.type) for column in sides.values()}) == 1


def _told(names: Sequence[str], found: Sequence[_Finding], named: Sequence[_Finding]) -> str:
    if not found:
        return "There is no column to look at."
    if not named:
        number = len({one.column for one in found})
        return f"Nothing is odd in {number} column{'s' if number > 1 else ''}."
    shown = "; ".join(f"{one.column!r} {one.says}" for one in named[:5])
    more = f"; and {len(named) - 5} more" if len(named) > 5 else ""
    return f"{len({one.column for one in named})} of {len(names)} columns: {shown}{more}."


def _rule(measure: str | None, at_most: float) -> str:
    of: dict[Any, str] = {
        None: "be empty, far outliers, placeholders or categories never seen in training, nor all the same",
        "nulls": "be empty",
        "constants": "be all the same",
        "outliers": "be far beyond all others",
        "placeholders": "be placeholders for nothing",
        "unseen": "be categories that training never saw",
    }
    return f"In no column may more than {at_most:.3g} of the rows {of[measure]}."
