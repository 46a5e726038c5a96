"""Routes of model versions, gates, approvals and releases."""

from __future__ import annotations

from typing import Any

from everloop import checks, governance, registry, rollout
from everloop.api.routes import Call, Route
from everloop.clock import parse_time


def list_models(call: Call) -> Any:
    """All models and what their versions must meet."""
    return registry.models(call.ws)


def list_versions(call: Call) -> Any:
    """The versions of a model, newest first."""
    return registry.versions(call.ws, call.path["model"], limit=call.limit())


def show_version(call: Call) -> Any:
    """One version with its gate report, where that stands, its approvals, and whether it may be released."""
    return governance.version_card(call.ws, call.path["ref"])


def approve(call: Call) -> Any:
    """Approve a version: {reason}."""
    return registry.approve(call.ws, call.path["ref"], reason=str(call.fields("reason")["reason"]))


def reject(call: Call) -> Any:
    """Reject a version: {reason}."""
    return registry.reject(call.ws, call.path["ref"], reason=str(call.fields("reason")["reason"]))


def promote(call: Call) -> Any:
    """Put a version into a stage: {stage, reason?}."""
    given = call.fields("stage", optional=("reason",))
    return registry.promote(
        call.ws, call.path["ref"], str(given["stage"]), reason=str(given.get("reason", ""))
    )


def verify(call: Call) -> Any:
    """Whether a version, its files and its release are what a trusted key signed, and all that is not."""
    return registry.verify(call.ws, call.path["ref"])


def trust(call: Call) -> Any:
    """Allow a pickle or a pyfunc to run its own code, in a process without credentials: {reason}."""
    return registry.trust(call.ws, call.path["ref"], reason=str(call.fields("reason")["reason"]))


def list_keys(call: Call) -> Any:
    """The keys whose signatures on versions count, and who added or distrusts them."""
    return registry.signing_keys(call.ws)


def add_key(call: Call) -> Any:
    """Trust a public key: {key, name, reason}."""
    given = call.fields("key", "name", "reason")
    return registry.add_key(call.ws, str(given["key"]), name=str(given["name"]), reason=str(given["reason"]))


def distrust_key(call: Call) -> Any:
    """Let a key's signatures count no more: {reason}."""
    return registry.distrust_key(call.ws, call.path["key"], reason=str(call.fields("reason")["reason"]))


def waive(call: Call) -> Any:
    """Let a failed check pass until a time: {check, reason, until}."""
    given = call.fields("check", "reason", "until")
    return checks.waive(
        call.ws,
        call.path["report"],
        str(given["check"]),
        reason=str(given["reason"]),
        until=parse_time(str(given["until"])),
    )


def show_report(call: Call) -> Any:
    """One gate report with its waivers and where it stands now."""
    found = checks.standing(call.ws, call.path["report"])
    return {
        "report": found.report,
        "is_clear": found.is_clear,
        "blocking": [one.name for one in found.blocking],
        "waivers": checks.waivers_of(call.ws, found.report.id),
    }


def demote(call: Call) -> Any:
    """Take a version out of a stage: {stage, reason}."""
    given = call.fields("stage", "reason")
    return registry.demote(call.ws, call.path["ref"], str(given["stage"]), reason=str(given["reason"]))


def archive(call: Call) -> Any:
    """Put a version aside: {reason?}."""
    return registry.archive(
        call.ws, call.path["ref"], reason=str(call.fields(optional=("reason",)).get("reason", ""))
    )


def describe(call: Call) -> Any:
    """Say what a version is: {description}."""
    return registry.describe(call.ws, call.path["ref"], str(call.fields("description")["description"]))


def tag(call: Call) -> Any:
    """Set a tag of a version: {value}."""
    value = str(call.fields("value")["value"])
    registry.tag(call.ws, call.path["ref"], call.path["tag"], value)
    return {call.path["tag"]: value}


def untag(call: Call) -> Any:
    """Remove a tag of a version."""
    registry.untag(call.ws, call.path["ref"], call.path["tag"])
    return {call.path["tag"]: None}


def delete_version(call: Call) -> Any:
    """Delete a version that is not in use."""
    rollout.require_not_live(call.ws, call.path["ref"])
    return registry.delete_version(call.ws, call.path["ref"])


def live(call: Call) -> Any:
    """Which versions of a model answer where, or answered at a time: ?at=2026-05-01T00:00:00Z."""
    at = call.query.get("at")
    return rollout.live_of_model(call.ws, call.path["model"], at=None if at is None else parse_time(at))


def history(call: Call) -> Any:
    """Which version entered which stage when, newest first."""
    return registry.history(call.ws, call.path["model"], limit=call.limit())


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
