"""Why a step ran or was taken from the cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from everloop import tracking
from everloop.errors import NotFound
from everloop.pipelines import store
from everloop.pipelines.plan import PlannedStep
from everloop.pipelines.reading import unknown
from everloop.pipelines.records import Change, Part, StepRun, Why
from everloop.pipelines.seeds import DEFAULT_SEED
from everloop.pipelines.touched import changed_since, listed
from everloop.workspace import Workspace


def why(ws: Workspace, run_id: str, node: str) -> Why:
    """Why the last attempt at a step of a run ran, or why it did not have to.

    It is compared with the last finished one of the same step of the same pipeline in an earlier run.

    Raises
    ------
    NotFound
        There is no such run, or the step did not begin in it.
    """
    with ws.read() as connection:
        run = store.run_alone(connection, run_id)
        if run is None:
            raise unknown(run_id)
        attempts = store.attempts_at(connection, run_id, node)
        if not attempts:
            begun = _names(store.attempts_of(connection, run_id))
            raise NotFound(f"step {node!r} did not begin in run {run_id}. Begun: {begun}.")
        one = attempts[-1]
        if one.state == "skipped":
            return _skipped(node, one.parts)
        if one.state == "cached":
            said = f"{node} was taken from {one.made_by}: nothing it depends on changed."
            maker = None if one.made_by is None else store.step_run_by_id(connection, one.made_by)
            return Why(node, "cached", (), one.made_by, said + _undeclared(maker, run.plan["root"]))
        repeats = run.plan.get("repeats")
        if repeats is not None:
            return Why(
                node, "repeated", (), None, f"{node} ran: its run repeats {repeats}, beside the cache."
            )
        name = node.partition("[")[0]  # a map's call is planned with the map
        planned = PlannedStep.from_json(next(step for step in run.plan["steps"] if step["name"] == name))
        if planned.is_choice and one.state == "done":
            return _chosen(planned, one.parts)
        earlier = store.finished_before(connection, one, run.pipeline)
        if earlier is None:
            said = f"{node} ran: no earlier run of {run.pipeline} finished it."
            return Why(node, "first", (), None, said + _undeclared(one))
        changes = _changes(ws, connection, earlier, one)
    told = _told(node, planned.cache, changes, earlier)
    return replace(told, sentence=told.sentence + _undeclared(one))


def _undeclared(maker: StepRun | None, root: str | None = None) -> str:
    """What was touched by the attempt that made a result; of one from the cache also what of it changed since."""
    if maker is None or not maker.touched:
        return ""
    said = f" Undeclared, it {listed(maker.touched)}."
    changed = [] if root is None else changed_since(maker.touched, Path(root))
    if not changed:
        return said
    names = ", ".join(changed)
    return (
        f"{said} Since then {names} changed, which its cache key does not see: use cache=False or a dataset."
    )


def _skipped(node: str, parts: Mapping[str, Any]) -> Why:
    was = "" if parts["was"] is None else f": {parts['condition']} was {str(parts['was']).lower()}"
    sentence = f"{node} was skipped, as it is in a branch that was not taken{was}."
    return Why(node, "skipped", (), None, sentence)


def _chosen(planned: PlannedStep, parts: Mapping[str, Any]) -> Why:
    condition = planned.bindings["condition"]["node"]
    is_met = "then" in parts["inputs"] or "then" in parts["parameters"]
    taken = "then" if is_met else "otherwise"
    sentence = f"{planned.name} took what {taken} gives: {condition} was {str(is_met).lower()}."
    return Why(planned.name, "chosen", (), None, sentence)


def _told(node: str, is_cacheable: bool, changes: tuple[Change, ...], earlier: StepRun) -> Why:
    if not is_cacheable:
        sentence = f"{node} ran: it is declared with cache=False or always=True."
        return Why(node, "uncached", changes, earlier.id, sentence)
    if not changes:
        sentence = (
            f"{node} ran though nothing changed: the result of {earlier.id} was gone or not finished yet."
        )
        return Why(node, "lost", (), earlier.id, sentence)
    shown = "; ".join(_sentence(change) for change in changes[:3])
    more = f"; and {len(changes) - 3} more" if len(changes) > 3 else ""
    return Why(node, "changed", changes, earlier.id, f"{node} ran: {shown}{more}.")


def _changes(ws: Workspace, connection: Connection, earlier: StepRun, one: StepRun) -> tuple[Change, ...]:
    before, after = earlier.parts, one.parts
    found: list[Change] = []
    if before["source"] != after["source"]:
        old, new = (store.source_parts(connection, parts["source"]) for parts in (before, after))
        found += _differences("source", old, new)
    if (before["environment"], before.get("lock")) != (after["environment"], after.get("lock")):
        old, new = (_environment(ws, parts["environment"]) for parts in (before, after))
        found += _differences("environment", old, new)
        if old == new:  # of the same versions other files
            locks = [{"lock file": parts["lock"]} for parts in (before, after)]
            found += _differences("environment", *locks)
    found += _differences("parameter", before["parameters"], after["parameters"])
    found += _differences(
        "seed", *({"of the run": str(parts.get("seed", DEFAULT_SEED))} for parts in (before, after))
    )
    refs = {**_refs(connection, earlier.run), **_refs(connection, one.run)}
    old, new = (
        {key: _shown(value, refs) for key, value in parts["inputs"].items()} for parts in (before, after)
    )
    return (*found, *_differences("input", old, new))


def _differences(part: Part, before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    names = sorted(before.keys() | after.keys())
    return [
        Change(part, name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    ]


def _environment(ws: Workspace, digest: str) -> dict[str, str]:
    found = tracking.environment(ws, digest)
    return {
        "python": f"{found.implementation} {found.python}",
        "platform": found.platform,
        **dict(found.packages),
    }


def _refs(connection: Connection, run_id: str) -> dict[str, str]:
    """How the contents that a run pinned are called, by how a cache key names them."""
    run = store.run_alone(connection, run_id)
    pins = run.pins.values() if run is not None else ()
    return {f"{pinned.kind} {pinned.digest}": pinned.ref for pinned in pins if pinned.digest}


def _shown(identity: Any, refs: Mapping[str, str]) -> str:
    text = identity if isinstance(identity, str) else json.dumps(identity)
    return refs.get(text, text)


def _sentence(change: Change) -> str:
    what = f"{change.part} {change.name}".replace(" =", "")
    if change.before is None or change.after is None:
        return f"{what} is {'new' if change.before is None else 'gone'}"
    if change.part == "source" and not change.name.endswith(" ="):
        return f"{what} was rewritten"
    return f"{what} went from {_cut(change.before)} to {_cut(change.after)}"


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."


def _names(steps: tuple[StepRun, ...]) -> str:
    return ", ".join(dict.fromkeys(one.node for one in steps)) or "none"
