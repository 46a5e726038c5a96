"""`/runs/ID`: one run: what it was told, what it measured over its steps, its files, and what it ran on."""

from __future__ import annotations

from typing import Any

from everloop import tracking
from everloop.web.curves import asked_names, asked_steps, curves_of, seconds_between
from everloop.web.experiments_page import NOTE_TAG, PIN_TAG, TONES
from everloop.web.static_files import plotly_address
from everloop.web.visits import Moved, Shown, Visit

_CURVES = 24  # drawn at once
_CHILDREN = 50
_FILES = 200
_PREVIEW_BYTES = 200_000
_SYSTEM = "system/"  # how MLflow's clients name what they measure of the machine
_INTERNAL = "mlflow."


def view(visit: Visit) -> Shown | Moved:
    ws = visit.ws
    found = tracking.found_run(ws, visit.path["id"])
    run = found.run
    if run.has_steps and visit.query.get("as") != "json":
        return Moved(f"/pipelines/runs/{run.id}")
    moving_first = sorted(found.latest, key=lambda one: one.step == 0)
    names = asked_names(visit, [one.name for one in moving_first])
    drawn = [name for name in names if not name.startswith(_SYSTEM)][:_CURVES]
    system = [name for name in names if name.startswith(_SYSTEM)][: _CURVES - len(drawn)]
    steps = asked_steps(visit)
    told = curves_of(ws, [run], [*drawn, *system], steps)
    # one value is no curve, unless somebody looked so near that no more is seen
    curves = sorted((one for one in told if steps or len(one.steps) > 1), key=lambda one: one.name)
    children = tracking.runs(ws, parent=run.id, limit=_CHILDREN)
    files = tracking.artifacts(ws, run.id)
    path = visit.query.get("file", "")
    return {
        "run": run,
        "found": found,
        "find": visit.query.get("find", "").strip(),
        "curves": [one for one in curves if not one.name.startswith(_SYSTEM)],
        "system": [one for one in curves if one.name.startswith(_SYSTEM)],
        "single": len(told) - len(curves),
        "left_out": len(names) - len(told),
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
