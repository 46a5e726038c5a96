"""Routes of trace, impact, why and audit."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from everloop import governance, ledger
from everloop.api.routes import Call, Limited, Query, Route
from everloop.governance import Impact, Reason, Trace
from everloop.ledger import AuditEntry


class Acts(Limited, frozen=True):
    actor: str | None = None
    before: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None


class Noted(Query, frozen=True):
    anchor: str | None = None


def trace(call: Call) -> Trace:
    """Where a prediction, a run, a model version or a dataset version comes from."""
    return governance.trace(call.ws, call.path["id"])


def impact(call: Call) -> Impact:
    """What depends on a row, a dataset version, a snapshot, a run or a model version."""
    return governance.impact(call.ws, call.path["id"])


def why(call: Call) -> Reason:
    """Why a step, a run, a job, a retrain, a rollout, a finding, an alert, a gate report or a version came about."""
    return governance.why(call.ws, call.path["id"])


def audit_entries(call: Call, asked: Acts) -> list[AuditEntry]:
    """Governed acts, newest first; page on with `before`."""
    return ledger.entries(call.ws, actor=asked.actor, before_seq=asked.before, limit=asked.limit)


def audit_verify(call: Call, asked: Noted) -> dict[str, Any]:
    """Recompute the audit chain; `anchor` is a head noted earlier."""
    verdict = ledger.verify(call.ws, anchor=asked.anchor)
    return {
        "is_intact": verdict.is_intact,
        "entries": verdict.entries,
        "head": verdict.head,
        "problems": verdict.problems,
    }


ROUTES = [
    Route("GET", "/api/trace/{id}", "see", trace),
    Route("GET", "/api/impact/{id}", "see", impact),
    Route("GET", "/api/why/{id:path}", "see", why),
    Route("GET", "/api/audit", "see", audit_entries),
    Route("GET", "/api/audit/verify", "see", audit_verify),
]
