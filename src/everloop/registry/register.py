"""Taking a trained model in: verified files, a number, and where it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from blake3 import blake3

from everloop import events
from everloop.checks import Gate
from everloop.errors import Invalid
from everloop.features import FeatureView
from everloop.ledger import Node, audit, link
from everloop.registry import signing, store
from everloop.registry.examine import examine
from everloop.registry.records import ApprovalRule, ModelVersion, RegisteredModel, check_model_name
from everloop.serving import Signature
from everloop.storage import Tx
from everloop.workspace import Workspace


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
) -> ModelVersion:
    """Register a trained model as the next version of its name; the same model of the same run only once.

    Parameters
    ----------
    files
        Relative paths of the model's folder, each with the digest of a blob that is here.
    signature
        What the model takes and gives; None for one that an mlflow client logged, which is asked before it is released.
    metrics
        What the run measured; values that are not finite are left out.
    approval, gates
        What versions of this model must meet; see `define`.

    Raises
    ------
    Invalid
        A path leads out of the folder, a blob is missing or damaged, or the model holds types that could run code.
    """
    check_model_name(name)
    found = examine(ws, files)
    made = ModelVersion(
        model=name,
        number=0,
        digest=_digest(files, signature, features),
        run=run,
        files=dict(files),
        flavor=found.flavor,
        signature=signature,
        features=tuple(features),
        metrics={key: float(value) for key, value in metrics.items() if math.isfinite(value)},
        data_version=data_version,
        label_snapshot=label_snapshot,
        code=code,
        environment=environment,
        trusted_types=found.trusted_types,
        author=ws.actor,
        created_at=ws.now(),
    )
    signing.prepare(ws)
    return ws.write(lambda tx: _insert(ws, tx, made, _Terms(approval, gates)))


def register_folder(ws: Workspace, name: str, folder: Path) -> ModelVersion:
    """Register a folder in MLflow's layout, as `mlflow.sklearn.save_model` and its like write it; its MLmodel file says the rest.

    Raises
    ------
    Invalid
        It holds no MLmodel file, a link or a device, or what `register` refuses.
    """
    if not (folder / "MLmodel").is_file():
        raise Invalid(
            f"{folder} holds no file MLmodel, by which a folder says what it takes. Name the folder that an mlflow client saved."
        )
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Invalid(
                f"{path} is a link or a device; a version is made of files. Copy what it points to in its place."
            )
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = ws.blobs.put_file(path)
    return register(ws, name, run=None, files=files, signature=None, metrics={})


@dataclass(frozen=True)
class _Terms:
    approval: ApprovalRule | None
    gates: Sequence[Gate] | None


def _insert(ws: Workspace, tx: Tx, made: ModelVersion, terms: _Terms) -> ModelVersion:
    define_in(ws, tx, made.model, approval=terms.approval, gates=terms.gates)
    known = store.version_of_run(tx.connection, made.model, made.run) if made.run is not None else None
    if known is not None and known.digest == made.digest:
        return known
    version = replace(made, number=store.next_number(tx.connection, made.model))
    store.insert_version(tx, version)
    signing.seal_in(ws, tx, version)
    node = Node("model_version", version.ref)
    for source, role in _sources(version):
        link(tx, source, node, role=role, at=version.created_at)
    audit(ws, tx, "registry.register", node, after={"digest": version.digest}, run=version.run)
    message = f"{version.ref} was registered by {version.author}"
    events.emit(ws, tx, "registry.registered", node, message=message, topic=version.model)
    return version


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
