"""`/runs/ID`: one run: what it was told, what it measured over its steps, its files, and what it ran on.

`part=curves` tells the curves alone, which the page asks for when they are seen, zoomed, or grow.
"""

from __future__ import annotations

from typing import Any

from everloop import tracking
from everloop.web.curves import asked_names, asked_part, curves_of, seconds_between
from everloop.web.experiments_page import NOTE_TAG, PIN_TAG, TONES
from everloop.web.static_files import plotly_address
from everloop.web.visits import Moved, Shown, Visit

_CURVES = 24  # drawn at once
_CHILDREN = 50
_FILES = 200
_PREVIEW_BYTES = 200_000
SYSTEM = "system/"  # how MLflow's clients name what they measure of the machine
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
    files = tracking.artifacts(ws, run.id)
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
        "tags": {name: text for name, text in run.tags.items() if not name.startswith(_INTERNAL)},
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
        "files": files[:_FILES],
        "all_files": len(files),
        "opened": path,
        "preview": _preview(visit, run.id, path) if path else None,
        "environment": None if run.environment is None else tracking.environment(ws, run.environment),
        "tones": TONES,
        "plotly": plotly_address(),
        "seconds": seconds_between(run.started_at, run.ended_at or ws.now()),
    }


def _preview(visit: Visit, run_id: str, path: str) -> dict[str, Any]:
    """The beginning of a file as text, which a page shows as text whatever it holds; None when it is none."""
    content = tracking.read_artifact(visit.ws, run_id, path)
    text = None
    if b"\0" not in content[:_PREVIEW_BYTES]:
        text = content[:_PREVIEW_BYTES].decode(errors="replace")
    return {"path": path, "text": text, "size": len(content), "is_cut": len(content) > _PREVIEW_BYTES}
