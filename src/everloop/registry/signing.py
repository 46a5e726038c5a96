"""Signing versions, and finding out whether they still are what was signed.

A version is signed when it is registered: a statement of all that it is made of, file by file, by the home's Ed25519 key,
which is kept outside the database. So is a mark of trust. Releasing verifies both, and signs the manifest that serving
processes verify in turn.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

from everloop import access, serving
from everloop.errors import Conflict, GateFailed, Invalid
from everloop.ledger import Node, audit
from everloop.registry import seals, store
from everloop.registry.find import need_version
from everloop.registry.records import ModelVersion, Release, Seal, Trust, parse_ref
from everloop.serving import Signed, Signer
from everloop.storage import Tx
from everloop.workspace import Workspace

_KEY = "model-signing"


@dataclass(frozen=True)
class Verification:
    """What verifying a version found; `problems` is empty when it is what a trusted key signed."""

    version: str
    key: str | None
    signer: str | None
    files: int
    problems: tuple[str, ...]

    @property
    def is_intact(self) -> bool:
        return not self.problems


def verify(ws: Workspace, ref: str, *, folder: Path | None = None) -> Verification:
    """Whether a version, its files and its release are what was signed, by a key that is trusted here.

    Parameters
    ----------
    folder
        A folder that the version was downloaded to, whose files are looked at instead of the blobs.

    Raises
    ------
    NotFound
        No such version.
    Invalid
        The folder is none.
    """
    with ws.read() as connection:
        version = need_version(connection, ref)
        seal = seals.newest_seal(connection, version)
        release = store.release_by_version(connection, version.model, version.number)
        trust = seals.trust_of(connection, version)
    signers = serving.read_signers(_folder(ws)) or ()
    problems = [*_problems_of(version, seal, signers), *_problems_of_trust(version, trust, signers)]
    if folder is None:
        problems += _problems_of_blobs(ws, version)
        problems += [] if release is None or seal is None else _problems_of_release(ws, release)
    else:
        problems += _problems_of_folder(version, folder)
    name = next((one.name for one in signers if seal is not None and one.key == seal.key), None)
    return Verification(
        version.ref, None if seal is None else seal.key, name, len(version.files), tuple(problems)
    )


def require_intact(ws: Workspace, connection: Connection, version: ModelVersion) -> None:
    """Raise GateFailed, naming all that was found, unless a version is what a trusted key signed."""
    signers = serving.read_signers(_folder(ws)) or ()
    found = [
        *_problems_of(version, seals.newest_seal(connection, version), signers),
        *_problems_of_blobs(ws, version),
    ]
    if found:
        raise GateFailed(
            f"{version.ref} is not what was signed: {'; '.join(found)}. Only a version that is intact is released and served. "
            f"Restore it from a backup, or register the model again; if you vouch for it: everloop models sign {version.ref} "
            "--reason WHY"
        )


def sign(ws: Workspace, ref: str, *, reason: str) -> Verification:
    """Vouch for a version as it is now, with the home's key in place of the one that signed it. Audited.

    Raises
    ------
    Conflict
        Its files are not those of the version: nobody can vouch for what is not there.
    Invalid
        The reason is empty.
    NotFound
        No such version.
    """
    reason = _need(reason, f"{ref} is signed again")
    prepare(ws)

    def change(tx: Tx) -> Release | None:
        tx.lock(f"registry:{parse_ref(ref)[0]}")
        version = need_version(tx.connection, ref)
        if damaged := _problems_of_blobs(ws, version):
            raise Conflict(
                f"{version.ref} cannot be signed: {'; '.join(damaged)}. Restore its files from a backup, or register the "
                "model again."
            )
        seal_in(ws, tx, version)
        audit(ws, tx, "registry.sign", Node("model_version", version.ref), reason=reason)
        return store.release_by_version(tx.connection, version.model, version.number)

    release = ws.write(change)
    if release is not None:
        sign_release(ws, release)
    return verify(ws, ref)


def seal_in(ws: Workspace, tx: Tx, version: ModelVersion) -> None:
    """Sign a version in the transaction that writes it; `prepare` was called before."""
    text = _statement(version)
    key = _private_key(ws)
    signature = key.sign(text.encode()).hex()
    seals.insert_seal(tx, version, Seal(text, _public(key), signature, ws.actor, ws.now()))


def sign_trust(ws: Workspace, version: ModelVersion, trust: Trust) -> Trust:
    """The mark with the home's signature over it and over what it is about; `prepare` was called before."""
    key = _private_key(ws)
    signature = key.sign(_trust_statement(version, trust)).hex()
    return replace(trust, signed=Signed(_public(key), signature))


def trust_that_counts(ws: Workspace, connection: Connection, version: ModelVersion) -> Trust | None:
    """Who allowed a version to run code of its own, if anybody did. Raises GateFailed for a mark that no trusted key signed."""
    found = seals.trust_of(connection, version)
    signers = serving.read_signers(_folder(ws)) or ()
    if wrong := _problems_of_trust(version, found, signers):
        raise GateFailed(f"{version.ref}: {wrong[0]}")
    return found


def sign_release(ws: Workspace, release: Release) -> None:
    """Sign the manifest of a release, unless a trusted key has.

    Raises
    ------
    Conflict
        The manifest's file says something else than was released.
    GateFailed
        Its version is not what was signed.
    """
    serving.write_manifest(_folder(ws), release.manifest)
    if not _problems_of_release(ws, release):
        return
    with ws.read() as connection:
        version = need_version(connection, release.version)
        require_intact(ws, connection, version)
        _require_of(ws, connection, version, release)
    _sign_manifest(ws, release)


def _require_of(ws: Workspace, connection: Connection, version: ModelVersion, release: Release) -> None:
    """Raise GateFailed for a manifest that says more than its version does: who can write the database can write one."""
    manifest = release.manifest
    if (manifest.digest, dict(manifest.files)) != (version.digest, dict(version.files)):
        raise GateFailed(
            f"release {release.id} holds other files than {version.ref}, which it is of; it is not signed. Restore the database "
            "from a backup."
        )
    if manifest.trust is not None and trust_that_counts(ws, connection, version) is None:
        raise GateFailed(
            f"release {release.id} lets {version.ref} run code of its own, and nobody trusts that; it is not signed. Read the model "
            f"and say: everloop models trust {version.ref} --reason WHY"
        )


def _sign_manifest(ws: Workspace, release: Release) -> None:
    key = _private_key(ws)
    content = serving.release_path(_folder(ws), release.id).read_bytes()
    serving.write_signed(_folder(ws), release.id, Signed(_public(key), key.sign(content).hex()))


def prepare(ws: Workspace) -> None:
    """Make the home's key at its first use, and sign what was there before: from then on nothing unsigned is served.

    A home that knows other keys and has lost its own, or is a copy that never had one, gets a new one beside them.
    """
    known = serving.read_signers(_folder(ws))
    key = _private_key(ws)
    if known is not None and any(one.key == _public(key) for one in known):
        return
    signed = ws.write(lambda tx: _begin(ws, tx, signs_all=known is None))
    name, reason = f"home {ws.id}", "made at its first use"
    signer = Signer(_public(key), name, ws.actor, ws.now(), reason, is_current=True)
    for one in signed:
        if serving.release_path(_folder(ws), one.id).exists():
            serving.write_manifest(_folder(ws), one.manifest)  # or refuse one that says something else
            _sign_manifest(ws, one)
    before = [msgspec.structs.replace(one, is_current=False) for one in known or ()]
    serving.write_signers(_folder(ws), [*before, signer])  # last: it is what serving processes go by


def _begin(ws: Workspace, tx: Tx, *, signs_all: bool) -> list[Release]:
    """Audit the new key; sign all versions that nobody signed, if this is the first. The releases to be signed."""
    tx.lock("registry:signing")
    found = seals.unsigned(tx.connection) if signs_all else []
    for model, number in found:
        version = store.version_by_number(tx.connection, model, number)
        if version is not None:
            seal_in(ws, tx, version)
    key = _public(_private_key(ws))
    audit(ws, tx, "registry.key", Node("workspace", ws.id), key=key, did="made", signed=len(found))
    return store.newest_releases(tx.connection, model=None) if signs_all else []


def signing_keys(ws: Workspace) -> list[Signer]:
    """The keys that this home knows, first first; the current one signs, the trusted ones count."""
    prepare(ws)
    return list(serving.read_signers(_folder(ws)) or ())


def add_key(ws: Workspace, key: str, *, name: str, reason: str) -> Signer:
    """Trust a public key of somebody else, such as another machine's, or one that was distrusted. Audited.

    Raises Invalid when it is no key, or there is no name or reason.
    """
    reason, name = _need(reason, "a key is trusted"), _need(name, "a key is trusted without a name, or")
    key = serving.check_key(key)
    known = [one for one in signing_keys(ws) if one.key != key]
    is_current = key == _public(_private_key(ws))
    made = Signer(key, name, ws.actor, ws.now(), reason, is_current=is_current)
    _change_keys(ws, [*known, made], key=key, did="trusted", reason=reason)
    return made


def distrust_key(ws: Workspace, beginning: str, *, reason: str) -> Signer:
    """Let a key's signatures count no more: what it signed is not loaded until it is signed again. Audited.

    Raises
    ------
    Conflict
        It is the key that signs now.
    NotFound
        No key begins so, or several.
    """
    reason = _need(reason, "a key is distrusted")
    known = signing_keys(ws)
    found = serving.need_signer(known, beginning)
    if found.is_current:
        raise Conflict(
            f"{found.key[:12]} is the key that signs now; a home needs one that counts. Renew it first: "
            "everloop models keys rotate --reason WHY"
        )
    changed = msgspec.structs.replace(found, is_trusted=False, by=ws.actor, at=ws.now(), reason=reason)
    _change_keys(
        ws,
        [changed if one == found else one for one in known],
        key=found.key,
        did="distrusted",
        reason=reason,
    )
    return changed


def rotate_key(ws: Workspace, *, reason: str) -> Signer:
    """Sign with a new key from now on. What the old one signed stays valid until it is distrusted. Audited.

    The old private key is gone when this returns. Raises Invalid for an empty reason.
    """
    reason = _need(reason, "the key is renewed")
    known = [msgspec.structs.replace(one, is_current=False) for one in signing_keys(ws)]
    key = _public(Ed25519PrivateKey.from_private_bytes(access.renew_home_key(ws, _KEY)))
    made = Signer(key, f"home {ws.id}", ws.actor, ws.now(), reason, is_current=True)
    _change_keys(ws, [*known, made], key=key, did="rotated", reason=reason)
    return made


def _change_keys(ws: Workspace, signers: Sequence[Signer], **told: str) -> None:
    """The list and its audit entry; the entry first, so that no key counts that nobody is on record for."""

    def change(tx: Tx) -> None:
        tx.lock("registry:signing")
        audit(ws, tx, "registry.key", Node("workspace", ws.id), **told)

    ws.write(change)
    serving.write_signers(_folder(ws), signers)


def _problems_of(version: ModelVersion, seal: Seal | None, signers: Sequence[Signer]) -> Iterator[str]:
    """What is wrong with what the database says of a version."""
    if seal is None:
        yield "it is not signed"
        return
    wrong = serving.what_is_wrong(Signed(seal.key, seal.signature), seal.statement.encode(), signers)
    if wrong is not None:
        yield f"it {wrong}"
        return
    signed, now = msgspec.json.decode(seal.statement), msgspec.json.decode(_statement(version))
    yield from _file_differences(signed["files"], now["files"])
    yield from (
        f"its {name.replace('_', ' ')} is another than was signed"
        for name in now
        if name != "files" and now[name] != signed.get(name)
    )


def _problems_of_trust(version: ModelVersion, trust: Trust | None, signers: Sequence[Signer]) -> list[str]:
    if trust is None:
        return []
    wrong = serving.what_is_wrong(trust.signed, _trust_statement(version, trust), signers)
    if wrong is None:
        return []
    return [
        f"{trust.by}'s mark of trust in it {wrong}; only a signed mark counts. Read the model and say again: "
        f"everloop models trust {version.ref} --reason WHY"
    ]


def _problems_of_blobs(ws: Workspace, version: ModelVersion) -> list[str]:
    found = []
    for path, digest in version.files.items():
        if not ws.blobs.has(digest):
            found.append(f"the file {path} is missing ({ws.blobs.place})")
        elif not ws.blobs.verify(digest):
            found.append(f"the file {path} was changed or damaged (blob {digest})")
    return found


def _problems_of_release(ws: Workspace, release: Release) -> list[str]:
    path = serving.release_path(_folder(ws), release.id)
    if not path.exists():
        return [
            f"the manifest of its release {release.id} is missing ({path}); 'everloop up' writes it again"
        ]
    signers = serving.read_signers(_folder(ws)) or ()
    wrong = serving.what_is_wrong(serving.read_signed(_folder(ws), release.id), path.read_bytes(), signers)
    return [] if wrong is None else [f"its release {release.id} {wrong} ({path})"]


def _problems_of_folder(version: ModelVersion, folder: Path) -> Iterator[str]:
    if not folder.is_dir():
        raise Invalid(f"{folder} is no folder; name the one that {version.ref} was downloaded to.")
    found = {}
    for place, folders, names in os.walk(folder):
        for name in [*names, *(one for one in folders if (Path(place) / one).is_symlink())]:
            path = Path(place) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() or not path.is_file():
                yield f"{relative} is a link or a device, not a file"
            else:
                found[relative] = blake3(path.read_bytes()).hexdigest()
    yield from _file_differences(version.files, found)


def _file_differences(signed: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    for path in sorted(signed.keys() | found.keys()):
        if path not in found:
            yield f"the file {path} was removed"
        elif path not in signed:
            yield f"the file {path} was added"
        elif found[path] != signed[path]:
            yield f"the file {path} was changed: {found[path][:12]} instead of {signed[path][:12]}"


def _statement(version: ModelVersion) -> str:
    """All that a version is, as JSON that is the same whoever writes it: what its signature covers."""
    content: dict[str, Any] = {
        "model": version.model,
        "number": version.number,
        "digest": version.digest,
        "files": dict(version.files),
        "flavor": version.flavor,
        "signature": version.signature,
        "features": version.features,
        "trusted_types": version.trusted_types,
        "run": version.run,
        "data_version": version.data_version,
        "label_snapshot": version.label_snapshot,
        "code": version.code,
        "environment": version.environment,
        "author": version.author,
    }
    return msgspec.json.encode(content, order="sorted").decode()


def _trust_statement(version: ModelVersion, trust: Trust) -> bytes:
    """What a mark's signature covers; `act` keeps it apart from the statement of a version."""
    content = {
        "act": "trust",
        "model": version.model,
        "number": version.number,
        "digest": version.digest,
        "by": trust.by,
        "reason": trust.reason,
        "at": trust.at,
    }
    return msgspec.json.encode(content, order="sorted")


def _private_key(ws: Workspace) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(access.home_key(ws, _KEY))


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def _need(text: str, what: str) -> str:
    if not text.strip():
        raise Invalid(f"{what} without a reason; whoever reads it later needs one. Give it with --reason.")
    return text.strip()


def _folder(ws: Workspace) -> Path:
    return ws.home / "serving"
