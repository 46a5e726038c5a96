"""Why something happened: one answer in plain words, with the numbers it rests on and the ids to go on with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from everloop import (
    checks,
    events,
    jobs,
    monitoring,
    pipelines,
    registry,
    retraining,
    rollout,
    tracking,
    triggers,
)
from everloop.errors import Invalid, NotFound
from everloop.workspace import Workspace

FORMS = (
    "run_... (a run), run_.../STEP or step_... (a step), job_..., ret_... (a retraining decision), fire_... (a trigger's firing), ro_... (a rollout), "
    "re_... (one thing a rollout did), find_... (a finding), ev_... (an alert or another event), gr_... (a gate report), "
    "NAME@NUMBER (a model version)"
)
_SHOWN = 5


@dataclass(frozen=True)
class Reason:
    """Why one thing happened. `because` are the parts of the reason; `go_on` says what each further id is."""

    id: str
    answer: str
    because: tuple[str, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
    go_on: Mapping[str, str] = field(default_factory=dict)


def why(ws: Workspace, identifier: str) -> Reason:
    """Why a step ran or was cached, a run or job began, a retrain started, a rollout moved, held or went back, something
    was found or told, or a version passed or was blocked.

    Raises
    ------
    NotFound
        There is no such thing.
    Invalid
        The identifier is of no kind that has a reason; the message lists those that have.
    """
    if identifier.startswith("run_") and "/" in identifier:
        return _step(ws, *identifier.split("/", 1))
    found = re.match(r"([a-z]+)_[0-9a-f]{32}$", identifier)
    if found is not None and found.group(1) in _BY_PREFIX:
        return _BY_PREFIX[found.group(1)](ws, identifier)
    if "@" in identifier:
        return _version(ws, identifier)
    raise Invalid(
        f"{identifier!r} is no id that has a reason; these have one: {FORMS}. "
        "Where a prediction, a row or a dataset version comes from is told by everloop trace and everloop impact."
    )


def _step(ws: Workspace, run_id: str, node: str) -> Reason:
    told = pipelines.why(ws, run_id, node)
    changes = tuple(
        f"{one.part} {one.name}: {_or_none(one.before)} -> {_or_none(one.after)}" for one in told.changes
    )
    go_on = {run_id: "the run"}
    if told.compared_with is not None:
        go_on[told.compared_with] = "the step run it was compared with"
    return Reason(f"{run_id}/{node}", told.sentence, changes, {"changes": len(changes)}, go_on)


def _step_run(ws: Workspace, identifier: str) -> Reason:
    one = pipelines.step_run(ws, identifier)
    return _step(ws, one.run, one.node)


def _run(ws: Workspace, identifier: str) -> Reason:
    tracked = tracking.run(ws, identifier)
    if not tracked.has_steps:
        return _tracked(ws, tracked)
    run = pipelines.pipeline_run(ws, identifier)
    ran = [one for one in run.steps if one.state == "done"]
    cached = [one for one in run.steps if one.state == "cached"]
    answer = f"{identifier} began because: {run.reason}. It is {run.state}: {len(ran)} steps ran, {len(cached)} were cached."
    because = [f"{name} was {pinned.ref}" for name, pinned in run.pins.items()]
    finished = dict.fromkeys(one.node for one in (*ran, *cached) if not one.is_call)
    because += [pipelines.why(ws, identifier, node).sentence for node in finished]
    because += [f"{one.node} failed: {one.error}" for one in run.steps if one.state == "failed" and one.error]
    if run.error:
        because.append(f"the run failed: {run.error}")
    go_on = {f"{identifier}/{one.node}": "a step" for one in run.steps if not one.is_call}
    go_on |= _beginning(ws, identifier)
    for model in registry.models(ws):
        if (made := registry.version_of_run(ws, model.name, identifier)) is not None:
            go_on[made.ref] = "the version it made"
    return Reason(identifier, answer, tuple(because), {"ran": len(ran), "cached": len(cached)}, go_on)


def _tracked(ws: Workspace, run: tracking.Run) -> Reason:
    """A run that is no pipeline's: a step's own record, or what a client logged."""
    if run.parent is not None:
        steps = pipelines.pipeline_run(ws, run.parent).steps
        if (one := next((one for one in steps if one.tracking_run == run.id), None)) is not None:
            return _step(ws, one.run, one.node)
    answer = f"{run.id} ({run.name}) was logged at {run.started_at:%Y-%m-%d %H:%M}: no pipeline began it."
    return Reason(run.id, answer, (), dict(run.metrics))


def _beginning(ws: Workspace, run_id: str) -> dict[str, str]:
    """The job that began a run, which lends the run its number, and the decision behind the job."""
    job_id = run_id.replace("run_", "job_")
    try:
        job = jobs.job(ws, job_id)
    except NotFound:
        return {}  # a person began it
    decision = job.payload.get("decision")
    return {job_id: "the job that began it"} | (
        {str(decision): "the decision to train again"} if decision else {}
    )


def _job(ws: Workspace, identifier: str) -> Reason:
    job = jobs.job(ws, identifier)
    answer = f"The job ({job.kind}) was put because: {job.reason}. It is {job.state} after {job.attempts} attempts."
    go_on = {}
    if "decision" in job.payload:
        go_on[str(job.payload["decision"])] = "the decision to train again"
    if "firing" in job.payload:
        go_on[str(job.payload["firing"])] = "the firing of a trigger that put it"
    if isinstance(job.result, dict):
        go_on |= {
            str(job.result[name]): f"the {name} it made"
            for name in ("run", "version")
            if job.result.get(name)
        }
        if "skipped" in job.result:
            answer += f" Nothing was done: {job.result['skipped']}."
    because = (f"its last error: {job.error}",) if job.error else ()
    return Reason(identifier, answer, because, {"attempts": job.attempts}, go_on)


def _retraining(ws: Workspace, identifier: str) -> Reason:
    one = retraining.decision(ws, identifier)
    answer = f"{one.model} is trained again since {one.at:%Y-%m-%d %H:%M} because: {one.reason}."
    return _on_evidence(ws, identifier, answer, one.evidence, {one.job: "the job that trains"})


def _firing(ws: Workspace, identifier: str) -> Reason:
    one = triggers.firing(ws, identifier)
    did = f"the trigger {one.trigger} fired at {one.at:%Y-%m-%d %H:%M}, looked at by {one.by},"
    answer = f"{did} because: {one.reason}."
    if one.job is None:
        return _on_evidence(ws, identifier, f"{answer} Nothing was started: {one.refused}.", one.evidence, {})
    go_on = {one.job: "the job it put", str(one.run): "the run of that job"}
    return _on_evidence(ws, identifier, answer, one.evidence, go_on)


def _on_evidence(
    ws: Workspace, identifier: str, answer: str, kept: Mapping[str, Any], go_on: dict[str, str]
) -> Reason:
    """A reason that rests on counted conditions, with the findings and events among them."""
    because: list[str] = []
    for what, evidence in kept.items():
        because.append(f"{what}: {evidence['count']:,} since the last decision")
        for source in evidence["findings"]:
            is_event = source.startswith("ev_")
            told = events.event(ws, source) if is_event else monitoring.finding(ws, source)
            because.append(f"{what}: {told.message}")
            go_on[source] = f"{'an event' if is_event else 'a finding'} it rests on"
    numbers = {what: evidence["count"] for what, evidence in kept.items()}
    return Reason(identifier, answer, tuple(because), numbers, go_on)


def _rollout(ws: Workspace, identifier: str) -> Reason:
    one = rollout.rollout_of(ws, identifier)
    history = rollout.history(ws, rollout=identifier, limit=1_000)
    moves = [event for event in history if event.act != "look"]
    looks = [event for event in history if event.act == "look"]
    is_over = one.state in ("done", "rolled_back")
    decisive = moves[0] if moves and (is_over or one.state == "paused") else (history[0] if history else None)
    answer = f"{one.version} on {one.endpoint} is {one.state.replace('_', ' ')} at {one.weight:g} %"
    answer += f" because: {decisive.reason}" if decisive else f" because: {one.reason}"
    because = [f"it began because: {one.reason}"]
    because += [
        f"{event.at:%Y-%m-%d %H:%M} {event.act.replace('_', ' ')}: {event.reason}"
        for event in reversed(moves)
    ]
    because += _judged(decisive.decision) if decisive is not None else ()
    go_on = {
        one.version: "the version",
        **{event.id: f"{event.act.replace('_', ' ')}" for event in moves[:_SHOWN]},
    }
    if looks:
        go_on[looks[0].id] = f"the last of {len(looks)} looks of the judge"
    numbers = {"weight": one.weight, "looks": len(looks), "decision": decisive.decision if decisive else None}
    return Reason(identifier, answer, tuple(because), numbers, go_on)


def _rollout_event(ws: Workspace, identifier: str) -> Reason:
    event = rollout.event_of(ws, identifier)
    answer = f"{event.endpoint}: {event.act.replace('_', ' ')} by {event.actor} at {event.at:%Y-%m-%d %H:%M} because: {event.reason}"
    go_on = {} if event.rollout is None else {event.rollout: "the rollout"}
    go_on |= {
        variant.version: f"{variant.weight:g} % of the traffic since" for variant in event.variants or ()
    }
    return Reason(
        identifier,
        answer,
        tuple(_judged(event.decision)),
        {"decision": event.decision},
        go_on,
    )


def _judged(decision: Mapping[str, Any] | None) -> list[str]:
    """The judge's numbers, metric by metric."""
    if decision is None:
        return []
    lines = []
    for one in decision["metrics"]:
        counts = one["counts"]
        arms = (
            f"canary {counts['canary_bad']} of {counts['canary_total']:,} bad, control {counts['control_bad']} of "
            f"{counts['control_total']:,}"
        )
        if one.get("means") is not None:
            canary, control = ("unknown" if mean is None else f"{mean:.4g}" for mean in one["means"])
            arms = f"canary {canary} ({counts['canary_total']:,}), control {control} ({counts['control_total']:,})"
        told = (
            f"{one['metric']}: {arms}; evidence of harm {one['e_value']:.3g}, rolls back at "
            f"{one['e_bound']:.3g}"
        )
        if one["excess_at_most"] is not None and one.get("means") is not None:
            span = one["span"]
            told += f"; worse by at most {span * one['excess_upper']:.3g} at 95 %, the margin is {span * one['excess_at_most']:g}"
        elif one["excess_at_most"] is not None:
            told += f"; excess at most {one['excess_upper']:.2%} at 95 %, the margin is {one['excess_at_most']:.2%}"
        lines.append(f"{told}: {one['says'].replace('_', ' ')}")
    if decision.get("fuse"):
        lines.append(f"fuse: {decision['fuse']}")
    return lines


def _finding(ws: Workspace, identifier: str) -> Reason:
    one = monitoring.finding(ws, identifier)
    answer = f"{one.kind.replace('_', ' ')} on {one.endpoint}, {one.start:%Y-%m-%d %H:%M} to {one.end:%Y-%m-%d %H:%M}: {one.message}"
    report = one.detail.get("report")
    because = [] if report is None else _drifted(report)
    numbers = {name: value for name, value in one.detail.items() if isinstance(value, int | float)}
    bounds = {
        name: value
        for watch in monitoring.watches(ws, one.endpoint)
        for name, value in monitoring.to_value(watch).items()
        if _WATCH_OF.get(one.kind) == watch.kind and name not in ("kind", "sql") and value is not None
    }
    if bounds:
        because.append(
            "the watch as it is now: " + ", ".join(f"{name} {value}" for name, value in bounds.items())
        )
    go_on = dict.fromkeys(one.versions, "a version that it is about")
    for decision in retraining.decisions(ws, limit=200):
        if any(identifier in evidence["findings"] for evidence in decision.evidence.values()):
            go_on[decision.id] = "a decision to train again that rests on it"
    return Reason(identifier, answer, tuple(because), numbers, go_on)


_WATCH_OF = {
    "input_drift": "drift",
    "prediction_drift": "drift",
    "accuracy": "accuracy",
    "latency": "latency",
    "errors": "latency",
    "kpi": "kpi",
}


def _drifted(report: Mapping[str, Any]) -> list[str]:
    """What moved, the largest effect first."""
    moved = sorted(
        (one for one in report["series"] if one["verdict"] == "drifted"), key=lambda one: -one["effect"]
    )
    return [
        f"{one['column']} ({one['series']}): {one['effect']:.1%} of the rows moved, chance of a false alarm {one['q_value']:.2g}, "
        f"{one['n_current']:,} rows against {one['n_reference']:,}"
        for one in moved[:_SHOWN]
    ]


def _event(ws: Workspace, identifier: str) -> Reason:
    one = events.event(ws, identifier)
    told = (
        "was told"
        if one.delivered_at
        else "is not told yet"
        if one.failure is None
        else f"was not told: {one.failure}"
    )
    answer = f"{one.kind} at {one.at:%Y-%m-%d %H:%M}: {one.message} It {told}."
    because: tuple[str, ...] = ()
    go_on = {}
    for name in ("finding", "report", "job", "run", "decision"):
        if isinstance(value := one.payload.get(name), str):
            go_on[value] = f"the {name}"
    if isinstance(value := one.payload.get("finding"), str):
        because = _finding(ws, value).because
    if one.subject.kind in ("rollout", "retraining", "run", "model_version", "gate_report"):
        go_on[one.subject.id] = f"the {one.subject.kind.replace('_', ' ')}"
    return Reason(identifier, answer, because, {}, go_on)


def _gate_report(ws: Workspace, identifier: str) -> Reason:
    report = checks.report(ws, identifier)
    waived = [
        f"{one.check} waived by {one.by} until {one.until:%Y-%m-%d}: {one.reason}"
        for one in checks.waivers_of(ws, identifier)
    ]
    failed = ", ".join(one.name for one in report.failed)
    answer = f"{report.model_version} {f'failed its gates: {failed}' if failed else 'passed all its gates'}."
    lines = [
        f"{one.verdict}  {one.name}: {one.message if one.verdict == 'failed' else one.found}"
        for one in report.results
    ]
    numbers = {one.name: dict(one.numbers) for one in report.results}
    return Reason(
        identifier,
        answer,
        (*lines, *waived),
        numbers,
        {report.model_version: "the version"},
    )


def _version(ws: Workspace, identifier: str) -> Reason:
    if identifier.partition("@")[0] not in {one.name for one in registry.models(ws)}:
        raise NotFound(
            f"there is no model {identifier.partition('@')[0]!r}; a model version is written NAME@NUMBER, such as kind@2. "
            "'everloop models list' shows the models. Where a dataset version comes from is told by everloop trace."
        )
    found = registry.version(ws, identifier)
    ready = registry.readiness(ws, found.ref)
    approved = ", ".join(f"{one.by} ({one.reason})" for one in ready.approvals)
    if ready.is_ready:
        answer = f"{found.ref} may be released: its gates passed or were waived, and it was approved by {approved or 'nobody, as its rule asks for none'}."
    else:
        answer = f"{found.ref} is blocked by {len(ready.obstacles)} things."
    because = [one.message for one in ready.obstacles]
    because += [f"{one.verdict} by {one.by}: {one.reason}" for one in registry.decisions(ws, found.ref)]
    go_on = {}
    if ready.gate_report is not None:
        go_on[ready.gate_report] = "its gate report"
        report = checks.report(ws, ready.gate_report)
        because += [f"{one.verdict}  {one.name}: {one.found}" for one in report.results]
    if found.run is not None:
        go_on[found.run] = "the run that made it"
    return Reason(found.ref, answer, tuple(because), dict(found.metrics), go_on)


def _or_none(value: str | None) -> str:
    return "nothing" if value is None else value


_BY_PREFIX: dict[str, Callable[[Workspace, str], Reason]] = {
    "run": _run,
    "step": _step_run,
    "job": _job,
    "ret": _retraining,
    "fire": _firing,
    "ro": _rollout,
    "re": _rollout_event,
    "find": _finding,
    "ev": _event,
    "gr": _gate_report,
}
