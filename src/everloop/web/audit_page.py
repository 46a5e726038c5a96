"""`/audit`: who did what, in a chain that can be verified."""

from __future__ import annotations

from everloop import ledger
from everloop.web.visits import Shown, Visit

_PAGE = 50


def view(visit: Visit) -> Shown:
    before, actor = visit.query.get("before", ""), visit.query.get("actor") or None
    found = ledger.entries(
        visit.ws, actor=actor, before_seq=int(before) if before.isdigit() else None, limit=_PAGE + 1
    )
    return {
        "entries": found[:_PAGE],
        "next": found[_PAGE - 1].seq if len(found) > _PAGE else None,
        "actor": actor,
        "head": ledger.head(visit.ws),
    }
