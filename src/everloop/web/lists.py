"""`/endpoints`: what there is, each with its state in a word."""

from __future__ import annotations

from everloop import rollout
from everloop.web.visits import Moved, Shown, Visit


def view_endpoints(visit: Visit) -> Shown | Moved:
    """All endpoints; the only one there is, is shown itself."""
    found = rollout.endpoints(visit.ws)
    if len(found) == 1 and visit.query.get("as") != "json":
        return Moved(f"/endpoints/{found[0].name}")
    return {"endpoints": found}
