"""Delivering: a candidate that passed its gates and was approved is promoted, released and rolled out.

State decides, not messages: each look finds what is approved and not delivered yet, so that a process killed anywhere
in between is continued by the next look.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from everloop import data, features, registry, rollout, serving, tracking
from everloop.errors import Conflict, GateFailed, Invalid, NotReady
from everloop.loop.training import held_out_rows
from everloop.registry import ModelVersion, Release
from everloop.rollout import Endpoint
from everloop.serving import Manifest
from everloop.workspace import Workspace

_log = logging.getLogger("everloop.loop")
_told: dict[str, str] = {}  # why an endpoint waits, as was logged last: each look would say it again


def has_approved(ws: Workspace) -> bool:
    """Whether a version waits to be rolled out, or to enter a stage on its way there."""
    return any(
        _next_for(ws, endpoint) is not None or _next_step(ws, endpoint) is not None
        for endpoint in rollout.endpoints(ws)
    )


def deliver(ws: Workspace) -> list[str]:
    """Release what is approved and start its rollout; the ids of the rollouts started.

    On each endpoint the newest version that may go live is taken, if it is newer than what is live; one rollout at
    a time. A version that was rolled back, or gave way to an older one, is left to people. One that cannot be released, such as
    one whose own code nobody trusts, keeps no other endpoint waiting.

    Raises
    ------
    GateFailed, Invalid
        A version cannot be released, and nothing else was to be started.
    """
    system = ws.acting_as("system:delivery")
    started = []
    failed: list[GateFailed | Invalid] = []
    for endpoint in rollout.endpoints(ws):
        if step := _next_step(ws, endpoint):
            registry.promote(system, step[0].ref, step[1], reason="it meets what the stage asks for")
        version = _next_for(ws, endpoint)
        if version is None:
            continue
        try:
            started.append(_deliver(system, endpoint, version))
        except (Conflict, NotReady) as reason:  # looked at again at the next turn
            if _told.get(endpoint.name) != (told := f"{version.ref} waits: {reason}"):
                _log.info(told)
                _told[endpoint.name] = told
        except (GateFailed, Invalid) as error:
            failed.append(error)
    if failed and not started:
        raise failed[0]
    return started


def rehearse_release(ws: Workspace, version: ModelVersion) -> Manifest:
    """What `prepare_release` would release, raising what stands in its way; the plan alone is not compared. Changes nothing."""
    stage = registry.model(ws, version.model).release_stage
    ws.rehearse(lambda one: registry.promote(one, version.ref, stage))
    return registry.candidate(ws, version.ref)


def prepare_release(ws: Workspace, version: ModelVersion) -> Release:
    """Promote and release a version, and put what serving it needs where serving processes look.

    Raises
    ------
    GateFailed
        A gate failed and is not waived, or approvals are missing.
    """
    stage = registry.model(ws, version.model).release_stage
    registry.promote(ws, version.ref, stage, reason="it meets what the stage asks for")
    folder = ws.home / "serving"
    if version.code is not None and version.features:
        tracking.check_out(ws, version.code, serving.code_folder(folder, version.code))
    _materialise(ws, version)
    return registry.release(ws, version.ref, real_rows=lambda: held_out_rows(ws, version))


def restore(ws: Workspace) -> list[str]:
    """Write again what serving processes read and is not there, as after a lost disk; the releases whose files lacked.

    Everything but the prediction log can be made again from the database and the blobs. Raises Conflict when a
    release's file is there with other content than was released.
    """
    written = registry.rewrite_manifests(ws)
    live = {
        version
        for endpoint in rollout.endpoints(ws)
        for version in (
            *(variant.version for variant in (*endpoint.variants, *endpoint.standby)),
            *(rule.to for rule in endpoint.rules if rule.release is not None),
        )
    }
    for ref in sorted(live):
        _materialise(ws, registry.version(ws, ref), only_missing=True)
    rollout.publish(ws)
    return written


def _materialise(ws: Workspace, version: ModelVersion, *, only_missing: bool = False) -> None:
    """The past rows of the version's features, for serving processes that start."""
    for view in version.features:
        path = serving.online_path(ws.home / "serving", view)
        if not (only_missing and path.exists()):
            features.materialise(view, data.read(ws, view.dataset, columns=list(view.columns)), path)


def _deliver(ws: Workspace, endpoint: Endpoint, version: ModelVersion) -> str:
    rollout.check_start(ws, endpoint.name, version.ref)
    prepare_release(ws, version)
    approved = ", ".join(one.by for one in registry.readiness(ws, version.ref).approvals)
    said = f" and was approved by {approved}" if approved else "; no approval is asked for"
    reason = f"{version.ref} passed its gates{said}"
    return rollout.start(ws, endpoint.name, version.ref, reason=reason).id


def _next_for(ws: Workspace, endpoint: Endpoint) -> ModelVersion | None:
    """The newest version that may go live on an endpoint and is newer than what is live there."""
    return next((one for one in _candidates(ws, endpoint) if registry.may_be_released(ws, one.ref)), None)


def _next_step(ws: Workspace, endpoint: Endpoint) -> tuple[ModelVersion, str] | None:
    """The newest of these versions that may enter a stage on its way, and the stage."""
    if not any(one.name == endpoint.model and one.stages for one in registry.models(ws)):
        return None
    steps = ((one, registry.next_stage(ws, one.ref)) for one in _candidates(ws, endpoint))
    return next(((one, stage) for one, stage in steps if stage is not None), None)


def _candidates(ws: Workspace, endpoint: Endpoint) -> Iterator[ModelVersion]:
    """The versions newer than what is loaded for an endpoint that are not left to people, newest first."""
    loaded = (*endpoint.variants, *endpoint.standby)  # also what is mirrored, or loaded before it takes over
    live = max((int(variant.version.partition("@")[2]) for variant in loaded), default=0)
    for version in registry.versions(ws, endpoint.model):
        if version.number <= live:
            return
        if not rollout.is_left_to_people(ws, endpoint.name, version.ref):
            yield version
