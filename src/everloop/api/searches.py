"""Routes of searches for parameters."""

from __future__ import annotations

from typing import Any

import msgspec

from everloop import searches
from everloop.api.routes import Call, Limited, Route
from everloop.searches import Trial


class Shown(msgspec.Struct, frozen=True):
    search: Any  # a Search: its space is a union of records, which JSON Schema of msgspec has not
    trials: list[Trial]


def list_searches(call: Call, asked: Limited) -> list[Any]:
    """Searches, newest first, with the best trial of each."""
    return searches.searches(call.ws, limit=asked.limit)


def show_search(call: Call) -> Shown:
    """One search and its trials, in the order they began."""
    found = searches.find(call.ws, call.path["id"])
    return Shown(found, searches.trials(call.ws, found.id))


ROUTES = [
    Route("GET", "/api/searches", "see", list_searches),
    Route("GET", "/api/searches/{id}", "see", show_search),
]
