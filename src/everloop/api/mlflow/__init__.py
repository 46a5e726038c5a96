"""MLflow's REST protocol over the rooms tracking and registry, so that its clients work here unchanged.

Answers what MLflow's clients ask a tracking server: `protocol` finds the route, reads the request, knows who asks and
shapes answers and errors; each other module holds the routes of one noun and calls one verb for each. Owns no table and
keeps no second model of anything: a run that a client made and one that a pipeline made are the same thing. What is
not answered is refused by name, never with a success.
"""

from __future__ import annotations

import importlib

from starlette.routing import BaseRoute, Match
from starlette.routing import Route as StarletteRoute
from starlette.types import Receive, Scope, Send

from everloop.api.mlflow.protocol import STATUSES as MLFLOW_STATUSES
from everloop.api.mlflow.protocol import MlflowRoute, Protocol
from everloop.api.mlflow.server import PROTOCOL_VERSION
from everloop.workspace import Workspace

__all__ = ["MLFLOW_STATUSES", "PROTOCOL_VERSION", "MlflowRoute", "mlflow_routes", "mounted"]

# The modules that hold routes; the order is that of the reference page.
MODULES = (
    "server",
    "experiments",
    "runs",
    "metrics",
    "artifacts",
    "multipart",
    "logged_models",
    "traces",
    "registered_models",
    "model_versions",
    "webhooks",
)
_PREFIXES = ("/api/", "/ajax-api/")  # the second is what MLflow's own pages call


def mlflow_routes() -> list[MlflowRoute]:
    """Every call of MLflow's protocol that is answered."""
    return [
        route for name in MODULES for route in importlib.import_module(f"everloop.api.mlflow.{name}").ROUTES
    ]


def mounted(ws: Workspace) -> list[BaseRoute]:
    """The protocol at the places where MLflow's clients look for it."""
    known = mlflow_routes()
    found: list[BaseRoute] = []
    for version in ("2.0", "3.0"):
        here = [route for route in known if route.version == version]
        found += [_Below(f"{prefix}{version}/", ws, here) for prefix in _PREFIXES]
    for route in known:
        if route.version is None:
            app = Protocol(ws, [route], prefix="/")
            found.append(StarletteRoute(f"/{route.path}", app, methods=[route.method]))
    return found


class _Below(BaseRoute):
    """All that begins with a prefix, whatever follows: starlette's Mount lets a line's end in a name pass by."""

    def __init__(self, prefix: str, ws: Workspace, routes: list[MlflowRoute]) -> None:
        self._prefix = prefix
        self._app = Protocol(ws, routes, prefix=prefix)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        is_below = scope["type"] == "http" and scope["path"].startswith(self._prefix)
        return (Match.FULL if is_below else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
