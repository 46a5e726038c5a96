from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from everloop import data, labels, ledger
from everloop.errors import Conflict, Invalid, NotFound
from everloop.labels import LabelClass, LabelSchema
from everloop.ledger import Node
from everloop.workspace import Workspace
from tests.labels.conftest import CLASSES, pass_time


def again(ws: Workspace, **changes: Any) -> LabelSchema:
    return labels.define(ws, "kind", **{"dataset": "goods", "classes": CLASSES, **changes})


def test_a_definition_is_found_by_its_reference(any_ws: Workspace, any_kind: LabelSchema) -> None:
    assert any_kind.ref == "kind#1"
    assert labels.schema(any_ws, "kind") == labels.schema(any_ws, "kind#1") == any_kind
    assert labels.label_sets(any_ws) == labels.schemas(any_ws, "kind") == [any_kind]


@pytest.mark.usefixtures("any_kind")
def test_the_same_definition_is_no_new_version(any_ws: Workspace) -> None:
    assert again(any_ws).number == 1
    assert again(any_ws, classes=CLASSES[::-1]).number == 1, "the order of classes is no change"


@pytest.mark.parametrize(
    "changes",
    [{"classes": [*CLASSES, "Ovens"]}, {"per_item": 2}, {"reports": {"seller": "review"}}, {"classes": None}],
)
@pytest.mark.usefixtures("kind")
def test_a_changed_definition_is_a_new_version(ws: Workspace, changes: dict[str, Any]) -> None:
    assert again(ws, **changes).ref == "kind#2"
    assert again(ws, **changes).ref == "kind#2"
    assert [one.number for one in labels.schemas(ws, "kind")] == [1, 2]


@pytest.mark.usefixtures("kind")
def test_a_definition_is_audited_and_linked(ws: Workspace) -> None:
    (entry,) = ledger.entries(ws, subject=Node("label_schema", "kind#1"))
    assert (entry.act, entry.actor) == ("labels.define", "tester")
    (edge,) = ledger.upstream(ws, Node("label_schema", "kind#1"))
    assert edge.source == Node("dataset", "goods")


@pytest.mark.usefixtures("kind")
def test_a_label_set_keeps_its_dataset(ws: Workspace) -> None:
    data.define(ws, "others", key="id")
    with pytest.raises(Conflict, match="rows of 'goods', not of 'others'"):
        again(ws, dataset="others")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"classes": []}, "no class"),
        ({"classes": ["a", "a"]}, "'a' more than once"),
        ({"classes": [LabelClass("a", "a", "b"), LabelClass("b", "b", "a")]}, "circle: a > b > a"),
        ({"per_item": 0}, "at least 1 annotator"),
        ({"reports": {"seller": "trust"}}, "'accept' or 'review'"),
    ],
)
@pytest.mark.usefixtures("kind")
def test_a_wrong_definition_leaves_the_old_one(ws: Workspace, changes: Mapping[str, Any], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        again(ws, **changes)
    assert labels.schema(ws, "kind").number == 1


@pytest.mark.parametrize("name", ["", "a b", "a#1", "1st", "x" * 101])
@pytest.mark.usefixtures("kind")
def test_a_name_that_cannot_be_referred_to_is_refused(ws: Workspace, name: str) -> None:
    with pytest.raises(Invalid, match="cannot name a label set"):
        labels.define(ws, name, dataset="goods", classes=CLASSES)


def test_labels_need_a_dataset_with_a_key(ws: Workspace) -> None:
    with pytest.raises(NotFound, match="no dataset 'goods'"):
        again(ws)
    data.define(ws, "goods", key=None)
    with pytest.raises(Invalid, match="has no key"):
        again(ws)


@pytest.mark.usefixtures("kind")
def test_what_is_not_there_is_not_found(ws: Workspace) -> None:
    with pytest.raises(NotFound, match=r"no label set 'kin' \(there are: kind\)"):
        labels.schema(ws, "kin")
    with pytest.raises(NotFound, match="kind#2"):
        labels.schema(ws, "kind#2")
    with pytest.raises(NotFound, match="no label set 'kin'"):
        labels.schemas(ws, "kin")
    with pytest.raises(Invalid, match="not a label schema"):
        labels.schema(ws, "kind#x")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.usefixtures("kind")
def test_a_taxonomy_comes_from_a_file(ws: Workspace, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"taxonomy{suffix}"
    if suffix == ".csv":
        path.write_text("name,parent\nCooling,\nFridges,Cooling\nOvens,\n")
    elif suffix == ".jsonl":
        path.write_text('{"name":"Cooling"}\n{"name":"Fridges","parent":"Cooling"}\n{"name":"Ovens"}\n')
    else:
        table = pa.table({"name": ["Cooling", "Fridges", "Ovens"], "parent": [None, "Cooling", None]})
        pq.write_table(table, path)
    schema = again(ws, classes=path)
    assert list(schema.labels) == ["Fridges", "Ovens"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "empty"),
        ("name,parent\n", "no rows"),
        ("name,parent\na,b\nb,a\n", "circle"),
        ("colour\nred\n", "columns"),
    ],
)
@pytest.mark.usefixtures("kind")
def test_a_broken_taxonomy_file_is_refused(ws: Workspace, tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(Invalid, match=told):
        again(ws, classes=tmp_path / "t.csv")


def test_the_marketplaces_taxonomy(ws: Workspace, shared_data: Path) -> None:
    data.define(ws, "listings", key="listing_id")
    schema = labels.define(
        ws, "category", dataset="listings", classes=shared_data / "marketplace" / "taxonomy.parquet"
    )
    parents = {one.id: one.name for one in schema.classes}
    assert len(schema.labels) == 10
    assert schema.labels["Fridges"].id == "2623"
    assert parents[str(schema.labels["Fridges"].parent)] == "Cooling"


def test_a_real_tree_with_roots_cut_off_is_refused_by_name(ws: Workspace, shared_data: Path) -> None:
    tree = pq.read_table(shared_data / "taxonomy" / "bestbuy_categories.parquet")
    given = tree.select(["category_id", "name", "parent_id"]).rename_columns(["id", "name", "parent"])
    data.define(ws, "articles", key="id")
    with pytest.raises(Invalid, match="without a name or id: '"):
        labels.define(ws, "article", dataset="articles", classes=given)
    named = given.filter(pc.field("name") != "")
    with pytest.raises(Invalid, match=r"does not have: '.* \(below .*\)'.* and \d+ more"):
        labels.define(ws, "article", dataset="articles", classes=named)


def test_versions_are_numbered_once_by_many_at_a_time(any_ws: Workspace, any_kind: LabelSchema) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda i: again(any_ws, per_item=2 + i % 2), range(8)))
    assert {one.digest for one in labels.schemas(any_ws, "kind")} == {
        any_kind.digest,
        *(one.digest for one in made),
    }
    numbers = [one.number for one in labels.schemas(any_ws, "kind")]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.usefixtures("kind")
def test_a_schema_says_when_it_was_made(ws: Workspace) -> None:
    pass_time(ws, days=1)
    assert again(ws, per_item=2).created_at == ws.now()
