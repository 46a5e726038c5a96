"""Sessions: what a browser keeps instead of a token.

A session names the token that opened it and when it ends, signed with a key that only this home has. It is worth
nothing as a token, ends by itself after twelve hours of machine time, and ends at once when its token is revoked or
the account is disabled.
"""

from __future__ import annotations

import hmac

from blake3 import blake3

from everloop import clock
from everloop.access import tokens
from everloop.access.keys import shared_key
from everloop.access.tokens import Principal
from everloop.errors import NotRecognised
from everloop.ledger import Node, audit
from everloop.workspace import Workspace

LASTS_S = 12 * 3_600


def open_session(ws: Workspace, secret: str) -> tuple[str, Principal]:
    """A session for whoever holds this token, and who that is; audited. Raises NotRecognised."""
    token_id, principal = tokens.holder(ws, tokens.named(secret))
    ends_s = clock.wall_ns() // 1_000_000_000 + LASTS_S
    ws.write(
        lambda tx: audit(ws.acting_as(principal.name), tx, "session.open", Node("account", principal.name))
    )
    return f"{token_id}.{ends_s}.{sign(ws, token_id, ends_s)}", principal


def resume_session(ws: Workspace, session: str) -> Principal:
    """Who a session belongs to. Raises NotRecognised for one that was not made here, has ended, or lost its token."""
    token_id, _, rest = session.partition(".")
    ends, _, signature = rest.partition(".")
    if not (ends.isascii() and ends.isdigit()) or not hmac.compare_digest(
        signature.encode(), sign(ws, token_id, int(ends)).encode()
    ):
        raise NotRecognised("the session was not made by this server. Sign in again.")
    if int(ends) <= clock.wall_ns() // 1_000_000_000:
        raise NotRecognised("the session has ended. Sign in again.")
    return tokens.holder(ws, tokens.table.c.id == token_id)[1]


def sign(ws: Workspace, token_id: str, ends_s: int) -> str:
    return blake3(f"session {token_id} {ends_s}".encode(), key=shared_key(ws, "session")).hexdigest()
