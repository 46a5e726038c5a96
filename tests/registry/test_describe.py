"""What is said about models and versions, and finding them by it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everloop import registry
from everloop.errors import AlreadyExists, Invalid, NotFound
from everloop.ledger import Node, entries
from everloop.workspace import Workspace
from tests.registry.versions import register

RUN = "run_" + "a" * 32


def test_a_model_is_made_with_a_description_and_tags_and_only_once(any_ws: Workspace) -> None:
    registry.create(any_ws, "category", description="kinds of things", tags={"team": "vision"})
    found = registry.model(any_ws, "category")
    assert (found.description, found.tags) == ("kinds of things", {"team": "vision"})
    with pytest.raises(AlreadyExists):
        registry.create(any_ws, "category")


def test_descriptions_and_tags_change_and_the_version_does_not(any_ws: Workspace) -> None:
    made = register(any_ws)
    registry.describe(any_ws, made.ref, "first")
    registry.tag(any_ws, made.ref, "a", "1")
    registry.tag(any_ws, made.ref, "a", "2")
    registry.tag(any_ws, made.ref, "b", "")
    registry.untag(any_ws, made.ref, "b")
    registry.untag(any_ws, made.ref, "never")
    found = registry.version(any_ws, made.ref)
    assert (found.description, found.tags, found.digest) == ("first", {"a": "2"}, made.digest)
    acts = [one.act for one in entries(any_ws, subject=Node("model_version", made.ref))]
    assert acts == [*["registry.tag"] * 4, "registry.describe", "registry.register"]


def test_tags_of_a_model_change(any_ws: Workspace) -> None:
    register(any_ws)
    registry.tag_model(any_ws, "category", "a", "1")
    registry.tag_model(any_ws, "category", "b", "2")
    registry.untag_model(any_ws, "category", "a")
    registry.describe_model(any_ws, "category", "kinds")
    found = registry.model(any_ws, "category")
    assert (found.tags, found.description, found.updated_at) == ({"b": "2"}, "kinds", any_ws.now())


@pytest.mark.parametrize(
    ("name", "value"), [("", "x"), ("n" * 251, "x"), ("a\nb", "x"), ("a", "x" * 100_001), ("a", "\0")]
)
def test_a_tag_that_cannot_be_stored_is_refused(ws: Workspace, name: str, value: str) -> None:
    ref = register(ws).ref
    for act in (registry.tag, registry.tag_model):
        with pytest.raises(Invalid, match="tag"):
            act(ws, ref if act is registry.tag else "category", name, value)


def test_names_and_values_at_their_limits_are_kept(any_ws: Workspace) -> None:
    ref = register(any_ws, name="m" * 120).ref
    registry.tag(any_ws, ref, "n" * 250, "v" * 100_000)
    registry.describe(any_ws, ref, "d" * 8_000)
    assert registry.version(any_ws, ref).tags == {"n" * 250: "v" * 100_000}
    with pytest.raises(Invalid, match="description has 8001 characters"):
        registry.describe(any_ws, ref, "d" * 8_001)


def test_what_is_not_there_is_not_described(ws: Workspace) -> None:
    with pytest.raises(NotFound):
        registry.describe(ws, "category@1", "x")
    with pytest.raises(NotFound):
        registry.tag_model(ws, "category", "a", "b")


@pytest.fixture
def many(any_ws: Workspace) -> Workspace:
    """Three models; `category` has three versions, the second of a run."""
    for name in ("Category", "category", "price_2"):
        registry.create(any_ws, name, tags={"team": "vision" if name == "category" else "text"})
    register(any_ws, b"1")
    register(any_ws, b"2", run=RUN)
    register(any_ws, b"3")
    registry.tag(any_ws, "category@3", "speed", "Fast_1")
    return any_ws


@pytest.mark.parametrize(
    ("filter_", "found"),
    [
        ("", ["Category", "category", "price_2"]),
        ("name = 'category'", ["category"]),
        ("name != 'category'", ["Category", "price_2"]),
        ("name LIKE 'cat%'", ["category"]),
        ("name ILIKE 'cat%'", ["Category", "category"]),
        ("name LIKE 'price_2' AND tags.team = 'text'", ["price_2"]),
        ("name IN ('category', 'price_2')", ["category", "price_2"]),
        ("tags.`team` ILIKE 'VIS%'", ["category"]),
        ("tags.nothing != 'x'", []),
        ("creation_timestamp > 0", ["Category", "category", "price_2"]),
        ("creation_timestamp > 99999999999999999999", []),
        ("tags.`mlflow.prompt.is_prompt` != 'true'", ["Category", "category", "price_2"]),
        ("tags.`mlflow.prompt.is_prompt` = 'true'", []),
        ("name = 'it''s' AND name = 'a'", []),
    ],
)
def test_models_are_found(many: Workspace, filter_: str, found: list[str]) -> None:
    assert sorted(one.name for one in registry.search_models(many, filter_)) == found


@pytest.mark.parametrize(
    ("filter_", "found"),
    [
        ("name = 'category'", [3, 2, 1]),
        ("run_id = '" + "a" * 32 + "'", [2]),
        ("run_id IN ('" + "a" * 32 + "', 'b')", [2]),
        ("run_id LIKE 'aaa%'", [2]),
        ("version_number >= 2", [3, 2]),
        ("version_number < 2.5 AND name ILIKE 'CATEGORY'", [2, 1]),
        ("tags.speed LIKE 'Fast%'", [3]),
        ("tags.speed LIKE 'fast%'", []),
        ("tags.speed LIKE 'F_st_1'", [3]),
        ("tags.speed LIKE '[F]*'", []),
        ("tags.speed IS NULL", [2, 1]),
        ("source_path = 'x'", []),
    ],
)
def test_versions_are_found(many: Workspace, filter_: str, found: list[int]) -> None:
    assert [one.number for one in registry.search_versions(many, filter_)] == found


def test_a_search_has_an_order_and_pages(many: Workspace) -> None:
    ordered = registry.search_versions(many, order_by=["version_number ASC"])
    assert [one.number for one in ordered] == [1, 2, 3]
    page = registry.search_models(many, order_by=["name DESC"], offset=1, limit=1)
    assert len(page) == 1
    with pytest.raises(Invalid, match="is no order"):
        registry.search_models(many, order_by=["tags.team"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60) | st.sampled_from(["name = ", "tags.a LIKE '%'", "version_number > 1e400"]))
def test_every_filter_gets_an_answer(ws: Workspace, text: str) -> None:
    for search in (registry.search_models, registry.search_versions):
        try:
            assert search(ws, text) == []
        except Invalid as error:
            assert str(error)  # noqa: PT017  (either is an answer)
