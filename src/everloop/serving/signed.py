"""Whether a release is what the registry signed, before anything of it is loaded.

keys/signers.json           who may sign: public keys, added and distrusted by people; outside database and blobs
serving/signatures/REL.json a key's Ed25519 signature over the bytes of releases/REL.json

A home that never signed has no list of signers, and nothing is asked of its releases. Once it has one, every release needs
the signature of a trusted key: taking the signature away does not help who changed the release.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from everloop.errors import GateFailed, Invalid, NotFound
from everloop.serving.files import read_manifest, release_path
from everloop.serving.records import Manifest
from everloop.storage import write_atomically

SIGNERS = Path("keys", "signers.json")  # in the home
SHOWN = 12  # digits of a key that people read


class Signer(msgspec.Struct, frozen=True):
    """A public Ed25519 key (64 hex digits) and who said what of it. One that signs no more may still be trusted."""

    key: str
    name: str
    by: str
    at: datetime
    reason: str
    is_trusted: bool = True
    is_current: bool = False


class Signed(msgspec.Struct, frozen=True):
    """A key's signature, both in hex."""

    key: str
    signature: str


def read_signers(folder: Path) -> tuple[Signer, ...] | None:
    """The keys that this home knows, first first; None when it never signed. Raises Invalid."""
    path = _signers_path(folder)
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Signer, ...])
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise Invalid(
            f"{path} is not a list of signers: {error}. Put it back from a backup; until then no release is loaded."
        ) from error


def write_signers(folder: Path, signers: Sequence[Signer]) -> None:
    """Replace the list of keys; durable when this returns."""
    write_atomically(_signers_path(folder), msgspec.json.format(msgspec.json.encode(signers)))


def read_signed(folder: Path, release: str) -> Signed | None:
    """A release's signature, None when there is none. Raises Invalid."""
    path = _signed_path(folder, release)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Signed)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise Invalid(
            f"{path} is not a signature: {error}. Remove it; 'everloop up' writes it again if the version is intact."
        ) from error


def write_signed(folder: Path, release: str, signed: Signed) -> None:
    write_atomically(_signed_path(folder, release), msgspec.json.encode(signed))


def verified_manifest(folder: Path, release: str) -> Manifest:
    """The manifest of a release that may be loaded.

    Raises
    ------
    NotFound, Invalid
        As `read_manifest`.
    GateFailed
        It is not signed, or not by a key that is trusted, or was changed since.
    """
    manifest = read_manifest(folder, release)
    signers = read_signers(folder)
    if signers is None:
        return manifest
    problem = what_is_wrong(read_signed(folder, release), release_path(folder, release).read_bytes(), signers)
    if problem is not None:
        ref = f"{manifest.model}@{manifest.version}"
        raise GateFailed(
            f"release {release} ({ref}) {problem}; only what a trusted key signed is loaded. "
            f"Look at it with: everloop models verify {ref}"
        )
    return manifest


def what_is_wrong(signed: Signed | None, content: bytes, signers: Sequence[Signer]) -> str | None:
    """Why a signature over `content` does not count, in words that follow the name of the thing; None when it counts."""
    if signed is None:
        return "is not signed"
    shown = signed.key[:SHOWN]
    signer = next((one for one in signers if one.key == signed.key), None)
    if signer is None:
        return f"is signed by {shown}, a key that nobody added here"
    if not signer.is_trusted:
        return f"is signed by {shown} ({signer.name}), a key that {signer.by} distrusts: {signer.reason}"
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signed.key)).verify(
            bytes.fromhex(signed.signature), content
        )
    except (InvalidSignature, ValueError):
        return f"was changed after {shown} ({signer.name}) signed it"
    return None


def check_key(text: str) -> str:
    """A public key as it is written here. Raises Invalid when it is none."""
    key = text.strip().lower()
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
    except ValueError as error:
        raise Invalid(
            f"{text!r} is no public Ed25519 key; that is 64 hex digits. Take it from: everloop models keys list --json"
        ) from error
    return key


def need_signer(signers: Sequence[Signer], beginning: str) -> Signer:
    """The known key that begins so. Raises NotFound when none does, or several do."""
    found = [one for one in signers if one.key.startswith(beginning.lower())]
    if len(found) != 1:
        raise NotFound(
            f"{len(found)} keys begin with {beginning!r}; name one by its first digits. List them with: everloop models keys list"
        )
    return found[0]


def _signers_path(folder: Path) -> Path:
    return folder.parent / SIGNERS


def _signed_path(folder: Path, release: str) -> Path:
    return folder / "signatures" / f"{release}.json"
