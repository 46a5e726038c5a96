"""What is known of one thing, from several rooms, in one answer."""

from __future__ import annotations

from typing import Any

from everloop import checks, registry, rollout
from everloop.workspace import Workspace


def version_card(ws: Workspace, ref: str) -> dict[str, Any]:
    """A model version: its gate report, what stands in its way, what was said, its release, where it was rolled back."""
    found = registry.version(ws, ref)
    released = [one for one in registry.releases(ws, found.model) if one.number == found.number]
    compiled = released[0].manifest.compiled if released else None
    reports = checks.reports_of(ws, found.ref, limit=1)
    return {
        "version": found,
        "ref": found.ref,
        "gate_report": reports[0] if reports else None,
        "decisions": registry.decisions(ws, found.ref),
        "readiness": registry.readiness(ws, found.ref),
        "releases": [one.id for one in released],
        "rollbacks": [
            {"endpoint": one.endpoint, "rollout": one.id, "at": one.ended_at, "reason": one.outcome}
            for one in rollout.rollbacks(ws, found.ref)
        ],
        "path": None if compiled is None else compiled.in_words,
    }
