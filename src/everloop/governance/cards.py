"""What is known of one thing, from several rooms, in one answer."""

from __future__ import annotations

from typing import Any

from everloop import checks, registry
from everloop.workspace import Workspace


def version_card(ws: Workspace, ref: str) -> dict[str, Any]:
    """A model version with its gate report, what stands in its way, what was said of it, its release and what answers it."""
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
        "path": None if compiled is None else compiled.in_words,
    }
