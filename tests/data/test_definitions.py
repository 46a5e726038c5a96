from __future__ import annotations

from typing import Any

import pytest

from everloop import data
from everloop.data import Column
from everloop.errors import Conflict, Invalid, NotFound
from everloop.ledger import Node, entries
from everloop.workspace import Workspace
from tests.data.tables import items, known


def test_saying_the_same_again_changes_nothing(any_ws: Workspace) -> None:
    made = data.define(any_ws, "items", key="id", time="at", inputs=["title"])
    assert data.define(any_ws, "items", key="id", time="at", inputs=["title"]) == made
    assert data.datasets(any_ws) == [made]
    assert len(entries(any_ws, subject=Node("dataset", "items"))) == 1


def test_a_definition_may_change_before_the_first_version(ws: Workspace) -> None:
    data.define(ws, "items", key="id")
    changed = data.define(ws, "items", key="id", inputs=["title"], columns=[Column("price", "number")])
    assert (changed.inputs, changed.schema.names) == (("title",), ("price",))
    assert data.versions(ws, "items") == []


def test_what_rows_mean_changes_with_a_new_version_of_the_same_rows(any_shop: Workspace) -> None:
    first = data.ingest(any_shop, "items", items((1, "a", 1.5)))
    data.define(any_shop, "items", key="id", inputs=["title"])
    second = data.version(any_shop, "items")
    assert (second.ref, second.manifest, second.operation) == ("items@2", first.manifest, {"kind": "define"})
    assert second.digest != first.digest
    assert data.version(any_shop, "items@1").schema.inputs == ()


def test_changed_rules_are_a_version_with_the_same_digest(shop: Workspace) -> None:
    first = data.ingest(shop, "items", items((1, "a", 1.5)))
    data.define(shop, "items", key="id", columns=[Column("price", "number", minimum=0)])
    assert data.version(shop, "items").digest == first.digest
    assert data.ingest(shop, "items", items((1, "a", 1.5))).ref == "items@2"
    with pytest.raises(Invalid, match="at least 0"):
        data.ingest(shop, "items", items((1, "a", -1.0)))


def test_columns_found_in_files_survive_a_definition(shop: Workspace) -> None:
    data.ingest(shop, "items", items((1, "a", 1.5)))
    data.define(shop, "items", key="id", columns=[Column("price", "number", maximum=9)])
    assert data.dataset(shop, "items").schema.names == ("id", "title", "price")
    assert known(shop) == {0: (1, "a", 1.5)}


def test_what_is_left_out_stays(ws: Workspace) -> None:
    data.define(ws, "items", key="id", time="at", inputs=["title"])
    assert data.define(ws, "items", key="id").inputs == ("title",)
    changed = data.define(ws, "items", key="id", inputs=[])
    assert (changed.time, changed.inputs) == ("at", ())


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"key": "title"}, "has the key 'id', not 'title'"),
        ({"key": None}, "has the key 'id', not None"),
        (
            {"key": "id", "columns": [Column("price", "string")]},
            "'price' of dataset 'items' is of type number",
        ),
    ],
)
def test_key_and_types_stay(shop: Workspace, change: dict[str, Any], found: str) -> None:
    data.ingest(shop, "items", items((1, "a", 1.5)))
    with pytest.raises((Conflict, Invalid), match=found):
        data.define(shop, "items", **change)
    assert len(data.versions(shop, "items")) == 1


def test_a_wrong_definition_leaves_nothing(ws: Workspace) -> None:
    with pytest.raises(Invalid):
        data.define(ws, "items", key="id", columns=[Column("a", "string", pattern="(")])
    assert data.datasets(ws) == []


def test_a_declared_key_may_not_be_missing(ws: Workspace) -> None:
    data.define(ws, "items", key="id", columns=[Column("id", "integer")])
    with pytest.raises(Invalid, match=r"\(row 2\): values must not be missing"):
        data.ingest(ws, "items", items((1, "a", 1.0), (None, "b", 2.0)))


def test_versions_are_named_by_number_or_newest(shop: Workspace) -> None:
    for price in (1.0, 2.0, 3.0):
        data.ingest(shop, "items", items((1, "a", price)))
    assert data.version(shop, "items").ref == "items@3"
    assert data.version(shop, "items@2").number == 2
    assert [one.number for one in data.versions(shop, "items")] == [3, 2, 1]
    assert [one.number for one in data.versions(shop, "items", before=3, limit=1)] == [2]


@pytest.mark.parametrize(
    ("ref", "error", "found"),
    [
        ("item", NotFound, "Did you mean 'items'"),
        ("other", NotFound, "everloop data define"),
        ("items", NotFound, "no version yet"),
        ("items@1", NotFound, "no version yet"),
        ("items@x", Invalid, "listings@3"),
    ],
)
def test_a_name_that_leads_nowhere_says_so(
    shop: Workspace, ref: str, error: type[Exception], found: str
) -> None:
    with pytest.raises(error, match=found):
        data.version(shop, ref)


def test_a_number_too_high_names_the_newest(shop: Workspace) -> None:
    data.ingest(shop, "items", items((1, "a", 1.0)))
    with pytest.raises(NotFound, match="no version items@7; the newest is items@1"):
        data.version(shop, "items@7")
