from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from everloop.data.inference import grown_schema, inferred_type
from everloop.data.records import Column, ColumnType, Schema
from everloop.data.sources import Source
from everloop.errors import Invalid


def source(**columns: Any) -> Source:
    return Source(pa.table(columns), "table", None)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-20", "NA", None], "integer"),
        (["1", "2.5"], "number"),
        (["1e3", "-.5"], "number"),
        (["00501", "10001"], "string"),
        (["1", "x"], "string"),
        (["0.5", "007"], "string"),
        (["true", "FALSE", ""], "boolean"),
        (["2026-09-01", "2026-09-01T10:00:00Z"], "time"),
        (["2026-09-01", "soon"], "string"),
        (["NA", ""], "string"),
        (["12345678901234567890"], "number"),
        ([*(["1"] * 2_000), "x"], "string"),
    ],
)
def test_csv_text_is_what_all_its_values_are(values: list[str | None], kind: ColumnType) -> None:
    assert inferred_type(pa.array(values, pa.large_string()), "a", is_text=True) == kind


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array(["1", "2"]), "string"),
        (pa.array(["2026-09-01"]), "time"),
        (pa.array([1], pa.int8()), "integer"),
        (pa.array([1.5], pa.float32()), "number"),
        (pa.array([True]), "boolean"),
        (pa.array([b"x"]), "binary"),
        (pa.nulls(1), "string"),
        (pa.array([1], pa.date32()), "time"),
    ],
)
def test_arrow_types_are_kept(values: Any, kind: ColumnType) -> None:
    assert inferred_type(values, "a", is_text=False) == kind


def test_bytes_that_are_images_are_images() -> None:
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    assert inferred_type(pa.array([None, file.getvalue()]), "a", is_text=False) == "image"
    assert inferred_type(pa.array([file.getvalue(), b"x"]), "a", is_text=False) == "binary"


@pytest.mark.parametrize("values", [pa.array([[1]]), pa.array([{"a": 1}]), pa.array([1], pa.duration("s"))])
def test_nested_and_odd_types_are_refused(values: Any) -> None:
    with pytest.raises(Invalid, match="which no column can hold"):
        inferred_type(values, "a", is_text=False)


def test_a_schema_grows_at_its_end() -> None:
    schema = Schema((Column("id", "integer", nullable=False, unique=True),), "id")
    grown = grown_schema(schema, source(b=["x"], id=[1], a=[True]))
    assert [(one.name, one.type, one.nullable) for one in grown.columns] == [
        ("id", "integer", False),
        ("b", "string", True),
        ("a", "boolean", True),
    ]


def test_key_and_time_are_always_there() -> None:
    grown = grown_schema(Schema((), "id", "at"), source(id=["a"], at=["2026-09-01"]))
    assert [(one.type, one.nullable) for one in grown.columns] == [("string", False), ("time", False)]


@pytest.mark.parametrize("missing", ["id", "at", "title", "must"])
def test_what_every_file_must_have(missing: str) -> None:
    schema = Schema((Column("must", "string", nullable=False),), "id", "at", ("title",))
    columns = {"id": [1], "at": ["2026-09-01"], "title": ["x"], "must": ["y"]}
    del columns[missing]
    with pytest.raises(Invalid, match=f"the column '{missing}' is missing"):
        grown_schema(schema, source(**columns))


def test_a_misspelt_column_is_recognised() -> None:
    with pytest.raises(Invalid, match="It has 'titel': is that the same"):
        grown_schema(Schema((), "id", None, ("title",)), source(id=[1], titel=["x"]))


def test_a_key_is_text_or_whole_numbers() -> None:
    with pytest.raises(Invalid, match="key 'id' holds values of type number"):
        grown_schema(Schema((), "id"), source(id=[1.5]))
