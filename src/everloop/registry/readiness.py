"""Whether a version may enter a stage: gates, approvals and time in the stage before; decided purely, then looked up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from everloop import checks
from everloop.checks import CheckResult, Gate, GateReport, Standing
from everloop.errors import GateFailed
from everloop.registry import store
from everloop.registry.find import need_model, need_version
from everloop.registry.records import (
    ApprovalRule,
    Decision,
    ModelVersion,
    Obstacle,
    Readiness,
    RegisteredModel,
    StagePolicy,
)
from everloop.workspace import Workspace

# What people can mend while a version waits: it is shown to them.
_WAITS = frozenset({"approvals", "soak"})


def readiness(ws: Workspace, ref: str, *, stage: str | None = None) -> Readiness:
    """Whether a version may enter a stage, with everything that stands in the way.

    Without a stage it is about the last one, whose terms a release must meet. Raises NotFound.
    """
    with ws.read() as connection:
        return readiness_in(connection, need_version(connection, ref), stage=stage, at=ws.now())


def may_be_released(ws: Workspace, ref: str) -> bool:
    """Whether nothing stands in the way of releasing a version. Raises NotFound."""
    return readiness(ws, ref).is_ready


def next_stage(ws: Workspace, ref: str) -> str | None:
    """The stage that a version may enter now on its way to the last one; None when there is none.

    One that it has been in counts as passed. A stage whose version only has to stay there longer is not taken from it:
    else nothing would ever reach the next one where versions come quicker than they soak. Raises NotFound.
    """
    with ws.read() as connection:
        version = need_version(connection, ref)
        model = need_model(connection, version.model)
        ahead = (
            (one.name, following.name)
            for one, following in itertools.pairwise(model.stages)
            if store.last_stay(connection, version.model, one.name, version.number) is None
        )
        stage, following = next(ahead, (None, ""))
        if stage is None or not readiness_in(connection, version, stage=stage, at=ws.now()).is_ready:
            return None
        number = store.pointers_of(connection, version.model, "stage").get(stage)
        holder = None if number is None else store.version_by_number(connection, version.model, number)
        if holder is None:
            return stage
        waits_for = readiness_in(connection, holder, stage=following, at=ws.now()).obstacles
        return None if {one.kind for one in waits_for} == {"soak"} else stage


def waiting_for_approval(ws: Workspace, *, limit: int = 20) -> list[ModelVersion]:
    """Versions that nothing but missing approvals (and time) keeps from being released, or from a stage before, newest first.

    Of each model only the newest `limit` versions are looked at, and only those newer than its last release.
    """
    with ws.read() as connection:
        found = []
        for model in store.all_models(connection):
            released = store.newest_releases(connection, model=model.name, limit=1)
            newest = store.newest_versions(connection, model.name, limit=limit)
            waiting = [one for one in newest if not released or one.number > released[0].number]
            found += [one for one in waiting if _lacks_approval_alone(connection, one, at=ws.now())]
    return sorted(found, key=lambda one: one.created_at, reverse=True)


def _lacks_approval_alone(connection: Connection, version: ModelVersion, *, at: datetime) -> bool:
    model = need_model(connection, version.model)
    stages = [one.name for one in model.stages] or [model.release_stage]
    ahead = [readiness_in(connection, version, stage=stage, at=at) for stage in stages]
    kinds = {obstacle.kind for one in ahead for obstacle in one.obstacles}
    return "approvals" in kinds and kinds <= _WAITS


def readiness_in(
    connection: Connection, version: ModelVersion, *, stage: str | None = None, at: datetime
) -> Readiness:
    """As `readiness`, inside a transaction."""
    model = need_model(connection, version.model)
    wanted = stage or model.release_stage
    standing = checks.newest_standing_in(connection, version.ref, at=at)
    said = store.decisions_of(connection, version.model, version.number)
    before = model.stage_before(wanted)
    stay = None if before is None else store.last_stay(connection, version.model, before, version.number)
    soaked = timedelta(0) if stay is None else (stay[1] or at) - stay[0]
    return judge(version, model, standing, said, stage=wanted, soaked=soaked)


def judge(
    version: ModelVersion,
    model: RegisteredModel,
    standing: Standing | None,
    said: Sequence[Decision],
    *,
    stage: str,
    soaked: timedelta,
) -> Readiness:
    """Decide from values alone: the newest gate report with its waivers, what people said, and the time spent in the
    stage before.
    """
    terms = model.terms_of(stage)
    rule = terms.approval or model.approval
    newest = {one.by: one for one in said}  # a person's last word
    approvals = tuple(
        one for one in newest.values() if one.verdict == "approved" and _counts(one, version, rule)
    )
    obstacles = (
        *_gate_obstacles(version, model, terms, standing),
        *_people_obstacles(version, model, terms, list(newest.values()), len(approvals)),
        *_soak_obstacles(version, model, terms, soaked),
    )
    return Readiness(
        version=version.ref,
        stage=stage,
        gate_report=standing.report.id if standing else None,
        waivers=standing.waived if standing else (),
        approvals=approvals,
        obstacles=obstacles,
    )


def require_ready(ready: Readiness, purpose: str) -> None:
    """Raise GateFailed with every obstacle when there is one."""
    if not ready.is_ready:
        raise GateFailed(
            f"{ready.version} may not {purpose}. " + " ".join(one.message for one in ready.obstacles)
        )


def _gate_obstacles(
    version: ModelVersion, model: RegisteredModel, terms: StagePolicy, standing: Standing | None
) -> Iterator[Obstacle]:
    if standing is None:
        yield Obstacle(
            "no_report",
            f"{version.ref} has no gate report; only a checked version leaves dev. "
            "Train it through its pipeline (everloop run PIPELINE), or have it answer labelled rows: "
            f"everloop models check {version.ref} --train FILE --test FILE --label COLUMN",
        )
        return
    report = standing.report
    if other := _other_evidence(version, report):
        yield Obstacle(
            "other_evidence",
            f"Gate report {report.id} was made on other evidence ({', '.join(other)}) than {version.ref} is made of; a "
            f"report counts for what it saw. Evaluate {version.ref} again with its own digests.",
        )
    for gate in model.gates:
        if _asks_for(terms, gate.about) and gate not in report.gates:
            is_changed = any(replace(one, source=gate.source) == gate for one in report.gates)
            told = f"{_options(gate)}, its check as it is written now" if is_changed else _options(gate)
            yield Obstacle(
                "gate_not_run",
                f"The gate on {gate.about} ({told}) is not in gate report {report.id}; all gates of the model "
                f"must have been run. Train again (everloop run PIPELINE), or evaluate {version.ref} with all of them.",
            )
    for result in standing.blocking:
        if _asks_for(terms, result.name.partition(":")[0]):
            yield _failed(report, result)


def _asks_for(terms: StagePolicy, about: str) -> bool:
    """Whether a stage needs the gates about something, for example `macro_f1`."""
    return terms.gates is None or about in terms.gates


def _failed(report: GateReport, result: CheckResult) -> Obstacle:
    return Obstacle(
        "check_failed",
        f"The gate {result.name} failed: {result.message} If it must pass all the same, waive it with a reason: "
        f"everloop models waive {report.id} {result.name!r} --reason WHY --until DATE",
    )


def _people_obstacles(
    version: ModelVersion,
    model: RegisteredModel,
    terms: StagePolicy,
    words: Sequence[Decision],
    approved: int,
) -> Iterator[Obstacle]:
    rule = terms.approval or model.approval
    for one in words:
        if one.verdict == "rejected":
            yield Obstacle(
                "rejected",
                f"{one.by} rejected it ({one.reason}); a rejection stands until the same person approves. Train a better "
                f"version, or talk to {one.by}.",
            )
    if approved < rule.people:
        people = "1 person" if rule.people == 1 else f"{rule.people} people"
        others = f" other than {version.author}" if rule.not_author else ""
        where = f" for {terms.name}" if terms.approval else ""
        yield Obstacle(
            "approvals",
            f"{version.model} asks for the approval of {people}{others}{where}; it has {approved}. "
            f"Approve it with: everloop models approve {version.ref} --reason WHY",
        )


def _soak_obstacles(
    version: ModelVersion, model: RegisteredModel, terms: StagePolicy, soaked: timedelta
) -> Iterator[Obstacle]:
    before = model.stage_before(terms.name)
    if before is None or soaked >= terms.soak:
        return
    remedy = (
        "Wait, then promote it again."
        if soaked
        else f"Promote it there first: everloop models promote {version.ref} {before}"
    )
    yield Obstacle(
        "soak",
        f"{version.ref} has been in {before} for {_hours(soaked)}; {terms.name} asks for {_hours(terms.soak)} there. "
        f"{remedy}",
    )


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() // 360 / 10:g} h"  # to a tenth that has passed


def _counts(word: Decision, version: ModelVersion, rule: ApprovalRule) -> bool:
    return not (rule.not_author and word.by == version.author)


def _other_evidence(version: ModelVersion, report: GateReport) -> list[str]:
    """Which digests of the report are not the version's; the model's own must be there."""
    evidence = report.evidence
    pairs = {
        "data": (evidence.data, version.data_version),
        "labels": (evidence.labels, version.label_snapshot),
        "code": (evidence.code, version.code),
        "environment": (evidence.environment, version.environment),
    }
    other = [name for name, (seen, own) in pairs.items() if seen is not None and seen != own]
    return other if evidence.model == version.digest else ["model", *other]


def _options(gate: Gate) -> str:
    return ", ".join(f"{name} {value}" for name, value in gate.options.items()) or "as it is"
