"""Which answers of the audit sample were wrong, and what each stands for: the sample alone, never who complained."""

from __future__ import annotations

from collections import Counter
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
        )
        for one in rows
        if one["source"] == sources[0][0]
    }
