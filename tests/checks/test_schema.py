from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from everloop.checks import CheckInput
from everloop.checks.schema import schema
from everloop.serving import Field, Signature
from tests.checks.tables import shop, without_rows

SHOP = shop(40)
FIELDS = (Field("text", "string"), Field("price", "number"), Field("shade", "string"))


def set_column(given: CheckInput, name: str, values: pa.Array) -> CheckInput:  # type: ignore[type-arg]  # any column
    place = given.train.column_names.index(name)
    return replace(given, train=given.train.set_column(place, name, values))


def test_rows_that_fit_pass() -> None:
    assert schema(SHOP).verdict == "passed"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (replace(SHOP, inputs=()), "There is no input"),
        (without_rows(SHOP), "no training rows. There are no test rows"),
        (replace(SHOP, test=SHOP.test.drop_columns(["price"])), "test rows lack the input 'price'"),
        (replace(SHOP, train=SHOP.train.drop_columns(["label"])), "training rows lack the label 'label'"),
        (set_column(SHOP, "price", pa.nulls(30, pa.float64())), "'price' is empty in all 30 training rows"),
        (
            set_column(SHOP, "price", pa.array(["1"] * 30)),
            "'price' is string in the training rows and double",
        ),
        (set_column(SHOP, "label", pa.array(["a", None] * 15)), "15 of 30 training rows have no label"),
    ],
)
def test_rows_that_do_not_fit_fail_and_say_why(given: CheckInput, problem: str) -> None:
    result = schema(given)
    assert result.verdict == "failed"
    assert problem in result.found


def test_the_signature_of_the_model_fits() -> None:
    assert schema(replace(SHOP, signature=Signature(FIELDS, "class", ("drink", "other")))).verdict == "passed"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (FIELDS[:2], "signature does not name the input 'shade'"),
        ((*FIELDS, Field("weight", "number")), "names 'weight', which is not an input"),
        (
            (FIELDS[0], Field("price", "string"), FIELDS[2]),
            "'price' is double where the signature says string",
        ),
        (
            (FIELDS[0], Field("price", "number", maximum=-9.0), FIELDS[2]),
            "'price' has 30 training rows outside",
        ),
        (
            (*FIELDS[:2], Field("shade", "string", allowed=("red", "green"))),
            "outside the values that the signature",
        ),
    ],
)
def test_rows_that_break_the_signature_fail(fields: tuple[Field, ...], problem: str) -> None:
    result = schema(replace(SHOP, signature=Signature(fields, "class", ("drink", "other"))))
    assert problem in result.found


def test_nulls_break_a_field_that_is_never_null() -> None:
    given = set_column(SHOP, "shade", pa.array(["red", None, "blue"] * 10))
    assert schema(given).verdict == "passed"
    result = schema(replace(given, signature=Signature(FIELDS, "class", ("drink", "other"))))
    assert "'shade' is empty in 10 training rows" in result.found


def test_a_feature_is_no_part_of_the_signature_but_must_be_there() -> None:
    given = replace(
        SHOP, inputs=("text", "price"), features=("shade",), signature=Signature(FIELDS[:2], "class", ())
    )
    assert schema(given).verdict == "passed"
    assert schema(replace(given, test=given.test.drop_columns(["shade"]))).verdict == "failed"
