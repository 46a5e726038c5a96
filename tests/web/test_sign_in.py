"""Signing in with a token, and what the session in the cookie may and may not do."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from everloop import access, ledger
from everloop.api import SESSION_COOKIE
from tests.web.conftest import Site


@pytest.fixture
def secret(closed: Site) -> str:
    access.add_account(closed.ws, "alice", role="owner")
    return access.create_token(closed.ws, "alice")[1]


@pytest.fixture
def browser_like(closed: Site) -> Iterator[httpx.Client]:
    """Keeps cookies, follows nothing."""
    with httpx.Client(base_url=closed.url, headers={"Accept": "text/html"}, trust_env=False) as client:
        yield client


def sign_in(client: httpx.Client, secret: str, onward: str = "/") -> httpx.Response:
    return client.post(
        "/sign-in", data={"token": secret, "next": onward}, headers={"Origin": str(client.base_url)[:-1]}
    )


def test_a_token_opens_a_session_that_scripts_cannot_read(
    closed: Site, browser_like: httpx.Client, secret: str
) -> None:
    answer = sign_in(browser_like, secret, "/audit?actor=alice")
    assert (answer.status_code, answer.headers["location"]) == (303, "/audit?actor=alice")
    cookie = answer.headers["set-cookie"]
    assert {"httponly", "samesite=strict", "path=/"} <= set(cookie.lower().replace(" ", "").split(";"))
    assert secret not in cookie
    page = browser_like.get("/")
    assert page.status_code == 200
    assert "alice" in page.text
    assert browser_like.get("/api/about").status_code == 200
    assert ledger.entries(closed.ws, actor="alice", limit=1)[0].act == "session.open"


def test_a_wrong_token_is_told_and_opens_nothing(browser_like: httpx.Client, secret: str) -> None:
    answer = sign_in(browser_like, f"{secret}x")
    assert answer.status_code == 401
    assert "unknown, revoked" in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "onward", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x", "\t//x"]
)
def test_signing_in_never_leads_to_another_site(browser_like: httpx.Client, secret: str, onward: str) -> None:
    assert sign_in(browser_like, secret, onward).headers["location"] == "/"


def test_signing_out_takes_the_session_away(browser_like: httpx.Client, secret: str) -> None:
    sign_in(browser_like, secret)
    assert (
        browser_like.post("/sign-out", headers={"Origin": str(browser_like.base_url)[:-1]}).status_code == 303
    )
    assert SESSION_COOKIE not in browser_like.cookies
    assert browser_like.get("/").headers["location"] == "/sign-in?next=%2F"


@pytest.mark.parametrize(
    "origin", [None, "https://evil.example", "http://127.0.0.1:1", "http://localhost", "null"]
)
def test_a_session_changes_nothing_for_a_page_that_is_not_ours(
    browser_like: httpx.Client, secret: str, origin: str | None
) -> None:
    """A cookie goes along with requests from every page on this host, whatever its port."""
    sign_in(browser_like, secret)
    headers = {} if origin is None else {"Origin": origin}
    body = {"name": "mallory", "role": "owner"}
    assert browser_like.post("/api/accounts", json=body, headers=headers).status_code == 403
    ours = {"Origin": str(browser_like.base_url).rstrip("/")}
    assert browser_like.post("/api/accounts", json=body, headers=ours).status_code == 200


def test_a_session_ends_with_its_token(closed: Site, browser_like: httpx.Client, secret: str) -> None:
    token, other = access.create_token(closed.ws, "alice")
    sign_in(browser_like, other)
    assert browser_like.get("/").status_code == 200
    access.revoke_token(closed.ws, token)
    assert browser_like.get("/").status_code == 303
    assert sign_in(browser_like, secret).status_code == 303, "the other token is still in force"


def test_an_account_and_its_password_open_a_session(closed: Site, browser_like: httpx.Client) -> None:
    access.add_account(closed.ws, "bob", role="viewer")
    access.set_password(closed.ws, "bob", "four words, one lake")
    given = {"account": "bob", "token": "four words, one lake", "next": "/"}
    ours = {"Origin": str(browser_like.base_url).rstrip("/")}
    wrong = browser_like.post("/sign-in", data={**given, "token": "a wrong password"}, headers=ours)
    assert wrong.status_code == 401
    assert "a wrong password" not in wrong.text
    assert 'value="bob"' in wrong.text
    assert browser_like.post("/sign-in", data=given, headers=ours).status_code == 303
    assert "bob" in browser_like.get("/").text
    access.revoke_password(closed.ws, "bob")
    assert browser_like.get("/").status_code == 303


@pytest.mark.parametrize("session", ["", "x", "tok_1.9999999999.ab", "..", "tok.-1.ab"])
def test_a_made_up_session_is_nobody(closed: Site, session: str) -> None:
    assert closed.get("/", Cookie=f"{SESSION_COOKIE}={session}").status_code == 303


def test_with_authentication_off_there_is_nothing_to_sign_in_to(empty: Site) -> None:
    assert empty.get("/sign-in?next=/audit").headers["location"] == "/audit"
