"""`/endpoints/NAME/plan`: what a release would do before it begins, how it would go, and what became of those before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from everloop import registry, rollout
from everloop.errors import EverloopError
from everloop.rollout import Canary, Endpoint, Plan, Prospect
from everloop.web.visits import Shown, Visit
from everloop.workspace import Workspace

_VERSIONS = 12
_EARLIER = 20
_MADE_UP = 200  # rollouts of each kind: a page has some seconds


@dataclass(frozen=True)
class Needed:
    """How many requests of the new version a stage takes to show a metric's margin, when it is no worse; None: too many."""

    weight: float
    metric: str
    margin: float
    requests: int | None


def view(visit: Visit) -> Shown:
    ws, name = visit.ws, visit.path["name"]
    endpoint = rollout.endpoint(ws, name)
    wanted = visit.query.get("version", "").strip()
    answering = {one.version for one in endpoint.variants}
    versions = [one for one in registry.versions(ws, endpoint.model) if one.ref not in answering][:_VERSIONS]
    made, problem, again = _planned(ws, name, wanted)
    told: dict[str, Any] = {"prospects": None, "needed": (), "untold": None}
    if visit.query.get("prospects"):
        told = _told(ws, endpoint)
    return {
        "endpoint": endpoint,
        "canary": endpoint.canary,
        "wanted": wanted,
        "versions": versions,
        "plan": made,
        "problem": problem,
        "again": again,
        **told,
        "earlier": rollout.rollouts(ws, endpoint_name=name, limit=_EARLIER),
    }


def _planned(ws: Workspace, name: str, version: str) -> tuple[Plan | None, str | None, bool]:
    """The plan, or why there is none; and whether a person must say that an earlier rollback does not matter."""
    if not version:
        return None, None, False
    again = rollout.was_rolled_back(ws, name, version)
    try:
        return rollout.plan(ws, name, version, again=again), None, again
    except EverloopError as error:
        return None, str(error), again


def _told(ws: Workspace, endpoint: Endpoint) -> dict[str, Any]:
    """How made-up rollouts by the endpoint's plan ended, and what each stage takes; takes a second or two."""
    try:
        found = rollout.prospects(ws, endpoint.name, n_rollouts=_MADE_UP)
    except EverloopError as error:
        return {"prospects": None, "needed": (), "untold": str(error)}
    return {"prospects": found, "needed": _needed(endpoint.canary, found[0]), "untold": None}


def _needed(canary: Canary, no_worse: Prospect) -> list[Needed]:
    return [
        Needed(
            step,
            rule.metric,
            rule.excess_at_most,
            _requests(rule.excess_at_most, step / 100, rule.metric, no_worse),
        )
        for step in canary.steps
        if step < 100
        for rule in canary.rules.metrics
        if rule.excess_at_most is not None and (rule.metric == "wrong" or not rule.is_mean)
    ]


def _requests(margin: float, share: float, metric: str, no_worse: Prospect) -> int | None:
    """The canary's, of which a part alone may be audited."""
    known = rollout.requests_to_show(margin, canary_share=share, rate=no_worse.rates[metric][0])
    return None if known is None else round(known / no_worse.told.get(metric, 1.0))
