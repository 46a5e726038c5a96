"""How a model must behave, whatever its metrics: what must not change its answer, and what must move it which way.

Invariance and directional expectation tests: Ribeiro, Wu, Guestrin and Singh, Beyond Accuracy: Behavioral Testing of NLP
Models with CheckList, ACL 2020, section 2.3. A rate is shown with its Wilson interval; rows of one group are not
independent, so that the interval is that of as many rows as there are groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from everloop.checks.bounds import wilson
from everloop.checks.columns import Column, Floats, compute, floats, kind_of, plain, row_ids
from everloop.checks.plots import Point, plot
from everloop.checks.records import EVIDENCE_ROWS, Check, CheckInput, CheckResult
from everloop.checks.scored import groups_of

INVARIANCE_OPTIONS = frozenset({"at_least", "at_most", "confidence", "min_rows"})
DIRECTION_OPTIONS = frozenset({"at_least", "confidence", "min_rows"})
NUMBERS = {
    "value": "share of the changed rows for which it holds",
    "limit": "of the gate",
    "low": "lower end of the value's 95 % interval (Wilson)",
    "high": "upper end of the value's 95 % interval",
    "rows": "test rows that the change changes, of the 2,000 that are looked at",
    "broken": "of these, rows for which it does not hold",
}
RATE = 0.95
MIN_ROWS = 10
_ROWS = 2_000
_SATURATED = 0.999  # probabilities from here on (or below the rest to 1) have nowhere to go
_REMEDY = "Look at the rows: add training rows that are changed so, or take the input away that the answer hangs on."

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Pair:
    """The rows that the change changes, as they were and as they are then."""

    before: pa.Table
    after: pa.Table


@dataclass(frozen=True)
class _Judged:
    """For which rows it holds, (n_rows,), and what was answered before and after."""

    holds: Mask
    before: Sequence[Any]
    after: Sequence[Any]


Judge = Callable[[CheckInput, _Pair], "_Judged | str"]


def invariance(
    check: Check,
    given: CheckInput,
    *,
    at_least: float = RATE,
    at_most: float = 0.0,
    confidence: float | None = None,
    min_rows: int = MIN_ROWS,
) -> CheckResult:
    """The share of changed rows that are answered as before; numbers may move by `at_most`."""

    def judge(given: CheckInput, pair: _Pair) -> _Judged | str:
        sides = [_answers(given, rows) for rows in (pair.before, pair.after)]
        if (problem := next((one for one in sides if isinstance(one, str)), None)) is not None:
            return problem
        if given.task == "number":
            before, after = (_numbers(one) for one in sides)
            return _Judged(np.abs(after - before) <= at_most, *sides)
        holds = np.array([one == other for one, other in zip(*sides, strict=True)], np.bool_)
        return _Judged(holds, *sides)

    moved = f" (numbers within {at_most:g})" if at_most else ""
    rule = f"Of the rows that {check.name} changes, {at_least:.0%} or more are answered as before{moved}"
    return _judged(check, given, judge, rule, at_least=at_least, confidence=confidence, min_rows=min_rows)


def direction(moves: Literal["up", "down"], of: str | None) -> Callable[..., CheckResult]:
    """A check of the share of changed rows whose score moves up, or down."""

    def judged(
        check: Check,
        given: CheckInput,
        *,
        at_least: float = RATE,
        confidence: float | None = None,
        min_rows: int = MIN_ROWS,
    ) -> CheckResult:
        score = f"the probability of {of!r}" if of is not None else "the answer"
        rule = f"Of the rows that {check.name} changes, {score} moves {moves} for {at_least:.0%} or more"
        return _judged(check, given, judge, rule, at_least=at_least, confidence=confidence, min_rows=min_rows)

    def judge(given: CheckInput, pair: _Pair) -> _Judged | str:
        sides = [_scores(given, rows, of) for rows in (pair.before, pair.after)]
        if (problem := next((one for one in sides if isinstance(one, str)), None)) is not None:
            return problem
        before, after = (np.asarray(one, np.float64) for one in sides)
        sign = 1.0 if moves == "up" else -1.0
        holds = sign * (after - before) > 0
        if of is not None:  # a probability of nearly 1 (or 0) cannot rise (or fall)
            end = before >= _SATURATED if moves == "up" else before <= 1 - _SATURATED
            holds |= end & (np.abs(after - before) <= 1 - _SATURATED)
        return _Judged(holds, np.round(before, 6).tolist(), np.round(after, 6).tolist())

    return judged


def _judged(
    check: Check,
    given: CheckInput,
    judge: Judge,
    rule: str,
    *,
    at_least: float,
    confidence: float | None,
    min_rows: int,
) -> CheckResult:
    rule += "." if confidence is None else f", with {confidence:.0%} confidence."
    numbers: dict[str, float | int | None] = {**dict.fromkeys(NUMBERS), "limit": at_least}

    def failed(found: str, remedy: str) -> CheckResult:
        return CheckResult(check.name, "failed", found, rule, remedy, numbers)

    pair = _changed(check, given)
    if isinstance(pair, str):
        return failed(pair, "Return the same rows, in their order, with the columns that you changed.")
    numbers["rows"] = pair.before.num_rows
    if pair.before.num_rows < max(1, min_rows):
        found = f"It changes {pair.before.num_rows} of the test rows in something that the model sees."
        return failed(found, f"Change more rows ({min_rows} are needed), or lower the gate's min_rows.")
    judged = judge(given, pair)
    if isinstance(judged, str):
        return failed(judged, "Give the check a model that can answer these rows.")
    holds, rows = judged.holds, pair.before.num_rows
    rate, alone = float(holds.mean()), _independent(given, pair.before)
    low, high = wilson(rate * alone, alone)
    decisive = rate
    if confidence is not None:
        decisive = wilson(rate * alone, alone, z=NormalDist().inv_cdf(confidence))[0]
    is_met = decisive >= at_least
    broken = np.flatnonzero(~holds)
    return CheckResult(
        name=check.name,
        verdict="passed" if is_met else "failed",
        found=f"It holds for {rate:.1%} (95 %: {low:.1%} to {high:.1%}) of {rows} changed rows; {len(broken)} break it.",
        rule=rule,
        remedy="Nothing to do." if is_met else check.remedy or _REMEDY,
        numbers={**numbers, "value": rate, "low": low, "high": high, "broken": len(broken)},
        evidence=row_ids(pair.before, broken),
        details=_broken(pair, judged, broken),
        plot=plot(
            "intervals",
            [Point(check.name, rate, low, high, rows=rows, is_marked=not is_met)],
            at="behaviour",
            value="share of the changed rows for which it holds",
            limits={"the gate's limit": at_least},
        ),
    )


def _changed(check: Check, given: CheckInput) -> _Pair | str:
    """The test rows that the user's function changes in something the model sees; or what is wrong with it."""
    rows = given.test
    if rows.num_rows > _ROWS:
        rows = rows.take(np.linspace(0, rows.num_rows - 1, _ROWS).astype(np.int64))
    if missing := [name for name in given.columns if name not in rows.column_names]:
        return f"The test rows have no column {', '.join(missing)}."
    if rows.num_rows == 0:
        return "There are no test rows."
    changed: Any = check.function(rows)
    if not isinstance(changed, pa.Table) or changed.num_rows != rows.num_rows:
        what = f"{changed.num_rows} rows" if isinstance(changed, pa.Table) else f"a {type(changed).__name__}"
        return f"Of {rows.num_rows} rows it made {what}."
    is_changed = np.zeros(rows.num_rows, np.bool_)
    for name in given.columns:
        if name not in changed.column_names:
            return f"It took the column {name!r} away."
        column = changed[name].cast(rows.schema.field(name).type)
        is_changed |= _differs(rows[name], column)
        changed = changed.set_column(changed.schema.get_field_index(name), name, column)
    keep = pa.array(is_changed)
    return _Pair(rows.filter(keep), changed.filter(keep))


def _differs(left: Column, right: Column) -> Mask:
    if kind_of(left.type) == "other":
        return np.array(
            [one != other for one, other in zip(left.to_pylist(), right.to_pylist(), strict=True)], np.bool_
        )
    left, right = plain(left), plain(right)
    differs = compute.fill_null(compute.not_equal(left, right), False)
    one_is_null = compute.xor(compute.is_null(left), compute.is_null(right))
    found: Mask = compute.or_(differs, one_is_null).to_numpy()
    return found


def _answers(given: CheckInput, rows: pa.Table) -> list[Any] | str:
    if given.answer is None:
        return "The model itself is not at hand, only its answers."
    answers = list(given.answer(rows))
    return (
        answers
        if len(answers) == rows.num_rows
        else f"The model gave {len(answers)} answers to {rows.num_rows} rows."
    )


def _numbers(answers: Sequence[Any]) -> Floats:
    """As (n_rows,) float64; what is no number is NaN, of which nothing holds."""
    return floats(plain(pa.chunked_array([pa.array(answers)])))


def _scores(given: CheckInput, rows: pa.Table, of: str | None) -> Floats | str:
    """The score of each row, (n_rows,) float64: a probability, or the answer itself."""
    if of is None:
        if given.task == "class":
            return "The labels are classes, and the check names none: el.direction('up', of=CLASS) does."
        answers = _answers(given, rows)
        return answers if isinstance(answers, str) else _numbers(answers)
    if given.chances is None:
        return "The model gives no probabilities."
    chances = given.chances(rows)
    if of not in chances:
        return f"The model knows no class {of!r}; it knows {', '.join(chances)}."
    return np.asarray(chances[of], np.float64)


def _independent(given: CheckInput, rows: pa.Table) -> int:
    groups = groups_of(given, rows)
    return rows.num_rows if groups is None else max(1, len(np.unique(groups)))


def _broken(pair: _Pair, judged: _Judged, broken: npt.NDArray[np.intp]) -> tuple[dict[str, Any], ...]:
    ids = row_ids(pair.before, broken)
    return tuple(
        {"row": row, "before": _kept(judged.before[place]), "after": _kept(judged.after[place])}
        for row, place in zip(ids, broken[:EVIDENCE_ROWS].tolist(), strict=False)
    )


def _kept(answer: Any) -> Any:
    return None if isinstance(answer, float) and not math.isfinite(answer) else answer
