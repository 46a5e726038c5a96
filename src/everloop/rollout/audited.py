"""How often each version's answers were wrong: of the random audit sample alone, never of who happened to complain."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from everloop import feedback
from everloop.rollout.evidence import Split, Stretch, count_requests
from everloop.rollout.records import Rollout
from everloop.workspace import Workspace

_SOURCE = "audit"
_MOST_SAMPLES = 1_000


def wrong_answers(
    ws: Workspace,
    rollout: Rollout,
    *,
    ids: Sequence[str],
    units: NDArray[np.str_],
    in_canary: NDArray[np.bool_],
    stretch: NDArray[np.int64],
    splits: Sequence[Split],
    sticky: bool,
) -> tuple[Stretch, ...]:
    """Count the audited answers of both versions and those that were wrong, as far as reviewers have come.

    What is drawn does not depend on the answer, so that an answer that was not looked at yet says nothing. Of a unit that
    chance dealt, a request or a key, the answer that was looked at first counts. Where a sample drew the canary's
    answers `odds` times as often as the control's, the canary's share among the drawn is ``w odds / (w odds + 1 - w)``;
    where keys stick such samples are left out, since which answer of a key comes first would depend on its arm.

    Parameters
    ----------
    ids, units, in_canary, stretch : (n_rows,)
        The answers of the rollout.
    """
    row_of = {one: row for row, one in enumerate(ids)}
    end = ws.now() + timedelta(seconds=1)
    told = feedback.outcomes(ws, rollout.endpoint, start=rollout.started_at, end=end, source=_SOURCE)
    rows: list[int] = []
    bad: list[bool] = []
    odds: list[float] = []
    known: set[str] = set()
    designs = feedback.audits(ws, rollout.endpoint, limit=_MOST_SAMPLES)
    for one in told.sort_by("recorded_at").to_pylist():
        row, drawn = row_of.get(one["prediction_id"]), _odds(designs, one["predicted_at"])
        if row is None or units[row] in known or (sticky and drawn != 1.0):
            continue
        known.add(str(units[row]))
        rows.append(row)
        bad.append(not one["is_correct"])
        odds.append(drawn)
    kinds, kind = np.unique(np.asarray(odds or [1.0]), return_inverse=True)
    return count_requests(
        np.asarray(bad, dtype=bool),
        in_canary[rows],
        stretch=stretch[rows] * len(kinds) + kind[: len(rows)],
        splits=[_among_drawn(split, float(one)) for split in splits for one in kinds],
    )


def _odds(designs: Sequence[feedback.AuditSample], at: datetime) -> float:
    """How many times as likely the canary's answers were drawn then as the control's; one time has one design."""
    for one in designs:
        if one.start_at <= at < one.end_at and "*" not in one.probability:
            control = one.probability.get("control", 0.0)
            return one.probability.get("canary", 0.0) / control if control else 0.0
    return 1.0


def _among_drawn(split: Split, odds: float) -> Split:
    drawn = split.canary_share * odds
    rest = 1.0 - split.canary_share
    return Split(split.stage, drawn / (drawn + rest) if drawn + rest else 0.0)
