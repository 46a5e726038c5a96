"""Whether the server is alive and ready."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from everloop.api.routes import Call, Route


def health(_call: Call) -> dict[str, Any]:
    """Whether the process answers."""
    return {"live": True}


def ready(call: Call) -> dict[str, Any]:
    """Whether the database answers; 507 otherwise."""
    with call.ws.read():
        return {"ready": True}


def about(call: Call) -> dict[str, Any]:
    """The version, the workspace, and whether it is a simulation."""
    return {
        "version": version("everloop"),
        "workspace": call.ws.id,
        "simulation": call.ws.is_simulation,
        "now": call.ws.now(),
    }


ROUTES = [
    Route("GET", "/health", None, health),
    Route("GET", "/ready", None, ready),
    Route("GET", "/api/about", "see", about),
]
