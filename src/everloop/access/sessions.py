"""Sessions: what a browser keeps instead of a token.

A session names the token or the password that opened it and when it ends, signed with a key that only this home has.
It is worth nothing as a token, ends by itself after twelve hours of machine time, and ends at once when its token is
revoked, its password changed or the account disabled.
"""

from __future__ import annotations

import hmac

from blake3 import blake3

from everloop import clock
from everloop.access import passwords, tokens
from everloop.access.keys import shared_key
from everloop.access.tokens import Principal
from everloop.errors import NotRecognised
from everloop.ids import prefix_of
from everloop.ledger import Node, audit
from everloop.workspace import Workspace

LASTS_S = 12 * 3_600


def open_session(
    ws: Workspace, secret: str, *, account: str = "", address: str = ""
) -> tuple[str, Principal]:
    """A session for whoever holds this token, or this account's password, and who that is; audited.

    Raises NotRecognised, TooOften.
    """
    if account:
        opened_by, principal = passwords.sign_in(ws, account, secret, address=address)
    else:
        opened_by, principal = tokens.holder(ws, tokens.named(secret))
    ends_s = clock.wall_ns() // 1_000_000_000 + LASTS_S
    ws.write(
        lambda tx: audit(ws.acting_as(principal.name), tx, "session.open", Node("account", principal.name))
    )
    return f"{opened_by}.{ends_s}.{sign(ws, opened_by, ends_s)}", principal


def resume_session(ws: Workspace, session: str) -> Principal:
    """Who a session belongs to. Raises NotRecognised for one that was not made here, has ended, or lost what opened it."""
    opened_by, _, rest = session.partition(".")
    ends, _, signature = rest.partition(".")
    if not (ends.isascii() and ends.isdigit()) or not hmac.compare_digest(
        signature.encode(), sign(ws, opened_by, int(ends)).encode()
    ):
        raise NotRecognised("the session was not made by this server. Sign in again.")
    if int(ends) <= clock.wall_ns() // 1_000_000_000:
        raise NotRecognised("the session has ended. Sign in again.")
    if prefix_of(opened_by) == "pwd":
        return passwords.password_holder(ws, opened_by)
    return tokens.holder(ws, tokens.table.c.id == opened_by)[1]


def sign(ws: Workspace, opened_by: str, ends_s: int) -> str:
    return blake3(f"session {opened_by} {ends_s}".encode(), key=shared_key(ws, "session")).hexdigest()
