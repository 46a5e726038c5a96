"""`/pipelines/runs/ID`: what happened in this run: its steps as a graph and in a table, and one of them in detail."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from everloop import checks, clock, jobs, loop, pipelines, registry, searches, tracking
from everloop.errors import NotFound
from everloop.jobs import Job
from everloop.pipelines import PipelineRun, RunOverview, StepRun
from everloop.web.bundles import MOST, Bundle, folded
from everloop.web.layers import BOX, Drawing, drawn
from everloop.web.run_nodes import STATES, RunNode, Tone, inputs_of, nodes_of, summed, time_line
from everloop.web.visits import Moved, Shown, Visit
from everloop.web.words import short
from everloop.workspace import Workspace

_ROWS = 100  # of the table on one page
_CALLS = 20  # of a map: those that failed or run, then the newest
_LOG = 40_000  # characters of what a step printed, from the end
_TEXT = 3_000  # characters of one value
_VERDICTS = 5  # of reruns, the newest
_ASKED = 100  # jobs of a kind that were put for any run, looked through


@dataclass(frozen=True)
class Box:
    """A box of the graph. `said` is its second line, `link` what a click leads to, `share` how much of a map is done."""

    id: str
    kind: str
    label: str
    state: str
    tone: Tone
    said: str
    link: str | None
    x: int
    y: int
    is_found: bool
    share: float | None


def view(visit: Visit) -> Shown | Moved:
    ws, run_id = visit.ws, visit.path["id"]
    tracked = tracking.run(ws, run_id)
    if not tracked.has_steps:
        return Moved(f"/trace/{run_id}")
    seen = pipelines.run_overview(ws, run_id)
    nodes = nodes_of(seen)
    find, state = visit.query.get("find", "").strip(), visit.query.get("state", "")
    found = [one for one in nodes.values() if _is_found(one, find, state)]
    line = time_line(seen.run, list(nodes.values()), ws.now())
    first = _number(visit.query.get("first", ""))
    return {
        "run": _without_plan(seen),
        "tracked": tracked,
        "seed": seen.plan.seed,
        "repeats": seen.plan.repeats,
        "counts": _counts(nodes),
        "steps": len(nodes),
        "failed": [one for one in nodes.values() if one.state == "failed"][:3],
        **_graph(visit, seen, nodes, {one.name for one in found} if find or state else None),
        "rows": found[first : first + _ROWS],
        "found": len(found),
        "first": first,
        "most_rows": _ROWS,
        "line": line,
        "selected": _selected(ws, seen, nodes, visit.query.get("step", "")),
        "query": {"find": find, "state": state, "step": visit.query.get("step", "")},
        "states": [one for one in STATES if any(node.state == one for node in nodes.values())],
        **_made_of(ws, seen, tracked),
        **_came_of(ws, run_id),
        **_acts(ws, seen),
        "search": searches.of_run(ws, tracked.parent) if tracked.parent else None,
        "earlier": next(
            iter(pipelines.run_lines(ws, pipeline=seen.run.pipeline, after=run_id, limit=1)), None
        ),
    }


def _without_plan(seen: RunOverview) -> dict[str, Any]:
    return {
        **{
            name: value
            for name, value in vars(seen.run).items()
            if name not in ("plan", "steps", "pins", "lease_until")
        },
        "is_left": _is_left(seen.run),
        "seconds": seen.run.ended_at and (seen.run.ended_at - seen.run.started_at).total_seconds(),
    }


def _is_left(run: PipelineRun) -> bool:
    """Whether the process that ran it is gone; leases run on machine time."""
    return run.state in ("running", "pausing") and (run.lease_until is None or run.lease_until < clock.wall())


def _is_found(one: RunNode, find: str, state: str) -> bool:
    return find.lower() in f"{one.name} {one.step}".lower() and state in ("", one.state)


def _number(text: str) -> int:
    return int(text) if text.isdigit() and len(text) < 9 else 0


def _counts(nodes: dict[str, RunNode]) -> dict[str, int]:
    every = [one.state for one in nodes.values()]
    return {state: every.count(state) for state in STATES if state in every}


def _graph(
    visit: Visit, seen: RunOverview, nodes: dict[str, RunNode], found: set[str] | None
) -> dict[str, Any]:
    opened = tuple(one for one in visit.query.get("open", "").split(",") if one)
    inputs = inputs_of(seen)
    bundles, drawing = _laid_out(
        tuple(
            (one.name, (*inputs[one.name], *one.waits_for), f"{one.step} {one.guards}")
            for one in seen.plan.steps
        ),
        tuple(dict.fromkeys(name for names in inputs.values() for name in names)),
        opened,
    )
    boxes = [_box(visit, seen, nodes, found, one, drawing.boxes[one.id]) for one in bundles]
    by_id = {one.id: one for one in boxes}
    conditions = {  # under which a step runs, and which hand it nothing
        (node, one.name) for one in seen.plan.steps for node, _ in one.guards if node not in one.needs
    }
    wires = [
        {
            "path": path,
            "is_quiet": by_id[target].tone == "quiet" or by_id[source].state == "skipped",
            "is_condition": (source, target) in conditions,
        }
        for source, target, path in drawing.wires
    ]
    return {
        "boxes": boxes,
        "wires": wires,
        "drawing": {"width": drawing.width, "height": drawing.height, "box": BOX},
        "folds": {"most": MOST, "folded": len(bundles) < len(nodes), "opened": list(opened)},
    }


@functools.lru_cache(maxsize=64)
def _laid_out(
    steps: tuple[tuple[str, tuple[str, ...], str], ...], inputs: tuple[str, ...], opened: tuple[str, ...]
) -> tuple[list[Bundle], Drawing]:
    """Boxes and where they stand: worked out once, while a run is looked at every two seconds.

    A step is its name, what it stands behind, and what it must share with others to be folded with them.
    """
    bundles = folded(
        [*inputs, *(name for name, _, _ in steps)],
        {name: before for name, before, _ in steps},
        like={name: like for name, _, like in steps},
        inputs=inputs,
        opened=opened,
    )
    return bundles, drawn([one.id for one in bundles], {one.id: one.before for one in bundles})


def _box(
    visit: Visit,
    seen: RunOverview,
    nodes: dict[str, RunNode],
    found: set[str] | None,
    bundle: Bundle,
    at: tuple[int, int],
) -> Box:
    """`found` are the steps that were searched for, None when nothing was."""
    members = [nodes[one] for one in bundle.members if one in nodes]
    is_found = found is None or not members or any(one.name in found for one in members)
    if not members:
        told = _input(seen, bundle.id)
    elif bundle.kind == "one":
        told = _single(visit, members[0])
    else:
        told = _fold(visit, bundle, members)
    return Box(id=bundle.id, x=at[0], y=at[1], is_found=is_found, **told)


def _input(seen: RunOverview, name: str) -> dict[str, Any]:
    label = name.removeprefix("input ")
    pinned = seen.run.pins.get(label)
    is_dataset = pinned is not None and pinned.kind == "dataset_version"
    ref = "" if pinned is None else pinned.ref
    return {
        "kind": "input",
        "label": label,
        "state": "",
        "tone": "quiet",
        "said": short(ref),
        "link": f"/trace/{ref}" if is_dataset else None,
        "share": None,
    }


def _single(visit: Visit, one: RunNode) -> dict[str, Any]:
    return {
        "kind": "map" if one.is_map else "step",
        "label": one.name,
        "state": one.state,
        "tone": one.tone,
        "said": _said(one),
        "link": _link(visit, step=one.name),
        "share": one.finished_calls / one.items if one.is_map and one.items else None,
    }


def _fold(visit: Visit, bundle: Bundle, members: list[RunNode]) -> dict[str, Any]:
    """Many steps in one box, which a click opens."""
    word, tone = summed(members)
    is_one_function = len({one.step for one in members}) == 1
    what = f"{members[0].step} steps" if is_one_function else f"steps from {bundle.id}"
    counts = _counts({one.name: one for one in members})
    opened = [*filter(None, visit.query.get("open", "").split(",")), bundle.id]
    return {
        "kind": bundle.kind,
        "label": f"{len(members)} {what}",
        "state": word,
        "tone": tone,
        "said": ", ".join(f"{number} {state}" for state, number in counts.items()),
        "link": _link(visit, open=",".join(opened)),
        "share": sum(one.state in ("done", "cached", "skipped") for one in members) / len(members),
    }


def _said(one: RunNode) -> str:
    """What happened to a step in a few words."""
    if one.is_map and one.calls:
        of = "" if one.items is None else f" of {one.items:,}"
        failed = one.calls.get("failed", 0)
        return f"{one.finished_calls:,}{of} done" + (f", {failed:,} failed" if failed else "")
    return ", ".join(one.notes)


def _link(visit: Visit, **changed: str) -> str:
    kept = {name: visit.query[name] for name in ("find", "state", "open", "step") if visit.query.get(name)}
    return "?" + urlencode({**kept, **changed}, safe=",")


def _selected(
    ws: Workspace, seen: RunOverview, nodes: dict[str, RunNode], name: str
) -> dict[str, Any] | None:
    """One step, or one call of a map, with all that is on record of it."""
    planned = seen.plan.by_name.get(name.partition("[")[0])
    if planned is None:
        return None
    attempts = pipelines.attempts_at(ws, seen.run.id, name)
    last = attempts[-1] if attempts else None
    found: dict[str, Any] = {
        "name": name,
        "planned": planned,
        "node": nodes.get(name),
        "attempts": attempts,
        "why": None,
        "from_run": None,
        "output": None,
        "printed": None,
        "calls": [],
        "next": [one.name for one in nodes.values() if planned.name in one.before],
    }
    if last is None:
        return found
    found["why"] = pipelines.why(ws, seen.run.id, name)
    if last.state == "cached" and last.made_by is not None:
        found["from_run"] = pipelines.step_run(ws, last.made_by).run
    found["output"] = _output(last)
    found["printed"] = _printed(ws, attempts)
    if planned.over is not None and name == planned.name:
        found["calls"] = [
            *pipelines.calls_of(ws, seen.run.id, name, states=("failed", "running"), limit=_CALLS),
            *pipelines.calls_of(ws, seen.run.id, name, states=("done", "cached"), limit=_CALLS),
        ][:_CALLS]
    return found


def _output(last: StepRun) -> dict[str, Any] | None:
    stored = last.output
    if stored is None:
        return None
    value = None
    if stored.kind == "json" and stored.note is not None:
        value = json.dumps(json.loads(stored.note)["value"], indent=2, ensure_ascii=False)
        value = value if len(value) <= _TEXT else value[:_TEXT] + " …"
    return {
        "kind": stored.kind,
        "digest": stored.digest,
        "size_bytes": stored.size_bytes,
        "metrics": dict(stored.metrics),
        "value": value,
    }


def _printed(ws: Workspace, attempts: list[StepRun]) -> str | None:
    """What the newest attempt that printed something printed, its end."""
    for one in reversed(attempts):
        try:
            text = pipelines.printed(ws, one).decode(errors="replace")
        except NotFound:
            continue
        if text:
            return text if len(text) <= _LOG else "[…] " + text[-_LOG:]
    return None


def _made_of(ws: Workspace, seen: RunOverview, tracked: tracking.Run) -> dict[str, Any]:
    """Code, environment, machine and inputs of a run."""
    return {
        "pins": dict(seen.run.pins),
        "code": None if tracked.code is None else tracking.code(ws, tracked.code),
        "environment": None if tracked.environment is None else tracking.environment(ws, tracked.environment),
        "machine": tracking.machine_of(tracked),
    }


def _came_of(ws: Workspace, run_id: str) -> dict[str, Any]:
    """Versions with where their gates stand, what reruns said, and those that were asked for."""
    versions = [
        version
        for one in registry.models(ws)
        if (version := registry.version_of_run(ws, one.name, run_id)) is not None
    ]
    reports = {one.ref: next(iter(checks.reports_of(ws, one.ref, limit=1)), None) for one in versions}
    verdicts = list(pipelines.verdicts_on(ws, run_id).items())
    return {
        "versions": versions,
        "reports": {
            ref: report and {"id": report.id, "verdict": report.verdict} for ref, report in reports.items()
        },
        "verdicts": dict(verdicts[-_VERDICTS:]),
        "asked": _asked(ws, pipelines.REPRODUCE, run_id, ("waiting", "running", "failed")),
        "forks": [
            (one, one.id.replace("job_", "run_"))
            for one in _asked(ws, loop.FORK, run_id, ("waiting", "running", "failed", "done"))
        ],
    }


def _acts(ws: Workspace, seen: RunOverview) -> dict[str, Any]:
    """What may be done with the run as it is, and the job that goes on with it if somebody asked for that."""
    run = seen.run
    going_on = _asked(ws, loop.GO_ON, run.id, ("waiting", "running", "failed"))
    is_asked = bool(going_on) and going_on[0].state != "failed"
    is_at_rest = run.state in ("paused", "failed") or _is_left(run)
    return {
        "going_on": going_on[0] if going_on and (is_asked or is_at_rest) else None,
        "may_pause": run.state == "running" and not _is_left(run),
        "may_resume": is_at_rest and not is_asked,
        "may_fork": run.state in ("done", "failed", "cancelled") and run.code is not None,
        "first_step": seen.plan.steps[0].name if seen.plan.steps else None,
    }


def _asked(
    ws: Workspace, kind: str, run_id: str, states: tuple[Literal["waiting", "running", "failed", "done"], ...]
) -> list[Job]:
    """The newest jobs of a kind that were put for a run."""
    found = jobs.jobs_of(ws, kind=kind, states=states, limit=_ASKED)
    return [one for one in found if one.payload["run"] == run_id][:_VERDICTS]
