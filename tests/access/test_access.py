from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from everloop import access, clock
from everloop.access import sessions
from everloop.errors import Conflict, Denied, Invalid, NotFound, NotRecognised
from everloop.ledger import entries
from everloop.workspace import Workspace


def test_a_token_is_recognised_with_its_accounts_permissions(any_ws: Workspace) -> None:
    access.add_account(any_ws, "alice", role="reviewer")
    _, secret = access.create_token(any_ws, "alice")
    principal = access.authenticate(any_ws, secret)
    assert principal.name == "alice"
    access.require(principal, "approve")
    with pytest.raises(Denied, match="may not release"):
        access.require(principal, "release")


def test_a_secret_is_nowhere_in_the_database(ws: Workspace) -> None:
    access.add_account(ws, "alice", role="viewer")
    _, secret = access.create_token(ws, "alice")
    with ws.read() as connection:
        tables = (
            connection.execute(sa.text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        )
        kept = "".join(str(connection.execute(sa.text(f"SELECT * FROM {name}")).all()) for name in tables)  # noqa: S608
    assert secret not in kept


def test_revoked_tokens_and_disabled_accounts_are_refused(any_ws: Workspace) -> None:
    access.add_account(any_ws, "alice", role="viewer")
    token, secret = access.create_token(any_ws, "alice")
    _, other = access.create_token(any_ws, "alice")
    access.revoke_token(any_ws, token)
    with pytest.raises(Denied, match="unknown, revoked"):
        access.authenticate(any_ws, secret)
    assert access.authenticate(any_ws, other).name == "alice"
    access.disable_account(any_ws, "alice")
    with pytest.raises(Denied):
        access.authenticate(any_ws, other)


@pytest.mark.parametrize("secret", ["", "el_x", "' OR 1=1 --", "\x00"])
def test_a_guess_is_refused(ws: Workspace, secret: str) -> None:
    with pytest.raises(Denied):
        access.authenticate(ws, secret)


def test_governed_acts_are_audited(ws: Workspace) -> None:
    access.add_account(ws, "alice", role="viewer")
    token, _ = access.create_token(ws, "alice")
    access.revoke_token(ws, token)
    access.disable_account(ws, "alice")
    assert [entry.act for entry in reversed(entries(ws))] == [
        "account.add",
        "token.create",
        "token.revoke",
        "account.disable",
    ]


def test_mistakes_are_named(ws: Workspace) -> None:
    with pytest.raises(Invalid, match="the roles are viewer"):
        access.add_account(ws, "alice", role="king")
    with pytest.raises(Invalid, match="1 to 120 characters"):
        access.add_account(ws, "system:x", role="viewer")
    access.add_account(ws, "alice", role="viewer")
    with pytest.raises(Conflict, match="already"):
        access.add_account(ws, "alice", role="viewer")
    for act in (lambda: access.create_token(ws, "bob"), lambda: access.disable_account(ws, "bob")):
        with pytest.raises(NotFound, match="no account 'bob'"):
            act()
    with pytest.raises(NotFound, match="no token"):
        access.revoke_token(ws, "tok_none")


def test_every_role_holds_known_permissions_and_the_owner_holds_all() -> None:
    assert all(permissions <= access.ROLES["owner"] for permissions in access.ROLES.values())


def test_a_session_names_its_token_and_is_worth_nothing_as_one(any_ws: Workspace) -> None:
    access.add_account(any_ws, "alice", role="viewer")
    token, secret = access.create_token(any_ws, "alice")
    session, principal = access.open_session(any_ws, secret)
    assert principal.name == access.resume_session(any_ws, session).name == "alice"
    assert secret not in session
    with pytest.raises(NotRecognised, match="unknown, revoked"):
        access.authenticate(any_ws, session)
    access.revoke_token(any_ws, token)
    with pytest.raises(NotRecognised, match="unknown, revoked"):
        access.resume_session(any_ws, session)


def test_a_session_that_was_changed_or_made_elsewhere_is_refused(ws: Workspace) -> None:
    access.add_account(ws, "alice", role="viewer")
    _, secret = access.create_token(ws, "alice")
    session, _ = access.open_session(ws, secret)
    token, ends, signature = session.split(".")
    later = str(int(ends) + 1)
    for forged in (
        f"{token}.{later}.{signature}",
        f"{token}x.{ends}.{signature}",
        f"{token}.{ends}.",
        "",
        "é.1.ü",
    ):
        with pytest.raises(NotRecognised, match="not made by this server"):
            access.resume_session(ws, forged)


def test_a_session_ends_by_itself(ws: Workspace) -> None:
    access.add_account(ws, "alice", role="viewer")
    _, secret = access.create_token(ws, "alice")
    token = access.open_session(ws, secret)[0].split(".")[0]
    past = clock.wall_ns() // 1_000_000_000 - 1
    ended = f"{token}.{past}.{sessions.sign(ws, token, past)}"
    with pytest.raises(NotRecognised, match="has ended"):
        access.resume_session(ws, ended)


def test_each_purpose_has_a_key_of_its_own_on_which_machines_with_the_same_keys_agree(
    ws: Workspace, tmp_path: Path
) -> None:
    keys = {name: access.shared_key(ws, name) for name in ("session", "trigger")}
    assert keys["session"] != keys["trigger"]
    assert {len(key) for key in keys.values()} == {32}
    shutil.copytree(ws.home / "keys", tmp_path / "other" / "keys")
    other = dataclasses.replace(ws, settings=dataclasses.replace(ws.settings, home=tmp_path / "other"))
    assert {name: access.shared_key(other, name) for name in keys} == keys
