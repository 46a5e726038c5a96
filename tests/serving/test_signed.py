"""What a serving process loads of signed and unsigned releases; the registry's side is in tests/registry/test_signing.py."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from everloop.clock import SystemClock
from everloop.errors import GateFailed
from everloop.serving import (
    Field,
    Manifest,
    Predictor,
    Signature,
    Signed,
    Signer,
    release_path,
    write_manifest,
    write_signed,
    write_signers,
)
from everloop.serving.live import LiveTable, Loader
from everloop.storage import FileBlobs
from tests.conftest import START
from tests.serving.home import CLASSES, TITLE, go_live, title_model, write_blob, write_release

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw().hex()


def loader(home: Path) -> Loader:
    return Loader(home / "serving", FileBlobs(home / "blobs"), SystemClock(), 10)


def sign(home: Path, release: str) -> None:
    signature = KEY.sign(release_path(home / "serving", release).read_bytes()).hex()
    write_signed(home / "serving", release, Signed(PUBLIC, signature))


def trust_the_key(home: Path) -> None:
    write_signers(home / "serving", [Signer(PUBLIC, "home", "tester", START, "ours", is_current=True)])


def test_a_home_that_never_signed_serves_as_before(tmp_path: Path) -> None:
    write_release(tmp_path, "rel_control", title_model())
    go_live(tmp_path, ("control", 100.0))
    assert loader(tmp_path).load(LiveTable()).problems == {}


def test_once_a_home_signs_an_unsigned_release_takes_nobody_s_place(tmp_path: Path) -> None:
    write_release(tmp_path, "rel_control", title_model())
    sign(tmp_path, "rel_control")
    trust_the_key(tmp_path)
    go_live(tmp_path, ("control", 100.0))
    live = loader(tmp_path).load(LiveTable())
    assert live.problems == {}
    write_release(tmp_path, "rel_canary", title_model(reverse=True))
    go_live(tmp_path, ("control", 50.0), ("canary", 50.0))
    after = loader(tmp_path).load(live)
    assert "rel_canary (category@1) is not signed" in after.problems["category"]
    assert after.endpoints == live.endpoints
    sign(tmp_path, "rel_canary")
    assert loader(tmp_path).load(live).problems == {}


def with_mlmodel(home: Path, described: dict[str, object], **changed: object) -> Manifest:
    """A release whose MLmodel file says this."""
    made = write_release(home, "rel_1", title_model())
    files = {**made.files, "MLmodel": write_blob(home, yaml.safe_dump(described).encode())}
    return msgspec.structs.replace(made, files=files, **changed)


def ours(signature: Signature) -> dict[str, object]:
    return {"metadata": {"everloop": {"signature": msgspec.to_builtins(signature)}}}


def test_a_release_is_held_to_what_its_own_file_says_it_takes(tmp_path: Path) -> None:
    own = Signature((TITLE,), "class", CLASSES)
    Predictor.load(with_mlmodel(tmp_path / "a", ours(own)), FileBlobs(tmp_path / "a" / "blobs"))
    other = Signature((Field("title", "number"),), "class", CLASSES)
    with pytest.raises(GateFailed, match=r"takes title \(string\).*its MLmodel file says title \(number\)"):
        Predictor.load(with_mlmodel(tmp_path / "b", ours(other)), FileBlobs(tmp_path / "b" / "blobs"))


def test_a_manifest_that_names_no_trust_runs_no_code(tmp_path: Path) -> None:
    described: dict[str, object] = {"flavors": {"python_function": {"loader_module": "os"}}}
    manifest = with_mlmodel(tmp_path, described, flavor="pyfunc")
    with pytest.raises(
        GateFailed, match=r"runs only when somebody trusts it.*everloop models trust category@1"
    ):
        Predictor.load(manifest, FileBlobs(tmp_path / "blobs"))


def test_a_manifest_written_before_a_field_was_added_is_the_same_release(tmp_path: Path) -> None:
    made = write_release(tmp_path, "rel_1", title_model())
    path = release_path(tmp_path / "serving", "rel_1")
    told = msgspec.json.decode(path.read_bytes())
    del told["trust"]  # as an earlier everloop wrote it
    path.write_bytes(msgspec.json.encode(told))
    assert write_manifest(tmp_path / "serving", made) == path
