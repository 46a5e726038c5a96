"""`/triggers`: what starts a pipeline by itself, how far each trigger is from firing, and what each fired."""

from __future__ import annotations

from everloop import triggers
from everloop.web.visits import Shown, Visit

_FIRINGS = 50


def view(visit: Visit) -> Shown:
    """Every trigger, and the newest firings: of the one that is named in the address, or of all."""
    name = visit.query.get("name") or None
    if name is not None:
        triggers.find(visit.ws, name)
    return {
        "triggers": triggers.standings(visit.ws),
        "firings": triggers.firings(visit.ws, name, limit=_FIRINGS),
        "name": name,
        "most": _FIRINGS,
    }
