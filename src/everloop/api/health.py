"""Whether the server is alive and ready."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version

import msgspec

from everloop.api.routes import Call, Route


class About(msgspec.Struct, frozen=True):
    version: str
    workspace: str
    simulation: bool
    now: datetime


def health(_call: Call) -> dict[str, bool]:
    """Whether the process answers."""
    return {"live": True}


def ready(call: Call) -> dict[str, bool]:
    """Whether the database answers; 507 otherwise."""
    with call.ws.read():
        return {"ready": True}


def about(call: Call) -> About:
    """The version, the workspace, and whether it is a simulation."""
    return About(version("everloop"), call.ws.id, call.ws.is_simulation, call.ws.now())


ROUTES = [
    Route("GET", "/health", None, health),
    Route("GET", "/ready", None, ready),
    Route("GET", "/api/about", "see", about),
]
