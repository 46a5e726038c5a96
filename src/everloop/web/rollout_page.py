"""`/rollouts/ID`: how this release decides: its stages, each look of the judge, the evidence against its bounds."""

from __future__ import annotations

from math import log10
from typing import Any

from everloop import rollout
from everloop.rollout import Rollout, RolloutEvent
from everloop.web.visits import Shown, Visit
from everloop.workspace import Workspace

_LOOKS = 100
_DECADES = 8  # of evidence that a bar shows on either side of 1


def view(visit: Visit) -> Shown:
    found = rollout.rollout_of(visit.ws, visit.path["id"])
    return {
        "rollout": found,
        "judged": judged(visit.ws, found),
        "events": rollout.history(visit.ws, rollout=found.id, limit=_LOOKS),
        "most_events": _LOOKS,
    }


def judged(ws: Workspace, found: Rollout) -> dict[str, Any]:
    """The judge's last look at a rollout, metric by metric, ready to be drawn; None before its first."""
    events = rollout.history(ws, rollout=found.id, limit=20)
    last = next((one for one in events if one.decision), None)
    return {
        "last": last,
        "metrics": [] if last is None else [_metric(one) for one in (last.decision or {})["metrics"]],
        "split": None if last is None else (last.decision or {})["sample_ratio"],
        "history": _evidence(events),
    }


def _metric(one: dict[str, Any]) -> dict[str, Any]:
    """A metric's verdict with where its bars stand, 0 to 1: evidence of harm, and the excess against its margin."""
    margin = one["excess_at_most"]
    widest = max(0.001, 2 * (margin or 0.0), min(abs(one["excess_upper"]), 1.0))
    return {
        **one,
        "evidence_at": _on_log_scale(one["e_value"], one["e_bound"]),
        "excess_scale": widest,
        "margin_at": None if margin is None else margin / widest,
        "upper_at": min(1.0, max(0.0, one["excess_upper"]) / widest),
    }


def _on_log_scale(e_value: float, bound: float) -> float:
    """Where evidence stands between none at all (1 or less) and the bound, by its logarithm.

    >>> _on_log_scale(1.0, 60.0), _on_log_scale(60.0, 60.0), _on_log_scale(0.08, 60.0)
    (0.0, 1.0, 0.0)
    """
    return min(1.0, max(0.0, log10(max(e_value, 10**-_DECADES)) / log10(bound)))


def _evidence(events: list[RolloutEvent]) -> list[dict[str, Any]]:
    """Look by look, oldest first: the strongest evidence of harm, for a small line."""
    return [
        {"at": one.at, "e_value": max(metric["e_value"] for metric in one.decision["metrics"])}
        for one in reversed(events)
        if one.decision and one.decision["metrics"]
    ]
