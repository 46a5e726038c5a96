"""Routes of model versions, gates, approvals and releases."""

from __future__ import annotations

from typing import Any

import msgspec

from everloop import checks, governance, registry, rollout
from everloop.api.routes import Body, Call, Limited, Query, Reason, Route, Time, moment
from everloop.checks import GateReport, Waiver
from everloop.clock import parse_time
from everloop.registry import (
    Decision,
    ModelVersion,
    RegisteredModel,
    StageEvent,
    Trust,
    Verification,
)
from everloop.rollout import LiveVersion
from everloop.serving import Signer


class Promoted(Body, frozen=True):
    stage: str
    reason: str = ""


class Demoted(Reason, frozen=True):
    stage: str


class Archived(Body, frozen=True):
    reason: str = ""


class Described(Body, frozen=True):
    description: str


class Tagged(Body, frozen=True):
    value: str


class NewKey(Reason, frozen=True):
    key: str
    name: str


class NewWaiver(Reason, frozen=True):
    check: str
    until: Time


class Report(msgspec.Struct, frozen=True):
    report: GateReport
    is_clear: bool
    blocking: list[str]
    waivers: list[Waiver]


class At(Query, frozen=True):
    at: Time | None = None


def list_models(call: Call) -> list[RegisteredModel]:
    """All models and what their versions must meet."""
    return registry.models(call.ws)


def list_versions(call: Call, asked: Limited) -> list[ModelVersion]:
    """The versions of a model, newest first."""
    return registry.versions(call.ws, call.path["model"], limit=asked.limit)


def show_version(call: Call) -> dict[str, Any]:
    """One version with its gate report, where that stands, its approvals, and whether it may be released."""
    return governance.version_card(call.ws, call.path["ref"])


def approve(call: Call, asked: Reason) -> Decision:
    """Approve a version: {reason}."""
    return registry.approve(call.ws, call.path["ref"], reason=asked.reason)


def reject(call: Call, asked: Reason) -> Decision:
    """Reject a version: {reason}."""
    return registry.reject(call.ws, call.path["ref"], reason=asked.reason)


def promote(call: Call, asked: Promoted) -> StageEvent:
    """Put a version into a stage: {stage, reason?}."""
    return registry.promote(call.ws, call.path["ref"], asked.stage, reason=asked.reason)


def verify(call: Call) -> Verification:
    """Whether a version, its files and its release are what a trusted key signed, and all that is not."""
    return registry.verify(call.ws, call.path["ref"])


def trust(call: Call, asked: Reason) -> Trust:
    """Allow a pickle or a pyfunc to run its own code, in a process without credentials: {reason}."""
    return registry.trust(call.ws, call.path["ref"], reason=asked.reason)


def list_keys(call: Call) -> list[Signer]:
    """The keys whose signatures on versions count, and who added or distrusts them."""
    return registry.signing_keys(call.ws)


def add_key(call: Call, asked: NewKey) -> Signer:
    """Trust a public key: {key, name, reason}."""
    return registry.add_key(call.ws, asked.key, name=asked.name, reason=asked.reason)


def distrust_key(call: Call, asked: Reason) -> Signer:
    """Let a key's signatures count no more: {reason}."""
    return registry.distrust_key(call.ws, call.path["key"], reason=asked.reason)


def waive(call: Call, asked: NewWaiver) -> Waiver:
    """Let a failed check pass until a time: {check, reason, until}."""
    return checks.waive(
        call.ws,
        call.path["report"],
        asked.check,
        reason=asked.reason,
        until=parse_time(asked.until),
    )


def show_report(call: Call) -> Report:
    """One gate report with its waivers and where it stands now."""
    found = checks.standing(call.ws, call.path["report"])
    blocking = [one.name for one in found.blocking]
    return Report(found.report, found.is_clear, blocking, checks.waivers_of(call.ws, found.report.id))


def demote(call: Call, asked: Demoted) -> StageEvent:
    """Take a version out of a stage: {stage, reason}."""
    return registry.demote(call.ws, call.path["ref"], asked.stage, reason=asked.reason)


def archive(call: Call, asked: Archived) -> ModelVersion:
    """Put a version aside: {reason?}."""
    return registry.archive(call.ws, call.path["ref"], reason=asked.reason)


def describe(call: Call, asked: Described) -> ModelVersion:
    """Say what a version is: {description}."""
    return registry.describe(call.ws, call.path["ref"], asked.description)


def tag(call: Call, asked: Tagged) -> dict[str, str]:
    """Set a tag of a version: {value}."""
    registry.tag(call.ws, call.path["ref"], call.path["tag"], asked.value)
    return {call.path["tag"]: asked.value}


def untag(call: Call) -> dict[str, None]:
    """Remove a tag of a version."""
    registry.untag(call.ws, call.path["ref"], call.path["tag"])
    return {call.path["tag"]: None}


def delete_version(call: Call) -> ModelVersion:
    """Delete a version that is not in use."""
    rollout.require_not_live(call.ws, call.path["ref"])
    return registry.delete_version(call.ws, call.path["ref"])


def live(call: Call, asked: At) -> list[LiveVersion]:
    """Which versions of a model answer where, or answered at a time: ?at=2026-05-01T00:00:00Z."""
    return rollout.live_of_model(call.ws, call.path["model"], at=moment(asked.at))


def history(call: Call, asked: Limited) -> list[StageEvent]:
    """Which version entered which stage when, newest first."""
    return registry.history(call.ws, call.path["model"], limit=asked.limit)


ROUTES = [
    Route("GET", "/api/models", "see", list_models),
    Route("GET", "/api/models/{model}/versions", "see", list_versions),
    Route("GET", "/api/models/{model}/history", "see", history),
    Route("GET", "/api/model-versions/{ref}", "see", show_version),
    Route("POST", "/api/model-versions/{ref}/approve", "approve", approve),
    Route("POST", "/api/model-versions/{ref}/reject", "approve", reject),
    Route("POST", "/api/model-versions/{ref}/promote", "release", promote),
    Route("POST", "/api/model-versions/{ref}/demote", "release", demote),
    Route("POST", "/api/model-versions/{ref}/archive", "release", archive),
    Route("POST", "/api/model-versions/{ref}/describe", "run", describe),
    Route("PUT", "/api/model-versions/{ref}/tags/{tag}", "run", tag),
    Route("DELETE", "/api/model-versions/{ref}/tags/{tag}", "run", untag),
    Route("DELETE", "/api/model-versions/{ref}", "release", delete_version),
    Route("GET", "/api/models/{model}/live", "see", live),
    Route("GET", "/api/model-versions/{ref}/verification", "see", verify),
    Route("POST", "/api/model-versions/{ref}/trust", "approve", trust),
    Route("GET", "/api/model-keys", "see", list_keys),
    Route("POST", "/api/model-keys", "administer", add_key),
    Route("POST", "/api/model-keys/{key}/distrust", "administer", distrust_key),
    Route("GET", "/api/gate-reports/{report}", "see", show_report),
    Route("POST", "/api/gate-reports/{report}/waive", "approve", waive),
]
