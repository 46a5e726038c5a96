from __future__ import annotations

import math
import multiprocessing
import threading
from pathlib import Path

import pytest

from everloop import registry
from everloop.checks import gate
from everloop.errors import Invalid, NotFound
from everloop.events import newest
from everloop.features import FeatureView
from everloop.ledger import Node, entries, upstream
from everloop.settings import Settings
from everloop.workspace import Workspace, open_workspace
from tests.registry.versions import SIGNATURE, register, servable

VIEW = FeatureView(
    "volume",
    dataset="shop",
    entity="merchant",
    time="at",
    window_s=3600.0,
    columns={"merchant": "string", "at": "time"},
    module="loop",
    function="volume",
    source_digest="f" * 64,
    dtype="integer",
)


def test_a_version_is_kept_as_it_was_registered(any_ws: Workspace) -> None:
    made = register(any_ws, features=(VIEW,), run="run_1")
    assert made.ref == "category@1"
    assert registry.version(any_ws, "category@1") == made
    assert (made.author, made.features, made.signature) == ("tester", (VIEW,), SIGNATURE)


def test_versions_are_numbered_by_model(any_ws: Workspace) -> None:
    refs = [register(any_ws, b"1").ref, register(any_ws, b"2").ref, register(any_ws, b"3", name="price").ref]
    assert refs == ["category@1", "category@2", "price@1"]
    assert [one.ref for one in registry.versions(any_ws, "category")] == ["category@2", "category@1"]
    assert [one.name for one in registry.models(any_ws)] == ["category", "price"]


def test_the_same_model_of_the_same_run_is_registered_once(any_ws: Workspace) -> None:
    made = register(any_ws, b"1", run="run_1")
    assert register(any_ws, b"1", run="run_1") == made
    assert register(any_ws, b"other", run="run_1").number == 2
    assert register(any_ws, b"1", run="run_2").number == 3
    assert register(any_ws, b"1").number == 4
    assert registry.version_of_run(any_ws, "category", "run_2").number == 3  # type: ignore[union-attr]


def test_many_threads_get_consecutive_numbers(any_ws: Workspace) -> None:
    numbers: list[int] = []
    threads = [
        threading.Thread(target=lambda one=one: numbers.append(register(any_ws, str(one).encode()).number))
        for one in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 13))


def _register_some(settings: Settings, first: int) -> None:
    with open_workspace(settings=settings) as ws:
        for number in range(first, first + 4):
            register(ws, str(number).encode())


def test_many_processes_get_consecutive_numbers(any_ws: Workspace) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_register_some, args=(any_ws.settings, first)) for first in (0, 10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert [one.number for one in registry.versions(any_ws, "category")] == list(range(8, 0, -1))


def test_the_digest_covers_files_signature_and_features(ws: Workspace) -> None:
    digests = {
        register(ws, b"1").digest,
        register(ws, b"2").digest,
        register(ws, b"1", signature=None).digest,
        register(ws, b"1", features=(VIEW,)).digest,
    }
    assert len(digests) == 4
    assert register(ws, b"1", metrics={}).digest in digests


def test_it_is_linked_to_what_it_was_made_from_and_audited(ws: Workspace) -> None:
    register(ws, name="price")
    made = register(ws, run="run_1")
    assert {edge.source for edge in upstream(ws, Node("model_version", made.ref))} == {
        Node("run", "run_1"),
        Node("dataset_version", "shop@1"),
        Node("label_snapshot", "l" * 64),
        Node("code", "c" * 64),
        Node("environment", "e" * 64),
    }
    assert [one.act for one in entries(ws, limit=2)] == ["registry.register", "registry.define"]
    assert newest(ws)[0].kind == "registry.registered"


def test_metrics_that_are_no_numbers_are_left_out(ws: Workspace) -> None:
    made = register(ws, metrics={"r2": math.nan, "mae": 2.0})
    assert registry.version(ws, made.ref).metrics == {"mae": 2.0}


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../b", "a\\b", "", "nul\0"])
def test_a_path_out_of_the_folder_is_refused(ws: Workspace, path: str) -> None:
    with pytest.raises(Invalid, match="not a path below"):
        register(ws, files={path: ws.blobs.put(b"x")})
    assert registry.models(ws) == []


def test_a_missing_or_damaged_file_is_refused(ws: Workspace) -> None:
    with pytest.raises(Invalid, match="missing or damaged"):
        register(ws, files={"model.bin": "a" * 64})
    digest = ws.blobs.put(b"content")
    Path(ws.blobs.path(digest)).write_bytes(b"changed")
    with pytest.raises(Invalid, match="missing or damaged"):
        register(ws, files={"model.bin": digest})
    with pytest.raises(Invalid, match="no files"):
        register(ws, files={})


def test_the_types_of_a_skops_model_are_audited(ws: Workspace, skops_model: bytes) -> None:
    made = servable(ws, skops_model)
    assert (made.flavor, "sklearn.tree._tree.Tree" in made.trusted_types) == ("sklearn", True)
    assert register(ws).flavor == "other"


def _users_own(rows: object) -> object:
    return rows


def test_a_model_with_types_that_could_run_code_is_refused(ws: Workspace) -> None:
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    content = skops.io.dumps(FunctionTransformer(_users_own))
    with pytest.raises(Invalid, match=r"_users_own.*Use scikit-learn's own"):
        servable(ws, content)
    with pytest.raises(Invalid, match="no skops file"):
        servable(ws, b"not a zip")


@pytest.mark.parametrize("name", ["", "a@b", "a/b", "a:b", " a", "a ", "x" * 121, "a\nb"])
def test_a_name_that_would_break_references_is_refused(ws: Workspace, name: str) -> None:
    with pytest.raises(Invalid, match="not a model's name"):
        register(ws, name=name)


def test_what_versions_must_meet_is_kept_and_its_changes_audited(any_ws: Workspace) -> None:
    rule, gates = registry.people(2, not_author=True), (gate("macro_f1", at_least=0.7),)
    registry.define(any_ws, "category", approval=rule, gates=gates)
    register(any_ws)
    assert registry.model(any_ws, "category").approval == rule
    registry.define(any_ws, "category", gates=())
    found = registry.model(any_ws, "category")
    assert (found.approval, found.gates) == (rule, ())
    registry.define(any_ws, "category", gates=())
    assert [one.act for one in entries(any_ws)].count("registry.define") == 2


def test_fewer_than_no_people_make_no_rule() -> None:
    with pytest.raises(Invalid, match="fewer than no people"):
        registry.people(-1)


@pytest.mark.parametrize("ref", ["category@3", "category@champion", "other", "other@1", "@1", "category@"])
def test_an_unknown_version_is_not_found(ws: Workspace, ref: str) -> None:
    register(ws)
    with pytest.raises(NotFound, match="everloop models list"):
        registry.version(ws, ref)


def test_a_name_alone_means_the_newest_version(ws: Workspace) -> None:
    register(ws, b"1")
    register(ws, b"2")
    assert registry.version(ws, "category").number == 2
    assert registry.version_before(ws, "category@2") == registry.version(ws, "category@1")
    assert registry.version_before(ws, "category@1") is None
