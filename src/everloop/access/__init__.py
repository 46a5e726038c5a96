"""Who may do what: accounts, roles, permissions, tokens and sessions.

Answers: who is this, and may they. Owns the tables `account`, `access_token` and `account_password`. A role is a set of
permissions in one table below; every route and command names the permission it needs. A token is shown once and kept
as a digest, a password is kept as a slow salted hash.
May call ledger and below.
"""

from everloop.access.accounts import Account, add_account, disable_account, list_accounts
from everloop.access.kept import drop_secret, keep_secret, kept_secret
from everloop.access.keys import home_key, renew_home_key, shared_key
from everloop.access.passwords import revoke_password, set_password, sign_in
from everloop.access.permissions import ROLES, Permission, Role, permissions_of
from everloop.access.sessions import LASTS_S, open_session, resume_session
from everloop.access.tokens import (
    Principal,
    authenticate,
    create_token,
    local_principal,
    require,
    revoke_token,
)

__all__ = [
    "LASTS_S",
    "ROLES",
    "Account",
    "Permission",
    "Principal",
    "Role",
    "add_account",
    "authenticate",
    "create_token",
    "disable_account",
    "drop_secret",
    "home_key",
    "keep_secret",
    "kept_secret",
    "list_accounts",
    "local_principal",
    "open_session",
    "permissions_of",
    "renew_home_key",
    "require",
    "resume_session",
    "revoke_password",
    "revoke_token",
    "set_password",
    "shared_key",
    "sign_in",
]
