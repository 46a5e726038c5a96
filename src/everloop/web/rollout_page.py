"""`/rollouts/ID`: how this release decides: its stages, each look of the judge, the evidence against its bounds."""

from __future__ import annotations

from math import log
from typing import Any

from everloop import rollout
from everloop.rollout import Rollout, RolloutEvent
from everloop.web.evidence import charts_of
from everloop.web.visits import Shown, Visit
from everloop.workspace import Workspace

_LOOKS = 100
_LOOKS_DRAWN = 80


def view(visit: Visit) -> Shown:
    found = rollout.rollout_of(visit.ws, visit.path["id"])
    looks = rollout.looks(visit.ws, found.id, most=_LOOKS_DRAWN)
    return {
        "rollout": found,
        "judged": _judged(looks),
        "charts": charts_of(looks, found.stages),
        "looks": looks,
        "events": rollout.history(visit.ws, rollout=found.id, limit=_LOOKS),
        "most_events": _LOOKS,
    }


def judged(ws: Workspace, found: Rollout) -> dict[str, Any]:
    """The judge's looks at a rollout, metric by metric, ready to be drawn; `last` is None before the first."""
    return _judged(rollout.looks(ws, found.id, most=_LOOKS_DRAWN))


def _judged(looks: list[RolloutEvent]) -> dict[str, Any]:
    if not looks or looks[-1].decision is None:
        return {"last": None, "metrics": [], "split": None}
    last = looks[-1].decision
    return {
        "last": looks[-1],
        "metrics": [_metric(one, looks) for one in last["metrics"]],
        "split": last["sample_ratio"],
    }


def _metric(last: dict[str, Any], looks: list[RolloutEvent]) -> dict[str, Any]:
    """A metric's last verdict and where its figures stood look by look, each 0 to 1 of its own scale.

    The evidence of harm reaches its bound at 1. The excess is shown up to twice its margin, which stands at a half.
    """
    every = [
        one for look in looks for one in (look.decision or {})["metrics"] if one["metric"] == last["metric"]
    ]
    margin = last["excess_at_most"]
    return {
        **last,
        "evidence": [_on_log_scale(one["e_value"], one["e_bound"]) for one in every],
        "excesses": [] if margin is None else [_of_margin(one["excess_upper"], margin) for one in every],
    }


def _on_log_scale(e_value: float, bound: float) -> float:
    """Where evidence stands between none at all (1 or less) and the bound, by its logarithm.

    >>> _on_log_scale(1.0, 60.0), _on_log_scale(60.0, 60.0), _on_log_scale(0.08, 60.0), _on_log_scale(0.0, 60.0)
    (0.0, 1.0, 0.0, 0.0)
    """
    return min(1.0, log(e_value) / log(bound)) if e_value > 1.0 else 0.0


def _of_margin(excess: float, margin: float) -> float:
    """
    >>> _of_margin(0.01, 0.01), _of_margin(0.5, 0.01), _of_margin(-0.2, 0.01)
    (0.5, 1.0, 0.0)
    """
    return min(1.0, max(0.0, excess / margin / 2))
