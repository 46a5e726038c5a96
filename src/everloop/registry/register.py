"""Taking a trained model in: verified files, a number, and where it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
from blake3 import blake3

from everloop import events
from everloop.checks import Gate
from everloop.errors import AlreadyExists, Conflict, Invalid
from everloop.features import FeatureView
from everloop.ledger import Node, audit, link
from everloop.registry import signing, store
from everloop.registry.examine import Examined, examine
from everloop.registry.find import need_model
from everloop.registry.records import (
    ApprovalRule,
    ModelVersion,
    RegisteredModel,
    StagePolicy,
    check_description,
    check_model_name,
    check_stages,
    check_tags,
)
from everloop.serving import Signature
from everloop.storage import Tx
from everloop.workspace import Workspace


def define(
    ws: Workspace,
    name: str,
    *,
    approval: ApprovalRule | None = None,
    gates: Sequence[Gate] | None = None,
    stages: Sequence[StagePolicy] | None = None,
) -> RegisteredModel:
    """Make a model, or change what its versions must meet; None leaves that as it is. A change is audited.

    It holds from now on for every version, also those registered before. Raises Invalid for a name that cannot be, two
    terms for one stage, or a stage that asks for a gate which the model has not.
    """
    check_model_name(name)
    return ws.write(lambda tx: define_in(ws, tx, name, Terms(approval, gates, stages)))


def create(
    ws: Workspace, name: str, *, description: str = "", tags: Mapping[str, str] | None = None
) -> RegisteredModel:
    """Make a model without a version yet. Audited.

    Raises Invalid for a name, description or tag that cannot be, and AlreadyExists.
    """
    check_model_name(name)
    check_description(description)
    checked = check_tags(tags or {})

    def change(tx: Tx) -> RegisteredModel:
        tx.lock(f"registry:{name}")
        if store.model_by_name(tx.connection, name) is not None:
            raise AlreadyExists(
                f"there is a model {name!r} already. Register versions of it, or choose another name."
            )
        return _make(
            ws,
            tx,
            RegisteredModel(
                name, ApprovalRule(), (), ws.now(), ws.actor, description=description, tags=checked
            ),
        )

    return ws.write(change)


@dataclass(frozen=True)
class Terms:
    """What versions of a model must meet; None leaves that as it is."""

    approval: ApprovalRule | None = None
    gates: Sequence[Gate] | None = None
    stages: Sequence[StagePolicy] | None = None


def define_in(ws: Workspace, tx: Tx, name: str, terms: Terms) -> RegisteredModel:
    """As `define`, in a transaction."""
    tx.lock(f"registry:{name}")
    found = store.model_by_name(tx.connection, name)
    old = found or RegisteredModel(name, ApprovalRule(), (), ws.now(), ws.actor)
    changed = replace(
        old,
        approval=old.approval if terms.approval is None else terms.approval,
        gates=old.gates if terms.gates is None else tuple(terms.gates),
        stages=old.stages if terms.stages is None else tuple(terms.stages),
    )
    check_stages(changed.stages, gates=changed.gates)
    if found is None:
        return _make(ws, tx, changed)
    if changed != found:
        store.update_terms(tx, changed)
        audit(
            ws, tx, "registry.define", Node("declaration", name), before=_terms(found), after=_terms(changed)
        )
    return changed


def _make(ws: Workspace, tx: Tx, made: RegisteredModel) -> RegisteredModel:
    store.insert_model(tx, made)
    store.put_model_tags(tx, made.name, made.tags)
    audit(ws, tx, "registry.define", Node("declaration", made.name), after=_terms(made))
    told = {"name": made.name, "tags": dict(made.tags), "description": made.description}
    events.announce(ws, tx, "registered_model.created", told)
    return made


@dataclass(frozen=True)
class Said:
    """What whoever registers a version says of it besides its content. See `ModelVersion`."""

    source: str | None = None
    logged_model: str | None = None
    run_link: str | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


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
    said: Said | None = None,
    number: int | None = None,
) -> ModelVersion:
    """Register a trained model as the next version of its name; the same model of the same run only once.

    With `said`, as MLflow's clients register, each call makes a version, of a model that is there already.

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
    number
        The one that it has elsewhere, to keep it here; None: the next.

    Raises
    ------
    Conflict
        Another version has the number.
    Invalid
        A path leads out of the folder, a blob is missing or damaged, or the model holds types that could run code.
    NotFound
        With `said`: there is no such model.
    """
    check_model_name(name)
    if said is None and not files:
        raise Invalid("the model has no files; a version is made of the files of its folder. Name them.")
    if said is not None:
        check_description(said.description)
        check_tags(said.tags)
    found = examine(ws, files) if files else Examined("other")
    made = ModelVersion(
        model=name,
        number=number or 0,
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
        **({} if said is None else vars(said)),
    )
    signing.prepare(ws)
    if said is not None:
        return ws.write(lambda tx: _insert_next(ws, tx, made))
    return ws.write(lambda tx: _insert(ws, tx, made, Terms(approval, gates)))


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


def _insert(ws: Workspace, tx: Tx, made: ModelVersion, terms: Terms) -> ModelVersion:
    define_in(ws, tx, made.model, terms)
    known = _known(tx, made)
    if known is not None and known.digest == made.digest:
        return known
    if known is not None and made.number:
        raise Conflict(
            f"{made.ref} is another model here; a version never changes. Register it under another name, or without a number."
        )
    return _insert_next(ws, tx, made)


def _insert_next(ws: Workspace, tx: Tx, made: ModelVersion) -> ModelVersion:
    tx.lock(f"registry:{made.model}")
    need_model(tx.connection, made.model)
    version = replace(made, number=made.number or store.next_number(tx.connection, made.model))
    store.insert_version(tx, version)
    signing.seal_in(ws, tx, version)
    node = Node("model_version", version.ref)
    for source, role in _sources(version):
        link(tx, source, node, role=role, at=version.created_at)
    audit(ws, tx, "registry.register", node, after={"digest": version.digest}, run=version.run)
    message = f"{version.ref} was registered by {version.author}"
    events.emit(ws, tx, "registry.registered", node, message=message, topic=version.model)
    told = {
        "name": version.model,
        "version": str(version.number),
        "source": version.source,
        "run_id": None if version.run is None else version.run.removeprefix("run_"),
        "tags": dict(version.tags),
        "description": version.description,
    }
    events.announce(ws, tx, "model_version.created", told)
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
        "stages": [one.as_json() for one in model.stages],
    }
