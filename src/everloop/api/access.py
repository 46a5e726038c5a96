"""Routes of accounts and tokens."""

from __future__ import annotations

import msgspec

from everloop import access
from everloop.access import Account, Role
from everloop.api.routes import Body, Call, Route


class NewAccount(Body, frozen=True):
    name: str
    role: Role


class NewToken(msgspec.Struct, frozen=True):
    id: str
    token: str


def list_accounts(call: Call) -> list[Account]:
    """All accounts with their roles."""
    return access.list_accounts(call.ws)


def add_account(call: Call, asked: NewAccount) -> Account:
    """Add an account: {name, role}."""
    return access.add_account(call.ws, asked.name, role=asked.role)


def create_token(call: Call) -> NewToken:
    """Make a token for an account; the secret is in this answer and nowhere else."""
    token_id, secret = access.create_token(call.ws, call.path["name"])
    return NewToken(token_id, secret)


def revoke_token(call: Call) -> dict[str, str]:
    """Make a token worthless."""
    access.revoke_token(call.ws, call.path["id"])
    return {"revoked": call.path["id"]}


ROUTES = [
    Route("GET", "/api/accounts", "administer", list_accounts),
    Route("POST", "/api/accounts", "administer", add_account),
    Route("POST", "/api/accounts/{name}/tokens", "administer", create_token),
    Route("DELETE", "/api/tokens/{id}", "administer", revoke_token),
]
