"""Tensors are exactly what their shapes say, in JSON and in binary; what lies about itself is refused."""

from __future__ import annotations

import math
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from everloop.serving.http import Refusal
from everloop.serving.tensors import DATATYPES, MOST_DIMENSIONS, Tensor, from_bytes, from_json, to_bytes

NUMPY = {
    "BOOL": "|b1",
    "UINT8": "|u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "|i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, max_side=4)


def texts(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


@pytest.mark.parametrize("datatype", NUMPY)
@given(data=st.data())
def test_numbers_come_as_they_were_sent(datatype: str, data: st.DataObject) -> None:
    sent = data.draw(
        arrays.arrays(NUMPY[datatype], SHAPES, elements={"allow_nan": False} if "F" in datatype else None)
    )
    binary = from_bytes("x", datatype, sent.shape, memoryview(sent.tobytes()))
    assert binary.values == sent.flatten().tolist()
    assert all(type(value) in (bool, int, float) for value in binary.values)
    assert from_json("x", datatype, sent.shape, sent.tolist()).values == binary.values
    assert from_json("x", datatype, sent.shape, sent.flatten().tolist()) == binary


@given(values=st.lists(st.floats(width=16, allow_nan=False), min_size=1))
def test_bfloat16_comes_as_the_float_it_is_cut_from(values: list[float]) -> None:
    upper = (np.array(values, dtype="<f4").view("<u4") >> 16).astype("<u2")
    found = from_bytes("x", "BF16", [len(values)], memoryview(upper.tobytes())).values
    assert all(math.isclose(one, other, rel_tol=2**-7) for one, other in zip(found, values, strict=True))


@given(values=st.lists(st.binary(max_size=20), min_size=1))
def test_bytes_come_as_they_were_sent(values: list[bytes]) -> None:
    assert from_bytes("x", "BYTES", [len(values)], memoryview(texts(*values))).values == values


@given(values=st.lists(st.text(), min_size=1))
def test_texts_go_out_as_they_come_in(values: list[str]) -> None:
    sent = to_bytes(Tensor("x", "BYTES", (len(values),), values))
    assert from_bytes("x", "BYTES", [len(values)], memoryview(sent)).values == [
        one.encode() for one in values
    ]


@pytest.mark.parametrize(("datatype", "values"), [("INT64", [1, -(2**63)]), ("FP64", [0.1, 1e300])])
def test_numbers_go_out_as_they_come_in(datatype: str, values: list[Any]) -> None:
    sent = to_bytes(Tensor("x", datatype, (2,), values))
    assert from_bytes("x", datatype, [2], memoryview(sent)).values == values


@given(
    datatype=st.sampled_from(DATATYPES),
    shape=st.lists(st.integers(-1, 5) | st.integers(), max_size=MOST_DIMENSIONS + 1),
    content=st.binary(max_size=60),
)
def test_bytes_that_are_not_what_the_shape_says_are_refused_and_nothing_worse(
    datatype: str, shape: list[int], content: bytes
) -> None:
    with suppress(Refusal):
        assert len(from_bytes("x", datatype, shape, memoryview(content)).values) == math.prod(shape)


@pytest.mark.parametrize(
    "content",
    [
        texts(b"ab", b"cd")[:-1],
        texts(b"ab", b"cd") + b"x",
        texts(b"ab"),
        texts(b"ab", b"cd", b"ef"),
        b"\xff\xff\xff\xff" + b"ab",
        texts(b"ab") + b"\0\0",
    ],
)
def test_lengths_of_bytes_that_lie_are_refused(content: bytes) -> None:
    with pytest.raises(Refusal, match="whole ones"):
        from_bytes("x", "BYTES", [2], memoryview(content))


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("INT64", [2], [1]),
        ("INT64", [2, 2], [[1, 2], [3]]),
        ("INT64", [2, 2], [[1, 2, 3, 4]]),
        ("INT64", [2], [[1], [2]]),
        ("INT64", [1], [1.0]),
        ("INT64", [1], [True]),
        ("INT64", [1], [2**63]),
        ("UINT8", [1], [-1]),
        ("FP64", [1], ["1"]),
        ("FP64", [1], [False]),
        ("BOOL", [1], [1]),
        ("BYTES", [1], [1]),
        ("FP8", [1], [1.0]),
        ("FP64", [], []),
        ("FP64", [-1], []),
        ("FP64", [1] * (MOST_DIMENSIONS + 1), [1.0]),
    ],
)
def test_values_that_are_not_what_the_tensor_says_are_refused(
    datatype: str, shape: list[int], data: list[Any]
) -> None:
    with pytest.raises(Refusal):
        from_json("x", datatype, shape, data)
