"""Passwords: for clients that have a user name and a password, and for people at the sign-in page.

Kept as a slow salted hash alone, beside the parameters it was made with. Who gave the right one is remembered in this
process for a while by a keyed digest, so that a call costs what a token costs: a digest and a look-up. The look-up is
what makes a password that is set anew, revoked, or of a disabled account worthless at once, in every process.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from blake3 import blake3
from sqlalchemy.engine import Connection

from everloop import clock
from everloop.access import accounts
from everloop.access.guesses import Guesses
from everloop.access.permissions import permissions_of
from everloop.access.tokens import TOKEN_PREFIX, Principal, holder, named
from everloop.errors import Invalid, NotFound, NotRecognised, TooOften
from everloop.ids import new_id
from everloop.ledger import Node, audit
from everloop.storage import Database, Tx, Utc, metadata
from everloop.workspace import Workspace

LEAST_CHARACTERS = 12
MOST_CHARACTERS = 200
_REMEMBERED_S = 600.0  # since it was last given
_MOST_REMEMBERED = 1_000
# Of OWASP's sets of equal strength the one that takes 16 MB: about 0.2 s of one core.
_COST, _BLOCK, _PARALLEL = 1 << 14, 8, 5
_MOST_WAITING = 8  # for their turn at a hash; two at once leave the server its other cores and its memory

table = sa.Table(
    "account_password",
    metadata,
    sa.Column("account", sa.String(120), sa.ForeignKey("account.name"), primary_key=True),
    sa.Column("id", sa.String(40), nullable=False, unique=True),
    sa.Column("hash", sa.String(200), nullable=False),
    sa.Column("set_at", Utc, nullable=False),
)


def set_password(ws: Workspace, account: str, password: str) -> None:
    """Give an account a password, in the place of the one it may have; audited.

    Raises
    ------
    Invalid
        It is too short or too long, holds control characters or looks like a token, or the name cannot be told in
        HTTP's basic form.
    NotFound
        There is no such account, or it is disabled.
    """
    password = unicodedata.normalize("NFC", password)
    _check(account, password)
    new = {"id": new_id("pwd"), "hash": _hashed(password, secrets.token_bytes(16)), "set_at": ws.now()}

    def change(tx: Tx) -> None:
        tx.lock(f"account:{account}")
        found = accounts.account_by_name(tx.connection, account)
        if found is None or found.disabled_at is not None:
            raise NotFound(f"there is no account {account!r} in force. 'everloop access list' shows them.")
        tx.execute(sa.delete(table).where(table.c.account == account))
        tx.execute(sa.insert(table).values(account=account, **new))
        audit(ws, tx, "password.set", Node("account", account))

    ws.write(change)


def revoke_password(ws: Workspace, account: str) -> None:
    """Make an account's password worthless; audited. Raises NotFound when it has none."""

    def change(tx: Tx) -> None:
        tx.lock(f"account:{account}")
        if tx.execute(sa.delete(table).where(table.c.account == account)).rowcount == 0:
            raise NotFound(f"account {account!r} has no password. Its tokens are revoked one by one.")
        audit(ws, tx, "password.revoke", Node("account", account))

    ws.write(change)


def sign_in(ws: Workspace, account: str, secret: str, *, address: str) -> tuple[str, Principal]:
    """Who gives an account's name and its password, or a token of its own; and the id of what was given.

    Raises
    ------
    NotRecognised
        The account or the password is wrong: which, is not told, and takes the same time.
    TooOften
        Too many wrong passwords were given.
    """
    if not secret.startswith(TOKEN_PREFIX):
        return _by_password(ws, account, secret, address)
    token_id, principal = holder(ws, named(secret))
    if principal.name != account:
        raise NotRecognised(
            "the token given as the password is not one of the account that is named. Name the account that the token was "
            "made for, or send the token alone."
        )
    return token_id, principal


def password_holder(ws: Workspace, password_id: str) -> Principal:
    """Whose password it is, as long as it is in force. Raises NotRecognised."""
    with ws.read() as connection:
        kept = _kept(connection, table.c.id == password_id)
    if kept is None:
        raise NotRecognised("the password was changed or revoked, or its account is disabled. Sign in again.")
    return kept.principal


def _by_password(ws: Workspace, account: str, secret: str, address: str) -> tuple[str, Principal]:
    secret = unicodedata.normalize("NFC", secret[: MOST_CHARACTERS * 4])
    kept = None
    if account.isprintable():
        with ws.read() as connection:
            kept = _kept(connection, table.c.account == account)
    door = _door_of(ws)
    proof = door.proof(account, secret)
    if kept is None or not door.remembers(proof, kept.id):
        with _turn():
            # whoever waits for a turn may find that the same password was found right meanwhile
            if kept is None or not door.remembers(proof, kept.id):
                door.guesses.begin(account, address)
                if not _is_right(secret, _NOBODYS if kept is None else kept.hash) or kept is None:
                    raise NotRecognised(
                        "the account or the password is wrong, or the account is disabled. Check both, or ask an owner for a "
                        "new password: everloop access password NAME"
                    )
                door.guesses.was_right(account, address)
                door.remember(proof, kept.id)
    return kept.id, kept.principal


@dataclass(frozen=True)
class _Kept:
    id: str
    hash: str
    principal: Principal


def _kept(connection: Connection, which: sa.ColumnElement[bool]) -> _Kept | None:
    """The password that a condition names, unless its account is disabled."""
    statement = (
        sa.select(table.c.id, table.c.hash, accounts.table.c.name, accounts.table.c.role)
        .join(accounts.table, table.c.account == accounts.table.c.name)
        .where(which, accounts.table.c.disabled_at.is_(None))
    )
    row = connection.execute(statement).first()
    return None if row is None else _Kept(row.id, row.hash, Principal(row.name, permissions_of(row.role)))


class _Door:
    """What this process knows of sign-ins at one workspace: which passwords it found right lately. Safe for threads."""

    def __init__(self) -> None:
        self.guesses = Guesses()
        self._key = secrets.token_bytes(32)  # of this process alone: a proof is worth nothing outside it
        self._lock = threading.Lock()
        self._found: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def proof(self, account: str, secret: str) -> bytes:
        return blake3(f"{account}\0{secret}".encode(), key=self._key).digest()

    def remembers(self, proof: bytes, password_id: str) -> bool:
        with self._lock:
            known, until_s = self._found.get(proof, ("", 0.0))
            if known != password_id or until_s < clock.elapsed_s():
                return False
            self._found[proof] = (known, clock.elapsed_s() + _REMEMBERED_S)
            self._found.move_to_end(proof)
            return True

    def remember(self, proof: bytes, password_id: str) -> None:
        with self._lock:
            self._found[proof] = (password_id, clock.elapsed_s() + _REMEMBERED_S)
            if len(self._found) > _MOST_REMEMBERED:
                self._found.popitem(last=False)


_doors: WeakKeyDictionary[Database, _Door] = WeakKeyDictionary()  # gone with the open database
_opening = threading.Lock()
_turns = threading.BoundedSemaphore(2)
_waiting = threading.BoundedSemaphore(_MOST_WAITING)


def _door_of(ws: Workspace) -> _Door:
    with _opening:
        if ws.database not in _doors:
            _doors[ws.database] = _Door()
        return _doors[ws.database]


def _check(account: str, password: str) -> None:
    if not LEAST_CHARACTERS <= len(password) <= MOST_CHARACTERS or not password.isprintable():
        raise Invalid(
            f"the password has {len(password)} characters; it needs {LEAST_CHARACTERS} to {MOST_CHARACTERS} printable ones. "
            "Choose another one, such as four words."
        )
    if password.startswith(TOKEN_PREFIX):
        raise Invalid(f"a password may not begin with {TOKEN_PREFIX}, as tokens do. Choose another one.")
    if ":" in account:
        raise Invalid(
            f"account {account!r} has a ':' in its name, which a name that signs in with a password cannot have. Add another "
            "account, or use a token."
        )


@contextmanager
def _turn() -> Iterator[None]:
    """A turn at a slow hash. Raises TooOften when too many wait for theirs."""
    if not _waiting.acquire(blocking=False):
        raise TooOften("too many are signing in with a password just now. Try again.", retry_after_s=1)
    try:
        with _turns:
            yield
    finally:
        _waiting.release()


def _is_right(secret: str, kept: str) -> bool:
    _, cost, salt, _ = kept.split("$")
    n, r, p = map(int, cost.split(","))
    return hmac.compare_digest(_hashed(secret, base64.b64decode(salt), n=n, r=r, p=p), kept)


def _hashed(password: str, salt: bytes, *, n: int = _COST, r: int = _BLOCK, p: int = _PARALLEL) -> str:
    """`scrypt$N,R,P$SALT$HASH`: all that is needed to tell whether another secret is the same."""
    made = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)
    return "$".join(
        ("scrypt", f"{n},{r},{p}", base64.b64encode(salt).decode(), base64.b64encode(made).decode())
    )


# What a password of nobody's is compared with, so that it takes as long: no secret has this hash.
_NOBODYS = f"scrypt${_COST},{_BLOCK},{_PARALLEL}${'A' * 22}==${'A' * 43}="
