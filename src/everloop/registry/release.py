"""Releasing: the manifest that serving processes read, kept in the database and written beside it."""

from __future__ import annotations

import logging
from datetime import datetime

from everloop import events, serving, tracking
from everloop.errors import GateFailed, Invalid
from everloop.ids import new_id
from everloop.ledger import Node, audit, link
from everloop.registry import signing, store
from everloop.registry.find import need_version
from everloop.registry.readiness import readiness_in, require_ready
from everloop.registry.records import ModelVersion, Readiness, Release, parse_ref
from everloop.serving import Manifest, Signature
from everloop.storage import Tx
from everloop.workspace import Workspace

logger = logging.getLogger(__name__)

SERVABLE = "sklearn"


def release(ws: Workspace, ref: str) -> Release:
    """Let a version be served: its manifest, in the database and as a file for serving processes.

    Committed with lineage and an audit entry first, then written: after a crash in between, releasing again or
    `rewrite_manifests` writes the same file. A released version keeps its one release.

    Raises
    ------
    GateFailed
        A gate failed and is not waived, gates were not run, approvals are missing, or the version is not what was signed.
    Invalid
        The version has no signature, or is not a model that can be served.
    NotFound
        No such version.
    """
    release_id = new_id("rel")
    signing.prepare(ws)
    found = ws.write(lambda tx: _release(ws, tx, ref, release_id))
    _write_files(ws, found)
    return found


def rewrite_manifests(ws: Workspace) -> list[str]:
    """Write the files of releases that are not there, as after a crash or a lost disk; the ids of these releases.

    Raises Conflict when a file is there with other content.
    """
    signing.prepare(ws)
    with ws.read() as connection:
        known = store.newest_releases(connection, model=None)
    missing = [one for one in known if not (ws.home / "serving" / "releases" / f"{one.id}.json").exists()]
    for one in known:
        try:
            _write_files(ws, one)
        except GateFailed as error:  # it is not loaded then; the others go on
            logger.error("%s", error)
    return [one.id for one in missing]


def _release(ws: Workspace, tx: Tx, ref: str, release_id: str) -> Release:
    tx.lock(f"registry:{parse_ref(ref)[0]}")
    version = need_version(tx.connection, ref)
    known = store.release_by_version(tx.connection, version.model, version.number)
    if known is not None:
        return known
    ready = readiness_in(tx.connection, version, at=ws.now())
    require_ready(ready, "be released")
    signing.require_intact(ws, tx.connection, version)
    manifest = _manifest(version, ready, release_id=release_id, signature=_servable(version), at=ws.now())
    made = Release(release_id, version.model, version.number, manifest, ws.actor, ws.now())
    store.insert_release(tx, made)
    node = Node("release", made.id)
    link(tx, Node("model_version", version.ref), node, role="released", at=made.at)
    if ready.gate_report is not None:
        link(tx, Node("gate_report", ready.gate_report), node, role="allowed by", at=made.at)
    waived = [one.check for one in ready.waivers]
    audit(
        ws, tx, "registry.release", node, after={"digest": version.digest}, version=version.ref, waived=waived
    )
    message = f"{version.ref} was released by {ws.actor}"
    events.emit(ws, tx, "registry.released", node, message=message, topic=version.model)
    return made


def _servable(version: ModelVersion) -> Signature:
    """The signature of a version that can be served. Raises Invalid for another one."""
    if version.signature is None:
        raise Invalid(
            f"model version {version.ref} has no signature; serving needs one to check requests. "
            "Register the model again with its signature."
        )
    if version.flavor != SERVABLE:
        raise Invalid(
            f"model version {version.ref} has no .skops file, or several; only a scikit-learn model saved with skops is "
            "served, since other forms may run code while they load. Save it with skops and register it again."
        )
    return version.signature


def _manifest(
    version: ModelVersion, ready: Readiness, *, release_id: str, signature: Signature, at: datetime
) -> Manifest:
    return Manifest(
        id=release_id,
        model=version.model,
        version=version.number,
        digest=version.digest,
        files=dict(version.files),
        signature=signature,
        created_at=at,
        flavor=version.flavor,
        features=version.features,
        trusted_types=version.trusted_types,
        code=version.code,
        environment=version.environment,
        data_version=version.data_version,
        label_snapshot=version.label_snapshot,
        run=version.run,
        gate_report=ready.gate_report,
        approvals=tuple(serving.Approval(one.by, one.at, one.reason) for one in ready.approvals),
    )


def _write_files(ws: Workspace, found: Release) -> None:
    """The code of the features, then the manifest and its signature; routes name a release only when all are there."""
    folder = ws.home / "serving"
    manifest = found.manifest
    if manifest.features and manifest.code is not None:
        tracking.check_out(ws, manifest.code, serving.code_folder(folder, manifest.code))
    serving.write_manifest(folder, manifest)
    signing.sign_release(ws, found)
