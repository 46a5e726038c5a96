"""Which answers of the audit sample were wrong, and what each stands for: the sample alone, never who complained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from everloop import feedback
from everloop.labels import Value
from everloop.workspace import Workspace


@dataclass(frozen=True)
class Truth:
    """What is known of one prediction since `known_at`.

    `weight` is the inverse of the chance with which its truth was looked for, that of being in the log included.
    """

    is_wrong: bool
    weight: float
    answer: Value
    value: Value
    known_at: datetime
    asked_at: datetime


def truths_of(ws: Workspace, endpoint: str, *, start: datetime, end: datetime) -> dict[str, Truth]:
    """The truths about predictions made in [start, end), by prediction, of the source that most are of."""
    rows = feedback.outcomes(ws, endpoint, start=start, end=end).to_pylist()
    sources = Counter(str(one["source"]) for one in rows).most_common(1)
    return {
        str(one["prediction_id"]): Truth(
            not one["is_correct"],
            1.0 / one["inclusion_probability"],
            one["answer"],
            one["value"],
            one["recorded_at"],
            one["predicted_at"],
        )
        for one in rows
        if one["source"] == sources[0][0]
    }


def is_about(truth: Truth, metric: str) -> bool:
    """Whether a truth tells of `wrong`, or of `wrong:CLASS`: of the answers that say so."""
    answer = metric.partition(":")[2]
    return not answer or truth.answer == answer


def known_by(truths: Iterable[Truth], metric: str) -> tuple[int, int]:
    """How many of so many answers were wrong, each truth by its weight: a guess of what is to be expected."""
    told = [one for one in truths if is_about(one, metric)]
    weight = sum(one.weight for one in told)
    wrong = sum(one.weight for one in told if one.is_wrong)
    return (round(len(told) * wrong / weight) if told else 0), len(told)
