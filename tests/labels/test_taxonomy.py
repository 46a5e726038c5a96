from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from everloop.errors import Invalid
from everloop.labels import LabelClass
from everloop.labels.taxonomy import classes_from_names, classes_from_table


def table(**columns: Any) -> pa.Table:
    return pa.table(columns)


def test_names_alone_are_a_flat_taxonomy() -> None:
    assert classes_from_names(["TVs", "Fridges"]) == (
        LabelClass("TVs", "TVs"),
        LabelClass("Fridges", "Fridges"),
    )


def test_parents_are_named_by_id_or_by_name() -> None:
    given = table(id=["1", "2", "3"], name=["Cooling", "Fridges", "Freezers"], parent=[None, "1", "Cooling"])
    assert [one.parent for one in classes_from_table(given, origin="t")] == [None, "1", "1"]


def test_levels_become_groups_with_ids_of_their_own() -> None:
    given = table(
        kind_id=[1, 2, 3],
        kind=["Fridges", "Cooling", "TVs"],
        area=["Cooling", "Cooling", "Screens"],
        top=["Home"] * 3,
    )
    classes = {one.id: one for one in classes_from_table(given, origin="t")}
    assert classes["1"].parent == classes["2"].parent == "area:Cooling"
    assert classes["area:Cooling"].parent == classes["area:Screens"].parent == "top:Home"
    assert classes["top:Home"] == LabelClass("top:Home", "Home", None)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (table(name=["a", "b", "c"], parent=["b", "c", "a"]), "circle: a > b > c > a"),
        (table(name=["a"], parent=["a"]), "circle: a > a"),
        (table(name=["top", "a", "b"], parent=[None, "b", "a"]), "circle: a > b > a"),
        (table(name=["a", "b"], parent=[None, "z"]), r"does not have: 'b \(below z\)'"),
        (table(name=["a", "a"]), "names the class 'a' more than once"),
        (table(id=["1", "2"], name=["a", "a"]), "several classes named 'a'"),
        (table(name=["a", " "]), "classes without a name or id"),
        (table(name=[]), "no class"),
        (table(colour=["red"]), "has the columns 'colour'"),
        (table(a_id=[1], a=["x"], b_id=[2], b=["y"]), "has the columns"),
        (table(a_id=[1, 2], a=["x", "y"], b=["g", "g"], c=["h", "i"]), "below both 'c:h' and 'c:i'"),
    ],
)
def test_what_is_no_taxonomy_is_refused_with_the_names(given: pa.Table, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        classes_from_table(given, origin="the file")


def test_a_message_lists_the_first_names_only() -> None:
    many = [f"c{i}" for i in range(9)]
    with pytest.raises(Invalid, match=r"'c4 \(below z\)' and 4 more"):
        classes_from_table(table(name=many, parent=["z"] * 9), origin="t")


def test_a_deep_taxonomy_needs_no_deep_stack() -> None:
    depth = 5_000
    names = [str(i) for i in range(depth)]
    classes = classes_from_table(table(name=names, parent=[None, *names[:-1]]), origin="t")
    assert len(classes) == depth
