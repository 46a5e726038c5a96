"""Parameters have one text form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.errors import Invalid
from everloop.pipelines.canonical import digest_of, is_constant, is_json, literal

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


@given(SCALARS, SCALARS)
def test_equal_texts_are_equal_values_of_equal_types(one: object, other: object) -> None:
    if literal(one) == literal(other):
        assert type(one) is type(other)
        assert one == other or str(one) == "nan"


@pytest.mark.parametrize("value", [{1}, object(), np.float64(1.0), [1, {2}], {"a": object()}, print])
def test_other_types_are_no_parameters(value: object) -> None:
    with pytest.raises(Invalid, match="no type of a parameter"):
        literal(value)


def test_the_order_of_a_dictionary_counts() -> None:
    assert literal({"a": 1, "b": 2}) != literal({"b": 2, "a": 1})


def test_texts_do_not_run_together() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc")


@pytest.mark.parametrize(
    ("value", "expected"), [(1, True), (("a", 1), True), ([1], False), (("a", []), False)]
)
def test_constants_cannot_change_in_place(value: object, expected: bool) -> None:
    assert is_constant(value) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [({"a": [1, None, "x"]}, True), ((1,), False), ({1: 2}, False), ([np.int64(1)], False), (b"x", False)],
)
def test_what_comes_back_from_json(value: object, expected: bool) -> None:
    assert is_json(value) is expected
