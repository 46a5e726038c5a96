"""Does something tell the model the answer that it will not have when it is asked for real?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from everloop.checks.columns import (
    NULL,
    Codes,
    codes,
    content_columns,
    floats,
    kind_of,
    pooled,
    row_codes,
    row_ids,
)
from everloop.checks.giveaways import CERTAIN, CERTAIN_NUMBER, Giveaway, giveaways, is_unique_code
from everloop.checks.plots import Point, plot
from everloop.checks.records import CheckInput, CheckResult, Verdict

# A test row or two may coincide with a training row by accident; from here on they lift the metric visibly.
_TOLERATED_COPIES = 0.01
_TOLERATED_OVERLAP = 0.05  # of a group that nobody named: it was guessed
_TOLERATED_LATER = 0.01  # of the rows: clocks differ
_FEW = 2

RULE = (
    "No input may determine the label by itself or lie after the row's own time, no group and no copy of a row may be on both sides of the split: "
    "the measured quality would be that of knowing the answer."
)


@dataclass(frozen=True)
class _Finding:
    verdict: Literal["failed", "warned"]
    found: str
    remedy: str
    rows: tuple[int, ...] = field(default=())


def leakage(given: CheckInput, *, trusted: Sequence[str] = ()) -> CheckResult:
    """Whether an input, a group or a copy lets the model know the answer.

    `trusted` names inputs whose power is known to be honest: they are measured and reported, but never fail.
    """
    powers = giveaways(given)  # of columns that are no inputs too: one may be a group
    inputs = [one for one in powers if one.column in given.columns]
    repeated = copies(given)
    overlaps = _overlaps(given, powers, trusted)
    findings = [
        *_identifiers(given, trusted),
        *_later(given, trusted),
        *_strong_inputs(given, inputs, trusted),
        *_group_findings(given, overlaps),
        *_copy_findings(given, repeated),
    ]
    strongest = next((one for one in inputs if one.power.skill is not None), None)
    return CheckResult(
        name="leakage",
        verdict=_verdict(findings, is_checkable=bool(inputs)),
        found=_found(findings, strongest),
        rule=RULE,
        remedy=" ".join(dict.fromkeys(one.remedy for one in findings)) or "Nothing to do.",
        numbers={
            "strongest_skill": strongest.power.skill if strongest else None,
            "strongest_skill_at_least": strongest.power.at_least if strongest else None,
            "columns_failed": sum(one.level == "certain" and one.column not in trusted for one in inputs),
            "group_overlap": max((one.share for one in overlaps), default=None),
            "copies": int(repeated.sum()),
            "copies_share": float(repeated.mean()) if len(repeated) else None,
        },
        evidence=next((one.rows for one in findings if one.rows), ()),
        details=tuple(one.as_row() for one in inputs[:50]),
        plot=plot(
            "intervals",
            [_point(one, given, trusted) for one in inputs if one.power.skill is not None],
            at="input",
            value="share of the baseline's errors that it removes alone",
        ),
    )


def _point(one: Giveaway, given: CheckInput, trusted: Sequence[str]) -> Point:
    skill = one.power.skill or 0.0
    return Point(
        one.column,
        max(0.0, skill),
        low=min(one.power.at_least, max(0.0, skill)),
        expected=CERTAIN_NUMBER if given.task == "number" else CERTAIN[one.power.how],
        rows=one.power.rows,
        series=one.power.how,
        is_marked=one.level != "none" and one.column not in trusted,
    )


def _strong_inputs(given: CheckInput, inputs: list[Giveaway], trusted: Sequence[str]) -> list[_Finding]:
    findings = []
    for one in inputs:
        if one.level == "none" or one.column in trusted:
            continue
        skill = one.power.skill or 0.0
        findings.append(
            _Finding(
                "failed" if one.level == "certain" else "warned",
                f"Input {one.column!r} alone removes {skill:.1%} of the errors that are made without any "
                f"input ({one.says}; {one.power.rows} rows, at least {one.power.at_least:.1%} at 95 % confidence).",
                f"Take {one.column!r} out of the inputs; if it is known when a prediction is asked for and honest, "
                f"say so with gate('leakage', trusted=[{one.column!r}]).",
                _repeated_rows(given, one.column),
            )
        )
    return findings


def _identifiers(given: CheckInput, trusted: Sequence[str]) -> list[_Finding]:
    findings = []
    for name in given.columns:
        if name in trusted or name not in given.train.column_names:
            continue
        if name == given.key:
            findings.append(
                _Finding(
                    "failed",
                    f"Input {name!r} is the dataset's key.",
                    f"Take {name!r} out of the inputs: a key names a row and says nothing about the next one.",
                )
            )
        elif is_unique_code(given, name):
            findings.append(
                _Finding(
                    "warned",
                    f"Input {name!r} is different in every row, as a row's number is.",
                    f"Take {name!r} out of the inputs unless its order or size means something.",
                )
            )
    return findings


def _later(given: CheckInput, trusted: Sequence[str]) -> list[_Finding]:
    """Inputs that are times, and later than the event of their row: nobody knew them when a prediction was asked for."""
    findings = []
    for name in given.columns:
        times = [pooled(given, one) for one in (name, given.time or "")]
        if name in (*trusted, given.time) or times[0] is None or times[1] is None:
            continue
        if any(kind_of(one[0].type) != "time" for one in times if one is not None):
            continue
        value, event = (floats(one[0]) for one in times if one is not None)
        is_later = value > event
        if is_later.sum() < _FEW or is_later.mean() <= _TOLERATED_LATER:
            continue
        findings.append(
            _Finding(
                "failed",
                f"Input {name!r} lies after {given.time!r} in {is_later.mean():.1%} of the rows.",
                f"Take {name!r} out of the inputs: it is not known yet when a prediction is asked for. Dates that are "
                f"known ahead are named in gate('leakage', trusted=[{name!r}]).",
                row_ids(given.train, np.flatnonzero(is_later[: given.train.num_rows])),
            )
        )
    return findings


@dataclass(frozen=True)
class _Overlap:
    column: str
    is_named: bool
    share: float
    rows: npt.NDArray[np.int64]


def _overlaps(given: CheckInput, powers: list[Giveaway], trusted: Sequence[str]) -> list[_Overlap]:
    """Shares of test rows whose group is among the training rows: for the named group and for detected ones."""
    detected = [one.column for one in powers if one.is_entity and one.column not in (given.group, *trusted)]
    named = [given.group] if given.group is not None else []
    found = []
    for name in [*named, *detected]:
        if (both := pooled(given, name)) is None or given.test.num_rows == 0:
            continue
        column, split = both
        values = codes(column)[0]
        is_shared = (values[split:] != NULL) & np.isin(values[split:], values[:split])
        found.append(_Overlap(name, name == given.group, float(is_shared.mean()), np.flatnonzero(is_shared)))
    return found


def _group_findings(given: CheckInput, overlaps: list[_Overlap]) -> list[_Finding]:
    findings = []
    for one in overlaps:
        if one.share <= (0.0 if one.is_named else _TOLERATED_OVERLAP):
            continue
        why = (
            ""
            if one.is_named
            else " (a guess: its repeated values have one label each, and new ones keep coming)"
        )
        findings.append(
            _Finding(
                "failed",
                f"{one.share:.1%} of the test rows have a {one.column!r} that training rows have too{why}.",
                f"Split by the group: el.split(rows, labels, by={one.column!r}).",
                row_ids(given.test, one.rows),
            )
        )
    return findings


def copies(given: CheckInput) -> npt.NDArray[np.bool_]:
    """Which test rows have the same content in all inputs as some training row; none when nothing is content."""
    names = [name for name in given.inputs if pooled(given, name) is not None]
    if not content_columns(given.train, names) or given.test.num_rows == 0:
        return np.zeros(given.test.num_rows, np.bool_)
    rows, split = _pooled_rows(given, names)
    found: npt.NDArray[np.bool_] = (rows[split:] != NULL) & np.isin(rows[split:], rows[:split])
    return found


def _copy_findings(given: CheckInput, repeated: npt.NDArray[np.bool_]) -> list[_Finding]:
    count = int(repeated.sum())
    if count == 0:
        return []
    is_much = count >= _FEW and count > _TOLERATED_COPIES * len(repeated)
    return [
        _Finding(
            "failed" if is_much else "warned",
            f"{count} of {len(repeated)} test rows have the same inputs as a training row.",
            "Remove repeated rows before the split: data.clean with DropDuplicates.",
            row_ids(given.test, np.flatnonzero(repeated)),
        )
    ]


def _pooled_rows(given: CheckInput, names: Sequence[str]) -> tuple[Codes, int]:
    """A code per distinct row over both sides, training rows first, and how many are training rows."""
    columns = {name: both[0] for name in names if (both := pooled(given, name)) is not None}
    return row_codes(pa.table(columns), list(columns)), given.train.num_rows


def _repeated_rows(given: CheckInput, name: str) -> tuple[int, ...]:
    """Training rows whose value of a column occurs again: where to see what it gives away."""
    values = codes(given.train[name])[0]
    counts = np.bincount(values + 1)
    return row_ids(given.train, np.flatnonzero((values != NULL) & (counts[values + 1] > 1)))


def _verdict(findings: list[_Finding], *, is_checkable: bool) -> Verdict:
    verdicts = {one.verdict for one in findings}
    if "failed" in verdicts:
        return "failed"
    if "warned" in verdicts:
        return "warned"
    return "passed" if is_checkable else "skipped"


def _found(findings: list[_Finding], strongest: Giveaway | None) -> str:
    if findings:
        return " ".join(one.found for one in findings)
    if strongest is None:
        return (
            "No input can be read alone: its values never repeat, rows lack labels, or all have the same one."
        )
    skill = max(0.0, strongest.power.skill or 0.0)
    return f"The strongest input alone, {strongest.column!r}, removes {skill:.1%} of the errors."
