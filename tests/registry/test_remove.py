"""Deleting and renaming: what is gone keeps its number, its audit and its lineage."""

from __future__ import annotations

import pytest

from everloop import registry
from everloop.errors import AlreadyExists, Conflict, Invalid, NotFound
from everloop.governance import trace
from everloop.ledger import Node, downstream, entries, verify
from everloop.registry import people, store
from everloop.workspace import Workspace
from tests.registry.versions import check, register, servable


def test_a_deleted_version_is_found_no_longer_and_its_number_is_not_given_again(any_ws: Workspace) -> None:
    register(any_ws, b"1")
    register(any_ws, b"2")
    registry.alias(any_ws, "category", "champion", "category@2")
    registry.delete_version(any_ws, "category@2")
    with pytest.raises(NotFound, match="was deleted"):
        registry.version(any_ws, "category@2")
    assert [one.number for one in registry.versions(any_ws, "category")] == [1]
    assert registry.version(any_ws, "category").number == 1
    assert registry.aliases(any_ws, "category") == {}
    assert register(any_ws, b"3").number == 3


def test_a_deleted_version_keeps_its_audit_and_its_lineage(any_ws: Workspace) -> None:
    version = register(any_ws)
    registry.delete_version(any_ws, version.ref)
    acts = [one.act for one in entries(any_ws, subject=Node("model_version", version.ref))]
    assert acts == ["registry.delete", "registry.register"]
    targets = {edge.target.id for edge in downstream(any_ws, Node("label_snapshot", "l" * 64))}
    assert version.ref in targets
    assert registry.version(any_ws, version.ref, even_deleted=True).digest == version.digest
    assert verify(any_ws).is_intact


def test_a_deleted_version_is_read_by_its_number_only_where_that_is_asked_for(any_ws: Workspace) -> None:
    version = register(any_ws)
    registry.delete_version(any_ws, version.ref)
    with any_ws.read() as connection:
        assert store.version_by_number(connection, version.model, version.number) is None
        found = store.version_by_number(connection, version.model, version.number, even_deleted=True)
    assert found is not None
    assert found.digest == version.digest


def test_where_a_deleted_version_came_from_is_told(ws: Workspace) -> None:
    version = register(ws, data_version=None, label_snapshot=None, code=None, environment=None)
    registry.delete_version(ws, version.ref)
    assert version.ref in str(trace(ws, version.ref))


def test_the_same_model_of_a_run_is_registered_anew_after_its_version_was_deleted(ws: Workspace) -> None:
    first = register(ws, run="run_" + "1" * 32)
    registry.delete_version(ws, first.ref)
    assert register(ws, run="run_" + "1" * 32).number == 2


def test_a_version_in_a_stage_is_kept_and_the_way_out_is_told(any_ws: Workspace) -> None:
    version = register(any_ws)
    check(any_ws, version)
    registry.promote(any_ws, version.ref, "dev")
    registry.promote(any_ws, version.ref, "production")
    with pytest.raises(Conflict, match=r"is in production.*everloop models demote category@1 production"):
        registry.delete_version(any_ws, version.ref)
    registry.demote(any_ws, version.ref, "production", reason="over")
    registry.delete_version(any_ws, version.ref)  # dev holds nothing


def test_a_released_version_is_kept_for_good(ws: Workspace, skops_model: bytes) -> None:
    version = servable(ws, skops_model)
    check(ws, version)
    registry.release(ws, version.ref)
    with pytest.raises(Conflict, match=r"was released.*everloop models archive category@1"):
        registry.delete_version(ws, version.ref)
    with pytest.raises(Conflict, match="was released"):
        registry.delete_model(ws, "category")
    assert registry.version(ws, version.ref).deleted_at is None


def test_a_model_is_deleted_with_its_versions_and_goes_on_from_their_numbers(any_ws: Workspace) -> None:
    register(any_ws, b"1", approval=people(1))
    register(any_ws, b"2")
    registry.tag_model(any_ws, "category", "team", "vision")
    registry.delete_model(any_ws, "category")
    assert registry.models(any_ws) == []
    for ask in (registry.model, registry.aliases, registry.history):
        with pytest.raises(NotFound):
            ask(any_ws, "category")
    made = registry.create(any_ws, "category")
    assert (made.tags, registry.model(any_ws, "category").approval) == ({}, people(0))
    assert registry.versions(any_ws, "category") == []
    assert register(any_ws, b"3").number == 3


def test_one_version_in_use_keeps_the_whole_model(any_ws: Workspace) -> None:
    register(any_ws, b"1")
    held = register(any_ws, b"2")
    check(any_ws, held)
    registry.promote(any_ws, held.ref, "staging")
    with pytest.raises(Conflict):
        registry.delete_model(any_ws, "category")
    assert len(registry.versions(any_ws, "category")) == 2


def test_a_renamed_model_takes_versions_aliases_tags_and_approvals_along(any_ws: Workspace) -> None:
    register(any_ws, b"1")
    register(any_ws, b"2")
    registry.delete_version(any_ws, "category@1")
    registry.alias(any_ws, "category", "champion", "category@2")
    registry.tag(any_ws, "category@2", "a", "b")
    registry.tag_model(any_ws, "category", "team", "vision")
    registry.approve(any_ws, "category@2", reason="ok")
    renamed = registry.rename(any_ws, "category", "kind")
    assert (renamed.name, renamed.tags) == ("kind", {"team": "vision"})
    version = registry.version(any_ws, "kind@champion")
    assert (version.number, version.tags) == (2, {"a": "b"})
    assert [one.reason for one in registry.decisions(any_ws, "kind@2")] == ["ok"]
    assert registry.verify(any_ws, "kind@2").is_intact
    with pytest.raises(NotFound):
        registry.model(any_ws, "category")
    edges = downstream(any_ws, Node("model_version", "category@2"))
    assert ("renamed", "kind@2") in [(edge.role, edge.target.id) for edge in edges]
    assert register(any_ws, b"3", name="kind").number == 3
    assert verify(any_ws).is_intact


def test_a_name_that_was_used_is_not_used_again_by_renaming(any_ws: Workspace) -> None:
    register(any_ws, name="old")
    registry.delete_model(any_ws, "old")
    register(any_ws)
    for taken in ("old", "category"):
        with pytest.raises(AlreadyExists, match="Choose another name"):
            registry.rename(any_ws, "category", taken)
    with pytest.raises(Invalid, match="not a model's name"):
        registry.rename(any_ws, "category", "a/b")


def test_a_model_with_terms_is_renamed_where_they_are_declared(ws: Workspace) -> None:
    register(ws, approval=people(1))
    with pytest.raises(Conflict, match="declared in a loop file"):
        registry.rename(ws, "category", "kind")
