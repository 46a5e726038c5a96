"""Routes of searches for parameters."""

from __future__ import annotations

from typing import Any

from everloop import searches
from everloop.api.routes import Call, Route


def list_searches(call: Call) -> Any:
    """Searches, newest first, with the best trial of each."""
    return searches.searches(call.ws, limit=call.limit())


def show_search(call: Call) -> Any:
    """One search and its trials, in the order they began."""
    found = searches.find(call.ws, call.path["id"])
    return {"search": found, "trials": searches.trials(call.ws, found.id)}


ROUTES = [
    Route("GET", "/api/searches", "see", list_searches),
    Route("GET", "/api/searches/{id}", "see", show_search),
]
