"""Tokens: 256 random bits, shown once, kept as a BLAKE3 digest; checking one costs a digest and a look-up."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import sqlalchemy as sa
from blake3 import blake3

from everloop.access import accounts
from everloop.access.permissions import Permission, permissions_of
from everloop.errors import Denied, NotFound, NotRecognised
from everloop.ids import new_id
from everloop.ledger import Node, audit
from everloop.storage import Tx, Utc, metadata
from everloop.workspace import Workspace

TOKEN_PREFIX = "el_"  # noqa: S105  (the beginning of all of them)

table = sa.Table(
    "access_token",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("account", sa.String(120), sa.ForeignKey("account.name"), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("revoked_at", Utc),
)


@dataclass(frozen=True)
class Principal:
    """Somebody who was recognised, and what they may do."""

    name: str
    permissions: frozenset[Permission]


def local_principal(ws: Workspace) -> Principal:
    """Who acts when authentication is off: the workspace's actor, with every permission."""
    return Principal(ws.actor, permissions_of("owner"))


def create_token(ws: Workspace, account: str) -> tuple[str, str]:
    """A new token for an account: its id, and the secret, which is not kept. Audited. Raises NotFound."""
    token_id, secret = new_id("tok"), f"{TOKEN_PREFIX}{secrets.token_urlsafe(32)}"

    def change(tx: Tx) -> None:
        if accounts.account_by_name(tx.connection, account) is None:
            raise NotFound(
                f"there is no account {account!r}. Create it with: everloop access add {account} --role ROLE"
            )
        values = {"id": token_id, "account": account, "digest": _digest(secret), "created_at": ws.now()}
        tx.execute(sa.insert(table).values(**values))
        audit(ws, tx, "token.create", Node("account", account), token=token_id)

    ws.write(change)
    return token_id, secret


def revoke_token(ws: Workspace, token_id: str) -> None:
    """Make a token worthless; audited. Raises NotFound."""

    def change(tx: Tx) -> None:
        changed = tx.execute(
            sa.update(table)
            .where(table.c.id == token_id, table.c.revoked_at.is_(None))
            .values(revoked_at=ws.now())
        )
        if changed.rowcount == 0:
            raise NotFound(f"there is no token {token_id} in force.")
        audit(ws, tx, "token.revoke", Node("token", token_id))

    ws.write(change)


def authenticate(ws: Workspace, secret: str) -> Principal:
    """Who a token belongs to. Raises NotRecognised for one that is unknown, revoked, or of a disabled account."""
    return holder(ws, named(secret))[1]


def holder(ws: Workspace, which: sa.ColumnElement[bool]) -> tuple[str, Principal]:
    """The id of the token in force that a condition names, and who holds it. Raises NotRecognised."""
    statement = (
        sa.select(table.c.id, accounts.table.c.name, accounts.table.c.role)
        .join(accounts.table, table.c.account == accounts.table.c.name)
        .where(which, table.c.revoked_at.is_(None), accounts.table.c.disabled_at.is_(None))
    )
    with ws.read() as connection:
        row = connection.execute(statement).first()
    if row is None:
        raise NotRecognised(
            "the token is unknown, revoked, or its account is disabled. Ask an owner for a new one."
        )
    return row.id, Principal(row.name, permissions_of(row.role))


def require(principal: Principal, permission: Permission) -> None:
    """Raises Denied when the principal lacks the permission."""
    if permission not in principal.permissions:
        raise Denied(
            f"{principal.name} may not {permission}: the role lacks that permission. "
            "An owner can give another role: everloop access add NAME --role ROLE"
        )


def named(secret: str) -> sa.ColumnElement[bool]:
    """The condition that is true of the token with this secret."""
    return table.c.digest == _digest(secret)


def _digest(secret: str) -> str:
    return blake3(secret.encode()).hexdigest()
