"""Signing in: a token or a password is given once, the browser keeps a session."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from everloop import access
from everloop.api import SESSION_COOKIE, address_of, status_of
from everloop.errors import Invalid, NotRecognised, TooOften
from everloop.web.rendering import headers, page_answer
from everloop.workspace import Workspace

_MOST_BYTES = 4_096


async def show_sign_in(ws: Workspace, request: Request) -> Response:
    """The form; where authentication is off there is nothing to sign in to."""
    onward = _onward(request.query_params.get("next", "/"))
    if ws.settings.auth == "off":
        return RedirectResponse(onward, 303, headers())
    return _form(ws, request, onward)


async def sign_in(ws: Workspace, request: Request) -> Response:
    """Check the token, or the account's password, and give the browser a session for it."""
    body = await request.body()
    if len(body) > _MOST_BYTES:
        raise Invalid("the form is too large. It holds an account and a token or a password.")
    given = parse_qs(body.decode("utf-8", "replace"))
    onward = _onward(given.get("next", ["/"])[0])
    account = given.get("account", [""])[0].strip()
    try:
        session, _ = await run_in_threadpool(
            access.open_session,
            ws,
            given.get("token", [""])[0].strip(),
            account=account,
            address=address_of(request),
        )
    except (NotRecognised, TooOften) as error:
        return _form(ws, request, onward, account=account, problem=str(error), status=status_of(error))
    answer = RedirectResponse(onward, 303, headers())
    answer.set_cookie(
        SESSION_COOKIE,
        session,
        max_age=access.LASTS_S,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


async def sign_out(_ws: Workspace, _request: Request) -> Response:
    """Take the session from the browser."""
    answer = RedirectResponse("/sign-in", 303, headers())
    answer.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")
    return answer


def _form(
    ws: Workspace,
    request: Request,
    onward: str,
    *,
    account: str = "",
    problem: str | None = None,
    status: int = 200,
) -> Response:
    return page_answer(
        "sign_in.html",
        status=status,
        onward=onward,
        account=account,
        problem=problem,
        now=ws.now(),
        is_simulation=ws.is_simulation,
        who=None,
        may=frozenset(),
        signs_in=True,
        here=request.url.path,
        as_json=None,
    )


def _onward(wanted: str) -> str:
    """Where to go after signing in: a path of ours, never another site's address."""
    parts = urlsplit(wanted)
    is_ours = not parts.scheme and not parts.netloc and wanted.startswith("/")
    return wanted if is_ours and not wanted.startswith(("//", "/\\")) and wanted.isprintable() else "/"
