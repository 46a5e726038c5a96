from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import blake3
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.serving import Field, FieldType, Signature, check
from everloop.serving.signature import Reader, example_row

TITLE, MERCHANT = Field("title", "string"), Field("merchant_id", "integer", minimum=0)
IMAGE = base64.b64encode(b"\xff\xd8\xff jpeg").decode()


def one(kind: FieldType, **rules: Any) -> Signature:
    return Signature((Field("x", kind, **rules),), "number")


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        ("string", "", ""),
        ("integer", -3, -3),
        ("number", 2, 2.0),
        ("number", 2.5, 2.5),
        ("boolean", False, False),
        ("time", "2026-09-01T14:00:00+02:00", datetime(2026, 9, 1, 12, tzinfo=UTC)),
        ("time", "2026-09-01T12:00:00Z", datetime(2026, 9, 1, 12, tzinfo=UTC)),
        ("image", IMAGE, b"\xff\xd8\xff jpeg"),
        ("binary", "AA==", b"\0"),
    ],
)
def test_values_are_read_as_the_model_takes_them(kind: FieldType, value: Any, read: Any) -> None:
    values, problems = Reader(one(kind)).read({"x": value})
    assert (values, problems) == ([read], [])
    assert type(values[0]) is type(read)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", 3),
        ("integer", 3.0),
        ("integer", True),
        ("integer", 1 << 63),
        ("integer", "3"),
        ("number", True),
        ("number", "2.5"),
        ("number", float("inf")),
        ("number", 1 << 70),
        ("boolean", 0),
        ("time", "2026-09-01T12:00:00"),
        ("time", "yesterday"),
        ("time", 1756684800),
        ("image", "not base64!"),
        ("image", ""),
        ("image", base64.b64encode(b"import os").decode()),
        ("binary", [1, 2]),
        ("string", {"a": 1}),
    ],
)
def test_a_value_of_another_type_is_a_problem_of_its_field(kind: FieldType, value: Any) -> None:
    problems = check(one(kind), {"x": value})
    assert [problem.field for problem in problems] == ["x"]
    assert "it must be" in problems[0].problem


@pytest.mark.parametrize(
    ("rules", "good", "bad", "words"),
    [
        ({"minimum": 0}, 0, -1, "least allowed is 0"),
        ({"maximum": 10}, 10, 11, "most allowed is 10"),
        ({"allowed": (1, 2)}, 2, 3, "allowed are 1, 2"),
    ],
)
def test_limits_hold(rules: dict[str, Any], good: int, bad: int, words: str) -> None:
    assert check(one("integer", **rules), {"x": good}) == []
    assert words in check(one("integer", **rules), {"x": bad})[0].problem


@pytest.mark.parametrize(("kind", "unit"), [("string", "characters"), ("binary", "bytes")])
def test_a_length_is_limited(kind: FieldType, unit: str) -> None:
    good, bad = (
        ("four", "seven")
        if kind == "string"
        else (base64.b64encode(it).decode() for it in (b"4444", b"55555"))
    )
    assert check(one(kind, longest=4), {"x": good}) == []
    assert check(one(kind, longest=4), {"x": bad})[0].problem == f"has 5 {unit}; the most allowed are 4"


def test_an_unseen_value_is_refused_or_passed_as_the_signature_says() -> None:
    assert "allowed are 'red'" in check(one("string", allowed=("red",)), {"x": "blue"})[0].problem
    passing = Reader(one("string", allowed=("red",), unseen="pass"))
    assert passing.read({"x": "blue"}) == (["blue"], [])
    assert passing.read({"x": 3})[1][0].problem == "is 3; it must be a text"


def test_a_signature_of_before_is_written_as_before() -> None:
    told = msgspec.to_builtins(Field("x", "string"))
    assert set(told) == {"name", "type", "nullable", "allowed", "minimum", "maximum"}


def test_a_nullable_field_may_be_null_or_left_out_and_escapes_its_limits() -> None:
    reader = Reader(one("integer", nullable=True, minimum=5))
    assert reader.read({}) == reader.read({"x": None}) == ([None], [])


def test_missing_null_and_extra_fields_are_told_apart() -> None:
    problems = check(Signature((TITLE, MERCHANT), "class", ("a",)), {"title": None, "price": 3})
    assert [(problem.field, problem.problem.split(";")[0]) for problem in problems] == [
        ("title", "is null"),
        ("merchant_id", "is missing"),
        ("price", "is not an input of this model"),
    ]


def test_values_come_in_the_order_of_the_signature() -> None:
    assert Reader(Signature((TITLE, MERCHANT), "number")).read({"merchant_id": 3, "title": "x"})[0] == [
        "x",
        3,
    ]


def test_a_long_value_is_shown_short() -> None:
    assert len(check(one("integer"), {"x": "y" * 10_000})[0].problem) < 120


def test_the_log_keeps_an_image_by_its_digest_and_nothing_of_it() -> None:
    reader = Reader(Signature((TITLE, Field("photo", "image")), "number"))
    logged = reader.logged({"title": "a", "photo": IMAGE})
    assert logged == {"title": "a", "photo": f"blake3:{blake3.blake3(base64.b64decode(IMAGE)).hexdigest()}"}
    assert len(reader.logged({"photo": "no base64" * 1000})["photo"]) == 71


KINDS = st.sampled_from(["string", "integer", "number", "boolean", "time", "image", "binary"])
FIELDS = st.builds(
    Field,
    name=st.text(min_size=1, max_size=5),
    type=KINDS,
    nullable=st.booleans(),
    minimum=st.none(),
    maximum=st.none(),
    allowed=st.none(),
)
SIGNATURES = st.lists(FIELDS, max_size=6, unique_by=lambda field: field.name).map(
    lambda fields: Signature(tuple(fields), "number")
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
VALID: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(),
    "integer": st.integers(-(1 << 63), (1 << 63) - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(1 << 63), (1 << 63) - 1),
    "boolean": st.booleans(),
    "time": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
    "image": st.binary().map(lambda content: base64.b64encode(b"\x89PNG" + content).decode()),
    "binary": st.binary(min_size=1).map(lambda content: base64.b64encode(content).decode()),
}


@given(st.data(), SIGNATURES)
def test_every_valid_row_is_taken(data: st.DataObject, signature: Signature) -> None:
    row = {
        field.name: data.draw(VALID[field.type] | (st.none() if field.nullable else st.nothing()))
        for field in signature.inputs
    }
    values, problems = Reader(signature).read(row)
    assert problems == []
    assert len(values) == len(signature.inputs)


@given(SIGNATURES, st.dictionaries(st.text(max_size=5), JSON, max_size=6))
def test_any_json_at_all_gets_an_answer_and_one_problem_a_field(
    signature: Signature, row: dict[str, Any]
) -> None:
    problems = check(signature, row)
    named = [problem.field for problem in problems]
    assert len(named) == len(set(named))
    assert set(row) - {field.name for field in signature.inputs} <= set(named)


@given(SIGNATURES)
def test_a_made_up_row_has_a_value_for_each_field(signature: Signature) -> None:
    assert len(example_row(signature)) == len(signature.inputs)


def test_a_made_up_row_keeps_to_the_limits() -> None:
    fields = (
        Field("a", "integer", minimum=2.5),
        Field("b", "string", allowed=("x",)),
        Field("c", "number", maximum=-1),
    )
    assert example_row(Signature(fields, "number")) == [3, "x", -1.0]
