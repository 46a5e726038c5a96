"""Telling: each event goes to the log, and those that need attention to the webhook of the settings."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

from everloop.events import outbox, webhooks
from everloop.events.guarded import post
from everloop.events.outbox import Event
from everloop.storage import Tx, wall_of
from everloop.workspace import Workspace

_log = logging.getLogger("everloop.events")
_MAX_ATTEMPTS = 10
_LEVELS = {"info": logging.INFO, "attention": logging.WARNING, "failed": logging.ERROR}


def deliver(ws: Workspace, *, limit: int = 100) -> int:
    """Tell the events that are due, also to those who added webhooks, and return how many were told.

    One that fails is tried again later.
    """
    with ws.read() as connection:
        due = outbox.undelivered(connection, wall_of(connection), limit=limit)
    return sum(_deliver(ws, event) for event in due) + webhooks.deliver_due(ws, limit=limit)


def has_undelivered(ws: Workspace) -> bool:
    """Whether an event waits to be told and its time has come."""
    with ws.read() as connection:
        if outbox.undelivered(connection, wall_of(connection), limit=1):
            return True
    return webhooks.has_due(ws)


def _deliver(ws: Workspace, event: Event) -> bool:
    if event.attempts == 0:
        _log.log(_LEVELS[event.level], "%s: %s", event.kind, event.message)
    failure = None
    if ws.settings.webhook_url and event.level != "info":
        failure = _post(ws, event)
    ws.write(lambda tx: _mark(tx, event, failure))
    return failure is None


def _mark(tx: Tx, event: Event, failure: str | None) -> None:
    now, attempts = tx.wall(), event.attempts + 1
    if failure is None:
        outbox.mark(tx, event.id, {"delivered_at": now, "attempts": attempts, "failure": None})
        return
    given_up = attempts >= _MAX_ATTEMPTS
    values: dict[str, Any] = {
        "attempts": attempts,
        "failure": failure,
        "due_at": now + timedelta(seconds=2**attempts),
    }
    outbox.mark(tx, event.id, values | ({"delivered_at": now} if given_up else {}))


def _post(ws: Workspace, event: Event) -> str | None:
    """Send the event to the webhook of the settings: None, or why that failed."""
    body = {
        "id": event.id,
        "kind": event.kind,
        "level": event.level,
        "subject": {"kind": event.subject.kind, "id": event.subject.id},
        "message": event.message,
        "payload": event.payload,
        "at": event.at.isoformat(),
    }
    settings = ws.settings
    _, failure = post(
        settings.webhook_url,
        json.dumps(body).encode(),
        headers={},
        allow_private=settings.webhook_allow_private,
    )
    return failure
