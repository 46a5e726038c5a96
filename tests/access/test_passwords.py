"""Passwords: kept as slow hashes, checked in about the same time whatever is wrong, guessed at seldom."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import median

import pytest
import sqlalchemy as sa

from everloop import access
from everloop.access.guesses import ACCOUNT, ADDRESS, PAIR, Guesses
from everloop.errors import Invalid, NotFound, NotRecognised, TooOften
from everloop.ledger import entries
from everloop.workspace import Workspace

PASSWORD = "four words, one lake"
HERE = "127.0.0.1"


@pytest.fixture
def alice(ws: Workspace) -> Workspace:
    """A workspace whose account alice has a password."""
    access.add_account(ws, "alice", role="engineer")
    access.set_password(ws, "alice", PASSWORD)
    return ws


def signed_in(ws: Workspace, password: str, *, account: str = "alice", address: str = HERE) -> str:
    return access.sign_in(ws, account, password, address=address)[1].name


def test_an_account_signs_in_with_its_password_and_with_its_tokens(any_ws: Workspace) -> None:
    access.add_account(any_ws, "alice", role="engineer")
    access.set_password(any_ws, "alice", PASSWORD)
    _, token = access.create_token(any_ws, "alice")
    assert signed_in(any_ws, PASSWORD) == "alice"
    assert signed_in(any_ws, token) == "alice"
    access.add_account(any_ws, "bob", role="viewer")
    for name, wrong in (("bob", PASSWORD), ("bob", token), ("alice", PASSWORD.upper()), ("a\0", "\0")):
        with pytest.raises(NotRecognised):
            signed_in(any_ws, wrong, account=name)


def test_a_password_is_the_same_however_its_letters_are_composed(alice: Workspace) -> None:
    access.set_password(alice, "alice", "caf\u00e9 cr\u00e8me br\u00fbl\u00e9e")
    assert signed_in(alice, "cafe\u0301 cre\u0300me bru\u0302le\u0301e") == "alice"


def test_a_changed_or_revoked_password_is_worthless_at_once(alice: Workspace) -> None:
    signed_in(alice, PASSWORD)
    access.set_password(alice, "alice", "another lake, four words")
    with pytest.raises(NotRecognised):
        signed_in(alice, PASSWORD)
    signed_in(alice, "another lake, four words")
    access.revoke_password(alice, "alice")
    with pytest.raises(NotRecognised):
        signed_in(alice, "another lake, four words")
    with pytest.raises(NotFound, match="has no password"):
        access.revoke_password(alice, "alice")
    access.set_password(alice, "alice", PASSWORD)
    signed_in(alice, PASSWORD)
    access.disable_account(alice, "alice")
    with pytest.raises(NotRecognised):
        signed_in(alice, PASSWORD)


@pytest.mark.parametrize("password", ["short", "x" * 11, "x" * 201, "twelve\tletters", "el_" + "x" * 40])
def test_a_password_that_is_none_is_refused_and_not_told(ws: Workspace, password: str) -> None:
    access.add_account(ws, "alice", role="viewer")
    with pytest.raises(Invalid) as told:
        access.set_password(ws, "alice", password)
    assert password not in str(told.value)


def test_a_name_that_cannot_be_told_in_basic_form_takes_no_password(ws: Workspace) -> None:
    access.add_account(ws, "team:alice", role="viewer")
    with pytest.raises(Invalid, match="has a ':' in its name"):
        access.set_password(ws, "team:alice", PASSWORD)


def test_a_password_is_kept_as_a_salted_hash_and_its_changes_are_audited(alice: Workspace) -> None:
    access.add_account(alice, "bob", role="viewer")
    access.set_password(alice, "bob", PASSWORD)
    with alice.read() as connection:
        hashes = connection.execute(sa.text("SELECT hash FROM account_password")).scalars().all()
    assert len(set(hashes)) == 2
    assert all(one.startswith("scrypt$16384,8,5$") for one in hashes)
    told = [(one.act, str(one)) for one in entries(alice, limit=20) if one.act.startswith("password.")]
    assert [act for act, _ in told] == ["password.set", "password.set"]
    assert not any(PASSWORD in text or one in text for _, text in told for one in hashes)


def test_what_is_wrong_is_not_told_and_takes_the_same_time(alice: Workspace) -> None:
    access.add_account(alice, "bob", role="engineer")
    took: dict[str, list[float]] = {"alice": [], "bob": [], "nobody": []}
    messages = set()
    for _ in range(3):
        for name, times in took.items():
            began = time.process_time()
            with pytest.raises(NotRecognised) as told:
                signed_in(alice, "a wrong password", account=name)
            times.append(time.process_time() - began)
            messages.add(str(told.value))
    assert len(messages) == 1
    middle = sorted(median(times) for times in took.values())
    assert middle[-1] < 2 * middle[0]


def test_a_password_that_was_found_right_costs_a_look_up(alice: Workspace) -> None:
    began = time.process_time()
    signed_in(alice, PASSWORD)
    first = time.process_time() - began
    began = time.process_time()
    for _ in range(20):
        signed_in(alice, PASSWORD)
    assert time.process_time() - began < first


def test_guessing_is_slowed_down_and_who_is_signed_in_already_goes_on(alice: Workspace) -> None:
    signed_in(alice, PASSWORD)
    for number in range(PAIR.burst):
        with pytest.raises(NotRecognised):
            signed_in(alice, f"guess number {number}")
    with pytest.raises(TooOften) as told:
        signed_in(alice, "guess number 6")
    assert 1 <= told.value.retry_after_s <= PAIR.refill_s
    assert signed_in(alice, PASSWORD) == "alice"  # as a training run that goes on does
    with pytest.raises(TooOften):
        signed_in(replace(alice, actor="another"), "another guess")


def test_programs_that_start_at_once_with_the_right_password_are_all_let_in(alice: Workspace) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: signed_in(alice, PASSWORD), range(8))) == {"alice"}


@pytest.mark.parametrize(
    ("one", "let_through"),
    [
        (lambda _: ("alice", "10.0.0.1"), PAIR.burst),
        (lambda number: (f"account {number}", "10.0.0.1"), ADDRESS.burst),
        (lambda number: (f"account {number}", f"2001:db8::{number:x}"), ADDRESS.burst),
        (lambda number: ("alice", f"10.0.{number}.1"), ACCOUNT.burst),
    ],
    ids=["one account from one address", "many accounts", "one network of version 6", "many addresses"],
)
def test_each_way_of_guessing_has_its_bound(one: Callable[[int], tuple[str, str]], let_through: int) -> None:
    guesses, passed = Guesses(), 0
    for number in range(120):
        try:
            guesses.begin(*one(number))
            passed += 1
        except TooOften:
            break
    assert passed == let_through


def test_what_is_remembered_of_guesses_is_bounded() -> None:
    guesses = Guesses(most_buckets=30)
    for number in range(200):
        guesses.begin(f"account {number}", f"10.0.{number}.1")
    assert len(guesses) == 30


def test_a_session_by_password_ends_when_the_password_is_changed(alice: Workspace) -> None:
    session, principal = access.open_session(alice, PASSWORD, account="alice", address=HERE)
    assert principal.name == access.resume_session(alice, session).name == "alice"
    access.set_password(alice, "alice", "another lake, four words")
    with pytest.raises(NotRecognised, match="was changed or revoked"):
        access.resume_session(alice, session)
