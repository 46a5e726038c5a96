from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from everloop import registry, serving
from everloop.errors import Conflict, GateFailed, Invalid, NotFound
from everloop.ledger import Node, entries
from everloop.registry import ModelVersion
from everloop.workspace import Workspace
from tests.registry.versions import check, register, servable


@pytest.fixture
def folder(ws: Workspace) -> Path:
    return ws.home / "serving"


def released(ws: Workspace, skops_model: bytes) -> tuple[ModelVersion, str]:
    version = servable(ws, skops_model)
    check(ws, version)
    return version, registry.release(ws, version.ref).id


def change_row(ws: Workspace, **values: object) -> None:
    """As somebody does who can write the database."""
    table = sa.table("model_version", *(sa.column(name, sa.JSON) for name in values))
    ws.write(lambda tx: tx.execute(sa.update(table).values(**values)))


def change_blob(ws: Workspace, digest: str) -> None:
    place = ws.blobs.path(digest)
    place.write_bytes(place.read_bytes()[:-1] + b"!")


def stranger(ws: Workspace) -> str:
    return Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()


def test_a_version_is_signed_when_it_is_registered(any_ws: Workspace) -> None:
    made = register(any_ws)
    found = registry.verify(any_ws, made.ref)
    assert (found.is_intact, found.problems, found.files) == (True, (), 2)
    assert found.key == registry.signing_keys(any_ws)[0].key


def test_the_private_key_is_outside_the_database_and_its_owner_s_alone(ws: Workspace) -> None:
    register(ws)
    path = ws.home / "keys" / "model-signing.key"
    assert path.stat().st_mode & 0o777 == 0o600
    database = b"".join(one.read_bytes() for one in ws.home.glob("everloop.db*"))
    assert path.read_bytes() not in database
    assert path.read_bytes().hex().encode() not in database


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"files": {"MLmodel": "f" * 64, "model.skops.zip": "e" * 64}}, "the file MLmodel was changed: ffff"),
        ({"files": {"MLmodel": "f" * 64}}, "the file model.skops.zip was removed"),
        ({"files": {"a": "f" * 64, "MLmodel": "f" * 64}}, "the file a was added"),
        ({"trusted_types": ["os.system"]}, "its trusted types is another than was signed"),
        ({"signature": None}, "its signature is another than was signed"),
    ],
)
def test_a_record_that_was_changed_in_the_database_is_found(
    ws: Workspace, values: dict[str, object], found: str
) -> None:
    made = register(ws)
    change_row(ws, **values)
    assert any(one.startswith(found) for one in registry.verify(ws, made.ref).problems)


def test_a_file_that_was_changed_or_removed_is_found_and_not_released(
    ws: Workspace, skops_model: bytes
) -> None:
    version = servable(ws, skops_model)
    check(ws, version)
    change_blob(ws, version.files["model.skops"])
    assert "model.skops was changed or damaged" in registry.verify(ws, version.ref).problems[0]
    with pytest.raises(GateFailed, match=r"model\.skops was changed or damaged.*Restore it from a backup"):
        registry.release(ws, version.ref)
    ws.blobs.path(version.files["model.skops"]).unlink()
    assert "model.skops is missing" in registry.verify(ws, version.ref).problems[0]


def test_a_version_that_somebody_wrote_into_the_database_is_not_released(
    ws: Workspace, skops_model: bytes
) -> None:
    version = servable(ws, skops_model)
    check(ws, version)
    ws.write(lambda tx: tx.execute(sa.text("DELETE FROM version_signature")))
    with pytest.raises(GateFailed, match="category@1 is not what was signed: it is not signed"):
        registry.release(ws, version.ref)


def test_a_release_is_loaded_as_it_was_signed(ws: Workspace, skops_model: bytes, folder: Path) -> None:
    _, release = released(ws, skops_model)
    assert serving.verified_manifest(folder, release) == serving.read_manifest(folder, release)


def changed_manifest(folder: Path, release: str) -> None:
    path = serving.release_path(folder, release)
    path.write_bytes(path.read_bytes().replace(b'"drink"', b'"DRINK"'))


def removed_signature(folder: Path, release: str) -> None:
    (folder / "signatures" / f"{release}.json").unlink()


def signature_of_a_stranger(folder: Path, release: str) -> None:
    key = Ed25519PrivateKey.generate()
    signature = key.sign(serving.release_path(folder, release).read_bytes()).hex()
    serving.write_signed(
        folder, release, serving.Signed(key.public_key().public_bytes_raw().hex(), signature)
    )


@pytest.mark.parametrize(
    ("attack", "found"),
    [
        (changed_manifest, "was changed after"),
        (removed_signature, "is not signed"),
        (signature_of_a_stranger, "a key that nobody added here"),
    ],
)
def test_a_release_that_was_tampered_with_is_not_loaded(
    ws: Workspace, skops_model: bytes, folder: Path, attack: Callable[[Path, str], None], found: str
) -> None:
    version, release = released(ws, skops_model)
    attack(folder, release)
    with pytest.raises(GateFailed, match=rf"{found}.*everloop models verify category@1"):
        serving.verified_manifest(folder, release)
    assert found in registry.verify(ws, version.ref).problems[0]


def test_a_changed_manifest_is_signed_by_nobody(ws: Workspace, skops_model: bytes, folder: Path) -> None:
    version, release = released(ws, skops_model)
    changed_manifest(folder, release)
    for act in (lambda: registry.sign(ws, version.ref, reason="x"), lambda: registry.rewrite_manifests(ws)):
        with pytest.raises(Conflict, match="exists with other content"):
            act()
    with pytest.raises(GateFailed, match="was changed after"):
        serving.verified_manifest(folder, release)


def test_a_lost_signature_is_written_again_by_whoever_has_the_key(
    ws: Workspace, skops_model: bytes, folder: Path
) -> None:
    _, release = released(ws, skops_model)
    removed_signature(folder, release)
    registry.rewrite_manifests(ws)
    assert serving.verified_manifest(folder, release).id == release


def test_a_release_of_a_changed_version_is_not_signed_again(
    ws: Workspace, skops_model: bytes, folder: Path
) -> None:
    version, release = released(ws, skops_model)
    removed_signature(folder, release)
    change_blob(ws, version.files["model.skops"])
    registry.rewrite_manifests(ws)  # says so in its log, and goes on with the others
    with pytest.raises(GateFailed, match="is not signed"):
        serving.verified_manifest(folder, release)


def test_what_was_there_before_the_key_is_signed_when_it_is_made(
    ws: Workspace, skops_model: bytes, folder: Path
) -> None:
    version, release = released(ws, skops_model)
    ws.write(lambda tx: tx.execute(sa.text("DELETE FROM version_signature")))
    shutil.rmtree(ws.home / "serving" / "signatures")
    (ws.home / "keys" / "signers.json").unlink()
    (ws.home / "keys" / "model-signing.key").unlink()
    serving.verified_manifest(folder, release)  # a home that never signed asks nothing
    registry.rewrite_manifests(ws)
    assert registry.verify(ws, version.ref).is_intact
    assert serving.verified_manifest(folder, release).id == release
    assert entries(ws, limit=1)[0].detail["signed"] == 1


def test_after_a_rotation_the_new_key_signs_and_the_old_one_s_signatures_count(
    ws: Workspace, skops_model: bytes, folder: Path
) -> None:
    version, release = released(ws, skops_model)
    old = registry.signing_keys(ws)[0]
    private = (ws.home / "keys" / "model-signing.key").read_bytes()
    new = registry.rotate_key(ws, reason="yearly")
    assert (ws.home / "keys" / "model-signing.key").read_bytes() != private
    assert [(one.key, one.is_current) for one in registry.signing_keys(ws)] == [
        (old.key, False),
        (new.key, True),
    ]
    assert registry.verify(ws, register(ws).ref).key == new.key
    assert registry.verify(ws, version.ref).is_intact
    assert serving.verified_manifest(folder, release).id == release


def test_what_a_distrusted_key_signed_is_not_loaded_until_somebody_signs_it_again(
    ws: Workspace, skops_model: bytes, folder: Path
) -> None:
    version, release = released(ws, skops_model)
    old = registry.signing_keys(ws)[0]
    with pytest.raises(Conflict, match="keys rotate"):
        registry.distrust_key(ws, old.key[:8], reason="stolen")
    registry.rotate_key(ws, reason="stolen")
    registry.distrust_key(ws, old.key[:8], reason="the machine was stolen")
    with pytest.raises(GateFailed, match="distrusts: the machine was stolen"):
        serving.verified_manifest(folder, release)
    assert not registry.verify(ws, version.ref).is_intact
    assert registry.sign(ws, version.ref, reason="compared with the backup").is_intact
    assert serving.verified_manifest(folder, release).id == release


def test_a_home_that_lost_its_key_signs_with_a_new_one_and_nothing_by_itself(
    ws: Workspace, skops_model: bytes, folder: Path
) -> None:
    version, release = released(ws, skops_model)
    ws.write(lambda tx: tx.execute(sa.text("DELETE FROM version_signature")))
    (ws.home / "keys" / "model-signing.key").unlink()
    new = register(ws)
    assert registry.verify(ws, new.ref).is_intact
    assert [one.is_current for one in registry.signing_keys(ws)] == [False, True]
    assert registry.verify(ws, version.ref).problems[0] == "it is not signed"
    assert serving.verified_manifest(folder, release).id == release


def test_a_version_of_another_home_counts_once_its_key_was_added(
    ws: Workspace, skops_model: bytes, folder: Path
) -> None:
    """Two machines share a database and blobs, each with a key of its own."""
    version, release = released(ws, skops_model)
    theirs = registry.signing_keys(ws)[0]
    for name in ("model-signing.key", "signers.json"):
        (ws.home / "keys" / name).unlink()
    (ws.home / "serving" / "signatures" / f"{release}.json").unlink()
    register(ws)
    assert "a key that nobody added here" in registry.verify(ws, version.ref).problems[0]
    registry.add_key(ws, theirs.key, name="trainer-2", reason="our second machine")
    assert registry.verify(ws, version.ref).signer == "trainer-2"
    registry.rewrite_manifests(ws)
    assert registry.verify(ws, version.ref).is_intact


def test_every_change_of_keys_is_audited(ws: Workspace) -> None:
    register(ws)
    other = stranger(ws)
    registry.add_key(ws, other, name="trainer-2", reason="our second machine")
    registry.distrust_key(ws, other[:10], reason="sold")
    registry.rotate_key(ws, reason="yearly")
    told = [one.detail for one in entries(ws, subject=Node("workspace", ws.id))]
    assert [one["did"] for one in told] == ["rotated", "distrusted", "trusted", "made"]
    assert [one.get("reason") for one in told[:3]] == ["yearly", "sold", "our second machine"]


PYFUNC = b"flavors: {python_function: {loader_module: mine}}"


def trusted(ws: Workspace) -> ModelVersion:
    version = register(ws, files={"MLmodel": ws.blobs.put(PYFUNC)}, signature=None)
    check(ws, version)
    registry.trust(ws.acting_as("alice"), version.ref, reason="I read it")
    return version


def test_a_mark_of_trust_is_signed(any_ws: Workspace) -> None:
    assert registry.verify(any_ws, trusted(any_ws).ref).is_intact


@pytest.mark.parametrize(
    ("attack", "found"),
    [
        ("UPDATE version_trust SET key = NULL, signature = NULL", "is not signed"),  # or one of before
        ("UPDATE version_trust SET reason = 'I read it twice'", "was changed after"),
        ("UPDATE version_trust SET number = 2", "was changed after"),
    ],
)
def test_a_mark_that_somebody_wrote_into_the_database_lets_nothing_run(
    ws: Workspace, attack: str, found: str
) -> None:
    trusted(ws)
    other = register(ws, files={"MLmodel": ws.blobs.put(PYFUNC)}, signature=None)
    ref = other.ref if "number" in attack else "category@1"
    ws.write(lambda tx: tx.execute(sa.text(attack)))
    with pytest.raises(GateFailed, match=rf"alice's mark of trust in it {found}.*models trust {ref}"):
        registry.candidate(ws, ref)
    assert found in registry.verify(ws, ref).problems[0]
    registry.trust(ws, ref, reason="I read it again")
    assert registry.verify(ws, ref).is_intact


@pytest.mark.parametrize(
    "change", [{"trust": {"by": "alice", "at": "2026-01-01T00:00:00Z", "reason": ""}}, {"files": {}}]
)
def test_a_release_that_somebody_wrote_into_the_database_is_not_signed(
    ws: Workspace, skops_model: bytes, folder: Path, change: dict[str, object]
) -> None:
    _, release = released(ws, skops_model)
    table = sa.table("release", sa.column("manifest", sa.Text))
    told = {**msgspec.json.decode(serving.release_path(folder, release).read_bytes()), **change}
    ws.write(lambda tx: tx.execute(sa.update(table).values(manifest=msgspec.json.encode(told).decode())))
    serving.release_path(folder, release).unlink()
    removed_signature(folder, release)
    registry.rewrite_manifests(ws)
    with pytest.raises(GateFailed, match="is not signed"):
        serving.verified_manifest(folder, release)


def test_what_is_no_key_is_refused(ws: Workspace) -> None:
    with pytest.raises(Invalid, match="64 hex digits"):
        registry.add_key(ws, "zz", name="x", reason="y")
    with pytest.raises(Invalid, match="without a reason"):
        registry.add_key(ws, stranger(ws), name="x", reason=" ")
    with pytest.raises(NotFound, match="0 keys begin with 'abc123'"):
        registry.distrust_key(ws, "abc123", reason="y")


def test_a_damaged_version_cannot_be_signed(ws: Workspace) -> None:
    made = register(ws)
    change_blob(ws, made.files["MLmodel"])
    with pytest.raises(Conflict, match="the file MLmodel was changed or damaged"):
        registry.sign(ws, made.ref, reason="looks right")


def test_a_downloaded_copy_is_compared_file_by_file(ws: Workspace, tmp_path: Path) -> None:
    made, copy = register(ws), tmp_path / "copy"
    copy.mkdir()
    for path, digest in made.files.items():
        (copy / path).write_bytes(ws.blobs.get(digest))
    assert registry.verify(ws, made.ref, folder=copy).is_intact
    (copy / "MLmodel").write_text("loader_module: evil")
    (copy / "more.py").write_text("")
    (copy / "model.skops.zip").unlink()
    (copy / "model.skops.zip").symlink_to("/etc/passwd")
    found = registry.verify(ws, made.ref, folder=copy).problems
    assert [one.partition(":")[0] for one in found] == [
        "model.skops.zip is a link or a device, not a file",
        "the file MLmodel was changed",
        "the file model.skops.zip was removed",
        "the file more.py was added",
    ]
