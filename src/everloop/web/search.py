"""`/search?q=`: paste an id or a name and be taken to its page."""

from __future__ import annotations

import re

from everloop import data, monitoring, pipelines, registry, rollout, tracking
from everloop.errors import NotFound
from everloop.web.visits import Moved, Shown, Visit
from everloop.web.words import place_of

_MOST = 20
_OF_A_KIND = 8  # experiments, and as many runs
_MLFLOW_ID = re.compile(r"[0-9a-f]{32}")  # of a run, as MLflow's clients tell it


def view(visit: Visit) -> Shown | Moved:
    wanted = visit.query.get("q", "").strip()[:200]
    if not wanted:
        return {"wanted": "", "near": []}
    return _exact(visit, wanted) or {"wanted": wanted, "near": _near(visit, wanted.lower())}


def _exact(visit: Visit, wanted: str) -> Moved | None:
    ws = visit.ws
    names = {one.name for one in registry.models(ws)}
    model, at, _number = wanted.rpartition("@")
    if at and model in names:
        found = registry.version(ws, wanted)  # an alias leads to its version
        return Moved(f"/models/{found.model}/{found.number}")
    if wanted.startswith("find_"):
        try:
            found_one = monitoring.finding(ws, wanted)
        except NotFound:
            return None
        return Moved(f"/endpoints/{found_one.endpoint}#{found_one.id}")
    if wanted in {one.name for one in rollout.endpoints(ws)}:
        return Moved(f"/endpoints/{wanted}")
    dataset, colon, _ = wanted.partition(":")
    if colon and dataset in {one.name for one in data.datasets(ws)}:
        return Moved(f"/rows/{wanted}")
    if _MLFLOW_ID.fullmatch(wanted):
        wanted = f"run_{wanted}"
    place = place_of(wanted)
    return Moved(place) if place else None


def _near(visit: Visit, wanted: str) -> list[dict[str, str]]:
    """Names that contain what was typed."""
    ws = visit.ws
    found = [
        {"kind": "endpoint", "name": one.name, "link": f"/endpoints/{one.name}"}
        for one in rollout.endpoints(ws)
        if wanted in one.name.lower()
    ]
    found += [
        {"kind": "pipeline", "name": name, "link": f"/pipelines/{name}"}
        for name in pipelines.pipeline_names(ws)
        if wanted in name.lower()
    ]
    for model in registry.models(ws):
        if wanted.partition("@")[0] in model.name.lower():
            found += [
                {"kind": "model version", "name": one.ref, "link": f"/models/{one.model}/{one.number}"}
                for one in registry.versions(ws, model.name, limit=5)
            ]
    for dataset in data.datasets(ws):
        if wanted in dataset.name.lower():
            found += [
                {"kind": "dataset version", "name": one.ref, "link": f"/trace/{one.ref}"}
                for one in data.versions(ws, dataset.name, limit=3)
            ]
    return [*found[:_MOST], *_tracked(visit, wanted)]


def _tracked(visit: Visit, wanted: str) -> list[dict[str, str]]:
    """Experiments and runs whose names contain what was typed."""
    quote = next((one for one in "'\"" if one not in wanted), None)
    if quote is None:
        return []  # a filter has no way to say both quotes
    like = f"ILIKE {quote}%{wanted}%{quote}"
    ws = visit.ws
    experiments = tracking.search_experiments(ws, filter_text=f"name {like}", limit=_OF_A_KIND).found
    runs = tracking.search_runs(
        ws,
        experiment_ids=[one.id for one in tracking.experiments(ws)],
        filter_text=f"attributes.run_name {like}",
        limit=_OF_A_KIND,
    ).found
    return [
        *({"kind": "experiment", "name": one.name, "link": f"/experiments/{one.id}"} for one in experiments),
        *(
            {"kind": f"run in {one.run.experiment}", "name": one.run.name, "link": f"/runs/{one.run.id}"}
            for one in runs
        ),
    ]
