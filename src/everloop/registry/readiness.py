"""Whether a version may leave `dev`: its gates and its approvals, decided purely, then looked up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy.engine import Connection

from everloop import checks
from everloop.checks import CheckResult, Gate, GateReport, Standing
from everloop.errors import GateFailed
from everloop.registry import store
from everloop.registry.find import need_model, need_version
from everloop.registry.records import Decision, ModelVersion, Obstacle, Readiness, RegisteredModel
from everloop.workspace import Workspace


def readiness(ws: Workspace, ref: str) -> Readiness:
    """Whether a version may leave `dev` and be released, with everything that stands in the way.

    Raises NotFound.
    """
    with ws.read() as connection:
        return readiness_in(connection, need_version(connection, ref), at=ws.now())


def may_be_released(ws: Workspace, ref: str) -> bool:
    """Whether nothing stands in the way of releasing a version. Raises NotFound."""
    return readiness(ws, ref).is_ready


def waiting_for_approval(ws: Workspace, *, limit: int = 20) -> list[ModelVersion]:
    """Versions that nothing but missing approvals keeps from being released, newest first.

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
    obstacles = readiness_in(connection, version, at=at).obstacles
    return bool(obstacles) and all(one.kind == "approvals" for one in obstacles)


def readiness_in(connection: Connection, version: ModelVersion, *, at: datetime) -> Readiness:
    """As `readiness`, inside a transaction."""
    model = need_model(connection, version.model)
    standing = checks.newest_standing_in(connection, version.ref, at=at)
    said = store.decisions_of(connection, version.model, version.number)
    return judge(version, model, standing, said)


def judge(
    version: ModelVersion, model: RegisteredModel, standing: Standing | None, said: Sequence[Decision]
) -> Readiness:
    """Decide from values alone: the newest gate report with its waivers, and what people said."""
    newest = {one.by: one for one in said}  # a person's last word
    approvals = tuple(
        one for one in newest.values() if one.verdict == "approved" and _counts(one, version, model)
    )
    obstacles = (
        *_gate_obstacles(version, model, standing),
        *_people_obstacles(version, model, list(newest.values()), len(approvals)),
    )
    return Readiness(
        version=version.ref,
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
    version: ModelVersion, model: RegisteredModel, standing: Standing | None
) -> Iterator[Obstacle]:
    if standing is None:
        yield Obstacle(
            "no_report",
            f"{version.ref} has no gate report; only a checked version leaves dev. "
            "Train it through its pipeline (everloop run PIPELINE), or call everloop.checks.evaluate.",
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
        if gate not in report.gates:
            is_changed = any(replace(one, source=gate.source) == gate for one in report.gates)
            told = f"{_options(gate)}, its check as it is written now" if is_changed else _options(gate)
            yield Obstacle(
                "gate_not_run",
                f"The gate on {gate.about} ({told}) is not in gate report {report.id}; all gates of the model "
                f"must have been run. Train again (everloop run PIPELINE), or evaluate {version.ref} with all of them.",
            )
    for result in standing.blocking:
        yield _failed(report, result)


def _failed(report: GateReport, result: CheckResult) -> Obstacle:
    return Obstacle(
        "check_failed",
        f"The gate {result.name} failed: {result.message} If it must pass all the same, waive it with a reason: "
        f"everloop models waive {report.id} {result.name!r} --reason WHY --until DATE",
    )


def _people_obstacles(
    version: ModelVersion, model: RegisteredModel, words: Sequence[Decision], approved: int
) -> Iterator[Obstacle]:
    for one in words:
        if one.verdict == "rejected":
            yield Obstacle(
                "rejected",
                f"{one.by} rejected it ({one.reason}); a rejection stands until the same person approves. Train a better "
                f"version, or talk to {one.by}.",
            )
    if approved < model.approval.people:
        people = "1 person" if model.approval.people == 1 else f"{model.approval.people} people"
        others = f" other than {version.author}" if model.approval.not_author else ""
        yield Obstacle(
            "approvals",
            f"{model.name} asks for the approval of {people}{others}; it has {approved}. "
            f"Approve it with: everloop models approve {version.ref} --reason WHY",
        )


def _counts(word: Decision, version: ModelVersion, model: RegisteredModel) -> bool:
    return not (model.approval.not_author and word.by == version.author)


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
