"""`/endpoints` and `/models`: what there is, each with its state in a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from everloop import registry, rollout
from everloop.errors import NotFound
from everloop.registry import ModelVersion
from everloop.web.visits import Moved, Shown, Visit
from everloop.workspace import Workspace

_VERSIONS = 20  # of a model; the newest


@dataclass(frozen=True)
class VersionLine:
    """A version with where it stands: live, released, waits for approval, may go live, blocked or rejected."""

    version: ModelVersion
    state: str
    tone: Literal["ok", "attention", "failed", "live"]


def view_endpoints(visit: Visit) -> Shown | Moved:
    """All endpoints; the only one there is, is shown itself."""
    found = rollout.endpoints(visit.ws)
    if len(found) == 1 and visit.query.get("as") != "json":
        return Moved(f"/endpoints/{found[0].name}")
    return {"endpoints": found}


def view_models(visit: Visit) -> Shown:
    """All models, or one, with their newest versions."""
    names = [one.name for one in registry.models(visit.ws)]
    if (wanted := visit.path.get("model")) is not None:
        if wanted not in names:
            raise NotFound(f"there is no model {wanted!r}. /models lists them.")
        names = [wanted]
    return {"models": {name: _lines(visit.ws, name) for name in names}, "most": _VERSIONS}


def _lines(ws: Workspace, name: str) -> list[VersionLine]:
    live = {one.version: endpoint.name for endpoint in rollout.endpoints(ws) for one in endpoint.variants}
    released = {one.version for one in registry.releases(ws, name)}
    return [_line(ws, one, live, released) for one in registry.versions(ws, name, limit=_VERSIONS)]


def _line(ws: Workspace, one: ModelVersion, live: dict[str, str], released: set[str]) -> VersionLine:
    if one.ref in live:
        return VersionLine(one, f"live on {live[one.ref]}", "live")
    if one.ref in released:
        return VersionLine(one, "released", "ok")
    kinds = {obstacle.kind for obstacle in registry.readiness(ws, one.ref).obstacles}
    if not kinds:
        return VersionLine(one, "may go live", "ok")
    if kinds == {"approvals"}:
        return VersionLine(one, "waits for approval", "attention")
    if kinds <= {"approvals", "soak"}:
        return VersionLine(one, "waits", "attention")
    return VersionLine(one, "rejected" if "rejected" in kinds else "blocked", "failed")
