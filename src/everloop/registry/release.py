"""Releasing: the manifest that serving processes read, kept in the database and written beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from everloop import data, events, serving, tracking
from everloop.errors import GateFailed, Invalid, NotFound
from everloop.ids import new_id
from everloop.ledger import Node, audit, link
from everloop.registry import signing, store
from everloop.registry.examine import is_tried, tried
from everloop.registry.find import need_version, release_of
from everloop.registry.readiness import readiness_in, require_ready
from everloop.registry.records import Release
from everloop.serving import Manifest, Personal, Signature
from everloop.storage import Tx
from everloop.workspace import Workspace

logger = logging.getLogger(__name__)


def release(ws: Workspace, ref: str, *, real_rows: Callable[[], Sequence[Sequence[Any]]] = tuple) -> Release:
    """Let a version be served: its manifest, in the database and as a file for serving processes.

    A compiled plan of its model is compared with it, row by row, and the manifest says whether it may answer in its place.

    Committed with lineage and an audit entry first, then written: after a crash in between, releasing again or
    `rewrite_manifests` writes the same file. A released version keeps its one release.

    Parameters
    ----------
    real_rows
        Gives rows as the model takes them, inputs then features, to be compared on besides made-up ones.

    Raises
    ------
    GateFailed
        A gate failed and is not waived, gates were not run, approvals are missing, the version is not what was signed,
        or it brings code of its own that nobody trusts.
    Invalid
        The version has no signature, or is not a model that can be served or that answers its own input example.
    NotFound
        No such version.
    """
    if _may_be_released(ws, ref):
        wanted = candidate(ws, ref)  # outside of the transaction: asking a model takes long
        if wanted.compiled is None or (wanted.flavor == "sklearn" and not wanted.compiled.is_used):
            compiled = serving.compare_plan(wanted, ws.blobs, real_rows, hidden=ws.home)
            wanted = msgspec.structs.replace(wanted, compiled=compiled)
        release_id = new_id("rel")
        found = ws.write(lambda tx: _release(ws, tx, wanted, release_id))
    else:
        found = release_of(ws, ref)
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


def loadable(ws: Workspace, found: Release) -> Manifest:
    """The manifest of a release as it may be loaded here; its files are written first where another machine released it.

    Raises
    ------
    Conflict
        A file of the release is there with other content.
    GateFailed
        Its version is not what was signed, or its manifest not by a key that is trusted.
    """
    _write_files(ws, found)
    return serving.verified_manifest(ws.home / "serving", found.id)


def candidate(ws: Workspace, ref: str) -> Manifest:
    """A version as serving would load it once it is released, for whoever has to ask it before.

    One that an mlflow client logged is tried here: it must load, and answer its own input example.

    Raises
    ------
    GateFailed
        It is not what was signed, or brings code of its own that nobody trusts.
    Invalid
        It has no signature, cannot be served, or does not answer its example.
    NotFound
        No such version.
    """
    signing.prepare(ws)
    with ws.read() as connection:
        version = need_version(connection, ref)
        signing.require_intact(ws, connection, version)
        trust = signing.trust_that_counts(ws, connection, version)
    flavor, signature, trusted_types = version.flavor, version.signature, version.trusted_types
    compiled = None
    if flavor == "other":
        raise Invalid(
            f"model version {version.ref} has no .skops file, or several, and no MLmodel file of a form that is served "
            "(scikit-learn by skops, XGBoost, LightGBM, ONNX, pyfunc, a function). Save it in one of these and register it again."
        )
    if is_tried(ws, version):
        flavor, found = tried(ws, version, trust)
        signature, trusted_types, compiled = found.signature, found.trusted_types, found.compiled
    if signature is None:
        raise Invalid(
            f"model version {version.ref} has no signature; serving needs one to check requests. "
            "Register the model again with its signature."
        )
    return Manifest(
        id=version.ref,
        model=version.model,
        version=version.number,
        digest=version.digest,
        files=dict(version.files),
        signature=signature,
        created_at=ws.now(),
        flavor=flavor,
        features=version.features,
        trusted_types=trusted_types,
        code=version.code,
        environment=version.environment,
        data_version=version.data_version,
        label_snapshot=version.label_snapshot,
        run=version.run,
        trust=serving.Approval(trust.by, trust.at, trust.reason)
        if trust and flavor in serving.WITH_CODE
        else None,
        compiled=compiled and msgspec.structs.replace(compiled, digest=version.digest),
        personal=_personal(ws, version.data_version, signature),
    )


def _personal(ws: Workspace, data_version: str | None, signature: Signature) -> dict[str, Personal]:
    """How the log keeps the inputs that the schema of the training rows marks as personal; True means their hash."""
    if data_version is None:
        return {}
    try:
        columns = data.version(ws, data_version).schema.columns
    except NotFound:
        return {}  # a version from outside may name data that is not here: nobody has marked anything
    names = {one.name for one in signature.inputs}
    return {
        one.name: "hash" if one.personal is True else one.personal
        for one in columns
        if one.personal and one.name in names
    }


def _may_be_released(ws: Workspace, ref: str) -> bool:
    """Whether nothing but its files can still stand in the way. Raises GateFailed when gates or approvals do."""
    with ws.read() as connection:
        version = need_version(connection, ref)
        if store.release_by_version(connection, version.model, version.number) is not None:
            return False
        require_ready(readiness_in(connection, version, at=ws.now()), "be released")
        return True


def _release(ws: Workspace, tx: Tx, wanted: Manifest, release_id: str) -> Release:
    tx.lock(f"registry:{wanted.model}")
    version = need_version(tx.connection, f"{wanted.model}@{wanted.version}")
    known = store.release_by_version(tx.connection, version.model, version.number)
    if known is not None:
        return known
    ready = readiness_in(tx.connection, version, at=ws.now())
    require_ready(ready, "be released")
    manifest = msgspec.structs.replace(
        wanted,
        id=release_id,
        created_at=ws.now(),
        gate_report=ready.gate_report,
        approvals=tuple(serving.Approval(one.by, one.at, one.reason) for one in ready.approvals),
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


def _write_files(ws: Workspace, found: Release) -> None:
    """The code of the features, then the manifest with its signature; routes name a release only when all are there."""
    folder = ws.home / "serving"
    manifest = found.manifest
    if manifest.features and manifest.code is not None:
        tracking.check_out(ws, manifest.code, serving.code_folder(folder, manifest.code))
    signing.sign_release(ws, found)
