"""`/compare?runs=A,B`: what differs between runs, code first, and where their models answer differently."""

from __future__ import annotations

from typing import Any

from everloop import pipelines, registry, tracking
from everloop.errors import Invalid
from everloop.tracking import Run
from everloop.web.curves import asked_names, asked_part, curves_of
from everloop.web.static_files import plotly_address
from everloop.web.visits import Shown, Visit
from everloop.workspace import Workspace

_MOST = 5  # runs at once
_CHOICES = 50  # of pipelines' runs, and as many of others
_CURVES = 12  # drawn at once
_ROWS = 50
_SOURCE = "mlflow.source."  # how MLflow's clients name what they tell of their code
_DIFF = 400  # lines of one file


def view(visit: Visit) -> Shown:
    """The last run that is named against the first; of those between, the numbers, the parameters and the curves.

    `part=curves` tells the curves alone, which the page asks for when they are seen or zoomed.
    """
    given = visit.query.get("runs", "") or ",".join(
        filter(None, (visit.query.get("before"), visit.query.get("after")))
    )
    names = [one.strip() for one in given.split(",") if one.strip()]
    shown: dict[str, Any] = {
        "names": names,
        "choices": pipelines.run_lines(visit.ws, limit=_CHOICES),
        "plain": tracking.runs(visit.ws, kind="run", limit=_CHOICES),
        "found": None,
    }
    if len(names) < 2:
        return shown
    if len(names) > _MOST:
        raise Invalid(f"{len(names)} runs are named; a page compares {_MOST} at most. Leave some out.")
    placed = [tracking.found_run(visit.ws, _run_of(visit.ws, name)) for name in names]
    runs = [one.run for one in placed]
    moving = tracking.curved(visit.ws, [one.id for one in runs])
    named = asked_names(visit, moving)
    if visit.query.get("part") == "names":
        return {"drawn": named[:_CURVES]}
    part = asked_part(visit)
    # a page asks for its curves once they are seen
    curves = curves_of(visit.ws, runs, named[:_CURVES], part) if visit.query.get("as") == "json" else []
    if visit.query.get("part") == "curves":
        return {"curves": curves}
    found = pipelines.compare(visit.ws, runs[0].id, runs[-1].id, limit=_ROWS)
    told = {name for run in runs for name in run.params}
    is_code_known = all(one.code is not None for one in (runs[0], runs[-1]))
    sources = _sources(runs)
    parts = {
        "code": len(found.code) + bool(found.code_problem and is_code_known) + bool(sources),
        "data": len(found.data),
        "labels": len(found.labels),
        "parameters": len(found.parameters),
        "environment": len(found.environment),
        "machine": len(found.hardware),
    }
    unknown = [*found.unknown, *(() if is_code_known else ("code",))]
    return {
        **shown,
        "runs": runs,
        "experiments": [one.experiment_id for one in placed],
        "found": found,
        "metrics": _metrics(runs),
        "curves": curves,
        "drawn": named[:_CURVES],
        "moving": len(moving),
        "named": len(named),
        "find": visit.query.get("find", "").strip(),
        "plotly": plotly_address(),
        "params": _params(runs),
        "constants": [one for one in found.parameters if one.name not in told],
        "files": [_lines(one.path, one.diff) for one in found.code],
        "sources": sources,
        "same": [name for name, number in parts.items() if not number and name not in unknown],
        "unknown": [name for name in unknown if not parts[name]],
        "differs": {name: number for name, number in parts.items() if number},
        "dataset": _dataset(visit.ws, runs[-1]),
        "most_rows": _ROWS,
    }


def _run_of(ws: Workspace, name: str) -> str:
    """The run of a version such as category@2; a run's id is itself."""
    version = registry.version(ws, name) if "@" in name else None
    if version is not None and version.run is None:
        raise Invalid(f"{name} was registered without a run; runs are compared. Name another version.")
    return name if version is None or version.run is None else version.run


def _metrics(runs: list[Run]) -> list[dict[str, Any]]:
    """Each number of any run: the value in each, on a scale from 0 to the largest, and how far the last is off."""
    found = []
    for name in sorted({metric for one in runs for metric in one.metrics}):
        values = [one.metrics.get(name) for one in runs]
        known = [abs(value) for value in values if value is not None]
        largest = max(known, default=0.0) or 1.0
        first, last = values[0], values[-1]
        found.append(
            {
                "name": name,
                "values": values,
                "shares": [None if value is None else abs(value) / largest for value in values],
                "change": None if first is None or last is None else last - first,
            }
        )
    return found


def _params(runs: list[Run]) -> list[dict[str, Any]]:
    """The parameters that are not the same in all runs, with the value in each; None where it was not told."""
    values = {
        name: [one.params.get(name) for one in runs]
        for name in sorted({key for one in runs for key in one.params})
    }
    return [{"name": name, "values": found} for name, found in values.items() if len(set(found)) > 1]


def _sources(runs: list[Run]) -> list[dict[str, Any]]:
    """What clients said of their code, as far as it is not the same in all runs: the file, the commit."""
    names = sorted({name for one in runs for name in one.tags if name.startswith(_SOURCE)})
    values = {name: [one.tags.get(name) for one in runs] for name in names}
    return [
        {"name": name.removeprefix(_SOURCE), "values": found}
        for name, found in values.items()
        if len(set(found)) > 1
    ]


def _lines(path: str, diff: str) -> dict[str, Any]:
    """A file's diff as lines with what each is."""
    every = diff.split("\n")
    kinds = {"+": "added", "-": "removed", "@": "place"}
    lines = [
        (one, "head" if one.startswith(("+++", "---")) and i < 2 else kinds.get(one[:1], ""))
        for i, one in enumerate(every[:_DIFF])
    ]
    return {
        "path": path,
        "lines": lines,
        "left_out": max(0, len(every) - _DIFF),
        "added": sum(kind == "added" for _, kind in lines),
        "removed": sum(kind == "removed" for _, kind in lines),
    }


def _dataset(ws: Workspace, run: Run) -> str | None:
    """The data set whose rows the last run's model was tested on, for links to the rows."""
    if not run.has_steps:
        return None
    pins = pipelines.run_overview(ws, run.id).run.pins.values()
    return next((one.ref.partition("@")[0] for one in pins if one.kind == "dataset_version"), None)
