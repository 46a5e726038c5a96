"""Taking a trained model in: verified files, a number, and where it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import msgspec
from blake3 import blake3

from everloop import events
from everloop.checks import Gate
from everloop.errors import Conflict, GateFailed, Invalid
from everloop.features import FeatureView
from everloop.ledger import Node, audit, link
from everloop.registry import store
from everloop.registry.records import ApprovalRule, ModelVersion, RegisteredModel, check_model_name
from everloop.serving import Signature, untrusted_types
from everloop.storage import Tx
from everloop.workspace import Workspace

MODEL_SUFFIX = ".skops"


def define(
    ws: Workspace, name: str, *, approval: ApprovalRule | None = None, gates: Sequence[Gate] | None = None
) -> RegisteredModel:
    """Make a model, or change what its versions must meet; None leaves that as it is. A change is audited.

    It holds from now on for every version, also those registered before. Raises Invalid for a name that cannot be.
    """
    check_model_name(name)
    return ws.write(lambda tx: define_in(ws, tx, name, approval=approval, gates=gates))


def define_in(
    ws: Workspace, tx: Tx, name: str, *, approval: ApprovalRule | None, gates: Sequence[Gate] | None
) -> RegisteredModel:
    """As `define`, in a transaction."""
    tx.lock(f"registry:{name}")
    found = store.model_by_name(tx.connection, name)
    if found is None:
        made = RegisteredModel(name, approval or ApprovalRule(), tuple(gates or ()), ws.now(), ws.actor)
        store.insert_model(tx, made)
        audit(ws, tx, "registry.define", Node("declaration", name), after=_terms(made))
        return made
    changed = replace(
        found,
        approval=found.approval if approval is None else approval,
        gates=found.gates if gates is None else tuple(gates),
    )
    if changed != found:
        store.update_policy(tx, changed)
        audit(
            ws, tx, "registry.define", Node("declaration", name), before=_terms(found), after=_terms(changed)
        )
    return changed


def register(
    ws: Workspace,
    name: str,
    *,
    run: str | None,
    files: Mapping[str, str],
    signature: Signature | None,
    metrics: Mapping[str, float],
    data_version: str | None = None,
    label_snapshot: str | None = None,
    code: str | None = None,
    environment: str | None = None,
    features: Sequence[FeatureView] = (),
    approval: ApprovalRule | None = None,
    gates: Sequence[Gate] | None = None,
    number: int | None = None,
) -> ModelVersion:
    """Register a trained model as the next version of its name; the same model of the same run only once.

    Parameters
    ----------
    files
        Relative paths of the model's folder, each with the digest of a blob that is here.
    metrics
        What the run measured; values that are not finite are left out.
    approval, gates
        What versions of this model must meet; see `define`.
    number
        The one that it has elsewhere, to keep it here; None: the next.

    Raises
    ------
    Conflict
        Another version has the number.
    Invalid
        A path leads out of the folder, a blob is missing or damaged, or the model holds types that could run code.
    """
    check_model_name(name)
    flavor, trusted = _examined(ws, files)
    made = ModelVersion(
        model=name,
        number=number or 0,
        digest=_digest(files, signature, features),
        run=run,
        files=dict(files),
        flavor=flavor,
        signature=signature,
        features=tuple(features),
        metrics={key: float(value) for key, value in metrics.items() if math.isfinite(value)},
        data_version=data_version,
        label_snapshot=label_snapshot,
        code=code,
        environment=environment,
        trusted_types=tuple(trusted),
        author=ws.actor,
        created_at=ws.now(),
    )
    return ws.write(lambda tx: _insert(ws, tx, made, _Terms(approval, gates)))


@dataclass(frozen=True)
class _Terms:
    approval: ApprovalRule | None
    gates: Sequence[Gate] | None


def _insert(ws: Workspace, tx: Tx, made: ModelVersion, terms: _Terms) -> ModelVersion:
    define_in(ws, tx, made.model, approval=terms.approval, gates=terms.gates)
    known = _known(tx, made)
    if known is not None and known.digest == made.digest:
        return known
    if known is not None and made.number:
        raise Conflict(
            f"{made.ref} is another model here; a version never changes. Register it under another name, or without a number."
        )
    version = replace(made, number=made.number or store.next_number(tx.connection, made.model))
    store.insert_version(tx, version)
    node = Node("model_version", version.ref)
    for source, role in _sources(version):
        link(tx, source, node, role=role, at=version.created_at)
    audit(ws, tx, "registry.register", node, after={"digest": version.digest}, run=version.run)
    message = f"{version.ref} was registered by {version.author}"
    events.emit(ws, tx, "registry.registered", node, message=message, topic=version.model)
    return version


def _known(tx: Tx, made: ModelVersion) -> ModelVersion | None:
    """The version that has the number, if one is given, else the one of the same run."""
    if made.number:
        return store.version_by_number(tx.connection, made.model, made.number)
    return store.version_of_run(tx.connection, made.model, made.run) if made.run is not None else None


def _sources(version: ModelVersion) -> list[tuple[Node, str]]:
    found: list[tuple[Node, str]] = []
    if version.run is not None:
        found.append((Node("run", version.run), "trained by"))
    if version.data_version is not None:
        found.append((Node("dataset_version", version.data_version), "training data"))
    if version.label_snapshot is not None:
        found.append((Node("label_snapshot", version.label_snapshot), "training labels"))
    if version.code is not None:
        found.append((Node("code", version.code), "code"))
    if version.environment is not None:
        found.append((Node("environment", version.environment), "environment"))
    return found


def _examined(ws: Workspace, files: Mapping[str, str]) -> tuple[str, list[str]]:
    """The flavor, and the audited types that serving must be told to trust, once all files are found to be whole."""
    if not files:
        raise Invalid("the model has no files; a version is made of the files of its folder. Name them.")
    for path, digest in files.items():
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or "\\" in path or ".." in parts or "\0" in path:
            raise Invalid(
                f"{path!r} is not a path below the model's folder; a file's path is relative, without '..'. Rename it."
            )
        if not ws.blobs.has(digest) or not ws.blobs.verify(digest):
            raise Invalid(
                f"the blob {digest[:12]} of {path} is missing or damaged; a version is made of blobs that are here. "
                "Store the file again with ws.blobs.put_file."
            )
    models = [path for path in files if path.endswith(MODEL_SUFFIX)]
    if len(models) != 1:
        return "other", []
    try:
        return "sklearn", untrusted_types(ws.blobs.get(files[models[0]]))
    except GateFailed as error:
        raise Invalid(str(error)) from error


def _digest(files: Mapping[str, str], signature: Signature | None, features: Sequence[FeatureView]) -> str:
    """BLAKE3 over the files' paths and digests, the signature and the features: what a version answers with."""
    content = {
        "files": dict(files),
        "signature": None if signature is None else msgspec.to_builtins(signature),
        "features": msgspec.to_builtins(tuple(features)),
    }
    return blake3(msgspec.json.encode(content, order="sorted")).hexdigest()


def _terms(model: RegisteredModel) -> dict[str, object]:
    return {
        "people": model.approval.people,
        "not_author": model.approval.not_author,
        "gates": [one.as_json() for one in model.gates],
    }
