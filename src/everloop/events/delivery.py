"""Telling: each event goes to the log, and those that need attention to the webhook of the settings.

A webhook's address is a way into the network of whoever runs everloop, so it is guarded at delivery: the name is
resolved once, every address it has must be public (unless the settings allow private ones), the connection goes to
the very address that was checked, and redirects are not followed.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from everloop.errors import Invalid
from everloop.events import outbox
from everloop.events.outbox import Event
from everloop.storage import Tx, wall_of
from everloop.workspace import Workspace

if TYPE_CHECKING:
    import httpx

_log = logging.getLogger("everloop.events")
_TIMEOUT_S = 5.0
_MAX_ATTEMPTS = 10
_LEVELS = {"info": logging.INFO, "attention": logging.WARNING, "failed": logging.ERROR}


def deliver(ws: Workspace, *, limit: int = 100) -> int:
    """Tell the events that are due and return how many were told. One that fails is tried again later."""
    with ws.read() as connection:
        due = outbox.undelivered(connection, wall_of(connection), limit=limit)
    return sum(_deliver(ws, event) for event in due)


def has_undelivered(ws: Workspace) -> bool:
    """Whether an event waits to be told and its time has come."""
    with ws.read() as connection:
        return bool(outbox.undelivered(connection, wall_of(connection), limit=1))


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
    """Send the event to the webhook: None, or why that failed."""
    import httpx  # noqa: PLC0415  (a tenth of a second, and whoever emits an event imports this module)

    url = httpx.URL(ws.settings.webhook_url)
    body = {
        "id": event.id,
        "kind": event.kind,
        "level": event.level,
        "subject": {"kind": event.subject.kind, "id": event.subject.id},
        "message": event.message,
        "payload": event.payload,
        "at": event.at.isoformat(),
    }
    try:
        address = checked_address(url, allow_private=ws.settings.webhook_allow_private)
        with httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False, trust_env=False) as client:
            answer = client.post(
                url.copy_with(host=address),
                json=body,
                headers={"Host": url.netloc.decode()},
                extensions={"sni_hostname": url.host},
            )
        answer.raise_for_status()
    except (Invalid, httpx.HTTPError, httpx.InvalidURL) as error:
        return str(error)
    return None


def checked_address(url: httpx.URL, *, allow_private: bool) -> str:
    """The address to connect to for a webhook's URL.

    Raises
    ------
    Invalid
        Another scheme than http(s), an unknown name, or an address that is not public.
    """
    if url.scheme not in ("http", "https"):
        raise Invalid(f"the webhook's scheme is {url.scheme!r}; it is http or https.")
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        found = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Invalid(f"the webhook's host {url.host!r} is unknown: {error.strerror or error}.") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not allow_private and not ipaddress.ip_address(address.split("%")[0]).is_global:
            raise Invalid(
                f"the webhook's host {url.host!r} has the address {address}, which is not public. "
                "Set webhook_allow_private = true if you trust that receiver."
            )
    return addresses[0]
