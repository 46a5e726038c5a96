from __future__ import annotations

from typing import Any

import pytest

from everloop.data.records import Column, Schema, check_dataset_name
from everloop.errors import Invalid


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 121, "_row_id", "_digest"])
def test_a_column_needs_a_name_of_its_own(name: str) -> None:
    with pytest.raises(Invalid, match="cannot name a column"):
        Column(name, "string")


def test_a_column_has_a_known_type() -> None:
    with pytest.raises(Invalid, match="one of string, integer, number, boolean, time, image, binary"):
        Column("price", "money")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("string", {"minimum": 1}),
        ("integer", {"pattern": "a"}),
        ("time", {"maximum": 1}),
        ("image", {"max_length": 3}),
        ("number", {"allowed": (1,)}),
    ],
)
def test_a_rule_fits_its_type(kind: Any, rule: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=next(iter(rule))):
        Column("price", kind, **rule)


def test_a_schema_survives_json() -> None:
    columns = (
        Column("id", "integer", nullable=False, unique=True, minimum=0),
        Column("kind", "string", allowed=("a", "b"), pattern="[ab]", max_length=1, personal=True),
    )
    schema = Schema(columns, "id", None, ("kind",))
    assert Schema.from_json(schema.as_json()) == schema


def test_json_leaves_defaults_out() -> None:
    assert Column("id", "integer").as_json() == {"name": "id", "type": "integer"}


@pytest.mark.parametrize("name", ["", "a b", "a@1", "../x", "1a", "é", "a" * 81])
def test_a_dataset_name_fits_into_references(name: str) -> None:
    with pytest.raises(Invalid, match="cannot name a dataset"):
        check_dataset_name(name)
