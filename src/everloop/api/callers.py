"""Who sent a request: the holder of its token, or of the session in its cookie."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from everloop import access
from everloop.access import Principal
from everloop.api.guard import check_same_origin
from everloop.errors import NotRecognised
from everloop.workspace import Workspace

SESSION_COOKIE = "everloop_session"


def recognise(ws: Workspace, request: HTTPConnection) -> Principal:
    """Who sent a request: the holder of its token, or of the session in its cookie. Raises NotRecognised."""
    if ws.settings.auth == "off":
        return access.local_principal(ws)
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret:
        return access.authenticate(ws, secret)
    session = request.cookies.get(SESSION_COOKIE)
    if not session:
        raise NotRecognised(
            "this server wants a token. Send the header 'Authorization: Bearer TOKEN', or sign in at /sign-in; an "
            "owner makes tokens."
        )
    check_same_origin(request)
    return access.resume_session(ws, session)


def address_of(request: HTTPConnection) -> str:
    """The address that a request came from: of the nearest proxy, if there is one."""
    return request.client.host if request.client else ""
