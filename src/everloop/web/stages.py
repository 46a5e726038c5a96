"""The stages of a model with what each asks for, and how far a version meets it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from everloop import registry
from everloop.registry import ModelVersion, Readiness, RegisteredModel, StagePolicy
from everloop.workspace import Workspace

_OF_GATES = {
    "no_report": "It has no gate report yet.",
    "other_evidence": "Its gate report was made on other evidence.",
    "gate_not_run": "Not every gate was run on it.",
    "check_failed": "A gate failed and is not waived.",
}


@dataclass(frozen=True)
class Stage:
    """A stage with its terms in words. `holder` is the version that is in it now."""

    name: str
    is_declared: bool
    is_release: bool
    gates: str
    approvals: str
    soak: str
    holder: str | None


@dataclass(frozen=True)
class Term:
    """One thing that a stage asks of a version, and how far the version is. `is_met` None: it asks for nothing."""

    name: str
    is_met: bool | None
    said: str


@dataclass(frozen=True)
class Standing:
    """Where a version stands towards a stage: it is in it since `since`, was in it until `until`, or meets its terms or not."""

    stage: Stage
    since: datetime | None
    until: datetime | None
    is_ready: bool
    terms: tuple[Term, ...]


def stages_of(ws: Workspace, model: RegisteredModel) -> list[Stage]:
    """The stages that a model declares, in order, then others that a version is in or that a release needs."""
    now = registry.stages(ws, model.name)
    declared = [one.name for one in model.stages]
    others = sorted({*now, *([] if declared else [model.release_stage])} - {*declared, registry.FREE_STAGE})
    return [
        _stage(model, name, None if name not in now else f"{model.name}@{now[name]}")
        for name in (*declared, *others)
    ]


def standings_of(ws: Workspace, model: RegisteredModel, version: ModelVersion) -> list[Standing]:
    """How far a version is on its way through the stages of its model."""
    stages = stages_of(ws, model)
    stays = registry.stays(ws, version.ref, [one.name for one in stages])
    found = []
    for stage in stages:
        ready = registry.readiness(ws, version.ref, stage=stage.name)
        since, until = stays.get(stage.name, (None, None))
        before = model.stage_before(stage.name)
        stay = stays.get(before) if before else None
        terms = tuple(_terms(model, model.terms_of(stage.name), ready, stay, ws.now()))
        found.append(Standing(stage, since, until, ready.is_ready, terms))
    return found


def _stage(model: RegisteredModel, name: str, holder: str | None) -> Stage:
    terms, before = model.terms_of(name), model.stage_before(name)
    return Stage(
        name=name,
        is_declared=name in {one.name for one in model.stages},
        is_release=name == model.release_stage,
        gates="all gates" if terms.gates is None else ", ".join(terms.gates) or "none",
        approvals=_asked(model, terms) or "none",
        soak=f"{_hours(terms.soak)} in {before}" if before and terms.soak else "none",
        holder=holder,
    )


def _terms(
    model: RegisteredModel,
    terms: StagePolicy,
    ready: Readiness,
    stay: tuple[datetime, datetime | None] | None,
    now: datetime,
) -> Iterator[Term]:
    kinds = {one.kind for one in ready.obstacles}
    wrong = [_OF_GATES[one.kind] for one in ready.obstacles if one.kind in _OF_GATES]
    waived = f", {len(ready.waivers)} of them waived" if ready.waivers else ""
    asked = "All gates" if terms.gates is None else f"The gates on {', '.join(terms.gates) or 'nothing'}"
    yield Term("gates", not wrong, f"{asked} passed{waived}." if not wrong else wrong[0])
    rule = terms.approval or model.approval
    words = ", ".join(f"{one.by} on {one.at:%Y-%m-%d %H:%M}" for one in ready.approvals)
    counted = f"{len(ready.approvals)} of {_asked(model, terms)}"
    if "rejected" in kinds:
        yield Term("approvals", False, "Somebody rejected it, who has to approve it first.")
    elif rule.people:
        yield Term("approvals", "approvals" not in kinds, f"{counted}{f': {words}' if words else ''}.")
    else:
        yield Term("approvals", None, "It asks for none.")
    before = model.stage_before(terms.name)
    if before and terms.soak:
        yield Term("soak", "soak" not in kinds, _soaked(before, terms.soak, stay, now))
    else:
        yield Term("soak", None, "It asks for none.")


def _soaked(
    before: str, asked: timedelta, stay: tuple[datetime, datetime | None] | None, now: datetime
) -> str:
    if stay is None:
        return f"It was never in {before}, where {_hours(asked)} are asked for."
    since, until = stay
    spent = (until or now) - since
    said = f"In {before} since {since:%Y-%m-%d %H:%M}" if until is None else f"It was in {before}"
    if spent >= asked:
        return f"{said}: {_hours(spent)} of {_hours(asked)}."
    if until is not None:
        return f"{said} for {_hours(spent)} of {_hours(asked)} and left. Promote it there again."
    return f"{said}: {_hours(spent)} of {_hours(asked)}, enough at {since + asked:%Y-%m-%d %H:%M}."


def _asked(model: RegisteredModel, terms: StagePolicy) -> str:
    rule = terms.approval or model.approval
    if not rule.people:
        return ""
    return f"{rule.people} approval{'s' if rule.people != 1 else ''}{', not the author' if rule.not_author else ''}"


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() // 360 / 10:g} h"  # to a tenth that has passed
