"""The pairs of answers that a mirrored version left in the prediction log beside those that people got."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop import feedback, predictions
from everloop.feedback import Correction
from everloop.labels import Value
from everloop.rollout.dealt import has_timed_out, is_trial
from everloop.rollout.endpoints import endpoint, folder
from everloop.rollout.evidence import is_slow, of_units, units_of
from everloop.rollout.judge import CanaryHealth
from everloop.rollout.paired import Pairs
from everloop.rollout.records import Rollout
from everloop.rollout.requests import MOST_REPORTS
from everloop.rollout.truths import truths_of
from everloop.workspace import Workspace

_COLUMNS = [
    "id", "epoch", "release", "status", "error", "latency_us", "key",
    "shadow_of", "request", "output", "output_number", "replay",
]  # fmt: skip
_SAME = 1e-9  # numbers that differ relatively by less are the same answer


def pairs_of(ws: Workspace, rollout: Rollout) -> tuple[list[Pairs], CanaryHealth, int]:
    """What both versions answered to the mirrored requests of the running stage, by metric, and what the fuse looks at.

    Copies that found no room are left out, and counted: they say that the machine was busy. Where keys stick, each
    counts once, at its first pair. What one version refuses is a pair in `refused` alone, and what one fails at is none in
    the comparisons of answers.
    """
    shadow, live, n_shed = _rows(ws, rollout)
    sticky = endpoint(ws, rollout.endpoint).stickiness == "key"
    ids = [str(one) for one in live["id"].to_pylist()]
    unit = units_of(ids, live["request"].to_pylist(), live["key"].to_pylist(), sticky=sticky)

    def pair(
        metric: str, counted: NDArray[np.bool_], shadows: NDArray[np.bool_], lives: NDArray[np.bool_]
    ) -> Pairs:
        arms = (of_units(unit[counted], bad[counted], sticky=sticky) for bad in (shadows, lives))
        return Pairs(metric, *arms)

    refused, failed, slow = (
        [_is(table, "refused") for table in (shadow, live)],
        [_is(table, "failed") for table in (shadow, live)],
        [_slow(table, rollout) for table in (shadow, live)],
    )
    every = np.ones(len(unit), dtype=bool)
    asked = ~refused[0] & ~refused[1]
    both = asked & ~failed[0] & ~failed[1]
    pairs = [
        pair("errors", asked, *failed),
        pair("timeouts", asked, has_timed_out(shadow), has_timed_out(live)),
        pair("refused", every, *refused),
        pair("slow", both, *slow),
        pair("differs", both, _differs(shadow, live), ~every),
    ]
    metrics = {rule.metric for rule in rollout.canary.paired_rules.metrics}
    if "contradicted" in metrics:
        reported = both & ~np.asarray(live["replay"], dtype=bool)
        pairs.append(pair("contradicted", reported, *_contradicted(ws, rollout, shadow, live)))
    if "wrong" in metrics:
        pairs.append(_wrong(ws, rollout, shadow, live, unit, sticky=sticky))
    return pairs, _health(pairs[0]), n_shed


def _contradicted(
    ws: Workspace, rollout: Rollout, shadow: pa.Table, live: pa.Table
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which answers another value was reported for: by whoever got the live one, so that a report may be about the copy alone."""
    reports: dict[str, list[Correction]] = defaultdict(list)
    for one in feedback.corrections(ws, rollout.endpoint, start=rollout.started_at, limit=MOST_REPORTS):
        reports[one.prediction_id].append(one)
    differs = feedback.differing(ws, rollout.release)
    about = [reports.get(str(one), []) for one in live["id"].to_pylist()]
    copies = [
        answer is not None and any(differs(answer, one.value) for one in told)
        for answer, told in zip(_answers(shadow), about, strict=True)
    ]
    return np.asarray(copies, dtype=bool), np.asarray(
        [any(one.contradicts for one in told) for told in about], dtype=bool
    )


def _wrong(
    ws: Workspace,
    rollout: Rollout,
    shadow: pa.Table,
    live: pa.Table,
    unit: NDArray[np.str_],
    *,
    sticky: bool,
) -> Pairs:
    """Which of both answers were wrong, of the requests whose answer was drawn for the audit: the truth is that of both."""
    end = ws.now() + timedelta(seconds=1)
    truths = truths_of(ws, rollout.endpoint, start=rollout.started_at, end=end)
    differs = feedback.differing(ws, rollout.release)
    found = [
        (row, answer, truths[one])
        for row, (one, answer) in enumerate(
            zip(map(str, live["id"].to_pylist()), _answers(shadow), strict=True)
        )
        if one in truths and answer is not None
    ]
    known, told = [row for row, _, _ in found], [one for _, _, one in found]
    wrong = np.asarray([float(differs(answer, one.value)) for _, answer, one in found])
    live_wrong = np.asarray([float(one.is_wrong) for one in told])
    weights = np.asarray([one.weight for one in told], dtype=np.float64)
    return Pairs(
        "wrong", *(of_units(unit[known], one, sticky=sticky) for one in (wrong, live_wrong, weights))
    )


def _answers(table: pa.Table) -> list[Value | None]:
    both = zip(table["output"].to_pylist(), table["output_number"].to_pylist(), strict=True)
    return [text if text is not None else number for text, number in both]


def _rows(ws: Workspace, rollout: Rollout) -> tuple[pa.Table, pa.Table, int]:
    """The copies, the answers to the same requests that people got, row by row in the order of arrival, and how many found no room."""
    table = predictions.read(
        folder(ws), endpoint=rollout.endpoint, start=rollout.started_at, columns=_COLUMNS
    )
    table = table.sort_by("id")
    release = np.asarray(table["release"], dtype=object)
    asked = (np.asarray(table["epoch"], dtype=np.int64) >= rollout.epochs[-1]) & ~is_trial(table)
    copied_from = table["shadow_of"].to_pylist()
    errors = table["error"].to_pylist()
    ids = table["id"].to_pylist()
    answered = {ids[row]: int(row) for row in np.flatnonzero(asked & (release == rollout.from_release))}
    copies = [
        (int(row), answered[copied_from[row]])
        for row in np.flatnonzero(asked & (release == rollout.release))
        if copied_from[row] in answered
    ]
    compared = [pair for pair in copies if not str(errors[pair[0]]).startswith("overloaded")]
    pairs = np.asarray(sorted(compared, key=lambda pair: pair[1]), dtype=np.int64).reshape(-1, 2)
    return table.take(pairs[:, 0]), table.take(pairs[:, 1]), len(copies) - len(compared)


def _is(table: pa.Table, status: str) -> NDArray[np.bool_]:
    return np.asarray(np.asarray(table["status"], dtype=object) == status, dtype=np.bool_)


def _slow(table: pa.Table, rollout: Rollout) -> NDArray[np.bool_]:
    latency_ms = np.asarray(table["latency_us"], dtype=np.float64) / 1_000
    return is_slow(latency_ms, above_ms=rollout.slow_above_ms or np.inf)


def _differs(shadow: pa.Table, live: pa.Table) -> NDArray[np.bool_]:
    classes = [_texts(table) for table in (shadow, live)]
    numbers = [
        np.asarray([one or 0.0 for one in table["output_number"].to_pylist()], dtype=np.float64)
        for table in (shadow, live)
    ]
    is_far = np.abs(numbers[0] - numbers[1]) > _SAME * np.maximum(1.0, np.abs(numbers[1]))
    return np.asarray((classes[0] != classes[1]) | is_far, dtype=np.bool_)


def _texts(table: pa.Table) -> NDArray[Any]:
    return np.asarray([one or "" for one in table["output"].to_pylist()], dtype=str)


def _health(errors: Pairs) -> CanaryHealth:
    good = np.flatnonzero(errors.shadow == 0)
    since = int(good[-1]) + 1 if good.size else 0
    return CanaryHealth(
        failures_in_a_row=len(errors.shadow) - since,
        control_successes_meanwhile=int((errors.live[since:] == 0).sum()),
        control_failures_meanwhile=int((errors.live[since:] > 0).sum()),
    )
