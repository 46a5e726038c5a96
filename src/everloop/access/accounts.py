"""Accounts: the people and programs that tokens belong to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.access.permissions import ROLES, Role
from everloop.errors import Conflict, Invalid, NotFound
from everloop.ledger import Node, audit
from everloop.storage import Tx, Utc, metadata
from everloop.workspace import Workspace

table = sa.Table(
    "account",
    metadata,
    sa.Column("name", sa.String(120), primary_key=True),
    sa.Column("role", sa.String(20), nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("disabled_at", Utc),
)


@dataclass(frozen=True)
class Account:
    name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None


def add_account(ws: Workspace, name: str, *, role: str) -> Account:
    """Create an account; audited. Raises Invalid for an unknown role, Conflict for a name in use."""
    if role not in ROLES:
        raise Invalid(f"{role!r} is not a role; the roles are {', '.join(ROLES)}.")
    if not name.strip() or len(name) > 120 or name.startswith("system:"):
        raise Invalid(
            f"{name!r} cannot be an account's name: 1 to 120 characters, not beginning with 'system:'."
        )
    account = Account(name, role, ws.now(), None)

    def change(tx: Tx) -> None:
        tx.lock(f"account:{name}")
        if account_by_name(tx.connection, name) is not None:
            raise Conflict(f"there is an account {name!r} already. Choose another name or disable that one.")
        tx.execute(sa.insert(table).values(name=name, role=role, created_at=account.created_at))
        audit(ws, tx, "account.add", Node("account", name), after={"role": role}, role=role)

    ws.write(change)
    return account


def disable_account(ws: Workspace, name: str) -> None:
    """Make all tokens of an account worthless from now on; audited. Raises NotFound."""

    def change(tx: Tx) -> None:
        if account_by_name(tx.connection, name) is None:
            raise NotFound(f"there is no account {name!r}. 'everloop access list' shows them.")
        tx.execute(sa.update(table).where(table.c.name == name).values(disabled_at=ws.now()))
        audit(ws, tx, "account.disable", Node("account", name))

    ws.write(change)


def list_accounts(ws: Workspace) -> list[Account]:
    with ws.read() as connection:
        return [
            Account(**row._mapping) for row in connection.execute(sa.select(table).order_by(table.c.name))
        ]


def account_by_name(connection: Connection, name: str) -> Account | None:
    row = connection.execute(sa.select(table).where(table.c.name == name)).first()
    return None if row is None else Account(**row._mapping)
