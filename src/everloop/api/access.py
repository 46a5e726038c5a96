"""Routes of accounts and tokens."""

from __future__ import annotations

from typing import Any

from everloop import access
from everloop.api.routes import Call, Route


def list_accounts(call: Call) -> Any:
    """All accounts with their roles."""
    return access.list_accounts(call.ws)


def add_account(call: Call) -> Any:
    """Add an account: {name, role}."""
    given = call.fields("name", "role")
    return access.add_account(call.ws, str(given["name"]), role=str(given["role"]))


def create_token(call: Call) -> Any:
    """Make a token for an account; the secret is in this answer and nowhere else."""
    token_id, secret = access.create_token(call.ws, call.path["name"])
    return {"id": token_id, "token": secret}


def revoke_token(call: Call) -> Any:
    """Make a token worthless."""
    access.revoke_token(call.ws, call.path["id"])
    return {"revoked": call.path["id"]}


ROUTES = [
    Route("GET", "/api/accounts", "administer", list_accounts),
    Route("POST", "/api/accounts", "administer", add_account),
    Route("POST", "/api/accounts/{name}/tokens", "administer", create_token),
    Route("DELETE", "/api/tokens/{id}", "administer", revoke_token),
]
