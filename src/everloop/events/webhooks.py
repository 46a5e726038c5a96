"""Webhooks that people add for kinds of events: told in MLflow's form, signed, and tried again until they arrive.

A delivery is a row, written in the transaction of what it tells, so that nothing is told that did not happen and
nothing is lost when a process dies. Its address is guarded at each attempt, not when the webhook is added: a name may
mean another machine by then.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop import access
from everloop.errors import Invalid, NotFound, StorageFailed
from everloop.events.guarded import post
from everloop.ids import new_id
from everloop.ledger import Node, audit
from everloop.storage import Json, Tx, Utc, metadata, to_json, wall_of
from everloop.workspace import Workspace

_URL_LENGTH = 2_000
_NAME_LENGTH = 250
_TEXT_LENGTH = 8_000
_MAX_ATTEMPTS = 10
_MOST = 1_000  # webhooks of one workspace: each of them costs a row for each event
_SCHEMES = ("http", "https")

webhook_table = sa.Table(
    "webhook",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(_NAME_LENGTH), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("kinds", Json, nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    sa.Column("secret", sa.String(40)),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("created_by", sa.String(120), nullable=False),
    sa.Column("updated_at", Utc, nullable=False),
)

deliveries = sa.Table(
    "webhook_delivery",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("webhook", sa.String(40), sa.ForeignKey("webhook.id"), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", Utc, nullable=False),
    sa.Column("ended_at", Utc),
    sa.Column("failure", sa.Text),
    sa.Index("ix_webhook_delivery_due", "ended_at", "due_at"),
)


@dataclass(frozen=True)
class Webhook:
    """An address that is told of some kinds of events, such as `model_version.created`.

    `secret` is the name under which the home keeps what deliveries are signed with; None: they are not signed.
    """

    id: str
    name: str
    description: str
    url: str
    kinds: tuple[str, ...]
    is_active: bool
    secret: str | None
    created_at: datetime
    created_by: str
    updated_at: datetime


@dataclass(frozen=True)
class Attempt:
    """How one post to a webhook went: the answer's status, if there was one, and what went wrong, if anything did."""

    status: int | None
    failure: str | None


def add_webhook(
    ws: Workspace,
    name: str,
    url: str,
    kinds: Sequence[str],
    *,
    description: str = "",
    secret: str | None = None,
    is_active: bool = True,
) -> Webhook:
    """Tell an address of some kinds of events from now on. Audited.

    The address is not looked up here. Raises Invalid for a name, an address or a text that cannot be.
    """
    made = Webhook(
        id=new_id("wh"),
        name=name,
        description=description,
        url=url,
        kinds=tuple(dict.fromkeys(kinds)),
        is_active=is_active,
        secret=None,
        created_at=ws.now(),
        created_by=ws.actor,
        updated_at=ws.now(),
    )
    _check(made)
    made = replace(made, secret=_keep(ws, secret))

    def change(tx: Tx) -> Webhook:
        tx.lock("webhooks")
        if len(_all(tx.connection)) >= _MOST:
            raise Invalid(f"there are {_MOST} webhooks, which is the most. Remove one that nobody needs.")
        tx.execute(sa.insert(webhook_table).values(**{**vars(made), "kinds": list(made.kinds)}))
        audit(ws, tx, "webhook.add", Node("webhook", made.id), after=_told(made))
        return made

    return ws.write(change)


def change_webhook(ws: Workspace, webhook_id: str, *, secret: str | None = None, **changes: Any) -> Webhook:
    """Change a webhook's name, description, url, kinds or is_active, or what it is signed with. Audited.

    Raises NotFound, and Invalid as `add_webhook`.
    """
    _check(replace(webhook(ws, webhook_id), **changes))
    kept = _keep(ws, secret)

    def change(tx: Tx) -> Webhook:
        found = _need(tx.connection, webhook_id)
        changed = replace(found, **changes, secret=kept or found.secret, updated_at=ws.now())
        values = {**vars(changed), "kinds": list(changed.kinds)}
        tx.execute(sa.update(webhook_table).where(webhook_table.c.id == webhook_id).values(**values))
        audit(
            ws, tx, "webhook.change", Node("webhook", webhook_id), before=_told(found), after=_told(changed)
        )
        if kept and found.secret is not None:
            old = found.secret
            tx.afterwards(old, lambda: access.drop_secret(ws, old))
        return changed

    return ws.write(change)


def remove_webhook(ws: Workspace, webhook_id: str) -> None:
    """Tell an address no longer, not even of what waits to be told. Audited. Raises NotFound."""

    def change(tx: Tx) -> None:
        found = _need(tx.connection, webhook_id)
        tx.execute(sa.delete(deliveries).where(deliveries.c.webhook == webhook_id))
        tx.execute(sa.delete(webhook_table).where(webhook_table.c.id == webhook_id))
        audit(ws, tx, "webhook.remove", Node("webhook", webhook_id), before=_told(found))
        if found.secret is not None:
            secret = found.secret
            tx.afterwards(secret, lambda: access.drop_secret(ws, secret))

    ws.write(change)


def webhook(ws: Workspace, webhook_id: str) -> Webhook:
    """One webhook. Raises NotFound."""
    with ws.read() as connection:
        return _need(connection, webhook_id)


def list_webhooks(ws: Workspace) -> list[Webhook]:
    """All webhooks, oldest first."""
    with ws.read() as connection:
        return _all(connection)


def announce(ws: Workspace, tx: Tx, kind: str, data: Mapping[str, Any]) -> None:
    """Let the webhooks that want to know of a kind of event (`model_version.created`) be told, once this is committed."""
    rows = [
        {
            "id": new_id("whd"),
            "webhook": one.id,
            "body": _body(ws, kind, data),
            "attempts": 0,
            "due_at": tx.wall(),
        }
        for one in _all(tx.connection)
        if one.is_active and kind in one.kinds
    ]
    if rows:
        tx.execute(sa.insert(deliveries), rows)


def try_webhook(ws: Workspace, webhook_id: str, kind: str, data: Mapping[str, Any]) -> Attempt:
    """Tell a webhook of an event made up, once and now. Raises NotFound."""
    return _send(ws, webhook(ws, webhook_id), new_id("whd"), _body(ws, kind, data))


def deliver_due(ws: Workspace, *, limit: int) -> int:
    """Try the deliveries that are due and return how many arrived; one that did not is tried again later."""
    with ws.read() as connection:
        due = _due(connection, limit)
    return sum(_deliver(ws, row) for row in due)


def has_due(ws: Workspace) -> bool:
    """Whether a delivery waits and its time has come."""
    with ws.read() as connection:
        return bool(_due(connection, 1))


def sign(secret: str, *, delivery: str, timestamp: str, body: str) -> str:
    """The value of X-MLflow-Signature: `v1,` and HMAC-SHA256 over `DELIVERY.TIMESTAMP.BODY` in base64."""
    made = hmac.new(secret.encode(), f"{delivery}.{timestamp}.{body}".encode(), sha256).digest()
    return f"v1,{base64.b64encode(made).decode()}"


def _body(ws: Workspace, kind: str, data: Mapping[str, Any]) -> str:
    entity, _, action = kind.partition(".")
    told = {"entity": entity, "action": action, "timestamp": ws.now().isoformat(), "data": dict(data)}
    return to_json(told)


def _deliver(ws: Workspace, row: sa.Row[Any]) -> bool:
    with ws.read() as connection:
        found = _find(connection, row.webhook)
    if found is None:  # removed meanwhile, and its deliveries with it
        return False
    ended = Attempt(None, "the webhook was turned off") if not found.is_active else None
    attempt = ended or _send(ws, found, row.id, row.body)

    def mark(tx: Tx) -> None:
        now, attempts = tx.wall(), row.attempts + 1
        is_over = attempt.failure is None or ended is not None or attempts >= _MAX_ATTEMPTS
        values = {
            "attempts": attempts,
            "failure": attempt.failure,
            "due_at": now + timedelta(seconds=2**attempts),
            "ended_at": now if is_over else None,
        }
        tx.execute(sa.update(deliveries).where(deliveries.c.id == row.id).values(**values))

    ws.write(mark)
    return attempt.failure is None


def _send(ws: Workspace, found: Webhook, delivery: str, body: str) -> Attempt:
    with ws.read() as connection:
        timestamp = str(int(wall_of(connection).timestamp()))
    headers = {"X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": timestamp}
    if found.secret is not None:
        try:
            secret = access.kept_secret(ws, found.secret)
        except StorageFailed as error:  # never unsigned: the receiver would not know it from a forged one
            return Attempt(None, str(error))
        headers["X-MLflow-Signature"] = sign(secret, delivery=delivery, timestamp=timestamp, body=body)
    allow = ws.settings.webhook_allow_private
    return Attempt(*post(found.url, body.encode(), headers=headers, allow_private=allow))


def _keep(ws: Workspace, secret: str | None) -> str | None:
    if not secret:
        return None
    name = new_id("sec")
    access.keep_secret(ws, name, secret)
    return name


def _check(made: Webhook) -> None:
    if not made.name.strip() or len(made.name) > _NAME_LENGTH or not made.name.isprintable():
        raise Invalid(
            f"{made.name[:40]!r} cannot name a webhook; a name has 1 to {_NAME_LENGTH} printable characters. Choose another."
        )
    if len(made.description) > _TEXT_LENGTH or "\0" in made.description:
        raise Invalid(f"the webhook's description is longer than {_TEXT_LENGTH} characters. Shorten it.")
    if not made.kinds:
        raise Invalid("the webhook names no events; it would never be told anything. Name at least one.")
    try:
        parts = urlsplit(made.url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(
            f"the webhook's address {made.url[:80]!r} is none: {error}. Name an http(s) URL."
        ) from error
    if parts.scheme not in _SCHEMES or not host or parts.username is not None or parts.password is not None:
        raise Invalid(
            f"the webhook's address {made.url[:80]!r} cannot be; it is an http or https URL with a host and without a "
            "user's name. Name another; sign deliveries with a secret."
        )
    if len(made.url) > _URL_LENGTH or not made.url.isprintable() or " " in made.url:
        raise Invalid(
            f"the webhook's address has {len(made.url)} characters, or some that no URL has; up to {_URL_LENGTH} are possible."
        )


def _told(one: Webhook) -> dict[str, Any]:
    return {
        "name": one.name,
        "url": one.url,
        "kinds": list(one.kinds),
        "is_active": one.is_active,
        "is_signed": one.secret is not None,
    }


def _need(connection: Connection, webhook_id: str) -> Webhook:
    found = _find(connection, webhook_id)
    if found is None:
        raise NotFound(f"there is no webhook {webhook_id[:60]!r}; it was removed, or never was. List them.")
    return found


def _find(connection: Connection, webhook_id: str) -> Webhook | None:
    row = connection.execute(sa.select(webhook_table).where(webhook_table.c.id == webhook_id)).first()
    return None if row is None else _webhook(row)


def _all(connection: Connection) -> list[Webhook]:
    rows = connection.execute(sa.select(webhook_table).order_by(webhook_table.c.id))
    return [_webhook(row) for row in rows]


def _due(connection: Connection, limit: int) -> list[sa.Row[Any]]:
    statement = (
        sa.select(deliveries)
        .where(deliveries.c.ended_at.is_(None), deliveries.c.due_at <= wall_of(connection))
        .order_by(deliveries.c.id)
        .limit(limit)
    )
    return list(connection.execute(statement))


def _webhook(row: sa.Row[Any]) -> Webhook:
    return Webhook(**{**row._mapping, "kinds": tuple(row.kinds)})
