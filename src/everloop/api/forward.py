"""Predictions asked for on the control port are handed to the data plane, which runs in a process of its own.

A model may run code and may crash; the pages must not go down with it. Callers in a hurry use the data plane's
own port and save the hop.
"""

from __future__ import annotations

import httpx
from starlette.requests import Request
from starlette.responses import Response

from everloop.access import Principal
from everloop.errors import NotReady

_TIMEOUT_S = 30.0
_PASSED_ON = ("content-type", "x-everloop-prediction-id", "x-everloop-version", "retry-after")


class Forwarder:
    """Keeps connections to the data plane open."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, trust_env=False)

    async def forward(self, request: Request, _principal: Principal) -> Response:
        """Pass the request on and its answer back. Raises NotReady when the data plane does not answer."""
        headers = {"Content-Type": request.headers.get("content-type", "application/json")}
        try:
            answer = await self._client.post(request.url.path, content=await request.body(), headers=headers)
        except httpx.HTTPError as error:
            raise NotReady(
                f"the data plane does not answer ({type(error).__name__}). It is being started or restarted; try again."
            ) from error
        kept = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        return Response(answer.content, status_code=answer.status_code, headers=kept)
