"""`/runs/ID`: one run: what it was told, what it measured over its steps, its files, and what it ran on.

`part=curves` tells the curves alone, which the page asks for when they are seen, zoomed, or grow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from everloop import registry, tracking
from everloop.errors import Denied, NotFound
from everloop.tracking import Run
from everloop.web.curves import asked_names, asked_part, curves_of, seconds_between
from everloop.web.experiments_page import NOTE_TAG, PIN_TAG, SYSTEM, TONES
from everloop.web.previews import File, files_of, preview_of
from everloop.web.static_files import plotly_address
from everloop.web.visits import Moved, Shown, Visit
from everloop.workspace import Workspace

_CURVES = 24  # drawn at once
_CHILDREN = 50
_FILES = 200
_INSIDE = 4  # metrics of the runs inside, and as many parameters
_INTERNAL = "mlflow."


def view(visit: Visit) -> Shown | Moved:
    ws = visit.ws
    found = tracking.found_run(ws, visit.path["id"])
    run = found.run
    if run.has_steps and visit.query.get("as") != "json":
        return Moved(f"/pipelines/runs/{run.id}")
    moving = tracking.curved(ws, [run.id])
    names = asked_names(visit, moving)
    drawn = [name for name in names if not name.startswith(SYSTEM)][:_CURVES]
    system = [name for name in names if name.startswith(SYSTEM)][:_CURVES]
    if visit.query.get("part") == "names":
        return {"drawn": drawn}
    part = asked_part(visit)
    # a page asks for its curves once they are seen
    curves = curves_of(ws, [run], [*drawn, *system], part) if visit.query.get("as") == "json" else []
    if visit.query.get("part") == "curves":
        return {"curves": curves}
    children = tracking.runs(ws, parent=run.id, limit=_CHILDREN)
    metrics, params = _columns(children)
    files, no_files = _files(ws, run.id)
    path = visit.query.get("file", "")
    return {
        "run": run,
        "found": found,
        "find": visit.query.get("find", "").strip(),
        "curves": curves,
        "drawn": drawn,
        "system": system,
        "single": len(found.latest) - len(moving),
        "left_out": len(names) - len(drawn) - len(system),
        "tags": {
            name: text
            for name, text in run.tags.items()
            if not name.startswith(_INTERNAL) and name != PIN_TAG
        },
        "note": run.tags.get(NOTE_TAG, ""),
        "is_pinned": PIN_TAG in run.tags,
        "note_tag": NOTE_TAG,
        "pin_tag": PIN_TAG,
        "source": {
            name.removeprefix(_INTERNAL): text
            for name, text in run.tags.items()
            if name.startswith((f"{_INTERNAL}source.", f"{_INTERNAL}user"))
        },
        "children": children,
        "most_children": _CHILDREN,
        "inside": {"metrics": metrics, "params": params},
        "models": _models(ws, run),
        "registered": [it.ref for it in registry.versions_made_by(ws, run.id) if it.logged_model is None],
        "parent": None if run.parent is None else _named(ws, run.parent),
        "files": files[:_FILES],
        "all_files": len(files),
        "no_files": no_files,
        "opened": path,
        "preview": preview_of(ws, run.id, files, path) if path else None,
        "environment": None if run.environment is None else tracking.environment(ws, run.environment),
        "tones": TONES,
        "plotly": plotly_address(),
        "seconds": seconds_between(run.started_at, run.ended_at or ws.now()),
    }


def _named(ws: Workspace, run: str) -> str | None:
    """A run's name, None when it was cleaned up."""
    try:
        return tracking.run(ws, run).name
    except NotFound:
        return None


def _files(ws: Workspace, owner: str) -> tuple[list[File], str | None]:
    """Its files, or why they cannot be listed."""
    try:
        return files_of(ws, owner), None
    except Denied as error:
        return [], str(error)


def _models(ws: Workspace, run: Run) -> list[dict[str, Any]]:
    """The models that a run logged, each with the versions that were registered of it."""
    made = tracking.models_of_run(ws, run.id)
    versions = registry.versions_made_by(ws, run.id, [one.id for one in made])
    return [
        {"model": one, "versions": [it.ref for it in versions if it.logged_model == one.id]} for one in made
    ]


def _columns(children: Sequence[Run]) -> tuple[list[str], list[str]]:
    """Of the runs inside: metrics that most of them have, and parameters that differ."""
    metrics = Counter(name for one in children for name in one.metrics if not name.startswith(SYSTEM))
    names = sorted({name for one in children for name in one.params})
    params = [name for name in names if len({one.params.get(name) for one in children}) > 1]
    return [name for name, _ in metrics.most_common(_INSIDE)], params[:_INSIDE]
