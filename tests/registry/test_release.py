from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from everloop import registry, serving, tracking
from everloop.errors import Conflict, GateFailed, Invalid, NotFound
from everloop.governance import version_card
from everloop.ledger import Node, downstream, entries
from everloop.registry import ModelVersion
from everloop.workspace import Workspace
from tests.registry.test_register import VIEW
from tests.registry.versions import check, register, servable


@pytest.fixture
def folder(ws: Workspace) -> Path:
    return ws.home / "serving"


def ready(ws: Workspace, skops_model: bytes, **changed: object) -> ModelVersion:
    version = servable(ws, skops_model, **changed)
    check(ws, version)
    return version


def test_a_release_says_all_that_serving_and_tracing_need(any_ws: Workspace, skops_model: bytes) -> None:
    version = servable(any_ws, skops_model, run="run_1", approval=registry.people(1, not_author=True))
    report = check(any_ws, version)
    registry.approve(any_ws.acting_as("alice"), version.ref, reason="looks right")
    released = registry.release(any_ws, version.ref)
    manifest = serving.read_manifest(any_ws.home / "serving", released.id)
    assert manifest == released.manifest
    assert (manifest.model, manifest.version, manifest.digest) == ("category", 1, version.digest)
    assert (manifest.files, manifest.signature) == (version.files, version.signature)
    assert (manifest.run, manifest.gate_report) == ("run_1", report.id)
    assert (manifest.data_version, manifest.label_snapshot) == ("shop@1", "l" * 64)
    assert [(one.by, one.reason) for one in manifest.approvals] == [("alice", "looks right")]
    assert registry.release_of(any_ws, version.ref) == registry.find_release(any_ws, released.id) == released


def test_a_released_model_answers(ws: Workspace, skops_model: bytes, folder: Path) -> None:
    released = registry.release(ws, ready(ws, skops_model).ref)
    manifest = serving.read_manifest(folder, released.id)
    predictor = serving.Predictor.load(manifest, ws.blobs)
    assert predictor.predict(np.array([["black tea"]], dtype=object))[0] == ["drink"]


def test_a_release_says_how_its_compiled_plan_compared(
    ws: Workspace, skops_model: bytes, folder: Path
) -> None:
    version = ready(ws, skops_model)
    made = registry.release(ws, version.ref, real_rows=lambda: [["black tea"], ["red brick"]])
    compiled = serving.read_manifest(folder, made.id).compiled
    assert compiled is not None
    assert (compiled.is_used, compiled.digest, compiled.real_rows) == (True, version.digest, 2)
    assert compiled.rows > 200
    assert serving.Predictor.load(made.manifest, ws.blobs).path == "compiled"
    shown = version_card(ws, version.ref)["path"]
    assert shown == (
        f"answered by its compiled plan: the same on {compiled.rows} rows, 2 of them real, to within {compiled.difference:.1g}"
    )


def test_a_version_that_is_not_ready_is_not_released(ws: Workspace, skops_model: bytes, folder: Path) -> None:
    version = servable(ws, skops_model)
    with pytest.raises(GateFailed, match=r"category@1 may not be released\. category@1 has no gate report"):
        registry.release(ws, version.ref)
    check(ws, version, leaks=True)
    with pytest.raises(GateFailed, match="The gate leakage failed"):
        registry.release(ws, version.ref)
    assert not folder.exists()
    with pytest.raises(NotFound, match="is not released"):
        registry.release_of(ws, version.ref)


def test_a_version_without_signature_or_without_a_servable_model_is_not_released(
    ws: Workspace, skops_model: bytes
) -> None:
    unsigned, other = servable(ws, skops_model, signature=None), register(ws)
    check(ws, unsigned)
    check(ws, other)
    with pytest.raises(Invalid, match="has no signature; serving needs one"):
        registry.release(ws, unsigned.ref)
    with pytest.raises(Invalid, match=r"no \.skops file"):
        registry.release(ws, other.ref)


def test_releasing_again_gives_the_same_release(any_ws: Workspace, skops_model: bytes) -> None:
    ref = ready(any_ws, skops_model).ref
    first = registry.release(any_ws, ref)
    check(any_ws, registry.version(any_ws, ref), leaks=True)  # what was released stays so
    assert registry.release(any_ws, ref) == first
    assert registry.releases(any_ws, "category") == [first]
    assert len(list((any_ws.home / "serving" / "releases").iterdir())) == 1


def test_many_at_once_make_one_release(any_ws: Workspace, skops_model: bytes) -> None:
    ref = ready(any_ws, skops_model).ref
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(registry.release(any_ws, ref).id)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(found), len(set(found))) == (6, 1)


def test_files_lost_after_the_commit_are_written_again_the_same(
    ws: Workspace, skops_model: bytes, folder: Path
) -> None:
    released = [registry.release(ws, ready(ws, skops_model, run=f"run_{number}").ref) for number in range(3)]
    files = sorted((folder / "releases").iterdir())
    before = [file.read_bytes() for file in files]
    for file in files[:2]:
        file.unlink()
    missing = {file.stem for file in files[:2]}
    assert set(registry.rewrite_manifests(ws)) == missing
    assert [file.read_bytes() for file in sorted((folder / "releases").iterdir())] == before
    assert registry.rewrite_manifests(ws) == []
    assert {one.id for one in released} == {file.stem for file in files}


def test_releasing_again_writes_a_lost_file(ws: Workspace, skops_model: bytes, folder: Path) -> None:
    ref = ready(ws, skops_model).ref
    file = folder / "releases" / f"{registry.release(ws, ref).id}.json"
    content = file.read_bytes()
    file.unlink()
    registry.release(ws, ref)
    assert file.read_bytes() == content


def test_a_changed_file_is_not_taken_for_the_release(ws: Workspace, skops_model: bytes, folder: Path) -> None:
    released = registry.release(ws, ready(ws, skops_model).ref)
    (folder / "releases" / f"{released.id}.json").write_text("{}")
    with pytest.raises(Conflict, match="a release never changes"):
        registry.rewrite_manifests(ws)


def test_the_code_of_features_is_written_before_the_manifest(
    ws: Workspace, skops_model: bytes, folder: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "loop.py").write_text("def volume(past) -> int:\n    return past.num_rows\n")
    code = tracking.capture_code(ws, project)
    version = ready(ws, skops_model, features=(VIEW,), code=code.digest)
    registry.release(ws, version.ref)
    assert (serving.code_folder(folder, code.digest) / "loop.py").is_file()


def test_a_release_is_linked_from_run_to_release_and_audited(ws: Workspace, skops_model: bytes) -> None:
    version = servable(ws, skops_model, run="run_1")
    report = check(ws, version)
    released = registry.release(ws, version.ref)
    reached = [(edge.source.kind, edge.target.kind) for edge in downstream(ws, Node("run", "run_1"))]
    assert reached == [
        ("run", "model_version"),
        ("model_version", "gate_report"),
        ("model_version", "release"),
        ("gate_report", "release"),
    ]
    entry = entries(ws, subject=Node("release", released.id))[0]
    assert (entry.act, entry.detail["version"]) == ("registry.release", version.ref)
    assert Node("gate_report", report.id) in {edge.source for edge in downstream(ws, Node("run", "run_1"))}


def test_an_unknown_release_is_not_found(ws: Workspace) -> None:
    with pytest.raises(NotFound):
        registry.find_release(ws, "rel_none")
