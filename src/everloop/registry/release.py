"""Releasing: the manifest that serving processes read, kept in the database and written beside it."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from everloop import events, serving, tracking
from everloop.errors import GateFailed, Invalid
from everloop.ids import new_id
from everloop.ledger import Node, audit, link
from everloop.registry import seals, signing, store
from everloop.registry.examine import try_out, why_without_signature
from everloop.registry.find import need_version
from everloop.registry.readiness import readiness_in, require_ready
from everloop.registry.records import ModelVersion, Release, parse_ref
from everloop.serving import Manifest, Signature
from everloop.storage import Tx
from everloop.workspace import Workspace

logger = logging.getLogger(__name__)


def release(ws: Workspace, ref: str) -> Release:
    """Let a version be served: its manifest, in the database and as a file for serving processes.

    Committed with lineage and an audit entry first, then written: after a crash in between, releasing again or
    `rewrite_manifests` writes the same file. A released version keeps its one release.

    Raises
    ------
    GateFailed
        A gate failed and is not waived, gates were not run, approvals are missing, the version is not what was signed,
        or it was logged elsewhere and does not answer here or needs somebody's trust.
    Invalid
        The version has no signature, or is not a model that can be served.
    MissingExtra
        The model's library is not installed.
    NotFound
        No such version.
    """
    release_id = new_id("rel")
    signing.prepare(ws)
    _try_out(ws, ref)
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


def candidate(ws: Workspace, ref: str) -> Manifest:
    """A version as serving would load it once it is released, for whoever has to ask it before.

    Raises
    ------
    GateFailed
        It is not what was signed, or brings code of its own that nobody trusts.
    Invalid
        It has no signature, or is not a model that can be served.
    NotFound
        No such version.
    """
    signing.prepare(ws)
    with ws.read() as connection:
        version = need_version(connection, ref)
        signature, trust = _servable(ws, version), _trusted(connection, version)
        signing.require_intact(ws, connection, version)
    return _manifest(version, release_id=version.ref, signature=signature, at=ws.now(), trust=trust)


def _try_out(ws: Workspace, ref: str) -> None:
    """Before the transaction, since it may take long: whether a model that was logged elsewhere answers here."""
    with ws.read() as connection:
        version = need_version(connection, ref)
        known = store.release_by_version(connection, version.model, version.number)
        is_ready = readiness_in(connection, version, at=ws.now()).is_ready
    if known is None and is_ready:
        try_out(ws, candidate(ws, ref))


def _release(ws: Workspace, tx: Tx, ref: str, release_id: str) -> Release:
    tx.lock(f"registry:{parse_ref(ref)[0]}")
    version = need_version(tx.connection, ref)
    known = store.release_by_version(tx.connection, version.model, version.number)
    if known is not None:
        return known
    ready = readiness_in(tx.connection, version, at=ws.now())
    require_ready(ready, "be released")
    signing.require_intact(ws, tx.connection, version)
    manifest = _manifest(
        version,
        release_id=release_id,
        signature=_servable(ws, version),
        at=ws.now(),
        gate_report=ready.gate_report,
        approvals=tuple(serving.Approval(one.by, one.at, one.reason) for one in ready.approvals),
        trust=_trusted(tx.connection, version),
    )
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


def _servable(ws: Workspace, version: ModelVersion) -> Signature:
    """The signature of a version that can be served. Raises Invalid for another one."""
    if version.flavor == "other":
        raise Invalid(
            f"model version {version.ref} has no .skops file, or several, and no MLmodel file of a form that is served "
            "(scikit-learn by skops, XGBoost, LightGBM, ONNX, pyfunc). Save it in one of these and register it again."
        )
    if version.signature is None:
        raise Invalid(
            f"model version {version.ref} has no signature; serving needs one to check requests. "
            f"Register the model again with its signature: {why_without_signature(ws, version)}"
        )
    return version.signature


def _trusted(connection: Connection, version: ModelVersion) -> serving.Approval | None:
    """Who allowed a model's own code to run. Raises GateFailed when nobody did and it is needed."""
    if version.flavor != "pyfunc":
        return None
    found = seals.trust_of(connection, version)
    if found is None:
        raise GateFailed(
            f"{version.ref} brings code of its own (a pickle, a pyfunc, or types that are not audited), which runs while it is "
            "loaded; it is served only when somebody trusts it, then in a process without credentials. Log the model with skops "
            f"instead, or read it and say: everloop models trust {version.ref} --reason WHY"
        )
    return serving.Approval(found.by, found.at, found.reason)


def _manifest(
    version: ModelVersion, *, release_id: str, signature: Signature, at: datetime, **decided: Any
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
        **decided,
    )


def _write_files(ws: Workspace, found: Release) -> None:
    """The code of the features, then the manifest and its signature; routes name a release only when all are there."""
    folder = ws.home / "serving"
    manifest = found.manifest
    if manifest.features and manifest.code is not None:
        tracking.check_out(ws, manifest.code, serving.code_folder(folder, manifest.code))
    serving.write_manifest(folder, manifest)
    signing.sign_release(ws, found)
