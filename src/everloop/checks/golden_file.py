"""Golden predictions: rows kept with the answers that they must get, in a file of the project that people review."""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from blake3 import blake3

from everloop.checks.catalog import CHECKS
from everloop.checks.columns import floats, plain
from everloop.checks.plots import Point, plot
from everloop.checks.records import EVIDENCE_ROWS, Check, CheckInput, CheckResult, Gate
from everloop.errors import Invalid

SUFFIX = ".golden.json"
_MOST = 10_000
_REMEDY = (
    "Look at what changed. If the new answers are right, accept them with everloop models golden REF FILE --accept, apply and "
    "train again; else mend the model."
)


@dataclass(frozen=True)
class GoldenRow:
    """What the model is asked, the answer it must give, that answer's probability, and the row it was taken from."""

    values: Mapping[str, Any]
    expected: str | float
    score: float | None = None
    row: int | None = None


def golden(file: str | Path, *, at_least: float = 1.0, at_most: float | None = None) -> Gate:
    """A gate on rows that are kept with the answers they must get: a file beside the one that calls this.

    `everloop models golden REF FILE` makes the file and, with --accept, takes a version's answers as the new ones. The gate is
    bound to the file's content: other answers are another gate, which no version has passed.

    Parameters
    ----------
    at_least
        The share of the rows that must be answered as expected.
    at_most
        How far the probability of an expected class, or a number, may lie from the one kept; without it a class' probability
        is not looked at, and numbers must be equal to nine digits.

    Raises
    ------
    Invalid
        There is no such file, or it does not hold golden predictions.
    """
    beside = Path(sys._getframe(1).f_code.co_filename).parent
    path = Path(file) if Path(file).is_absolute() or not beside.is_dir() else beside / file
    rows, content = read_golden(path), path.read_bytes()
    name = f"golden:{path.name.removesuffix(SUFFIX)}"
    CHECKS[name] = Check(
        name=name,
        question="Are the golden rows answered as they must be?",
        rule="The rows of the file are answered as it says.",
        remedy=_REMEDY,
        function=lambda given, **options: judge_golden(name, rows, given, **options),
        options=("at_least", "at_most"),
        digest=blake3(content).hexdigest(),
    )
    return Gate(name, at_least=at_least, at_most=at_most, source=CHECKS[name].digest)


def read_golden(path: Path) -> tuple[GoldenRow, ...]:
    """The rows of a golden file. Raises Invalid when it is none."""
    try:
        found = json.loads(path.read_text(), object_hook=_value)["rows"]
        rows = tuple(
            GoldenRow(one["values"], one["expected"], one.get("score"), one.get("row")) for one in found
        )
    except FileNotFoundError as error:
        raise Invalid(
            f"there is no file {path}; golden predictions are made from a version's test rows. Make it with: everloop models "
            f"golden REF {path.name}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(
            f"{path} holds no golden predictions: {type(error).__name__}: {error}. Make it with: everloop models golden REF "
            f"{path.name}"
        ) from error
    if not rows or len(rows) > _MOST or not all(isinstance(one.values, dict) for one in rows):
        raise Invalid(f"{path} has {len(rows)} golden rows; a file has 1 to {_MOST:,}. Make it anew.")
    return rows


def write_golden(path: Path, rows: Sequence[GoldenRow], *, made_by: str) -> None:
    """Write golden rows, one a line, so that a review shows which answers changed. Raises Invalid for another suffix."""
    if not path.name.endswith(SUFFIX):
        raise Invalid(
            f"{path.name} does not end with {SUFFIX}, by which a project's golden files are kept. Rename it."
        )
    lines = [json.dumps(_stored(one), ensure_ascii=False, default=_told, allow_nan=False) for one in rows]
    path.write_text(f'{{"made_by": {json.dumps(made_by)}, "rows": [\n' + ",\n".join(lines) + "\n]}\n")


def answered(rows: Sequence[GoldenRow], given: CheckInput) -> list[GoldenRow] | str:
    """The same rows with the model's own answers; or why it cannot answer them."""
    if given.answer is None:
        return "The model itself is not at hand, only its answers."
    if missing := sorted({name for name in given.columns for one in rows if name not in one.values}):
        return f"The golden rows have no {', '.join(missing)}, which the model takes."
    try:
        table = _table(rows, given)
        answers = list(given.answer(table))
        chances = given.chances(table) if given.chances is not None and given.task == "class" else {}
    except Exception as error:  # noqa: BLE001  (a model may raise anything on rows of another time: that is the finding)
        return f"The model raised {type(error).__name__} on the golden rows."
    if len(answers) != len(rows):
        return f"The model gave {len(answers)} answers to {len(rows)} rows."
    if given.task == "number":
        numbers = floats(plain(pa.chunked_array([pa.array(answers)]))).tolist()
        return [GoldenRow(one.values, it, None, one.row) for one, it in zip(rows, numbers, strict=True)]
    return [
        GoldenRow(one.values, str(name), _chance(chances, str(name), place), one.row)
        for place, (one, name) in enumerate(zip(rows, answers, strict=True))
    ]


def judge_golden(
    name: str,
    rows: Sequence[GoldenRow],
    given: CheckInput,
    *,
    at_least: float = 1.0,
    at_most: float | None = None,
) -> CheckResult:
    moved = "" if at_most is None else f", within {at_most:g} of the kept probability or number"
    rule = f"Of the golden rows {at_least:.0%} or more are answered as kept{moved}."
    numbers: dict[str, float | int | None] = {"rows": len(rows), "limit": at_least}
    now = answered(rows, given)
    if isinstance(now, str):
        return CheckResult(
            name, "failed", now, rule, "Make the golden file anew from a version of this model.", numbers
        )
    pairs = list(zip(rows, now, strict=True))
    other = {place for place, (old, new) in enumerate(pairs) if not _same(old, new, at_most)}
    shifts = [_shift(old, new) for old, new in pairs]
    shifted = {
        place
        for place, shift in enumerate(shifts)
        if at_most is not None and place not in other and shift is not None and abs(shift) > at_most
    }
    broken = sorted(other | shifted)
    share = 1 - len(broken) / len(rows)
    is_met = share >= at_least
    largest = max((abs(one) for one in shifts if one is not None and math.isfinite(one)), default=None)
    return CheckResult(
        name=name,
        verdict="passed" if is_met else "failed",
        found=f"{len(rows) - len(broken)} of {len(rows)} golden rows are answered as kept; {len(other)} get another answer, "
        f"{len(shifted)} another probability.",
        rule=rule,
        remedy="Nothing to do." if is_met else _REMEDY,
        numbers={
            **numbers,
            "value": share,
            "other": len(other),
            "shifted": len(shifted),
            "largest_shift": largest,
        },
        evidence=tuple(row for place in broken if (row := rows[place].row) is not None)[:EVIDENCE_ROWS],
        details=tuple(
            {
                "golden": place,
                "expected": rows[place].expected,
                "answered": _kept(now[place].expected),
                "shift": _kept(shifts[place]),
            }
            for place in broken[:EVIDENCE_ROWS]
        ),
        plot=plot(
            "bars",
            [
                Point("as kept", len(rows) - len(broken), rows=len(rows)),
                Point("another answer", len(other), rows=len(rows), is_marked=bool(other) and not is_met),
                Point(
                    "another probability",
                    len(shifted),
                    rows=len(rows),
                    is_marked=bool(shifted) and not is_met,
                ),
            ],
            at="golden rows",
            value="rows",
        ),
    )


def _same(old: GoldenRow, new: GoldenRow, at_most: float | None) -> bool:
    if isinstance(new.expected, str):
        return new.expected == str(old.expected)
    expected = float(old.expected) if not isinstance(old.expected, str) else math.nan
    return math.isclose(new.expected, expected, rel_tol=1e-9, abs_tol=at_most or 0.0)


def _shift(old: GoldenRow, new: GoldenRow) -> float | None:
    """How far a number lies from the kept one, or the probability of the same answer."""
    if isinstance(old.expected, str) or isinstance(new.expected, str):
        is_same = str(old.expected) == str(new.expected)
        return new.score - old.score if is_same and old.score is not None and new.score is not None else None
    return new.expected - old.expected


def _chance(chances: Mapping[str, Sequence[float]], name: str, place: int) -> float | None:
    return round(float(chances[name][place]), 6) if name in chances else None


def _table(rows: Sequence[GoldenRow], given: CheckInput) -> pa.Table:
    """The rows as the model takes them, of the types of the test rows."""
    types = {
        name: given.test.schema.field(name).type for name in given.columns if name in given.test.column_names
    }
    return pa.table(
        {name: pa.array([one.values[name] for one in rows], types.get(name)) for name in given.columns}
    )


def _stored(one: GoldenRow) -> dict[str, Any]:
    kept = {"expected": one.expected, "score": one.score, "row": one.row, "values": one.values}
    return {name: value for name, value in kept.items() if value is not None}


def _told(value: Any) -> Any:
    """What JSON cannot hold, so that `_value` reads it again."""
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return {"$time": value.isoformat()}
    raise TypeError(f"a {type(value).__name__} cannot be kept in a golden file")


def _value(found: dict[str, Any]) -> Any:
    if found.keys() == {"$bytes"}:
        return base64.b64decode(found["$bytes"])
    return datetime.fromisoformat(found["$time"]) if found.keys() == {"$time"} else found


def _kept(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
