"""Style sheet, scripts, and plotly.js from the installed plotly package: files that never change under one address."""

from __future__ import annotations

import functools
import gzip
import mimetypes
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from everloop.errors import NotFound

_FOREVER = "public, max-age=31536000, immutable"
_PLOTLY = "plotly.min.js"


def static_route() -> Route:
    """Serves our own files and plotly.js; the version in the address makes an update seen at once."""
    return Route("/static/{version}/{name}", _serve, methods=["GET"])


@functools.cache
def plotly_address() -> str:
    """Where plotly.js is served; finding its version loads none of it."""
    return f"/static/plotly-{version('plotly')}/{_PLOTLY}"


async def _serve(request: Request) -> Response:
    name = request.path_params["name"]
    found = await run_in_threadpool(_packed, name)
    if found is None:
        return Response("no such file", 404, media_type="text/plain")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    headers = {"Cache-Control": _FOREVER, "X-Content-Type-Options": "nosniff", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found, headers={**headers, "Content-Encoding": "gzip"}, media_type=kind)
    return Response(gzip.decompress(found), headers=headers, media_type=kind)


@functools.cache
def _packed(name: str) -> bytes | None:
    """A file's content in gzip, kept: 40 KB of ours, 1.5 MB of plotly. None for a name that is not one of them."""
    if name == _PLOTLY:
        return gzip.compress(_plotly().read_bytes(), 6, mtime=0)
    known = {path.name: path for path in files("everloop.web").joinpath("static").iterdir() if path.is_file()}
    return gzip.compress(known[name].read_bytes(), 6, mtime=0) if name in known else None


def _plotly() -> Path:
    """plotly.js in its wheel, found without importing plotly, which takes a second."""
    found = find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        raise NotFound("the package plotly is not installed; plots need it. Install it: pip install plotly")
    return Path(found.submodule_search_locations[0]) / "package_data" / _PLOTLY
