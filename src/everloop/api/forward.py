"""Predictions asked for on the control port are handed to the data plane, which runs in a process of its own.

A model may run code and may crash; the pages must not go down with it. Callers in a hurry use the data plane's
own port and save the hop.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from everloop.access import Permission, Principal
from everloop.errors import NotReady
from everloop.serving import (
    BODIES_AT_ONCE,
    BODY_LIMIT_BYTES,
    PREDICTION_ROUTES,
    Refusal,
    Room,
    read_body,
    rule_headers,
)

if TYPE_CHECKING:
    import httpx

_ANSWER_S = 3_660.0  # longer than any deadline: it is the data plane's to say that it is over
_CONNECT_S = 60.0  # when all connections are in use, too
_ASKED_WITH = (
    "content-type",
    "content-encoding",
    "inference-header-content-length",
    "x-everloop-key",
    "x-everloop-replay",
    "x-everloop-at",
    "x-everloop-timeout-ms",
    "x-everloop-version",
)
_PASSED_ON = (
    "content-type",
    "inference-header-content-length",
    "x-everloop-not-logged",
    "x-everloop-prediction-id",
    "x-everloop-request",
    "x-everloop-version",
    "retry-after",
)
_OWN = ("/", "/health", "/ready", "/version")

FORWARDED: list[tuple[str, str, Permission | None]] = sorted(
    (
        (method, path, None if permission == "public" else permission)
        for method, path, permission in PREDICTION_ROUTES
        if path not in _OWN
    ),
    key=lambda route: ":" not in route[1],
)
"""Method, path and permission of what the data plane answers and the control plane does not.

`/v1/models/NAME:predict` comes before `/v1/models/NAME`, which it fits, too: the first says which methods there are.
"""


class Forwarder:
    """Keeps connections to the data plane open; passes on what it reads, and the headers that rules in `folder` look at."""

    def __init__(self, url: str | None, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self._room = Room(BODIES_AT_ONCE * BODY_LIMIT_BYTES)
        self._routes: tuple[int, int] | None = None
        self._rule_headers: frozenset[str] = frozenset()

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415  (5 MB that a server without predictions does without)

        return httpx.AsyncClient(
            base_url=self._url or "", timeout=httpx.Timeout(_CONNECT_S, read=_ANSWER_S), trust_env=False
        )

    async def close(self) -> None:
        if "_client" in vars(self):
            await self._client.aclose()

    async def forward(self, request: Request, _principal: Principal) -> Response:
        """Pass the request on and its answer back.

        Raises NotReady when the data plane does not answer or large bodies leave no room, TooLarge where the data plane would not read it.
        """
        if self._url is None:
            raise NotReady(
                "this server has no data plane beside it to ask for predictions. Start both: everloop up"
            )
        body = b""
        try:
            body = await read_body(
                request.scope["headers"], request.receive, limit_bytes=BODY_LIMIT_BYTES, room=self._room
            )
            return await self._passed_on(request, body)
        except Refusal as refusal:
            raise NotReady(str(refusal)) from refusal
        finally:
            self._room.free(len(body))

    async def _passed_on(self, request: Request, body: bytes) -> Response:
        asked_with = (*_ASKED_WITH, *self._of_rules())
        headers = {name: request.headers[name] for name in asked_with if name in request.headers}
        client = self._client
        from httpx import HTTPError  # noqa: PLC0415  (as above)

        try:
            answer = await client.request(
                request.method, quote(request.scope["path"], safe="/:"), content=body, headers=headers
            )
        except HTTPError as error:
            raise NotReady(
                f"the data plane does not answer ({type(error).__name__}). Nothing is live yet, or it is being started or "
                "restarted: release a version and start a rollout on an endpoint, or try again."
            ) from error
        kept = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        return Response(answer.content, status_code=answer.status_code, headers=kept)

    def _of_rules(self) -> frozenset[str]:
        """The headers that rules look at now: one stat of a file while the routes stay as they are."""
        try:
            stat = (self._folder / "routes.json").stat()
        except FileNotFoundError:
            return frozenset()
        if self._routes != (stat.st_ino, stat.st_mtime_ns):
            self._rule_headers = rule_headers(self._folder)
            self._routes = (stat.st_ino, stat.st_mtime_ns)
        return self._rule_headers
